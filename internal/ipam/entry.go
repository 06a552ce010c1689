package ipam

import (
	"net/netip"
	"slices"
	"unique"
)

// entry is a Service or a Reservation with what it holds.
type entry struct {
	Request
	Decision
	isReservation bool
	slots         []slot
	lingering     []netip.Addr          // no longer assigned, but still in the status
	wish          unique.Handle[string] // while it waits
	watched       []netip.Addr          // what its message tells of, or would, while it waits
	counted       Standing              // what it is counted under; the zero value: it is not
}

// slot is one wish for an address: a given one, or any of a family.
type slot struct {
	family Family
	ip     netip.Addr // the one that is asked for; invalid: any
}

func serviceEntry(r Request) *entry {
	e := &entry{Request: r}
	for _, ip := range r.Addresses {
		e.slots = append(e.slots, slot{FamilyOf(ip), ip})
	}
	for _, f := range r.Families {
		if !slices.ContainsFunc(r.Addresses, func(ip netip.Addr) bool { return FamilyOf(ip) == f }) {
			e.slots = append(e.slots, slot{family: f})
		}
	}
	// The status goes by the order of the families, whatever is asked for by name.
	slices.SortStableFunc(e.slots, func(a, b slot) int {
		return slices.Index(r.Families, a.family) - slices.Index(r.Families, b.family)
	})
	return e
}

func reservationEntry(r Reservation) *entry {
	e := &entry{isReservation: true, Request: Request{
		Service: r.Key, Created: r.Created, Addresses: r.Addresses, Status: r.Status, Ours: true,
	}}
	for _, ip := range r.Addresses {
		e.slots = append(e.slots, slot{FamilyOf(ip), ip})
	}
	for _, f := range []Family{IPv4, IPv6} {
		for range r.Count[f] {
			e.slots = append(e.slots, slot{family: f})
		}
	}
	if r.Pool != "" {
		e.Pools = []string{r.Pool}
	}
	return e
}

// keep lets an entry go on with what it has: what the ledger gave it, or, when it is new here, what its
// status names. An address that fills none of its wishes (any more) stands in for one of the same family
// until that one is met, so that asking for another address never leaves a Service without; but none that a
// stranger spoils, which would lead users to the stranger. What is left
// over is released as soon as the status no longer names it, so that no address stands in two statuses.
// chosen are addresses that the entry occupies as of now.
func (l *Ledger) keep(e *entry, chosen ...netip.Addr) {
	candidates := slices.Concat(e.IPs(), chosen)
	for _, ip := range e.lingering {
		if slices.Contains(e.Status, ip) {
			candidates = append(candidates, ip)
		}
	}
	if len(candidates) == 0 {
		candidates = e.Status
	}
	e.Foreign = !e.Ours && slices.ContainsFunc(e.Status, func(ip netip.Addr) bool {
		return l.poolOf(ip) == nil && !slices.Contains(e.IPs(), ip)
	})
	had := slices.Concat(e.IPs(), e.lingering, chosen)
	if e.isReservation { // what is in use is let go last
		slices.SortStableFunc(candidates, func(a, b netip.Addr) int { return len(l.held[b]) - len(l.held[a]) })
	}
	kept := slices.DeleteFunc(slices.Clone(candidates), func(ip netip.Addr) bool { return !l.mayKeep(e, ip) })
	e.Assigned, e.lingering = nil, nil
	l.fill(e, kept)
	for _, ip := range candidates {
		if !slices.Contains(e.IPs(), ip) && slices.Contains(e.Status, ip) {
			e.lingering = append(e.lingering, ip)
			l.occupy(e, ip)
		}
	}
	for _, ip := range had {
		if !slices.Contains(e.IPs(), ip) && !slices.Contains(e.lingering, ip) {
			l.vacate(e, ip)
		}
	}
}

// mayKeep reports whether an entry may go on holding an address that it had: in a pool or given by us, and
// not held by others that it does not go together with.
func (l *Ledger) mayKeep(e *entry, ip netip.Addr) bool {
	if l.deniedTo(e, ip) || l.poolOf(ip) == nil && !e.Ours && !l.holds(e, ip) {
		return false
	}
	return !slices.ContainsFunc(l.held[ip], func(other *entry) bool {
		return other != e && slices.Contains(other.IPs(), ip) && !l.together(e, other)
	})
}

// fill assigns what an entry has to its wishes, exact ones first, then lets the rest stand in.
func (l *Ledger) fill(e *entry, candidates []netip.Addr) {
	if e.Foreign {
		return
	}
	assigned := make([]netip.Addr, len(e.slots))
	place := func(fits func(slot, netip.Addr) bool) {
		for i, s := range e.slots {
			for _, ip := range candidates {
				if !assigned[i].IsValid() && s.family == FamilyOf(ip) && !slices.Contains(assigned, ip) && fits(s, ip) {
					assigned[i] = ip
				}
			}
		}
	}
	place(func(s slot, ip netip.Addr) bool { return s.ip == ip && l.satisfies(e, s, ip) })
	place(func(s slot, ip netip.Addr) bool { return l.satisfies(e, s, ip) })
	place(func(_ slot, ip netip.Addr) bool { return !l.spoiled(ip) || l.insists(e, ip) })
	for _, ip := range assigned {
		if ip.IsValid() {
			e.Assigned = append(e.Assigned, Assignment{IP: ip, Pool: l.poolName(ip)})
			l.occupy(e, ip)
		}
	}
}

// satisfies reports whether an address is what a wish is for.
func (l *Ledger) satisfies(e *entry, s slot, ip netip.Addr) bool {
	p := l.poolOf(ip)
	switch {
	case s.ip.IsValid() && s.ip != ip, s.family != FamilyOf(ip):
		return false
	case s.ip.IsValid():
		return true
	case l.spoiled(ip) && !l.insists(e, ip):
		return false
	case p == nil:
		return !e.Reassign && !l.orphan(ip)
	case e.Reservation != "":
		return l.reservedFor(e, ip)
	}
	return len(e.Pools) == 0 || slices.Contains(e.Pools, p.Name)
}

// unfilled returns the wishes that nothing satisfies yet.
func (l *Ledger) unfilled(e *entry) []slot {
	if e.Foreign {
		return nil
	}
	left := slices.Clone(e.IPs())
	var missing []slot
	for _, s := range e.slots {
		at := slices.IndexFunc(left, func(ip netip.Addr) bool { return l.satisfies(e, s, ip) })
		if at < 0 {
			missing = append(missing, s)
			continue
		}
		left = slices.Delete(left, at, at+1)
	}
	return missing
}
