package membership

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/hashicorp/memberlist"
)

// roster is who is alive, from memberlist's events; a suspected member still is, and so is one that is asked
// whether it died (deaths.go). It copies what it is told, because memberlist goes on changing its nodes. It is safe for concurrent use.
type roster struct {
	logger  log.Logger
	changed chan struct{} // holds one signal after a change
	gained  chan struct{} // holds one signal after a member appeared
	lost    chan struct{} // holds one signal after a member went
	// watch is told who appears and who goes, one after the other; memberlist may hold its lock meanwhile.
	watch  func(name string, live bool)
	deaths deaths

	order sync.Mutex // held while taking an event; mu is taken after it

	mu   sync.Mutex
	live map[string]*member         // nil while not running
	at   map[netip.AddrPort]*member // the same
	list []string                   // their names, sorted; nil: to be made
}

// member is a live one.
type member struct {
	addr    netip.AddrPort
	heard   time.Time     // when a packet last came from it
	refuted chan struct{} // nil, but while it is asked whether it died: closed when it did not
}

var _ memberlist.EventDelegate = (*roster)(nil)

func newRoster(logger log.Logger) *roster {
	return &roster{
		logger: logger, changed: make(chan struct{}, 1),
		gained: make(chan struct{}, 1), lost: make(chan struct{}, 1),
		watch:  func(string, bool) {},
		deaths: deaths{leaves: func(string) bool { return false }},
	}
}

// open begins to take events, close ends it and forgets everybody.
func (r *roster) open()  { r.set(make(map[string]*member)) }
func (r *roster) close() { r.set(nil) }

func (r *roster) set(live map[string]*member) {
	r.mu.Lock()
	for _, m := range r.live {
		m.believe()
	}
	r.live, r.at, r.list = live, make(map[netip.AddrPort]*member), nil
	r.mu.Unlock()
	signal(r.changed)
}

// NotifyJoin implements memberlist.EventDelegate. Memberlist holds its lock meanwhile: don't call it.
func (r *roster) NotifyJoin(n *memberlist.Node) {
	r.order.Lock()
	defer r.order.Unlock()
	addr, _ := netip.AddrFromSlice(n.Addr)
	at := netip.AddrPortFrom(addr.Unmap(), n.Port)
	r.mu.Lock()
	m := r.live[n.Name]
	known, same := r.live != nil, m != nil && m.addr == at
	if m != nil {
		m.believe()
	}
	if known && !same {
		r.put(n.Name, &member{addr: at})
	}
	r.mu.Unlock()
	switch {
	case same:
		_ = level.Info(r.logger).Log("msg", "member was said to have died, and has not", "member", n.Name)
	case known:
		_ = level.Info(r.logger).Log("msg", "member is alive", "member", n.Name, "addr", at)
		r.watch(n.Name, true)
		signal(r.changed)
		signal(r.gained)
	}
}

// NotifyLeave implements memberlist.EventDelegate, for members that died or left.
func (r *roster) NotifyLeave(n *memberlist.Node) {
	r.order.Lock()
	defer r.order.Unlock()
	if !r.asks(n.Name) {
		r.drop(n.Name)
	}
}

// drop notes that a member is gone; order is held.
func (r *roster) drop(name string) {
	r.mu.Lock()
	_, known := r.live[name]
	r.put(name, nil)
	r.mu.Unlock()
	if known {
		r.deaths.note(name)
		_ = level.Info(r.logger).Log("msg", "member is gone", "member", name)
		r.watch(name, false)
		signal(r.changed)
		signal(r.lost)
	}
}

// put makes a member the live one of that name; nil: none is. mu is held.
func (r *roster) put(name string, m *member) {
	if old := r.live[name]; old != nil && r.at[old.addr] == old {
		delete(r.at, old.addr)
	}
	delete(r.live, name)
	if r.list = nil; m != nil {
		r.live[name], r.at[m.addr] = m, m
	}
}

// NotifyUpdate implements memberlist.EventDelegate. Only metadata changes that way, and we have none.
func (r *roster) NotifyUpdate(*memberlist.Node) {}

// names returns the live members' names, sorted. While they are the same, it is the same slice, which nobody changes.
func (r *roster) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.list == nil {
		r.list = slices.Sorted(maps.Keys(r.live))
	}
	return r.list
}

// addr returns the address of a live member.
func (r *roster) addr(name string) (netip.AddrPort, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.live[name]
	if m == nil {
		return netip.AddrPort{}, false
	}
	return m.addr, true
}

// others returns the addresses of the live members but the one named.
func (r *roster) others(self string) []netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	var addrs []netip.AddrPort
	for _, name := range slices.Sorted(maps.Keys(r.live)) {
		if name != self {
			addrs = append(addrs, r.live[name].addr)
		}
	}
	return addrs
}

// has tells whether the peer is alive: by name, or by address for a peer without one.
func (r *roster) has(p Peer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.Name != "" {
		_, ok := r.live[p.Name]
		return ok
	}
	for _, m := range r.live {
		if m.addr == p.Addr {
			return true
		}
	}
	return false
}

// signal leaves one signal in a channel of capacity one.
func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
