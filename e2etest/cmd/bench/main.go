// Command bench measures Lanyard in labs of its own, beside limits that it measures in the same run and, if adapter files
// name them, beside other implementations. It prints progress to standard error and one table to standard output.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/lanyard-lb/lanyard/e2etest/bench"
	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

func main() {
	var o options
	flag.IntVar(&o.runs, "runs", 0, "how often to measure each figure; 0: as suits it")
	flag.StringVar(&o.figures, "figures", strings.Join(bench.Groups(), ","), "groups of figures to measure")
	flag.StringVar(&o.implementations, "implementations", bench.Own, "adapter files of implementations; lanyard is our own")
	flag.StringVar(&o.services, "services", "2000,10000", "numbers of Services to measure with, ascending")
	flag.StringVar(&o.json, "json", "", "file to write all values to")
	flag.StringVar(&o.profiles, "profiles", "", "folder to write the CPU profiles of daemons to; empty: none are taken")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := o.run
	switch args := flag.Args(); {
	case len(args) > 3 && args[0] == bench.PlainWatchCommand:
		run = func(ctx context.Context) error { return bench.PlainWatch(ctx, args[1], args[2], args[3:]) }
	case len(args) > 1 && args[0] == bench.BareRepliesCommand:
		run = func(ctx context.Context) error { return bareReplies(ctx, args[1], args[2:]) }
	case len(args) > 0:
		run = func(context.Context) error { return fmt.Errorf("arguments that are no flags: %q", args) }
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bareReplies(ctx context.Context, nic string, address []string) (err error) {
	var ip netip.Addr
	if len(address) > 0 {
		ip, err = netip.ParseAddr(address[0])
	}
	if err != nil {
		return err
	}
	return bench.BareReplies(ctx, nic, ip)
}

type options struct {
	runs                                               int
	figures, implementations, services, json, profiles string
}

func (o options) run(ctx context.Context) error {
	if err := lab.NeedRoot(); err != nil {
		return err
	}
	what, err := o.parse()
	if err != nil {
		return err
	}
	if o.profiles != "" {
		if err := os.MkdirAll(o.profiles, 0o755); err != nil {
			return err
		}
	}
	all, err := bench.Run(ctx, what)
	bench.Table(os.Stdout, all)
	return errors.Join(err, write(o.json, all))
}

// parse reads the flags.
func (o options) parse() (bench.Options, error) {
	what := bench.Options{Groups: strings.Split(o.figures, ","), Runs: o.runs, Profiles: o.profiles, Out: os.Stderr}
	for _, g := range what.Groups {
		if !slices.Contains(bench.Groups(), g) {
			return what, fmt.Errorf("-figures: %q is none of %s", g, strings.Join(bench.Groups(), ", "))
		}
	}
	for path := range strings.SplitSeq(o.implementations, ",") {
		i, err := bench.Load(path)
		if err != nil {
			return what, err
		}
		what.Implementations = append(what.Implementations, i)
	}
	for text := range strings.SplitSeq(o.services, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > bench.MostServices {
			return what, fmt.Errorf("-services: %q is no number from 1 to %d", text, bench.MostServices)
		}
		what.Services = append(what.Services, n)
	}
	if !slices.IsSorted(what.Services) {
		return what, fmt.Errorf("-services: %s is not ascending", o.services)
	}
	return what, nil
}

func write(path string, all []bench.Results) error {
	if path == "" {
		return nil
	}
	raw, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}
