package soak

import (
	"net/netip"
	"sync"
	"time"
)

// Kind of trouble that a node can be in.
type Kind string

// The kinds of trouble.
const (
	Gone      Kind = "gone"      // its speaker does not run
	Frozen    Kind = "frozen"    // its speaker stands still
	Unplugged Kind = "unplugged" // it has no carrier
	Muted     Kind = "muted"     // the switch drops all its frames
	Parted    Kind = "parted"    // speakers do not hear each other, clients hear all
)

// cutsLink tells whether the node's speaker hears nothing from the API server meanwhile.
func (k Kind) cutsLink() bool { return k != Parted }

// splits tells whether two nodes may own one address in good faith, meanwhile or for a moment afterwards.
func (k Kind) splits() bool { return k != Gone }

// Troubles is what the soak does to nodes, controllers, the API server and the LAN, and when. Safe for concurrent use.
type Troubles struct {
	mu          sync.Mutex
	nodes       map[string]*nodeTrouble
	api         gap
	controllers time.Time // when something was last done to one
	splitEnded  time.Time
	parted      int
	squats      map[netip.Addr]*gap
}

// gap is a time of which the end is zero while it lasts. The zero gap has not been.
type gap struct{ from, to time.Time }

func (g gap) open() bool { return !g.from.IsZero() && g.to.IsZero() }

type nodeTrouble struct {
	active map[Kind]bool
	well   time.Time // since when there is no trouble
	links  int       // how many kinds cut the link now
	link   gap
}

// NewTroubles returns Troubles of nodes that are well since a time.
func NewTroubles(nodes []string, since time.Time) *Troubles {
	t := &Troubles{nodes: map[string]*nodeTrouble{}, squats: map[netip.Addr]*gap{}, controllers: since}
	for _, n := range nodes {
		t.nodes[n] = &nodeTrouble{active: map[Kind]bool{}, well: since}
	}
	return t
}

// Begin notes that a node is in trouble, End that it is not any more.
func (t *Troubles) Begin(node string, k Kind, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[node]
	if n.active[k] {
		return
	}
	n.active[k] = true
	if k == Parted {
		t.parted++
	}
	if k.cutsLink() {
		if n.links++; n.links == 1 {
			n.link = gap{from: now}
		}
	}
}

// End notes that a trouble of a node is over; that it was in none is no mistake.
func (t *Troubles) End(node string, k Kind, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[node]
	if !n.active[k] {
		return
	}
	delete(n.active, k)
	n.well = now
	if k == Parted {
		t.parted--
	}
	if k.splits() {
		t.splitEnded = now
	}
	if k.cutsLink() {
		if n.links--; n.links == 0 {
			n.link.to = now
		}
	}
}

// StopAPI and StartAPI note when the API server goes and when it is back.
func (t *Troubles) StopAPI(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.api, t.controllers = gap{from: now}, now
}

// StartAPI notes that the API server is back.
func (t *Troubles) StartAPI(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.api.to, t.controllers = now, now
}

// Touch notes that something was done to a controller.
func (t *Troubles) Touch(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.controllers = now
}

// Squat notes that a stranger uses an address, Unsquat that it does not any more.
func (t *Troubles) Squat(ip netip.Addr, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.squats[ip] = &gap{from: now}
}

// Unsquat notes that the stranger has left an address.
func (t *Troubles) Unsquat(ip netip.Addr, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.squats[ip].to = now
}

// Squatted tells whether a stranger uses an address or has used it since a time; the zero time: ever.
func (t *Troubles) Squatted(ip netip.Addr, since time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.squats[ip]
	return s != nil && (s.open() || !s.to.Before(since))
}

// Well is since when a node has been in no trouble; false: it is in some.
func (t *Troubles) Well(node string) (time.Time, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[node]
	return n.well, len(n.active) == 0
}

// Split tells whether two nodes may own one address in good faith since a time.
func (t *Troubles) Split(since time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.parted > 0 || !t.splitEnded.Before(since)
}

// Undirected tells whether the controllers may have something else to do than their job, since a time.
func (t *Troubles) Undirected(since time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.api.open() || !t.controllers.Before(since)
}

// APIAway tells whether the API server is away, or was since a time.
func (t *Troubles) APIAway(since time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.api.open() || !t.api.to.Before(since) && !t.api.from.IsZero()
}

const (
	// latency is how long news from the API server may take to a speaker that hears it.
	latency = 3 * time.Second
	// catching is how long a speaker may take to hear again after a gap, and beyond that twice the gap: clients of the
	// API server try again ever later.
	catching = 6 * time.Second
)

// KnowsBy is when a node's speaker must have heard of something that the API server has said at a time; false: it need
// not have.
func (t *Troubles) KnowsBy(node string, said time.Time) (time.Time, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	by := said
	for _, g := range []gap{t.api, t.nodes[node].link} {
		switch {
		case g.open():
			return time.Time{}, false
		case g.from.IsZero() || said.Add(latency).Before(g.from):
			continue
		}
		if back := g.to.Add(catching + 2*g.to.Sub(g.from)); back.After(by) {
			by = back
		}
	}
	return by, true
}
