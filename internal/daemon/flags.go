package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/spf13/pflag"
)

// Flags that both daemons have.
type Flags struct {
	Kubeconfig             string
	Namespace              string
	LBClass                string
	LogLevel               string
	LogFormat              string
	MetricsBindAddress     string
	HealthProbeBindAddress string
	PprofBindAddress       string
	Version                bool
}

// Add registers the flags with their defaults.
func (f *Flags) Add(set *pflag.FlagSet) {
	set.StringVar(&f.Kubeconfig, "kubeconfig", "", "path of a kubeconfig; empty: the Pod's service account")
	set.StringVar(&f.Namespace, "namespace", "lanyard-system", "namespace of Lanyard itself")
	set.StringVar(&f.LBClass, "lb-class", "", "serve Services of this loadBalancerClass; empty: those that name none")
	set.StringVar(&f.LogLevel, "log-level", "info", "log "+strings.Join(logLevels, ", ")+" and above")
	set.StringVar(&f.LogFormat, "log-format", "logfmt", "logfmt or json")
	set.StringVar(&f.MetricsBindAddress, "metrics-bind-address", ":7472", "host:port that serves /metrics; 0 serves none")
	set.StringVar(&f.HealthProbeBindAddress, "health-probe-bind-address", ":7473", "host:port that serves /healthz and /readyz; 0 serves none")
	set.StringVar(&f.PprofBindAddress, "pprof-bind-address", "", "host:port of the loopback, as in 127.0.0.1:6060, that serves Go's profiles at /debug/pprof/; empty serves none")
	set.BoolVar(&f.Version, "version", false, "print the version and exit")
}

var logLevels = []string{"debug", "info", "warn", "error"}

// Logger returns a logger that writes to w as the flags say.
func (f *Flags) Logger(w io.Writer) (log.Logger, error) {
	formats := map[string]func(io.Writer) log.Logger{"logfmt": log.NewLogfmtLogger, "json": log.NewJSONLogger}
	format, known := formats[f.LogFormat]
	if !known {
		return nil, fmt.Errorf("--log-format=%s: must be logfmt or json", f.LogFormat)
	}
	if !slices.Contains(logLevels, f.LogLevel) {
		return nil, fmt.Errorf("--log-level=%s: must be one of %s", f.LogLevel, strings.Join(logLevels, ", "))
	}
	allowed := level.Allow(level.ParseDefault(f.LogLevel, level.InfoValue()))
	logger := level.NewFilter(format(log.NewSyncWriter(w)), allowed)
	return log.With(logger, "ts", log.DefaultTimestampUTC), nil
}

// checkPprof keeps profiles on the machine: they tell what is in memory, and who asks for one makes work.
func (f *Flags) checkPprof() error {
	if f.PprofBindAddress == "" {
		return nil
	}
	if at, err := netip.ParseAddrPort(f.PprofBindAddress); err != nil || !at.Addr().IsLoopback() {
		return fmt.Errorf("--pprof-bind-address=%s: must be an address of the loopback and a port", f.PprofBindAddress)
	}
	return nil
}

// Main parses the command line into the flags that add registered and calls run with a context that ends at
// SIGTERM or SIGINT; a second signal ends the process at once. It returns the exit code.
func Main(name string, args []string, add func(*pflag.FlagSet) *Flags, run func(context.Context, log.Logger) error) int {
	set := pflag.NewFlagSet(name, pflag.ContinueOnError)
	flags := add(set)
	if err := set.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return 0
		}
		return fail(name, err)
	}
	if len(set.Args()) > 0 {
		return fail(name, fmt.Errorf("unexpected argument %q", set.Arg(0)))
	}
	if flags.Version {
		PrintVersion(os.Stdout, name)
		return 0
	}
	logger, err := flags.Logger(os.Stderr)
	if err := errors.Join(err, flags.checkPprof()); err != nil {
		return fail(name, err)
	}
	tuneMemory()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop)
	_ = level.Info(logger).Log("msg", "starting", "program", name, "version", VersionName())
	if err := run(ctx, logger); err != nil {
		_ = level.Error(logger).Log("msg", "stopped", "err", err)
		return 1
	}
	_ = level.Info(logger).Log("msg", "stopped")
	return 0
}

func fail(name string, err error) int {
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	return 2
}
