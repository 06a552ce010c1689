package ipam

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"slices"
)

// Holding is one holder of one address of a pool.
type Holding struct {
	IP            netip.Addr
	Key           Key
	IsReservation bool
}

// Usage is what is held of one pool. An address counts once: as assigned, else as quarantined, else as kept.
type Usage struct {
	Assigned    map[Family]int // addresses that somebody holds, also others whom the ledger does not know
	Quarantined map[Family]int // addresses that are free, but that a stranger uses
	Kept        map[Family]int // addresses that are free, but kept for a Service of some name
	Holdings    int            // who holds addresses, counted for each address
	First       []Holding      // the first of those, by address, then reservations first, then by name
}

// Usage returns what is held of each pool in force, by name, with so many holdings at most. It takes no longer with
// more addresses.
func (l *Ledger) Usage(first int) map[string]Usage {
	all := map[string]Usage{}
	for _, p := range l.pools {
		u := Usage{Holdings: p.account.holdings, First: l.first(p, first)}
		u.Assigned, u.Quarantined, u.Kept = maps.Clone(p.account.assigned), maps.Clone(p.account.quarantined), maps.Clone(p.account.kept)
		all[p.Name] = u
	}
	return all
}

// Held returns how many holdings there are of a pool; see Usage.
func (l *Ledger) Held(pool string) int {
	for _, p := range l.pools {
		if p.Name == pool {
			return p.account.holdings
		}
	}
	return 0
}

// account is what is counted of one pool: with every change of an address by alter, and anew by recount.
type account struct {
	assigned, quarantined, kept map[Family]int
	holdings                    int
	tenants                     map[string]int // namespace to how many addresses it holds that count against its quota
	inUse                       lowest
}

func newAccount() account {
	return account{assigned: map[Family]int{}, quarantined: map[Family]int{}, kept: map[Family]int{}, tenants: map[string]int{}}
}

// alter makes a change of what is known of one address: who holds it, by whom it is denied, whether it is kept or
// quarantined.
func (l *Ledger) alter(ip netip.Addr, change func()) {
	l.count(ip, -1)
	change()
	l.count(ip, 1)
}

// count adds an address as it is now to the account of its pool, or takes it off.
func (l *Ledger) count(ip netip.Addr, by int) {
	p := l.poolOf(ip)
	if p == nil {
		return
	}
	held, others := l.held[ip], l.denied[ip].By
	_, bad := l.quarantine[ip]
	_, kept := l.retained.of[ip]
	f := FamilyOf(ip)
	switch {
	case len(held)+len(others) > 0:
		tally(p.account.assigned, f, by)
		p.account.holdings += by * (len(held) + len(others))
		p.account.inUse.set(ip, by > 0)
	case bad:
		tally(p.account.quarantined, f, by)
	case kept:
		tally(p.account.kept, f, by)
	}
	if l.spoiled(ip) {
		return
	}
	for i, e := range held {
		n := e.Service.Namespace
		if !slices.ContainsFunc(held[:i], func(o *entry) bool { return o.Service.Namespace == n }) {
			tally(p.account.tenants, n, by)
		}
	}
}

// tally adds to a count. What there are none of is left out.
func tally[K comparable](counts map[K]int, k K, by int) {
	if counts[k] += by; counts[k] == 0 {
		delete(counts, k)
	}
}

// recount counts everything anew.
func (l *Ledger) recount() {
	for _, p := range l.pools {
		p.account = newAccount()
	}
	known := map[netip.Addr]bool{}
	note := func(ip netip.Addr) {
		if !known[ip] {
			known[ip] = true
			l.count(ip, 1)
		}
	}
	for ip := range l.held {
		note(ip)
	}
	for ip := range l.denied {
		note(ip)
	}
	for ip := range l.quarantine {
		note(ip)
	}
	for ip := range l.retained.of {
		note(ip)
	}
}

// first returns the first holdings of a pool.
func (l *Ledger) first(p *pool, n int) []Holding {
	var list []Holding
	for _, ip := range p.account.inUse.first(n, l.inUse(p)) {
		at := len(list)
		for _, e := range l.held[ip] {
			list = append(list, Holding{ip, e.Service, e.isReservation})
		}
		for _, k := range l.denied[ip].By {
			list = append(list, Holding{IP: ip, Key: k})
		}
		slices.SortFunc(list[at:], Holding.compare)
		if len(list) >= n {
			return list[:n]
		}
	}
	return list
}

// inUse yields the addresses of a pool that somebody holds, some of them twice.
func (l *Ledger) inUse(p *pool) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for ip := range l.held {
			if p.Contains(ip) && !yield(ip) {
				return
			}
		}
		for ip, o := range l.denied {
			if p.Contains(ip) && len(o.By) > 0 && !yield(ip) {
				return
			}
		}
	}
}

func (h Holding) compare(o Holding) int {
	if h.IP == o.IP && h.IsReservation != o.IsReservation {
		if h.IsReservation {
			return -1
		}
		return 1
	}
	return cmp.Or(h.IP.Compare(o.IP), cmp.Compare(h.Key.Namespace, o.Key.Namespace), cmp.Compare(h.Key.Name, o.Key.Name))
}

// lowest remembers the lowest of a set of addresses, so that the first few are at hand whatever the size of the set.
type lowest struct {
	list []netip.Addr // sorted
	size int          // of list, at most
	more bool         // there may be others, each above those in list
}

// set notes whether an address is in the set.
func (s *lowest) set(ip netip.Addr, in bool) {
	at, found := slices.BinarySearchFunc(s.list, ip, netip.Addr.Compare)
	switch {
	case found && !in:
		s.list = slices.Delete(s.list, at, at+1)
	case !found && in && at == len(s.list) && (s.more || at == s.size):
		s.more = true
	case !found && in:
		s.list = slices.Insert(s.list, at, ip)
		if len(s.list) > s.size {
			s.list, s.more = s.list[:s.size], true
		}
	}
}

// first returns the n lowest addresses. all yields the whole set; it is looked through when too many of those that
// were known have gone, which does not happen with fewer than n changes in between.
func (s *lowest) first(n int, all iter.Seq[netip.Addr]) []netip.Addr {
	if len(s.list) < n && s.more {
		*s = lowest{size: 2 * n}
		for ip := range all {
			s.set(ip, true)
		}
	}
	return s.list[:min(n, len(s.list))]
}
