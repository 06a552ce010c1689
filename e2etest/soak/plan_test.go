package soak

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

func lifeOf(seed uint64, n int) (lines []string) {
	o := Defaults()
	o.Seed = seed
	p := NewPlan(o, testNodes)
	for i := range n {
		if i%200 == 199 {
			for _, d := range p.Mend() {
				lines = append(lines, fmt.Sprint(d.Name, " ", d.On))
			}
		}
		d := p.Next()
		lines = append(lines, fmt.Sprint(d.At, " ", d.Name, " ", d.On))
	}
	return lines
}

// TestPlanRepeats: one seed, one life; another seed, another.
func TestPlanRepeats(t *testing.T) {
	a, b, c := lifeOf(7, 3000), lifeOf(7, 3000), lifeOf(8, 3000)
	if !slices.Equal(a, b) {
		t.Error("two lives of one seed differ")
	}
	if slices.Equal(a, c) {
		t.Error("two seeds have one life")
	}
}

// TestPlanHasAll: every kind of deed comes up in an hour, time goes on, and what is broken is mended.
func TestPlanHasAll(t *testing.T) {
	o := Defaults()
	o.Seed = 1
	p := NewPlan(o, testNodes)
	count, last := map[string]int{}, time.Duration(0)
	for last < time.Hour {
		d := p.Next()
		if d.At < last {
			t.Fatalf("%s at %v comes after %v", d.Name, d.At, last)
		}
		if d.NeedsAPI && p.w.noAPI {
			t.Errorf("%s at %v needs the API server, which is away", d.Name, d.At)
		}
		last = d.At
		count[d.Name]++
		if len(p.w.trouble) > 2 || len(p.w.excluded) > 2 {
			t.Fatalf("in trouble are %v, excluded %v", p.w.trouble, p.w.excluded)
		}
		if n := len(p.w.services); last > time.Minute && (n < o.Services/2 || n > o.Services*2) {
			t.Fatalf("there are %d Services, want about %d", n, o.Services)
		}
	}
	p.Mend()
	if len(p.w.trouble) > 0 || p.w.noAPI || len(p.w.down) > 0 || len(p.w.squatted) > 0 || !p.w.wide {
		t.Errorf("not all was mended: %+v", p.w)
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(count)) {
		lines = append(lines, fmt.Sprintf("%s %d", name, count[name]))
		if count[name] < 5 {
			t.Errorf("%s comes up %d times in an hour", name, count[name])
		}
	}
	if len(count) < 45 {
		t.Errorf("only %d kinds of deeds come up", len(count))
	}
	t.Log(strings.Join(lines, ", "))
}
