package ipam

import (
	"net/netip"
	"slices"
)

// Stranger is somebody on the LAN who uses an address that is ours to give.
type Stranger struct {
	Known string // what is known of it, for people
	// Held says that the address was in use here when the stranger came: who holds it keeps it. Otherwise it
	// was never announced, and who holds it is better off with another one.
	Held bool
}

// Quarantine replaces the addresses that strangers on the LAN use. Nobody is given one. Who holds one that was
// never in use moves as soon as another can be had, unless it asks for that very address, by name or by a
// reservation of it.
func (l *Ledger) Quarantine(addresses map[netip.Addr]Stranger) Changed {
	concerned := map[*entry]bool{}
	note := func(ip netip.Addr) {
		l.pass(ip)
		l.freed = true // also to be shared
		for _, e := range l.held[ip] {
			concerned[e] = true
		}
	}
	for ip := range l.quarantine {
		if _, still := addresses[ip]; !still {
			l.alter(ip, func() { delete(l.quarantine, ip) })
			note(ip)
			if len(l.held[ip]) == 0 {
				l.free(ip)
			}
		}
	}
	for ip, s := range addresses {
		if l.quarantine[ip] != s {
			l.alter(ip, func() { l.quarantine[ip] = s })
			note(ip)
		}
	}
	return l.reconsider(concerned)
}

// reconsider decides anew on those concerned, and on the Services that use reservations among them.
func (l *Ledger) reconsider(concerned map[*entry]bool) Changed {
	var list []*entry
	for e := range concerned {
		list = append(list, e)
	}
	slices.SortFunc(list, (*entry).compare)
	var changed Changed
	for _, e := range list {
		l.unwait(e)
		if l.decide(e) {
			changed.add(e)
		}
		if e.isReservation {
			changed = changed.and(l.redecide(e.Service))
		}
	}
	return changed.and(l.serveWaiting())
}

// spoiled reports whether a stranger uses an address that was never in use here.
func (l *Ledger) spoiled(ip netip.Addr) bool {
	s, bad := l.quarantine[ip]
	return bad && !s.Held
}

// insists reports whether a Service takes its addresses from a reservation that names this very one.
func (l *Ledger) insists(e *entry, ip netip.Addr) bool {
	r := l.reservationOf(e)
	return r != nil && slices.Contains(r.Addresses, ip)
}

// Stranger returns what is known of the stranger that uses an address; false when there is none.
func (l *Ledger) Stranger(ip netip.Addr) (Stranger, bool) {
	s, bad := l.quarantine[ip]
	return s, bad
}
