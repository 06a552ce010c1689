package ipam

import (
	"container/heap"
	"net/netip"
	"time"
)

// retention keeps an address for a Service of that name, should it come back.
type retention struct {
	key   Key
	until time.Time
}

// retentions are all of them: by address, by name, and in the order in which they end.
type retentions struct {
	of map[netip.Addr]retention
	by map[Key]map[netip.Addr]bool
	// ends may hold some that are over or were prolonged: those are passed over.
	ends ends
}

func newRetentions() retentions {
	return retentions{of: map[netip.Addr]retention{}, by: map[Key]map[netip.Addr]bool{}}
}

func (r *retentions) add(ip netip.Addr, kept retention) {
	r.remove(ip)
	r.of[ip] = kept
	if r.by[kept.key] == nil {
		r.by[kept.key] = map[netip.Addr]bool{}
	}
	r.by[kept.key][ip] = true
	heap.Push(&r.ends, end{ip, kept.until})
}

func (r *retentions) remove(ip netip.Addr) {
	kept, known := r.of[ip]
	if !known {
		return
	}
	delete(r.of, ip)
	delete(r.by[kept.key], ip)
	if len(r.by[kept.key]) == 0 {
		delete(r.by, kept.key)
	}
	if len(r.ends) > 2*len(r.of)+100 {
		r.ends = r.ends[:0]
		for ip, kept := range r.of {
			r.ends = append(r.ends, end{ip, kept.until})
		}
		heap.Init(&r.ends)
	}
}

// next returns which one ends first; false: there is none.
func (r *retentions) next() (end, bool) {
	for len(r.ends) > 0 {
		first := r.ends[0]
		if kept, known := r.of[first.ip]; known && kept.until.Equal(first.until) {
			return first, true
		}
		heap.Pop(&r.ends)
	}
	return end{}, false
}

// end is when an address is kept no longer.
type end struct {
	ip    netip.Addr
	until time.Time
}

// ends is a heap, the earliest first.
type ends []end

func (e ends) Len() int           { return len(e) }
func (e ends) Less(i, j int) bool { return e[i].until.Before(e[j].until) }
func (e ends) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(x any)        { *e = append(*e, x.(end)) }

func (e *ends) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// retain keeps an address for a Service of a name.
func (l *Ledger) retain(ip netip.Addr, k Key, until time.Time) {
	l.alter(ip, func() { l.retained.add(ip, retention{k, until}) })
	l.pass(ip)
}

// relinquish keeps an address for nobody any more.
func (l *Ledger) relinquish(ip netip.Addr) {
	l.alter(ip, func() { l.retained.remove(ip) })
	l.free(ip)
}

// Tick tells the time. Addresses whose retention is over become free. Every other method goes by the last
// time told.
func (l *Ledger) Tick(now time.Time) Changed {
	l.now = now
	over := false
	for first, some := l.retained.next(); some && !first.until.After(now); first, some = l.retained.next() {
		over = true
		l.relinquish(first.ip)
	}
	if !over {
		return Changed{}
	}
	return l.serveWaiting()
}

// Expiry returns when Tick should be called at the latest; the zero time: nothing waits for it.
func (l *Ledger) Expiry() time.Time {
	first, _ := l.retained.next()
	return first.until
}
