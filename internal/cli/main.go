package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/internal/daemon"
)

const usage = `Tell who has an address and who had it, why a Service has the addresses that it has, and whether all is well.

  kubectl lanyard who ADDRESS            who has the address now, and had it before
  kubectl lanyard history [-n NS] NAME   the addresses that a Service has and had
  kubectl lanyard explain [-n NS] NAME   a Service's addresses, why it has them, and what happened lately
  kubectl lanyard check [-n NS]          whether the installation is healthy; exit code 1 when it is not
  kubectl lanyard crds [--apply]         print this version's CRDs, or put them in force
  kubectl lanyard version                the version of this program

Flags:
`

// Connect reads the cluster by kubectl's rules; namespace is the one of the context.
type Connect func(kubeconfig, context string) (_ client.Client, namespace string, _ error)

// command is one invocation.
type command struct {
	kubeconfig, context, namespace, output string
	apply                                  bool
	wait                                   time.Duration

	api client.Client
	out io.Writer
}

// verb is what a command does.
type verb struct {
	do        func(*command, context.Context, string) error
	arguments int                 // how many it needs: 0 or 1
	atHome    bool                // the namespace is Lanyard's own, unless one is given
	offline   func(*command) bool // whether it needs no cluster; nil: it needs one
}

var verbs = map[string]verb{
	"who":     {do: (*command).who, arguments: 1},
	"history": {do: (*command).history, arguments: 1},
	"explain": {do: (*command).explain, arguments: 1},
	"check":   {do: (*command).check, atHome: true},
	"crds":    {do: (*command).crds, offline: func(c *command) bool { return !c.apply }},
	"version": {do: (*command).version, offline: func(*command) bool { return true }},
}

// Main carries a command line out and returns the exit code: 1 when it fails, 2 when it cannot be read.
func Main(ctx context.Context, args []string, out, complaints io.Writer, connect Connect) int {
	c := command{out: out}
	set := pflag.NewFlagSet("kubectl-lanyard", pflag.ContinueOnError)
	set.SetOutput(complaints)
	set.Usage = func() { fmt.Fprint(complaints, usage, set.FlagUsages()) }
	set.StringVar(&c.kubeconfig, "kubeconfig", "", "path of the kubeconfig; default: as for kubectl")
	set.StringVar(&c.context, "context", "", "context of the kubeconfig; default: the current one")
	set.StringVarP(&c.namespace, "namespace", "n", "", "namespace of the Service, for check that of Lanyard; default: that of the context, and for check, "+home)
	set.StringVarP(&c.output, "output", "o", "table", "table or json")
	set.BoolVar(&c.apply, "apply", false, "crds: create or update them in the cluster, unless a later version has written them")
	set.DurationVar(&c.wait, "wait", 0, "check: how long to look again while something fails")
	version := set.Bool("version", false, "print the version and exit")
	switch err := set.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err != nil:
		return complain(complaints, 2, err)
	case *version:
		_ = c.version(ctx, "")
		return 0
	case set.NArg() == 0:
		set.Usage()
		return 2
	}
	v, known := verbs[set.Arg(0)]
	switch {
	case !known:
		names := slices.Sorted(maps.Keys(verbs))
		return complain(complaints, 2, fmt.Errorf("unknown command %q: there are %s", set.Arg(0), strings.Join(names, ", ")))
	case set.NArg() != 1+v.arguments:
		return complain(complaints, 2, fmt.Errorf("%s needs %s argument, and has %d", set.Arg(0), []string{"no", "one"}[v.arguments], set.NArg()-1))
	case c.output != "table" && c.output != "json":
		return complain(complaints, 2, fmt.Errorf("--output=%s: must be table or json", c.output))
	}
	if err := c.run(ctx, v, set.Arg(1), connect); err != nil {
		return complain(complaints, 1, err)
	}
	return 0
}

func (c *command) run(ctx context.Context, v verb, argument string, connect Connect) error {
	if v.offline != nil && v.offline(c) {
		return v.do(c, ctx, argument)
	}
	api, namespace, err := connect(c.kubeconfig, c.context)
	if err != nil {
		return err
	}
	c.api = api
	if v.atHome {
		namespace = home
	}
	if c.namespace == "" {
		c.namespace = namespace
	}
	err = v.do(c, ctx, argument)
	if meta.IsNoMatchError(err) {
		return fmt.Errorf("Lanyard is not installed in this cluster: %w", err) //nolint:staticcheck,revive // it is a name
	}
	return err
}

func (c *command) version(context.Context, string) error {
	daemon.PrintVersion(c.out, "kubectl-lanyard")
	return nil
}

func complain(to io.Writer, code int, err error) int {
	fmt.Fprintf(to, "error: %v\n", err)
	return code
}
