package main

import (
	"strings"
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(100-i))
	}
	for _, tc := range []struct {
		values []float64
		p      int
		want   float64
	}{
		{hundred, 50, 50}, {hundred, 99, 99}, {hundred, 100, 100},
		{[]float64{7}, 50, 7}, {[]float64{7}, 99, 7}, {[]float64{2, 1}, 50, 1}, {[]float64{2, 1}, 51, 2},
	} {
		if have := percentile(tc.values, tc.p); have != tc.want {
			t.Errorf("percentile %d of %d values is %v, want %v", tc.p, len(tc.values), have, tc.want)
		}
	}
}

// TestTabulate: what nobody noticed is left out, and a goal stands beside what it is for.
func TestTabulate(t *testing.T) {
	var out strings.Builder
	tabulate(&out, []kind{kinds["term"]}, []result{
		{Kind: "term", First: 20 * time.Millisecond, Members: time.Hour, Lost: 3},
		{Kind: "unplug", First: time.Hour, Members: 40 * time.Millisecond, Noticed: true},
	})
	for _, line := range []string{
		"until the new owner's first announcement 1 20 ms 20 ms 20 ms 20 ms 0.1 s",
		"until it notices that the member is gone 0",
		"requests lost 1 3 3 3 3 none",
	} {
		if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), line) {
			t.Errorf("no line %q in\n%s", line, out.String())
		}
	}
}
