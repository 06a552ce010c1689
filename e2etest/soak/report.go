package soak

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// Report is what a soak has come to.
type Report struct {
	Seed       uint64
	Took       time.Duration
	Folder     string
	Violations []Violation    // the first of each rule
	Broken     map[string]int // how often each rule was
	Deeds      map[string]int
	Skipped    map[string]int
	Versions   int // of objects, that were checked
	Relists    int // how often a watch began anew with a list
	Looks      int // at the whole LAN
	Addresses  int // asked for in each look
	Checks     map[string]int
	Longest    map[string]time.Duration
	Limits     map[string]time.Duration
	Moves      int
	Rests      []time.Duration // how long it took until all agreed, and three looks more
	Stalled    time.Duration   // how long the machine stood still, all in all
	Trends     []Trend
	Short      []string // programs with too few samples for a trend
}

func (s *soak) report() *Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &Report{Seed: s.Seed, Took: time.Since(s.begun), Folder: s.Folder, Violations: s.violations, Broken: s.broken, Deeds: s.deeds,
		Skipped:  s.skipped,
		Versions: s.history.Checked(), Looks: s.looks, Addresses: len(s.universe), Checks: s.judge.Checks, Longest: s.judge.Longest,
		Moves: s.judge.Moves, Rests: s.rests, Stalled: s.stalled}
	_, r.Relists = s.eye.Seen()
	r.Limits = map[string]time.Duration{"silent": s.Rules.Silent, "double": s.Rules.Double, "stray": s.Rules.Stray, "ghost": s.Rules.Ghost,
		"unsaid": s.Rules.Unsaid, "clash": s.Rules.Clash}
	for _, program := range slices.Sorted(maps.Keys(s.samples)) {
		enough := false
		for _, m := range Measures {
			t, is := TrendOf(program, m, s.samples[program])
			if is {
				r.Trends = append(r.Trends, t)
			} else if r.Short = append(r.Short, program+" "+m.Name); enough {
				r.Broken["measured"]++
				r.Violations = append(r.Violations, Violation{time.Now(), "measured", fmt.Sprintf("%s does not tell of its %s", program, m.Name)})
			}
			enough = is
		}
	}
	return r
}

// Growing are the trends that grow beyond what is tolerated.
func (r *Report) Growing() (list []Trend) {
	for _, t := range r.Trends {
		if t.Grows() {
			list = append(list, t)
		}
	}
	return list
}

// Good tells whether nothing was wrong.
func (r *Report) Good() bool { return len(r.Violations) == 0 && len(r.Growing()) == 0 }

// rules says what each rule is about.
var rules = map[string]string{
	"exclusive": "no address in two statuses, but shared",
	"keeps":     "no address lost without a reason",
	"accused":   "nobody taken for a stranger who is none",
	"silent":    "somebody answers who may",
	"double":    "one node answers, but in a partition",
	"stray":     "no node answers that may not",
	"ghost":     "nobody answers for what nobody has",
	"alien":     "no host answers that is no node",
	"unsaid":    "who has no address is told why",
	"clash":     "who may not share does not",
	"rest":      "at rest all agrees",
	"ended":     "no process ends by itself",
	"mended":    "what was broken can be mended",
	"measured":  "every process tells what it uses",
}

// Write prints the report.
func (r *Report) Write(w io.Writer) {
	fmt.Fprintf(w, "\nsoak: seed %d, %v; the machine stood still for %v of it\n", r.Seed, r.Took.Round(time.Second), r.Stalled.Round(time.Millisecond))
	fmt.Fprintf(w, "\n%-24s %6s %8s\n", "deeds", "done", "skipped")
	total := 0
	for _, name := range slices.Sorted(maps.Keys(r.Deeds)) {
		total += r.Deeds[name]
		fmt.Fprintf(w, "%-24s %6d %8d\n", name, r.Deeds[name], r.Skipped[name])
	}
	fmt.Fprintf(w, "%-24s %6d\n", "all", total)

	fmt.Fprintf(w, "\n%d versions of Services and pools, %d looks at %d addresses, %d moves of an address, %d watches begun anew\n",
		r.Versions, r.Looks, r.Addresses, r.Moves, r.Relists)
	fmt.Fprintf(w, "\n%-10s %-42s %9s %9s %9s %6s\n", "rule", "", "checks", "longest", "limit", "broken")
	for _, rule := range slices.Sorted(maps.Keys(rules)) {
		broken := r.Broken[rule]
		checks, longest, limit := "", "", ""
		if n, is := r.Checks[rule]; is {
			checks = fmt.Sprint(n)
			longest, limit = fmt.Sprintf("%.1fs", r.Longest[rule].Seconds()), fmt.Sprintf("%.0fs", r.Limits[rule].Seconds())
		}
		switch rule {
		case "exclusive", "keeps", "accused":
			checks = "versions"
		case "rest":
			checks = fmt.Sprint(len(r.Rests))
			if len(r.Rests) > 0 {
				longest = fmt.Sprintf("%.1fs", slices.Max(r.Rests).Seconds())
			}
		}
		fmt.Fprintf(w, "%-10s %-42s %9s %9s %9s %6d\n", rule, rules[rule], checks, longest, limit, broken)
	}

	fmt.Fprintf(w, "\n%-26s %-11s %8s  %8s  %8s  %8s    %5s\n", "program", "uses", "first", "last", "most", "limit", "samples")
	for _, t := range r.Trends {
		grows := ""
		if t.Grows() {
			grows = "  GROWS"
		}
		fmt.Fprintln(w, t.String()+grows)
	}
	if len(r.Short) > 0 {
		fmt.Fprintf(w, "too short for a trend: %d of %d\n", len(r.Short), len(r.Short)+len(r.Trends))
	}
	if r.Good() {
		fmt.Fprintf(w, "\nnothing was violated (log: %s)\n", r.Folder)
		return
	}
	fmt.Fprintf(w, "\n%d violations, %d trends that grow; the logs are in %s; once more: SEED=%d\n", len(r.Violations), len(r.Growing()),
		r.Folder, r.Seed)
	for _, v := range r.Violations {
		fmt.Fprintf(w, "%s  %s\n", clock(v.At), v)
	}
}
