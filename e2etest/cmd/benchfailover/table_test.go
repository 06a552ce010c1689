package main

import (
	"strings"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/e2etest/bench"
)

// TestTabulate: what nobody noticed is left out, and a goal stands beside what it is for.
func TestTabulate(t *testing.T) {
	list, err := chosen("term")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	tabulate(&out, list, []bench.Outcome{
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
