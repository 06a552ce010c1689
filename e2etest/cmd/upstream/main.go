// Command upstream runs Kubernetes' own tests of load balancers, those of tests.yaml, against a kind cluster with Lanyard
// installed. It builds nothing: `make e2e-upstream` does.
//
// The tests' process is a client: a network namespace with a port of its own on the bridge of the kind network and addresses
// of another subnet, because a test takes whoever has an address like the nodes' for a node. Each test is a process, and
// several run at a time, since they mostly wait. Their output and JUnit files stay in the folder of the results.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

type options struct {
	bin  string // has e2e.test and gets the results
	only string
	all  bool
	jobs int
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "../bin/upstream", "folder that has e2e.test and gets the results")
	flag.StringVar(&o.only, "only", "", "run only tests whose name matches this regular expression")
	flag.BoolVar(&o.all, "all", false, "run the tests that do not apply too; whether they pass changes nothing")
	flag.IntVar(&o.jobs, "jobs", 4, "how many tests run at a time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "upstream:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	list, err := readList()
	if err != nil {
		return err
	}
	s := suite{bin: o.bin, results: filepath.Join(o.bin, "results"), jobs: o.jobs}
	if err := errors.Join(os.RemoveAll(s.results), os.MkdirAll(s.results, 0o755)); err != nil {
		return fmt.Errorf("make room for the results: %w", err)
	}
	known, err := s.known(ctx)
	if err != nil {
		return err
	}
	if err := compare(list, known); err != nil {
		return err
	}
	list, err = chosen(list, o)
	if err != nil {
		return err
	}
	if err := lab.NeedRoot(); err != nil {
		return err
	}
	s.stage, err = raise(ctx, o.bin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.clear()) }()
	return s.runAll(ctx, list)
}

// chosen are the tests to run.
func chosen(list []entry, o options) (some []entry, err error) {
	only, err := regexp.Compile(o.only)
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	for _, e := range list {
		if (e.applies() || o.all) && only.MatchString(e.Name) {
			some = append(some, e)
		}
	}
	if len(some) == 0 {
		return nil, fmt.Errorf("-only %q matches no test that applies", o.only)
	}
	return some, nil
}
