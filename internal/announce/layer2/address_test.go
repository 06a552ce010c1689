package layer2

import (
	"fmt"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// inPhase is an address with one interface that has come to a phase.
func inPhase(probe placement.Probe, phase placement.Phase) (*address, *holding) {
	a := &address{ip: vip4, probe: probe}
	h := &holding{address: a, responder: &responder{}}
	if phase == placement.Pending {
		return a, h
	}
	a.attach(h)
	switch phase {
	case placement.Taken:
		a.contested(them, "eth0", time.Unix(1, 0))
	case placement.Announcing, placement.Free:
		h.clear = true
		a.finish()
	}
	return a, h
}

// What becomes of an address whose way of probing changes in the middle of a round.
func TestTheWayOfProbingChanges(t *testing.T) {
	const (
		none, first, only = placement.NoProbe, placement.ProbeFirst, placement.ProbeOnly
	)
	for _, c := range []struct {
		from   placement.Probe
		phase  placement.Phase
		to     placement.Probe
		want   placement.Phase
		again  bool
		reason string
	}{
		{first, placement.Announcing, none, placement.Announcing, false, "it is announced already"},
		{first, placement.Probing, none, placement.Announcing, true, "there is no reason left to wait"},
		{first, placement.Taken, none, placement.Announcing, true, "the caller insists"},
		{only, placement.Free, none, placement.Announcing, true, "nothing is announced yet"},
		{none, placement.Announcing, first, placement.Announcing, false, "it is announced already"},
		{only, placement.Probing, first, placement.Probing, false, "the probe that runs will do"},
		{only, placement.Free, first, placement.Probing, true, "what was found may be long ago"},
		{only, placement.Taken, first, placement.Taken, false, "it was found taken in this round"},
		{none, placement.Announcing, only, placement.Probing, true, "it must not be announced"},
		{first, placement.Probing, only, placement.Probing, false, "the probe that runs will do"},
		{first, placement.Taken, only, placement.Taken, false, "it was found taken in this round"},
	} {
		name := fmt.Sprint(c.phase, c.from, c.to)
		a, h := inPhase(c.from, c.phase)
		if a.phase() != c.phase {
			t.Fatalf("%s: starts %s", name, a.phase())
		}
		again := a.turn(c.to)
		if again { // as the responder does
			a.detach(h)
			a.attach(&holding{address: a, responder: h.responder})
		}
		if a.phase() != c.want || again != c.again {
			t.Errorf("%s: %s, again: %v; want %s, %v: %s", name, a.phase(), again, c.want, c.again, c.reason)
		}
	}
}

// Another round forgets what was heard, and goes on answering only if it needs no probe.
func TestAnotherRound(t *testing.T) {
	for _, c := range []struct {
		phase placement.Phase
		probe placement.Probe
		want  placement.Phase
	}{
		{placement.Announcing, placement.NoProbe, placement.Announcing},
		{placement.Announcing, placement.ProbeFirst, placement.Pending},
		{placement.Announcing, placement.ProbeOnly, placement.Pending},
		{placement.Taken, placement.NoProbe, placement.Pending},
		{placement.Taken, placement.ProbeFirst, placement.Pending},
	} {
		a, _ := inPhase(placement.ProbeFirst, c.phase)
		a.contested(them, "eth0", time.Unix(1, 0))
		a.met(third, time.Unix(2, 0))
		a.restart(c.probe)
		if s := a.standing(); a.phase() != c.want || s.Rival != (placement.MAC{}) || s.Peer != (placement.MAC{}) {
			t.Errorf("from %s to %d: %+v, want %s and nobody", c.phase, c.probe, s, c.want)
		}
	}
}
