package layer2

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/lanyard-lb/lanyard/internal/announce"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// book keeps how each wanted address stands, for the announcer that sets them and for the goroutines that
// hear and send. Under its lock nothing else is locked, but what tells the kernel whom to answer for.
type book struct {
	changed chan struct{}

	mu        sync.Mutex
	addresses map[netip.Addr]*address
	listed    []*announce.Standing // as last told, of the announcements in of
	of        []*placement.Announcement
	stale     []*address // that may stand otherwise since
	shrunk    []*address // that have lost an interface since the last settle
	ours      []placement.MAC
	peers     map[placement.MAC]bool
}

// claim is what a frame says of an address.
type claim struct {
	mac       placement.MAC // who has it
	tentative bool          // or wants it, and asks whether somebody has it
}

// claimant is who claims an address, as far as it matters here.
type claimant uint8

const (
	nobody claimant = iota // ourselves, or somebody whose claim does not count now
	peer
	stranger
)

func newBook() *book {
	return &book{changed: make(chan struct{}, 1), addresses: make(map[netip.Addr]*address)}
}

func (b *book) signal() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// update does something to an address, and signals if others would see that.
func (b *book) update(a *address, do func()) {
	before := a.standing()
	if do(); a.standing() != before {
		b.doubt(a)
		b.signal()
	}
}

// doubt notes that an address may stand otherwise than it was last told.
func (b *book) doubt(a *address) {
	if !a.stale {
		a.stale = true
		b.stale = append(b.stale, a)
	}
}

// know tells which MAC addresses are not those of strangers.
func (b *book) know(interfaces []placement.Interface, peers map[placement.MAC]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ours = b.ours[:0]
	for _, i := range interfaces {
		b.ours = append(b.ours, i.MAC)
	}
	b.peers = peers
}

// change takes in how one wanted address differs from before, and reports whether to start again where it
// is served already.
func (b *book) change(c change) (again bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.addresses[c.ip]
	switch {
	case c.gone:
		delete(b.addresses, c.ip)
		b.signal()
	case a == nil:
		b.addresses[c.ip] = &address{ip: c.ip, probe: c.probe}
		b.doubt(b.addresses[c.ip])
		b.signal()
	case c.again:
		b.update(a, func() { a.restart(c.probe) })
		again = true
	case c.probe != a.probe:
		b.update(a, func() { again = a.turn(c.probe) })
	}
	return again
}

// hold returns a holding of an address that is wanted.
func (b *book) hold(ip netip.Addr, r *responder) *holding {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := &holding{address: b.addresses[ip], responder: r}
	h.mirror()
	return h
}

// enlist has a program, or none, answer for what a responder holds.
func (b *book) enlist(r *responder, program *answering, held []*holding) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r.program = program
	for _, h := range held {
		h.mirror()
	}
	if program != nil && r.doubt.Load() == nil {
		program.begin()
	}
}

// attach begins to serve addresses on an interface, and returns the announcements and the probes to be made.
func (b *book) attach(list []*holding) (announcements, probes []burst) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range list {
		b.update(h.address, func() {
			switch series, ok := h.attach(h); {
			case ok && series.probe:
				probes = append(probes, series)
			case ok:
				announcements = append(announcements, series)
			}
		})
	}
	return announcements, probes
}

// detach ends that.
func (b *book) detach(h *holding) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h.detach(h)
	b.shrunk = append(b.shrunk, h.address)
}

// forget does the same with a holding that has no successor.
func (b *book) forget(h *holding) {
	b.detach(h)
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := h.responder; r.program != nil {
		r.check(r.program.drop(h.ip))
	}
}

// succeed prepares a holding that is to take the place of another. Starting again is no new right to defend.
func (b *book) succeed(h, old *holding) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h.defended = old.defended
}

// settle takes in what detach left behind, and returns the announcements to be made.
func (b *book) settle() (list []burst) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.shrunk {
		b.update(a, func() { list = append(list, a.settle()...) })
	}
	clear(b.shrunk)
	b.shrunk = b.shrunk[:0]
	return list
}

// reset forgets all findings, as nobody listens any more: a later Run probes again.
func (b *book) reset() {
	b.settle()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.addresses {
		b.update(a, func() { a.passed = false; a.enter(placement.Pending) })
	}
}

// cleared takes in that nobody has answered the probes of an address on an interface, and returns the
// announcements that can be made now.
func (b *book) cleared(h *holding) (list []burst) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h.clear = true
	b.update(h.address, func() { list = h.finish() })
	return list
}

// heard takes in a claim that arrived on the interface of a holding. Who only asks for an address has not
// got it; that counts while we ask for it as well (RFC 5227 section 2.1.1, RFC 4862 section 5.4.3).
// Otherwise our answer settles it.
func (b *book) heard(h *holding, c claim, now time.Time) claimant {
	b.mu.Lock()
	defer b.mu.Unlock()
	phase := h.phase()
	if c.tentative && phase != placement.Probing || slices.Contains(b.ours, c.mac) {
		return nobody
	}
	by, tell := stranger, false
	b.doubt(h.address)
	if b.peers[c.mac] {
		by, tell = peer, h.met(c.mac, now)
	} else {
		tell = h.contested(c.mac, h.responder.ifi.Name, now)
	}
	if tell {
		h.told = now
		b.signal()
	}
	if phase != placement.Probing && phase != placement.Announcing {
		return nobody
	}
	return by
}

// defend reports whether to defend an address on an interface now.
func (b *book) defend(h *holding, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return h.defend(now)
}

// standings of announcements whose addresses are wanted, sorted by address. While nothing changes, it is the same slice,
// and what stands as before is the same pointer.
func (b *book) standings(list []*placement.Announcement) []*announce.Standing {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.stale) == 0 && sameSlice(list, b.of) {
		return b.listed
	}
	out := make([]*announce.Standing, len(list))
	if old, of := b.listed, b.of; sameSlice(list, of) {
		copy(out, old)
	} else {
		for i, w := range list {
			for len(of) > 0 && of[0] != w && of[0].IP.Less(w.IP) {
				old, of = old[1:], of[1:]
			}
			if len(of) > 0 && (of[0] == w || of[0].IP == w.IP) { // else it is stale
				out[i], old, of = old[0], old[1:], of[1:]
			}
		}
	}
	for _, a := range b.stale {
		a.stale = false
		at, wanted := slices.BinarySearchFunc(list, a.ip, func(w *placement.Announcement, ip netip.Addr) int { return w.IP.Compare(ip) })
		if wanted && b.addresses[a.ip] == a {
			s := a.standing()
			out[at] = &s
		}
	}
	clear(b.stale)
	b.stale, b.listed, b.of = b.stale[:0], out, list
	return out
}
