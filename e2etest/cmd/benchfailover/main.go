// Command benchfailover measures how long clients on a LAN are without an answer when the node that owns their address, or
// the speaker on it, goes: unplugged, killed, or stopped in good order, again and again in one lab of three nodes. It
// prints percentiles beside the goals, the time that the membership layer took of it, and the floor: what the probe sees
// when nothing fails at all. It judges nothing.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/lanyard-lb/lanyard/e2etest/bench"
	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

func main() {
	o := options{}
	flag.IntVar(&o.trials, "n", 20, "trials of each kind")
	flag.StringVar(&o.kinds, "kinds", "unplug,kill,term", "kinds of faults to try")
	flag.StringVar(&o.speaker, "speaker", "", "more flags for the speakers, as in '--failover=lan'")
	flag.StringVar(&o.json, "json", "", "file to write every trial to")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "benchfailover:", err)
		os.Exit(1)
	}
}

type options struct {
	trials               int
	kinds, speaker, json string
}

func run(ctx context.Context, o options) (err error) {
	kinds, err := chosen(o.kinds)
	if err != nil {
		return err
	}
	if err := lab.NeedRoot(); err != nil {
		return err
	}
	own, err := bench.Load(bench.Own)
	if err != nil {
		return err
	}
	stage, err := bench.NewStage(ctx, own, os.Stderr, strings.Fields(o.speaker)...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stage.Down()) }()
	say := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	var all []bench.Outcome
	for _, k := range kinds {
		outcomes, err := stage.Trials(ctx, k.Fault, o.trials, say)
		if err != nil {
			return err
		}
		all = append(all, outcomes...)
	}
	tabulate(os.Stdout, kinds, all)
	return write(o.json, all)
}

// kind is a fault with the goals of the project, for what has one.
type kind struct {
	bench.Fault
	goals goals
}

var goalsOf = map[string]goals{
	"unplug": {gap: "0.5 s median, 0.9 s p99"},
	"kill":   {first: "0.5 s median, 0.9 s p99"},
	"term":   {first: "0.1 s", lost: "none"},
}

// chosen picks kinds by name.
func chosen(names string) (list []kind, err error) {
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(bench.Faults, func(f bench.Fault) bool { return f.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("-kinds: %q is none of unplug, kill and term", name)
		}
		list = append(list, kind{bench.Faults[i], goalsOf[name]})
	}
	return list, nil
}

func write(path string, all []bench.Outcome) error {
	if path == "" {
		return nil
	}
	raw, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}
