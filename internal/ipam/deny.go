package ipam

import (
	"net/netip"
	"slices"
)

// Other is somebody who has an address, and whom the ledger does not know.
type Other struct {
	Text string // says whose it is
	By   []Key  // the Services that hold it
	// Beside are those that hold it as well and that the ledger knows, or will: they go on with it.
	Beside Changed
}

// Deny says that an address is somebody else's: nobody is given it until Allow, nor keeps it because a status names
// it. Who was given it goes on, but for the loser, if one is named, who was told by others, in their right, that it is
// theirs.
func (l *Ledger) Deny(ip netip.Addr, by Other, loser Key, isReservation bool) Changed {
	l.alter(ip, func() { l.denied[ip] = by })
	l.pass(ip)
	entries := l.services
	if isReservation {
		entries = l.reservations
	}
	e, known := entries[loser]
	if !known || !l.holds(e, ip) {
		return l.retell()
	}
	e.Assigned = slices.DeleteFunc(e.Assigned, func(a Assignment) bool { return a.IP == ip })
	e.lingering = slices.DeleteFunc(e.lingering, func(a netip.Addr) bool { return a == ip })
	l.vacate(e, ip)
	l.unwait(e)
	var changed Changed
	if l.decide(e) {
		changed.add(e)
	}
	return changed.and(l.serveWaiting())
}

// deniedTo reports whether an address is others', and an entry has no part in it.
func (l *Ledger) deniedTo(e *entry, ip netip.Addr) bool {
	other, denied := l.denied[ip]
	beside := other.Beside.Services
	if e.isReservation {
		beside = other.Beside.Reservations
	}
	return denied && !slices.Contains(e.IPs(), ip) && !slices.Contains(beside, e.Service)
}

// Allow ends Deny: the address is nobody else's any more.
func (l *Ledger) Allow(ip netip.Addr) Changed {
	if _, denied := l.denied[ip]; !denied {
		return Changed{}
	}
	l.alter(ip, func() { delete(l.denied, ip) })
	l.freed = true
	l.pass(ip)
	if len(l.held[ip]) == 0 {
		l.free(ip)
	}
	return l.serveWaiting()
}
