package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// trialsPerRun is how often a run of the group tries each fault.
const trialsPerRun = 10

// failover measures how long clients miss an owner that goes.
func failover(ctx context.Context, b *Bench) (_ []Figure, err error) {
	stage, err := NewStage(ctx, b.Implementation, io.Discard)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stage.Down()) }()
	var figures []Figure
	for _, f := range Faults {
		outcomes, err := stage.Trials(ctx, f, trialsPerRun, b.say)
		if err != nil {
			return figures, err
		}
		figures = append(figures, f.figures(outcomes)...)
	}
	return figures, nil
}

// Trials tries a fault n times and reports each.
func (s *Stage) Trials(ctx context.Context, f Fault, n int, say func(format string, args ...any)) (all []Outcome, _ error) {
	for i := range n {
		outcomes, err := s.Trial(ctx, f)
		if err != nil {
			return all, fmt.Errorf("%s, trial %d: %w", f.Name, i+1, err)
		}
		for _, o := range outcomes {
			say("%-7s %2d/%d  %s", f.Name, i+1, n, o)
		}
		all = append(all, outcomes...)
	}
	return all, nil
}

// figures have a value for each address of each trial.
func (f Fault) figures(outcomes []Outcome) []Figure {
	const of = "the longest time without an answer while nothing fails"
	gap := Figure{Name: f.Title + ": client without an answer", Unit: "ms", Of: of}
	first := Figure{Name: f.Title + ": until the next owner announces", Unit: "ms"}
	lost := Figure{Name: f.Title + ": requests lost", Goal: Goal{None: true}}
	for _, o := range outcomes {
		gap.Ours, gap.Limit = append(gap.Ours, millis(o.Gap)), append(gap.Limit, millis(o.Floor))
		first.Ours = append(first.Ours, millis(o.First))
		lost.Ours = append(lost.Ours, float64(o.Lost))
	}
	switch f.Name {
	case "unplug":
		return percentiles(gap)
	case "kill": // the node itself forwards on, and clients may miss nothing
		return percentiles(first)
	}
	first.Goal = Goal{Value: 100}
	return []Figure{first, lost}
}

// percentiles are two figures of the same values, each with its goal.
func percentiles(f Figure) []Figure {
	p50, p99 := f, f
	p50.Name, p50.Percentile, p50.Goal = f.Name+", p50", 50, Goal{Value: 500}
	p99.Name, p99.Percentile, p99.Goal = f.Name+", p99", 99, Goal{Value: 900}
	return []Figure{p50, p99}
}
