package ipam

import (
	"net/netip"
	"slices"
)

// Ledger knows every request, every pool and who holds which address. Each change of what it is told returns
// the Services whose decision changed with it, in the order in which they were decided. A Service keeps what
// it holds: neither pools nor other requests take an address away.
//
// A Ledger is not safe for concurrent use.
type Ledger struct {
	pools   []*pool // in the order in which they are tried
	holders map[netip.Addr]Key
	entries map[Key]*entry
	waiting []*entry // those that miss a family, in the order in which they are served
	freed   bool     // whether an address was released since waiting was last served
}

type entry struct {
	Request
	Decision
	lingering []netip.Addr // no longer assigned, but still in the Service's status
}

// NewLedger returns a Ledger without pools and requests.
func NewLedger() *Ledger {
	return &Ledger{holders: map[netip.Addr]Key{}, entries: map[Key]*entry{}}
}

// Decision returns what was decided for a Service; false when there is no request of it.
func (l *Ledger) Decision(k Key) (Decision, bool) {
	e, ok := l.entries[k]
	if !ok {
		return Decision{}, false
	}
	return e.Decision, true
}

// Holder returns the Service that holds an address.
func (l *Ledger) Holder(a netip.Addr) (Key, bool) {
	k, ok := l.holders[a]
	return k, ok
}

// InPool reports whether a pool contains an address.
func (l *Ledger) InPool(a netip.Addr) bool { return l.poolOf(a) != "" }

// SetPools replaces the pools. The order given is the order in which they are tried.
func (l *Ledger) SetPools(pools []Pool) []Key {
	if slices.EqualFunc(l.pools, pools, func(have *pool, want Pool) bool { return have.equal(want) }) {
		return nil
	}
	old := map[string]*pool{}
	for _, p := range l.pools {
		old[p.Name] = p
	}
	l.pools = l.pools[:0:0]
	for _, p := range pools {
		l.pools = append(l.pools, newPool(p, old[p.Name]))
	}
	return l.decideAll()
}

// Load replaces all requests: those that have addresses are served first, then the oldest.
func (l *Ledger) Load(requests []Request) []Key {
	l.holders, l.entries, l.waiting = map[netip.Addr]Key{}, map[Key]*entry{}, nil
	for _, r := range requests {
		l.entries[r.Service] = &entry{Request: r}
	}
	return l.decideAll()
}

// Set adds or replaces the request of one Service.
func (l *Ledger) Set(r Request) []Key {
	e, known := l.entries[r.Service]
	if !known {
		e = &entry{}
		l.entries[r.Service] = e
	}
	l.unwait(e)
	e.Request = r
	var changed []Key
	if l.decide(e) {
		changed = append(changed, r.Service)
	}
	return append(changed, l.serveWaiting()...)
}

// Delete forgets a Service and releases its addresses.
func (l *Ledger) Delete(k Key) []Key {
	e, known := l.entries[k]
	if !known {
		return nil
	}
	l.unwait(e)
	delete(l.entries, k)
	for _, ip := range slices.Concat(e.IPs(), e.lingering) {
		l.release(ip)
	}
	return l.serveWaiting()
}

// decideAll lets holders speak before those that have nothing yet, so that nobody is given what a status
// already names; then the oldest first.
func (l *Ledger) decideAll() []Key {
	all := make([]*entry, 0, len(l.entries))
	for _, e := range l.entries {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *entry) int { return a.before(b.Request) })
	l.waiting = nil
	before := make([]Decision, len(all))
	for i, e := range all {
		before[i] = e.Decision
		l.keep(e)
	}
	var changed []Key
	for i, e := range all {
		if l.settle(e, before[i]) {
			changed = append(changed, e.Service)
		}
	}
	return changed
}

// serveWaiting tries those that wait, oldest first, if something has become free.
func (l *Ledger) serveWaiting() []Key {
	if !l.freed {
		return nil
	}
	l.freed = false
	var changed []Key
	for _, e := range slices.Clone(l.waiting) {
		if len(l.choose(e)) == 0 {
			continue
		}
		l.unwait(e)
		if l.decide(e) {
			changed = append(changed, e.Service)
		}
	}
	return changed
}

func (l *Ledger) wait(e *entry) {
	at, _ := slices.BinarySearchFunc(l.waiting, e, func(a, b *entry) int { return a.before(b.Request) })
	l.waiting = slices.Insert(l.waiting, at, e)
}

func (l *Ledger) unwait(e *entry) {
	at, found := slices.BinarySearchFunc(l.waiting, e, func(a, b *entry) int { return a.before(b.Request) })
	if found {
		l.waiting = slices.Delete(l.waiting, at, at+1)
	}
}

func (l *Ledger) held(a netip.Addr) bool {
	_, held := l.holders[a]
	return held
}

func (l *Ledger) release(a netip.Addr) {
	delete(l.holders, a)
	l.freed = true
	for _, p := range l.pools {
		p.release(a)
	}
}

// poolOf returns the name of the pool that contains an address, or "".
func (l *Ledger) poolOf(a netip.Addr) string {
	for _, p := range l.pools {
		if p.Contains(a) {
			return p.Name
		}
	}
	return ""
}
