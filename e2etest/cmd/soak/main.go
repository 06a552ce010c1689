// Command soak lives at random in a lab of four nodes and checks throughout what must hold: see package soak. It exits with 1 if
// something did not, and says where the logs are.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
	"github.com/lanyard-lb/lanyard/e2etest/soak"
)

func main() {
	o := soak.Defaults()
	o.Out = os.Stderr
	flag.Uint64Var(&o.Seed, "seed", 0, "seed of the life; 0: one by chance")
	flag.DurationVar(&o.For, "for", o.For, "how long it goes on")
	flag.DurationVar(&o.Pace, "pace", o.Pace, "mean time between two deeds")
	flag.IntVar(&o.Services, "services", o.Services, "about how many Services there are")
	flag.DurationVar(&o.RestEvery, "rest", o.RestEvery, "time between two rests")
	flag.StringVar(&o.Folder, "folder", "", "where the logs go; empty: a temporary folder")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	good, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
	}
	if err != nil || !good {
		os.Exit(1)
	}
}

func run(ctx context.Context, o soak.Options) (bool, error) {
	if err := lab.NeedRoot(); err != nil {
		return false, err
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64N(1_000_000)
	}
	fmt.Fprintf(os.Stderr, "SEED=%d\n", o.Seed)
	r, err := soak.Run(ctx, o)
	if r == nil {
		return false, err
	}
	r.Write(os.Stdout)
	return r.Good(), err
}
