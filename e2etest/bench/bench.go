package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// Bench measures one implementation.
type Bench struct {
	Implementation *Implementation
	Services       []int // numbers of Services to measure with, ascending
	Runs           int
	Profiles       string // folder to write the CPU profiles of daemons to; empty: none are taken
	Out            io.Writer

	begun time.Time
}

// group is a set of figures that are measured together. A call takes one run: it returns what it saw, and Run adds up.
type group struct {
	name    string
	measure func(ctx context.Context, b *Bench) ([]Figure, error)
	limit   time.Duration // of a run
	runs    int           // unless somebody says otherwise
	own     bool          // it measures code of Lanyard's own, in one call for all runs: an adapter has no part in it
}

var groups = []group{
	{name: "allocation", measure: allocation, limit: 20 * time.Minute, runs: 3},
	{name: "reply", measure: replyLatency, limit: 25 * time.Minute, runs: 1},
	{name: "failover", measure: failover, limit: 12 * time.Minute, runs: 1},
	{name: "memory", measure: memoryAndProcessor, limit: 25 * time.Minute, runs: 1},
	{name: "api", measure: apiCost, limit: 8 * time.Minute, runs: 1},
	{name: "gossip", limit: 25 * time.Minute, runs: 1, own: true, measure: func(ctx context.Context, b *Bench) ([]Figure, error) {
		return Gossip(ctx, b.Runs)
	}},
}

// Groups are the names of what can be measured, in order.
func Groups() (names []string) {
	for _, g := range groups {
		names = append(names, g.name)
	}
	return names
}

// Options say what to measure.
type Options struct {
	Implementations []*Implementation
	Groups          []string
	Runs            int       // 0: of each group as many as suit it
	Services        []int     // numbers of Services, ascending
	Profiles        string    // folder to write the CPU profiles of daemons to; empty: none are taken. They cost some time.
	Out             io.Writer // receives progress
}

// Run measures. Runs of several implementations take turns, so that what changes on the machine meanwhile concerns each of
// them. What fails is reported as it does, and the rest is measured.
func Run(ctx context.Context, o Options) (all []Results, _ error) {
	failed := 0
	for _, i := range o.Implementations {
		all = append(all, Results{Implementation: i.Name})
	}
	for _, g := range groups {
		if !slices.Contains(o.Groups, g.name) {
			continue
		}
		runs := cmp.Or(o.Runs, g.runs)
		calls := runs
		if g.own {
			calls = 1
		}
		for run := range calls {
			for i, implementation := range o.Implementations {
				if g.own && implementation.Name != Own {
					continue
				}
				b := &Bench{Implementation: implementation, Services: o.Services, Runs: runs, Profiles: o.Profiles, Out: o.Out, begun: time.Now()}
				fmt.Fprintf(o.Out, "== %s: %s, run %d of %d\n", g.name, implementation.Name, run+1, calls)
				figures, err := b.once(ctx, g)
				all[i].add(figures)
				if err != nil {
					fmt.Fprintf(o.Out, "FAILED: %s, %s, run %d: %v\n", g.name, implementation.Name, run+1, err)
					failed++
				}
				if ctx.Err() != nil {
					return all, ctx.Err()
				}
			}
		}
	}
	if failed > 0 {
		return all, fmt.Errorf("%d runs failed, as is said above", failed)
	}
	return all, nil
}

func (b *Bench) once(ctx context.Context, g group) ([]Figure, error) {
	limit := g.limit
	if g.own {
		limit *= time.Duration(b.Runs)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than %v", limit))
	defer cancel()
	figures, err := g.measure(ctx, b)
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		err = errors.Join(err, context.Cause(ctx))
	}
	return figures, err
}

func (b *Bench) most() int { return b.Services[len(b.Services)-1] }

// say reports progress.
func (b *Bench) say(format string, args ...any) {
	fmt.Fprintf(b.Out, "%6.1fs  %s\n", time.Since(b.begun).Seconds(), fmt.Sprintf(format, args...))
}

// site is a lab with the implementation installed. Beside what the options say nothing in it takes time: no kube-proxy, and
// hardly a heartbeat.
func (b *Bench) site(ctx context.Context, opts lab.Options) (*Site, error) {
	if opts.Proxy == "" {
		opts.Proxy = lab.NoProxy
	}
	opts.NodeGracePeriod = time.Hour
	s, err := NewSite(ctx, b.Implementation, opts)
	if err == nil {
		b.say("a lab is up, with %s installed", b.Implementation.Name)
	}
	return s, err
}

// explain adds the end of a daemon's log to an error.
func (s *Site) explain(err error, host, name string) error {
	p := s.Process(host, name)
	if p == nil {
		return err
	}
	return fmt.Errorf("%w\nthe log of the %s on %s ends:\n%s", err, name, host, p.LogTail(20))
}

// thousands is a number with commas.
func thousands(n int) string {
	text := strconv.Itoa(n)
	var out strings.Builder
	for i, digit := range text {
		if i > 0 && (len(text)-i)%3 == 0 {
			out.WriteByte(',')
		}
		out.WriteRune(digit)
	}
	return out.String()
}
