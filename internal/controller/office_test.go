package controller

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lanyard-lb/lanyard/internal/record"
)

// hall is where controllers tell each other that they are in office.
type hall struct {
	now     time.Time
	terms   map[string]time.Time
	offices map[string]*office
}

func (h *hall) renew(class string) {
	h.terms[class] = h.now.Truncate(time.Second)
	var terms []record.Term
	for c, renewed := range h.terms {
		terms = append(terms, record.Term{Class: c, Renewed: renewed})
	}
	h.offices[class].renew(h.now, terms)
}

func (h *hall) reporters() (names []string) {
	for class, o := range h.offices {
		if o.reports(h.now) {
			names = append(names, fmt.Sprintf("%q", class))
		}
	}
	return names
}

// TestOneHasTheWord: whoever comes, ends, stands still for a time or goes on, never do two controllers report; and
// one does soon when all is quiet.
func TestOneHasTheWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &hall{now: time.Unix(1_700_000_000, 0), terms: map[string]time.Time{}, offices: map[string]*office{}}
		classes := []string{"", "x", "y"}
		idle := map[string]bool{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			class := rapid.SampledFrom(classes).Draw(t, "class")
			switch o := h.offices[class]; rapid.IntRange(0, 9).Draw(t, "what") {
			case 0: // comes, or comes again
				h.offices[class], idle[class] = &office{class: class}, false
				h.renew(class)
			case 1: // ends
				delete(h.offices, class)
			case 2: // stands still
				idle[class] = true
			case 3:
				idle[class] = false
			default:
				if o != nil && !idle[class] {
					h.renew(class)
				}
			}
			h.pass(t, time.Duration(rapid.IntRange(0, 20).Draw(t, "seconds"))*time.Second)
		}
		for range 10 { // quiet
			for class := range h.offices {
				h.renew(class)
			}
			h.pass(t, renewEvery)
		}
		if n := len(h.reporters()); n == 0 && len(h.offices) > 0 {
			t.Fatalf("nobody of %d has the word", len(h.offices))
		}
	})
}

func (h *hall) pass(t *rapid.T, d time.Duration) {
	for range int(d / time.Second) {
		h.now = h.now.Add(time.Second)
		if names := h.reporters(); len(names) > 1 {
			t.Fatalf("%v have the word", names)
		}
	}
}
