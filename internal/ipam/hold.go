package ipam

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/lanyard-lb/lanyard/internal/iprange"
)

// occupy notes that an entry holds an address.
func (l *Ledger) occupy(e *entry, ip netip.Addr) {
	if l.holds(e, ip) {
		return
	}
	l.alter(ip, func() {
		l.held[ip] = append(l.held[ip], e)
		l.retained.remove(ip)
	})
	delete(l.released, ip)
	l.pass(ip)
	l.indexSharing(e, ip)
}

// vacate notes that an entry no longer holds an address; the last one frees it.
func (l *Ledger) vacate(e *entry, ip netip.Addr) {
	if !l.holds(e, ip) {
		return
	}
	l.alter(ip, func() {
		if l.held[ip] = slices.DeleteFunc(l.held[ip], func(h *entry) bool { return h == e }); len(l.held[ip]) == 0 {
			delete(l.held, ip)
		}
	})
	if set := l.sharing[e.Sharing.Key]; set != nil && !slices.ContainsFunc(l.held[ip], func(h *entry) bool { return h.Sharing.Key == e.Sharing.Key }) {
		delete(set, ip)
	}
	l.freed = true
	l.pass(ip)
	if len(l.held[ip]) == 0 {
		l.free(ip)
	}
}

// free puts an address that nobody holds back into its pool.
func (l *Ledger) free(ip netip.Addr) {
	l.freed = true
	l.pass(ip)
	delete(l.cameFrom, ip)
	l.released[ip] = l.now
	if p := l.poolOf(ip); p != nil && !l.taken(ip) {
		p.release(ip, l.now)
	}
}

func (l *Ledger) holds(e *entry, ip netip.Addr) bool { return slices.Contains(l.held[ip], e) }

// taken reports whether an address cannot be given to just anybody.
func (l *Ledger) taken(ip netip.Addr) bool {
	_, kept := l.retained.of[ip]
	_, bad := l.quarantine[ip]
	_, denied := l.denied[ip]
	return kept || bad || denied || len(l.held[ip]) > 0
}

// poolOf returns the pool that may hand an address out, or nil.
func (l *Ledger) poolOf(ip netip.Addr) *pool {
	if at, found := iprange.Search(l.ranges, ip); found && !l.owners[at].avoids(ip) {
		return l.owners[at]
	}
	return nil
}

// indexPools prepares poolOf. No two ranges overlap, here or in another pool.
func (l *Ledger) indexPools() {
	owner := map[iprange.Range]*pool{}
	l.ranges, l.owners = nil, nil
	for _, p := range l.pools {
		for _, r := range p.Ranges {
			owner[r] = p
			l.ranges = append(l.ranges, r)
		}
	}
	slices.SortFunc(l.ranges, func(a, b iprange.Range) int { return a.First().Compare(b.First()) })
	for _, r := range l.ranges {
		l.owners = append(l.owners, owner[r])
	}
}

func (l *Ledger) poolName(ip netip.Addr) string {
	if p := l.poolOf(ip); p != nil {
		return p.Name
	}
	return ""
}

// quotaLeft reports whether a namespace may hold so many more addresses of a pool. What a stranger spoils does
// not count: it is going to be let go.
func (l *Ledger) quotaLeft(p *pool, namespace string, more int) bool {
	return p.PerNamespace == 0 || p.account.tenants[namespace]+more <= p.PerNamespace
}

// reservedFor reports whether an address belongs to the reservation that a Service names.
func (l *Ledger) reservedFor(e *entry, ip netip.Addr) bool {
	r := l.reservationOf(e)
	return r != nil && l.holds(r, ip)
}

func (l *Ledger) reservationOf(e *entry) *entry {
	if e.Reservation == "" {
		return nil
	}
	return l.reservations[e.usedReservation()]
}

// usedReservation names the reservation that a Service names; unuse forgets that it does, before its request changes.
func (e *entry) usedReservation() Key { return Key{e.Service.Namespace, e.Reservation} }

func (l *Ledger) use(e *entry) {
	if e.Reservation == "" {
		return
	}
	if l.users[e.usedReservation()] == nil {
		l.users[e.usedReservation()] = map[*entry]bool{}
	}
	l.users[e.usedReservation()][e] = true
}

func (l *Ledger) unuse(e *entry) {
	delete(l.users[e.usedReservation()], e)
	if len(l.users[e.usedReservation()]) == 0 {
		delete(l.users, e.usedReservation())
	}
}

// Holders returns the Services that hold an address, be it only until their status no longer names it, and
// the Reservations.
func (l *Ledger) Holders(ip netip.Addr) (holders Changed) {
	for _, e := range l.held[ip] {
		holders.add(e)
	}
	return holders
}

// Reservations returns the reservations that the ledger knows, in no particular order.
func (l *Ledger) Reservations() []Key { return slices.Collect(maps.Keys(l.reservations)) }
