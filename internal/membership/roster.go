package membership

import (
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/hashicorp/memberlist"
)

// roster is who is alive, from memberlist's events; a suspected member still is. It copies what it is
// told, because memberlist goes on changing its nodes. It is safe for concurrent use.
type roster struct {
	logger  log.Logger
	changed chan struct{} // holds one signal after a change
	gained  chan struct{} // holds one signal after a member appeared
	lost    chan struct{} // holds one signal after a member went
	// watch is told who appears and who goes; memberlist holds its lock meanwhile.
	watch func(name string, live bool)

	mu   sync.Mutex
	live map[string]netip.AddrPort // nil while not running
	list []string                  // their names, sorted; nil: to be made
}

var _ memberlist.EventDelegate = (*roster)(nil)

func newRoster(logger log.Logger) *roster {
	return &roster{
		logger: logger, changed: make(chan struct{}, 1),
		gained: make(chan struct{}, 1), lost: make(chan struct{}, 1),
		watch: func(string, bool) {},
	}
}

// open begins to take events, close ends it and forgets everybody.
func (r *roster) open()  { r.set(make(map[string]netip.AddrPort)) }
func (r *roster) close() { r.set(nil) }

func (r *roster) set(live map[string]netip.AddrPort) {
	r.mu.Lock()
	r.live, r.list = live, nil
	r.mu.Unlock()
	signal(r.changed)
}

// NotifyJoin implements memberlist.EventDelegate. Memberlist holds its lock meanwhile: don't call it.
func (r *roster) NotifyJoin(n *memberlist.Node) {
	addr, _ := netip.AddrFromSlice(n.Addr)
	at := netip.AddrPortFrom(addr.Unmap(), n.Port)
	r.mu.Lock()
	known := r.live != nil
	if known {
		r.live[n.Name], r.list = at, nil
	}
	r.mu.Unlock()
	if known {
		_ = level.Info(r.logger).Log("msg", "member is alive", "member", n.Name, "addr", at)
		r.watch(n.Name, true)
		signal(r.changed)
		signal(r.gained)
	}
}

// NotifyLeave implements memberlist.EventDelegate, for members that died or left.
func (r *roster) NotifyLeave(n *memberlist.Node) {
	r.mu.Lock()
	_, known := r.live[n.Name]
	delete(r.live, n.Name)
	r.list = nil
	r.mu.Unlock()
	if known {
		_ = level.Info(r.logger).Log("msg", "member is gone", "member", n.Name)
		r.watch(n.Name, false)
		signal(r.changed)
		signal(r.lost)
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
	at, ok := r.live[name]
	return at, ok
}

// others returns the addresses of the live members but the one named.
func (r *roster) others(self string) []netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	var addrs []netip.AddrPort
	for _, name := range slices.Sorted(maps.Keys(r.live)) {
		if name != self {
			addrs = append(addrs, r.live[name])
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
	for _, addr := range r.live {
		if addr == p.Addr {
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
