package layer2

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/lanyard-lb/lanyard/internal/announce"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

const (
	// defendEvery is DEFEND_INTERVAL of RFC 5227 section 1.1: the least time between two defences of an
	// address on an interface.
	defendEvery = 10 * time.Second
	// tellEvery is the least time between two signals that the same station goes on claiming an address.
	tellEvery = time.Second
)

// address is one wanted address, on all its interfaces together. It takes what happens as method calls,
// with the time as an argument, and returns what is to be sent. The book guards it; the phase alone may be
// read without.
type address struct {
	ip       netip.Addr
	probe    placement.Probe
	state    atomic.Uint32 // a placement.Phase
	passed   bool          // announced in this round before: it needs no other probe
	holdings []*holding    // on the interfaces that are served
	said     announce.Standing
	told     time.Time // when a claim was last signalled
	stale    bool      // it may stand otherwise than it was last told
}

// holding is an address on one interface, from its adding, or its last new start, to its removal.
type holding struct {
	*address
	responder *responder
	next      *holding    // in the responder's table
	clear     bool        // probed here, and nobody has answered
	defended  time.Time   // here
	gone      atomic.Bool // it has ended: nothing more is sent for it
}

func (a *address) phase() placement.Phase { return placement.Phase(a.state.Load()) }

func (a *address) enter(p placement.Phase) {
	a.state.Store(uint32(p))
	for _, h := range a.holdings {
		h.mirror()
	}
}

// mirror has the kernel answer for a holding as the socket would.
func (h *holding) mirror() {
	if r := h.responder; r != nil && r.program != nil {
		r.check(r.program.hold(h.ip, h.announced()))
	}
}

func (a *address) announced() bool { return a.phase() == placement.Announcing }

// standing is what others are told of the address.
func (a *address) standing() announce.Standing {
	s := a.said
	s.IP, s.Phase = a.ip, a.phase()
	return s
}

// restart begins another round: what was heard in the last is forgotten. What needs no probe is answered
// for meanwhile.
func (a *address) restart(probe placement.Probe) {
	a.probe, a.passed, a.said = probe, false, announce.Standing{}
	if probe != placement.NoProbe || !a.announced() {
		a.enter(placement.Pending)
	}
}

// turn changes the way of probing in the middle of a round and reports whether to start again. What is
// announced goes on if it may, and so does a probe; what was found is not trusted for announcing.
func (a *address) turn(probe placement.Probe) (again bool) {
	switch phase := a.phase(); probe {
	case placement.NoProbe:
		again = phase != placement.Announcing
	case placement.ProbeFirst:
		again = phase == placement.Free
	case placement.ProbeOnly:
		again = phase == placement.Announcing
	}
	a.probe = probe
	if again {
		a.passed = false
		a.enter(placement.Pending)
	}
	return again
}

// attach begins to serve the address on one more interface. It returns the series of frames to send there,
// if any: a probe if the address is not announced yet.
func (a *address) attach(h *holding) (b burst, ok bool) {
	a.holdings = append(a.holdings, h)
	h.mirror() // it may stand otherwise than when it was added
	if a.phase() == placement.Pending {
		a.begin()
	}
	switch a.phase() {
	case placement.Announcing:
		return burst{holding: h}, true
	case placement.Probing:
		return burst{holding: h, probe: true}, true
	}
	return burst{}, false
}

func (a *address) begin() {
	a.passed = a.probe == placement.NoProbe || a.probe == placement.ProbeFirst && a.passed
	if a.passed {
		a.enter(placement.Announcing)
		return
	}
	a.enter(placement.Probing)
}

func (a *address) detach(h *holding) {
	h.gone.Store(true)
	if i := slices.Index(a.holdings, h); i >= 0 {
		a.holdings = slices.Delete(a.holdings, i, i+1)
	}
}

// settle takes in that interfaces have gone. A finding outlives them.
func (a *address) settle() []burst {
	switch phase := a.phase(); {
	case len(a.holdings) > 0:
		return a.finish()
	case phase == placement.Probing || phase == placement.Announcing:
		a.enter(placement.Pending)
	}
	return nil
}

// finish ends probing if nobody has answered on any interface, and returns the announcements to make.
func (a *address) finish() (list []burst) {
	probed := func(h *holding) bool { return !h.clear }
	if a.phase() != placement.Probing || slices.ContainsFunc(a.holdings, probed) {
		return nil
	}
	if a.probe == placement.ProbeOnly {
		a.enter(placement.Free)
		return nil
	}
	a.passed = true
	a.enter(placement.Announcing)
	for _, h := range a.holdings {
		list = append(list, burst{holding: h})
	}
	return list
}

// contested takes in that a stranger claims the address. What is probed, or was found free, is taken then.
// What is announced is kept, as RFC 5227 section 2.4(c) allows a host whose address must not change.
func (a *address) contested(by placement.MAC, on string, now time.Time) (tell bool) {
	tell = a.said.Rival != by || a.due(now)
	a.said.Rival, a.said.RivalOn, a.said.RivalAt = by, on, now
	if phase := a.phase(); phase == placement.Probing || phase == placement.Free {
		a.enter(placement.Taken)
		tell = true
	}
	return tell
}

// met takes in that a peer claims it. That changes nothing here: who keeps it is not decided on the wire.
func (a *address) met(peer placement.MAC, now time.Time) (tell bool) {
	tell = a.said.Peer != peer || a.due(now)
	a.said.Peer, a.said.PeerAt = peer, now
	return tell
}

func (a *address) due(now time.Time) bool { return now.Sub(a.told) >= tellEvery }

// defend reports whether a claim heard now is answered by an announcement, and remembers it if so.
func (h *holding) defend(now time.Time) bool {
	if !h.announced() || !h.defended.IsZero() && now.Sub(h.defended) < defendEvery {
		return false
	}
	h.defended = now
	return true
}
