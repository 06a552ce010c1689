package ipam

import (
	"net/netip"
	"slices"
)

// choose finds addresses for wishes that nothing satisfies yet, without taking them: all that are asked for
// by name, and one of each family of which any will do.
func (l *Ledger) choose(e *entry) []netip.Addr {
	if e.Invalid != "" {
		return nil
	}
	missing := l.unfilled(e)
	var chosen []netip.Addr
	var open []Family
	for _, s := range missing {
		switch {
		case !s.ip.IsValid():
			if !slices.Contains(open, s.family) {
				open = append(open, s.family)
			}
		case l.obstacle(e, s.ip).reason == "":
			chosen = append(chosen, s.ip)
		}
	}
	chosen = l.withinQuota(e, append(chosen, l.chooseAny(e, open)...))
	if e.AllOrNothing && len(chosen) < len(missing) {
		return nil
	}
	return chosen
}

// withinQuota leaves out what would have the namespace hold more addresses of a pool than it may. Joining others
// takes nothing new.
func (l *Ledger) withinQuota(e *entry, chosen []netip.Addr) []netip.Addr {
	more := map[*pool]int{}
	return slices.DeleteFunc(chosen, func(ip netip.Addr) bool {
		p := l.poolOf(ip)
		if p == nil || len(l.held[ip]) > 0 {
			return false
		}
		more[p]++
		return !l.quotaLeft(p, e.Service.Namespace, more[p])
	})
}

// chooseAny finds an address of each of the families: of the reservation that the Service names; else one
// kept for it, one that it may share, or a free one.
func (l *Ledger) chooseAny(e *entry, families []Family) []netip.Addr {
	if e.Reservation != "" {
		return l.eachFamily(families, func(f Family) (netip.Addr, bool) { return l.fromReservation(e, f) })
	}
	var chosen []netip.Addr
	var open []Family
	for _, f := range families {
		if ip, ok := l.keptFor(e, f); ok {
			chosen = append(chosen, ip)
		} else if ip, ok := l.toShare(e, f); ok {
			chosen = append(chosen, ip)
		} else if e.Sharing.Spill || len(l.shared(e, f)) == 0 {
			open = append(open, f)
		}
	}
	return append(chosen, l.fromPools(e, open)...)
}

// fromPools takes from one pool when one has all the families, else from the first pool that has each.
func (l *Ledger) fromPools(e *entry, families []Family) []netip.Addr {
	pools := l.candidates(e)
	for _, p := range pools {
		if whole := l.fromPool(e, p, families); len(whole) == len(families) {
			return whole
		}
	}
	taken := map[*pool]int{}
	return l.eachFamily(families, func(f Family) (netip.Addr, bool) {
		for _, p := range pools {
			if l.closed(e, p, taken[p]+1).reason != "" {
				continue
			}
			if ip, free := p.find(f, l.taken); free {
				taken[p]++
				return ip, true
			}
		}
		return netip.Addr{}, false
	})
}

// candidates are the pools to look at, in order: those that are asked for, else all in order of priority.
func (l *Ledger) candidates(e *entry) []*pool {
	if len(e.Pools) == 0 {
		return l.pools
	}
	var pools []*pool
	for _, name := range e.Pools {
		for _, p := range l.pools {
			if p.Name == name {
				pools = append(pools, p)
			}
		}
	}
	return pools
}

func (l *Ledger) fromPool(e *entry, p *pool, families []Family) []netip.Addr {
	if l.closed(e, p, len(families)).reason != "" {
		return nil
	}
	return l.eachFamily(families, func(f Family) (netip.Addr, bool) { return p.find(f, l.taken) })
}

func (l *Ledger) fromReservation(e *entry, f Family) (netip.Addr, bool) {
	r := l.reservationOf(e)
	if r == nil {
		return netip.Addr{}, false
	}
	for _, ip := range r.IPs() {
		if FamilyOf(ip) == f && !l.holds(e, ip) && l.obstacle(e, ip).reason == "" {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

// keptFor finds the lowest address that is retained for a Service of this name.
func (l *Ledger) keptFor(e *entry, f Family) (netip.Addr, bool) {
	var best netip.Addr
	if e.isReservation {
		return best, false
	}
	for ip := range l.retained.by[e.Service] {
		fits := FamilyOf(ip) == f && l.satisfies(e, slot{family: f}, ip)
		if fits && (!best.IsValid() || ip.Less(best)) && l.obstacle(e, ip).reason == "" {
			best = ip
		}
	}
	return best, best.IsValid()
}

// toShare finds the lowest address under the entry's sharing key whose holders go together with it.
func (l *Ledger) toShare(e *entry, f Family) (netip.Addr, bool) {
	if e.Sharing.Key == "" {
		return netip.Addr{}, false
	}
	for _, ip := range l.shared(e, f) {
		if !l.holds(e, ip) && l.obstacle(e, ip).reason == "" && l.satisfies(e, slot{family: f}, ip) {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

func (l *Ledger) eachFamily(families []Family, find func(Family) (netip.Addr, bool)) []netip.Addr {
	var found []netip.Addr
	for _, f := range families {
		if ip, ok := find(f); ok {
			found = append(found, ip)
		}
	}
	return found
}
