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
	"strings"
	"syscall"

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
	l, err := lab.Up(ctx, lab.Options{Nodes: 3, Clients: 1, Out: os.Stderr})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Down()) }()
	b := &bench{Lab: l}
	if err := b.prepare(ctx, strings.Fields(o.speaker)); err != nil {
		return err
	}
	var all []result
	for _, k := range kinds {
		for i := range o.trials {
			results, err := b.trial(ctx, k)
			if err != nil {
				return fmt.Errorf("%s, trial %d: %w", k.name, i+1, err)
			}
			for _, r := range results {
				fmt.Fprintf(os.Stderr, "%-7s %2d/%d  %s\n", k.name, i+1, o.trials, r)
			}
			all = append(all, results...)
		}
	}
	tabulate(os.Stdout, kinds, all)
	return write(o.json, all)
}

// chosen picks kinds by name.
func chosen(names string) (list []kind, err error) {
	for name := range strings.SplitSeq(names, ",") {
		k, known := kinds[name]
		if !known {
			return nil, fmt.Errorf("-kinds: %q is none of unplug, kill and term", name)
		}
		list = append(list, k)
	}
	return list, nil
}

func write(path string, all []result) error {
	if path == "" {
		return nil
	}
	raw, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}
