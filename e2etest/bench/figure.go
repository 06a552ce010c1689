// Package bench measures how fast and how frugal an implementation of load-balancer addresses is, beside a limit that is
// measured in the same run: what the API server, the kernel or the wire allows at best. It judges nothing by itself; a
// reader compares medians and ratios, on a quiet machine.
package bench

import (
	"fmt"
	"slices"
)

// Figure is one line of the table. Ours and Limit have a value for each run, or for each trial of each run, in Unit, in the
// order in which they were taken.
type Figure struct {
	Name  string // what is measured, of how many
	Unit  string // of Ours and Limit: "s", "ms", "µs", "MB", "kB/s", "requests"...
	Ours  []float64
	Limit []float64 // empty: nothing to measure it against
	Of    string    // what Limit is
	Goal  Goal
	// Percentile is which of the values counts, here for Ours and Limit; 0 means the median.
	Percentile int
}

// Goal is what a figure should be at most; its zero value is no goal.
type Goal struct {
	Ratio float64 // of what counts of ours over what counts of the limit
	Value float64 // of ours, in the figure's unit
	None  bool    // nothing at all: the largest of ours must be 0
}

// Median of the values; 0 of none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// Percentile is the smallest of the values that p percent of them do not exceed (nearest rank); 0 of none.
func Percentile(values []float64, p int) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := (p*len(sorted) + 99) / 100
	return sorted[max(rank, 1)-1]
}

// Counts is the one of the values that counts for the figure.
func (f Figure) Counts(values []float64) float64 {
	if f.Percentile == 0 {
		return Median(values)
	}
	return Percentile(values, f.Percentile)
}

// Ratio of ours over the limit; 0 where that is missing or not above 0.
func (f Figure) Ratio() float64 {
	if limit := f.Counts(f.Limit); limit > 0 {
		return f.Counts(f.Ours) / limit
	}
	return 0
}

// Met says whether the goal is met: "yes", "no", or "" where there is none.
func (f Figure) Met() string {
	switch {
	case f.Goal == Goal{} || len(f.Ours) == 0:
		return ""
	case f.Goal.Ratio > 0 && (f.Counts(f.Limit) <= 0 || f.Ratio() > f.Goal.Ratio), f.Goal.Value > 0 && f.Counts(f.Ours) > f.Goal.Value,
		f.Goal.None && slices.Max(f.Ours) > 0:
		return "no"
	}
	return "yes"
}

// String of a goal, as in "≤ 1.3 ×" or "≤ 60".
func (g Goal) String() string {
	switch {
	case g.None:
		return "none"
	case g.Ratio > 0:
		return fmt.Sprintf("≤ %g ×", g.Ratio)
	case g.Value > 0:
		return fmt.Sprintf("≤ %g", g.Value)
	}
	return ""
}
