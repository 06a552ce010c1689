package kube

import (
	"errors"
	"fmt"
	"testing"

	"github.com/lanyard-lb/lanyard/internal/record"
)

// TestClassesShareTheRecords: controllers of different classes do not fence each other off, neither gives what the
// other has given, and neither lets it go.
func TestClassesShareTheRecords(t *testing.T) {
	s := newServer()
	a, b := loadedFor(t, s, "", "a"), loadedFor(t, s, "x", "b")
	commit(t, a, record.Hold(ip("10.0.0.1"), holder("a"), "lan", noon))
	commit(t, b, record.Hold(ip("10.0.0.2"), holder("b"), "lan", noon))
	if err := a.Commit(t.Context(), record.Hold(ip("10.0.0.2"), holder("a"), "lan", noon)); refusedBy(err) != "b-1" {
		t.Errorf("given although the other class has it: %v", err)
	}
	var held *record.HeldError
	if err := b.Commit(t.Context(), record.Hold(ip("10.0.0.1"), holder("b"), "lan", noon)); !errors.As(err, &held) || held.Class != "" {
		t.Errorf("given although the other class has it: %v", err)
	}
	commit(t, a, record.Release(ip("10.0.0.2"), holder("b"), noon))
	for range 3 { // new terms of one are nothing to the other
		b = loadedFor(t, s, "x", "b")
		commit(t, a, record.Hold(ip("10.0.0.3"), holder("a"), "lan", noon))
		commit(t, a, record.Release(ip("10.0.0.3"), holder("a"), noon))
	}
	if show(b) != "10.0.0.1 a-1, 10.0.0.2 b-1, 10.0.0.3" {
		t.Errorf("b has %s", show(b))
	}
	var fenced *FencedError
	young := loadedFor(t, s, "", "young")
	if err := a.Commit(t.Context(), record.Release(ip("10.0.0.1"), holder("a"), noon)); !errors.As(err, &fenced) || fenced.By != "young" {
		t.Errorf("a goes on after another one of its class: %v", err)
	}
	// What is gone for good may be let go by whoever finds out: the other class may have no controller any more.
	delete(s.services, "default/b")
	commit(t, young, record.ReleaseGone(ip("10.0.0.2"), holder("b"), noon))
	if err := b.Commit(t.Context(), record.Hold(ip("10.0.0.2"), holder("c"), "lan", noon)); err != nil {
		t.Error(err)
	}
}

// TestReleaseLeft: what a class has left behind another one can let go, though its holder lives.
func TestReleaseLeft(t *testing.T) {
	s := newServer()
	a, b := loadedFor(t, s, "", "a"), loadedFor(t, s, "x", "b")
	commit(t, b, record.Hold(ip("10.0.0.1"), holder("b"), "lan", noon), record.Hold(ip("10.0.0.2"), holder("b"), "lan", noon))
	if err := a.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit(t, a, record.ReleaseLeft(ip("10.0.0.1"), holder("b"), "x", noon), record.ReleaseLeft(ip("10.0.0.2"), holder("b"), "y", noon))
	if show(a) != "10.0.0.1, 10.0.0.2 b-1" {
		t.Errorf("a has %s", show(a))
	}
}

// TestConfirm: who is not in office any more is told so, also when nothing has been recorded yet.
func TestConfirm(t *testing.T) {
	s := newServer()
	old := loaded(t, s, "old")
	if err := old.Confirm(t.Context()); err != nil {
		t.Error(err)
	}
	loadedFor(t, s, "x", "other")
	if err := old.Confirm(t.Context()); err != nil {
		t.Errorf("another class has taken over: %v", err)
	}
	loaded(t, s, "young")
	var fenced *FencedError
	if err := old.Confirm(t.Context()); !errors.As(err, &fenced) || fenced.By != "young" {
		t.Errorf("%v, want fenced by young", err)
	}
	if _, err := old.Renew(t.Context()); !errors.As(err, &fenced) {
		t.Errorf("%v, want fenced by young", err)
	}
}

func TestRenew(t *testing.T) {
	s := newServer()
	a, b := loadedFor(t, s, "", "a"), loadedFor(t, s, "x", "b")
	for _, r := range []*Records{a, b} {
		terms, err := r.Renew(t.Context())
		if err != nil || len(terms) != 2 || terms[0].Class != "" || terms[1].Class != "x" || terms[0].Renewed.IsZero() || terms[1].Renewed.IsZero() {
			t.Errorf("%v, terms %+v", err, terms)
		}
	}
	if err := b.Resign(t.Context()); err != nil {
		t.Error(err)
	}
	if terms, err := a.Renew(t.Context()); err != nil || len(terms) != 2 || terms[0].Renewed.IsZero() || !terms[1].Renewed.IsZero() {
		t.Errorf("%v, terms %+v after b has resigned", err, terms)
	}
	if len(a.HeldBy(holder("a"))) != 0 || show(a) != "" {
		t.Errorf("the record of those in office has %s", show(a))
	}
}

// TestRefresh: what another class has committed is known afterwards, and only what is new is read.
func TestRefresh(t *testing.T) {
	s := newServer()
	a, b := loadedFor(t, s, "", "a"), loadedFor(t, s, "x", "b")
	for i := range 4 {
		commit(t, b, record.Hold(ip(fmt.Sprint("10.0.", i, ".1")), holder("b"), "lan", noon))
	}
	if err := a.Refresh(t.Context()); err != nil || show(a) != show(b) {
		t.Errorf("%v: a has %s, b %s", err, show(a), show(b))
	}
	commit(t, b, record.Release(ip("10.0.2.1"), holder("b"), noon))
	s.reads = 0
	if err := a.Refresh(t.Context()); err != nil || show(a) != show(b) || s.reads > 2 {
		t.Errorf("%v: a has %s, b %s, after %d reads", err, show(a), show(b), s.reads)
	}
}
