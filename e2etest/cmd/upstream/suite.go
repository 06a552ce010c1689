package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// limit is for one test. The slowest waits for the graceful end of three Pods, a minute each, in five rolling updates.
	limit = 40 * time.Minute
	// grace is what an interrupted test has for taking its namespace away.
	grace = 2 * time.Minute
)

type suite struct {
	*stage
	bin     string // has e2e.test
	results string // gets what the tests print and report
	jobs    int
}

// known are all tests that the binary has.
func (s suite) known(ctx context.Context) ([]spec, error) {
	file := filepath.Join(s.results, "known.json")
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "e2e.test"), "--ginkgo.dry-run", "--ginkgo.json-report="+file)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("list Kubernetes' tests: %w\n%s", err, out)
	}
	return readResults(file)
}

func readResults(file string) ([]spec, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the results: %w", err)
	}
	return readReport(raw)
}

// outcome is how a test that was run ended.
type outcome struct {
	entry
	state string // as ginkgo says it: passed, failed, skipped, ...
	took  time.Duration
	why   string
	log   string
}

// good tells whether the outcome is what tests.yaml wants.
func (o outcome) good() bool { return !o.applies() || o.state == "passed" }

// runAll runs the tests, several at a time, says how each ended, and fails unless each that applies passed.
func (s suite) runAll(ctx context.Context, list []entry) error {
	var mu sync.Mutex
	var bad []error
	states := map[string]int{}
	started := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(s.jobs)
	for i, e := range slowFirst(list) {
		group.Go(func() error {
			o, err := s.run(ctx, i, e)
			if err != nil {
				return fmt.Errorf("%s: %w", e.Name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			states[o.state]++
			fmt.Println(o)
			if !o.good() {
				bad = append(bad, fmt.Errorf("%s: %s; see %s", o.Name, o.state, o.log))
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	fmt.Printf("\n%d tests in %s:", len(list), time.Since(started).Round(time.Second))
	for _, state := range slices.Sorted(maps.Keys(states)) {
		fmt.Printf(" %d %s", states[state], state)
	}
	fmt.Println()
	return errors.Join(bad...)
}

// slowFirst begins with the two tests that take longest, so that they do not run on alone.
func slowFirst(list []entry) []entry {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b entry) int {
		slow := func(e entry) int {
			if strings.Contains(e.Name, "rolling update") {
				return 0
			}
			return 1
		}
		return slow(a) - slow(b)
	})
	return list
}

// run runs one test in a process of its own, as the client.
func (s suite) run(ctx context.Context, i int, e entry) (outcome, error) {
	base := filepath.Join(s.results, fmt.Sprintf("%02d", i+1))
	log, err := os.Create(base + ".log")
	if err != nil {
		return outcome{}, fmt.Errorf("make the log: %w", err)
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "e2e.test"),
		"--ginkgo.focus="+regexp.QuoteMeta(e.Name)+"$", "--ginkgo.no-color", "--ginkgo.vv", "--ginkgo.silence-skips",
		"--ginkgo.timeout="+limit.String(), "--ginkgo.json-report="+base+".json", "--ginkgo.junit-report="+base+".xml",
		"--provider=skeleton", "--kubeconfig="+s.Kubeconfig(), "--host="+s.apiserver, "--kubectl-path="+s.Kubectl(),
		"--disable-log-dump", "--e2e-output-dir="+s.results)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = grace
	// What a process may reach is decided by the thread that starts it.
	if err := s.client.Do(cmd.Start); err != nil {
		return outcome{}, fmt.Errorf("start: %w", err)
	}
	waited := cmd.Wait()
	if ctx.Err() != nil {
		return outcome{}, ctx.Err()
	}
	specs, err := readResults(base + ".json")
	if err != nil {
		return outcome{}, errors.Join(waited, err)
	}
	return result(e, specs, log.Name())
}

// result finds the test's own report among those of the steps around it. One of these can fail too: then the test did not run.
func result(e entry, specs []spec, log string) (outcome, error) {
	o := outcome{entry: e, log: log}
	for _, s := range specs {
		switch {
		case s.LeafNodeType == "It" && s.name() == e.Name:
			o.state, o.took, o.why = s.State, time.Duration(s.RunTime), s.Failure.Message
		case s.LeafNodeType != "It" && s.State == "failed":
			return o, fmt.Errorf("%s failed, see %s: %s", s.LeafNodeType, log, s.Failure.Message)
		}
	}
	if o.state == "" {
		return o, fmt.Errorf("it was not among the tests that were run; see %s", log)
	}
	return o, nil
}

func (o outcome) String() string {
	var b bytes.Buffer
	mark := "✔"
	if !o.good() {
		mark = "✘"
	}
	fmt.Fprintf(&b, " %s %-7s %6s  %s", mark, o.state, o.took.Round(time.Second), o.title())
	if !o.applies() {
		b.WriteString("\n     (does not apply)")
	}
	if o.state != "passed" {
		fmt.Fprintf(&b, "\n     %s", strings.ReplaceAll(strings.TrimSpace(o.why), "\n", "\n     "))
	}
	return b.String()
}
