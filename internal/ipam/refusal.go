package ipam

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// refusal says why something cannot be given. The zero refusal means that it can.
type refusal struct {
	reason Reason
	text   string
}

func refuse(reason Reason, format string, args ...any) refusal {
	return refusal{reason, fmt.Sprintf(format, args...)}
}

// obstacle says why an entry cannot have a given address.
func (l *Ledger) obstacle(e *entry, ip netip.Addr) refusal {
	p := l.poolOf(ip)
	if s, bad := l.quarantine[ip]; bad {
		return refuse(Quarantined, "a stranger on the LAN uses it (%s)", s.Known)
	}
	if l.deniedTo(e, ip) {
		return refuse(AddressInUse, "%s", l.denied[ip].Text)
	}
	switch {
	case p == nil:
		return refuse(AddressNotInPool, "no pool may hand it out")
	case len(e.Pools) > 0 && !e.isReservation && !slices.Contains(e.Pools, p.Name):
		return refuse(AddressNotInPool, "it is in pool %s, which is not asked for", p.Name)
	case e.Reservation != "" && !l.reservedFor(e, ip):
		return refuse(AddressNotInPool, "reservation %s does not hold it", e.Reservation)
	}
	if kept, retained := l.retained.of[ip]; retained && (e.isReservation || kept.key != e.Service) {
		return refuse(AddressInUse, "it is kept for %s until %s", kept.key, kept.until.UTC().Format(time.RFC3339))
	}
	for _, other := range l.held[ip] {
		if r := l.incompatible(e, other); r.reason != "" {
			return r
		}
	}
	if r := l.full(e, ip); r.reason != "" {
		return r
	}
	switch {
	case len(l.held[ip]) > 0: // joining others takes nothing new from the pool
		return l.unserved(e, p, ip)
	case l.retained.of[ip].key == e.Service: // nor does coming back, but the namespace holds more
		return cmp.Or(l.unserved(e, p, ip), l.overQuota(e, p, 1))
	}
	return l.barred(e, p, 1)
}

// incompatible says why an entry cannot join another that holds an address.
func (l *Ledger) incompatible(e, other *entry) refusal {
	why := l.clash(e, other)
	switch {
	case other == e:
		return refusal{}
	case other.isReservation && !e.isReservation && e.Reservation != other.Service.Name:
		return refuse(AddressInUse, "it is reserved by %s", other.Service)
	case why == "":
		return refusal{}
	case !e.isReservation && !other.isReservation && e.Sharing.Key != "" && e.Sharing.Key == other.Sharing.Key:
		return refuse(SharingConflict, "%s", why)
	}
	return refuse(AddressInUse, "%s", why)
}

// full says why an entry cannot join those that hold an address, though they go together: they are too many.
func (l *Ledger) full(e *entry, ip netip.Addr) refusal {
	if len(l.held[ip]) < MaxHolders || l.holds(e, ip) {
		return refusal{}
	}
	reason := AddressInUse
	if e.Sharing.Key != "" {
		reason = SharingConflict
	}
	return refuse(reason, "%d hold it, and no more can", len(l.held[ip]))
}

// unserved says why an entry may not have an address of a pool, new or not: the pool is not for it. A Service
// that uses a reservation goes by that.
func (l *Ledger) unserved(e *entry, p *pool, ip netip.Addr) refusal {
	if !e.isReservation && !l.reservedFor(e, ip) && !p.Audience.admits(e.Service.Namespace, e.Labels) {
		return refuse(PoolNotAllowed, "its serviceAllocation does not match")
	}
	return refusal{}
}

// barred says why a pool gives an entry nothing, though it is asked for by name.
func (l *Ledger) barred(e *entry, p *pool, count int) refusal {
	switch {
	case !p.Audience.admits(e.Service.Namespace, e.Labels) && !e.isReservation,
		e.isReservation && p.Audience.Namespaces != nil && !p.Audience.Namespaces[e.Service.Namespace]:
		return refuse(PoolNotAllowed, "its serviceAllocation does not match")
	case p.Closing:
		return refuse(PoolPaused, "it is being deleted")
	case p.Paused:
		return refuse(PoolPaused, "it is paused")
	}
	return l.overQuota(e, p, count)
}

// overQuota says why the namespace of an entry may not hold so many more addresses of a pool.
func (l *Ledger) overQuota(e *entry, p *pool, more int) refusal {
	if l.quotaLeft(p, e.Service.Namespace, more) {
		return refusal{}
	}
	return refuse(QuotaExceeded, "namespace %s holds as many addresses as it may (%d)", e.Service.Namespace, p.PerNamespace)
}

// closed is barred, and minds whether the pool serves those who do not ask for it.
func (l *Ledger) closed(e *entry, p *pool, count int) refusal {
	if !p.AutoAssign && len(e.Pools) == 0 {
		return refuse(PoolNotAllowed, "autoAssign is off")
	}
	return l.barred(e, p, count)
}

// lacks says why a pool has no address of a family for an entry.
func (l *Ledger) lacks(e *entry, p *pool, f Family) refusal {
	if r := l.closed(e, p, 1); r.reason != "" {
		return r
	}
	if len(p.free[f]) == 0 {
		return refuse(FamilyUnavailable, "has no %s addresses", f)
	}
	if _, free := p.find(f, l.taken); !free {
		return refuse(PoolExhausted, "has no free %s address", f)
	}
	if !l.quotaLeft(p, e.Service.Namespace, len(e.slots)) {
		return refuse(QuotaExceeded, "namespace %s may not hold that many more addresses (%d)", e.Service.Namespace, p.PerNamespace)
	}
	return refuse("", "has %s addresses", f)
}
