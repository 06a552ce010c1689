package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/lanyard-lb/lanyard/e2etest/bench"
)

// goals are those of the project, for what has one.
type goals struct{ gap, first, lost string }

// row is one measured quantity of one kind.
type row struct {
	what, goal string
	values     []float64
	show       func(float64) string
}

// tabulate writes the table: a block per kind, a row per quantity, and the floor of all trials at the end.
func tabulate(w io.Writer, kinds []kind, all []bench.Outcome) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\tn\tp50\tp90\tp99\tmax\tgoal\t")
	for _, k := range kinds {
		fmt.Fprintf(table, "%s\t\t\t\t\t\t\t\n", k.Title)
		for _, r := range rows(k, all) {
			r.print(table)
		}
	}
	floor := row{"floor: longest time between answers, nothing failing", "", nil, duration}
	for _, r := range all {
		floor.values = append(floor.values, r.Floor.Seconds())
	}
	floor.print(table)
	_ = table.Flush()
}

func rows(k kind, all []bench.Outcome) []row {
	gap := row{"client without an answer", k.goals.gap, nil, duration}
	first := row{"until the new owner's first announcement", k.goals.first, nil, duration}
	members := row{"until it notices that the member is gone", "", nil, duration}
	lost := row{"requests lost", k.goals.lost, nil, count}
	for _, r := range all {
		if r.Kind != k.Name {
			continue
		}
		gap.values = append(gap.values, r.Gap.Seconds())
		first.values = append(first.values, r.First.Seconds())
		lost.values = append(lost.values, float64(r.Lost))
		if r.Noticed {
			members.values = append(members.values, r.Members.Seconds())
		}
	}
	return []row{gap, first, members, lost}
}

func (r row) print(w io.Writer) {
	if len(r.values) == 0 {
		fmt.Fprintf(w, "%s\t0\t\t\t\t\t%s\t\n", r.what, r.goal)
		return
	}
	fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t\n", r.what, len(r.values), r.show(bench.Percentile(r.values, 50)),
		r.show(bench.Percentile(r.values, 90)), r.show(bench.Percentile(r.values, 99)), r.show(slices.Max(r.values)), r.goal)
}

func duration(seconds float64) string { return strconv.FormatFloat(seconds*1000, 'f', 0, 64) + " ms" }

func count(n float64) string { return strconv.FormatFloat(n, 'f', 0, 64) }
