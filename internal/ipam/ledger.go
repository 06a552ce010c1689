package ipam

import (
	"maps"
	"net/netip"
	"slices"
	"time"
	"unique"

	"github.com/lanyard-lb/lanyard/internal/iprange"
)

// Ledger knows every request, every pool and who holds which address. Each change of what it is told returns
// the Services and Reservations whose decision changed with it, in the order in which they were decided. A
// Service keeps what it holds: neither pools nor other requests take an address away.
//
// A Ledger is not safe for concurrent use.
type Ledger struct {
	pools        []*pool // in the order in which they are tried
	services     map[Key]*entry
	reservations map[Key]*entry
	ranges       []iprange.Range                // of all pools, sorted
	owners       []*pool                        // whose each of the ranges is
	held         map[netip.Addr][]*entry        // holders; several only where they share, or use a reservation
	sharing      map[string]map[netip.Addr]bool // sharing key to what is held under it
	users        map[Key]map[*entry]bool        // reservation, known or not, to the Services that name it
	standings    map[Standing]int               // how many Services there are of each
	retained     retentions
	released     map[netip.Addr]time.Time           // when an address that is free became so
	quarantine   map[netip.Addr]Stranger            // addresses that a stranger uses
	denied       map[netip.Addr]Other               // addresses that others have
	cameFrom     map[netip.Addr]string              // of what is held and in no pool: the pool that contained it last
	waiting      map[unique.Handle[string]][]*entry // those that miss something, by wish, in the order in which they are served
	onlookers    map[netip.Addr][]*entry            // of those that wait: who is told what stands in the way at an address
	passed       map[netip.Addr]bool                // addresses with onlookers, whose holders have changed
	freed        bool                               // whether something changed that those who wait may profit from
	now          time.Time
}

// NewLedger returns a Ledger without pools and requests.
func NewLedger() *Ledger {
	return &Ledger{
		services: map[Key]*entry{}, reservations: map[Key]*entry{}, held: map[netip.Addr][]*entry{},
		sharing: map[string]map[netip.Addr]bool{}, users: map[Key]map[*entry]bool{}, standings: map[Standing]int{}, retained: newRetentions(),
		released: map[netip.Addr]time.Time{}, quarantine: map[netip.Addr]Stranger{}, denied: map[netip.Addr]Other{}, cameFrom: map[netip.Addr]string{},
		waiting: map[unique.Handle[string]][]*entry{}, onlookers: map[netip.Addr][]*entry{}, passed: map[netip.Addr]bool{},
	}
}

// Changed names what another decision was made on.
type Changed struct {
	Services     []Key
	Reservations []Key
}

func (c *Changed) add(e *entry) {
	if e.isReservation {
		c.Reservations = append(c.Reservations, e.Service)
		return
	}
	c.Services = append(c.Services, e.Service)
}

func (c Changed) and(more Changed) Changed {
	return Changed{append(c.Services, more.Services...), append(c.Reservations, more.Reservations...)}
}

// Decision returns what was decided for a Service; false when there is no request of it.
func (l *Ledger) Decision(k Key) (Decision, bool) { return decisionOf(l.services, k) }

// ReservationDecision returns what was decided for a Reservation; false when it is not known.
func (l *Ledger) ReservationDecision(k Key) (Decision, bool) { return decisionOf(l.reservations, k) }

func decisionOf(entries map[Key]*entry, k Key) (Decision, bool) {
	e, ok := entries[k]
	if !ok {
		return Decision{}, false
	}
	return e.Decision, true
}

// SetPools replaces the pools. The order given is the order in which they are tried.
func (l *Ledger) SetPools(pools []Pool) Changed {
	if slices.EqualFunc(l.pools, pools, func(have *pool, want Pool) bool { return have.equal(want) }) {
		return Changed{}
	}
	old := map[string]*pool{}
	for _, p := range l.pools {
		old[p.Name] = p
	}
	before := l.pools
	l.pools = nil
	for _, p := range pools {
		l.pools = append(l.pools, newPool(p, old[p.Name], l.released))
	}
	l.indexPools()
	l.recount()
	l.findOrigins(before)
	for ip := range l.retained.of {
		if p := l.poolOf(ip); p == nil || p.Retain == 0 { // the promise went with its pool
			l.relinquish(ip)
		}
	}
	return l.decideAll()
}

// findOrigins notes of the addresses that fell out of every pool which one contained them last.
func (l *Ledger) findOrigins(before []*pool) {
	for ip := range l.held {
		if l.poolOf(ip) != nil {
			delete(l.cameFrom, ip)
			continue
		}
		for _, p := range before {
			if p.Contains(ip) {
				l.cameFrom[ip] = p.Name
			}
		}
	}
}

// orphan reports whether an address is in no pool, and the last one that had it wants its holders to move.
func (l *Ledger) orphan(ip netip.Addr) bool {
	name, known := l.cameFrom[ip]
	return known && slices.ContainsFunc(l.pools, func(p *pool) bool { return p.Name == name && p.Reassign })
}

// Load replaces all requests and reservations: those that have addresses are served first, then the oldest.
func (l *Ledger) Load(requests []Request, reservations []Reservation) Changed {
	l.services, l.reservations = map[Key]*entry{}, map[Key]*entry{}
	l.held, l.sharing = map[netip.Addr][]*entry{}, map[string]map[netip.Addr]bool{}
	l.users, l.standings = map[Key]map[*entry]bool{}, map[Standing]int{}
	l.recount()
	for _, r := range requests {
		e := serviceEntry(r)
		l.services[r.Service] = e
		l.use(e)
	}
	for _, r := range reservations {
		l.reservations[r.Key] = reservationEntry(r)
	}
	return l.decideAll()
}

// Remember tells of an address that is free: who had it last, and until when. It is kept for a Service of that
// name as long as its pool says, unless the name is empty. It is called after SetPools and before Load.
func (l *Ledger) Remember(ip netip.Addr, last Key, until time.Time) {
	if len(l.held[ip]) > 0 {
		return
	}
	l.released[ip] = until
	p := l.poolOf(ip)
	if p == nil {
		return
	}
	if kept := until.Add(p.Retain); last != (Key{}) && kept.After(l.now) && p.Retain > 0 {
		l.retain(ip, last, kept)
		return
	}
	p.release(ip, until)
}

// CameFrom tells of an address that is held: which pool it was given from. While no pool contains it any more
// and that one wants its holders to move, they do. It is called after SetPools and before Load.
func (l *Ledger) CameFrom(ip netip.Addr, name string) {
	if l.poolOf(ip) == nil {
		l.cameFrom[ip] = name
	}
}

// Set adds or replaces the request of one Service.
func (l *Ledger) Set(r Request) Changed {
	return l.put(l.services, serviceEntry(r))
}

// SetReservation adds or replaces a Reservation.
func (l *Ledger) SetReservation(r Reservation) Changed {
	changed := l.put(l.reservations, reservationEntry(r))
	return changed.and(l.redecide(r.Key))
}

// redecide decides anew on the Services that name a reservation.
func (l *Ledger) redecide(reservation Key) Changed {
	var changed Changed
	for _, e := range slices.SortedFunc(maps.Keys(l.users[reservation]), (*entry).compare) {
		l.unwait(e)
		if l.decide(e) {
			changed.add(e)
		}
	}
	return changed.and(l.serveWaiting())
}

func (l *Ledger) put(entries map[Key]*entry, fresh *entry) Changed {
	e, known := entries[fresh.Service]
	if !known {
		e = &entry{isReservation: fresh.isReservation}
		entries[fresh.Service] = e
	}
	l.unwait(e)
	if !e.Sharing.equal(fresh.Sharing) {
		l.freed = true
		l.pass(slices.Concat(e.IPs(), e.lingering)...)
	}
	l.unshare(e)
	l.unuse(e)
	e.Request, e.slots = fresh.Request, fresh.slots
	l.use(e)
	l.share(e)
	var changed Changed
	if l.decide(e) {
		changed.add(e)
	}
	return changed.and(l.serveWaiting())
}

// Delete forgets a Service. Its addresses are free, or kept for its name where a pool says so.
func (l *Ledger) Delete(k Key) Changed {
	e, known := l.services[k]
	if !known {
		return Changed{}
	}
	delete(l.services, k)
	for _, a := range e.Assigned {
		if p := l.poolOf(a.IP); p != nil && p.Retain > 0 && len(l.held[a.IP]) == 1 {
			l.retain(a.IP, k, l.now.Add(p.Retain))
		}
	}
	return l.forget(e)
}

// DeleteReservation forgets a Reservation. Services that use its addresses keep them.
func (l *Ledger) DeleteReservation(k Key) Changed {
	e, known := l.reservations[k]
	if !known {
		return Changed{}
	}
	delete(l.reservations, k)
	return l.forget(e).and(l.redecide(k))
}

func (l *Ledger) forget(e *entry) Changed {
	l.unwait(e)
	l.unuse(e)
	l.stand(e, Standing{})
	for _, ip := range slices.Concat(e.IPs(), e.lingering) {
		l.vacate(e, ip)
	}
	return l.serveWaiting()
}

// decideAll lets holders speak before those that have nothing yet, so that nobody is given what a status
// already names: reservations first, for Services may use their addresses; then the oldest first.
func (l *Ledger) decideAll() Changed {
	all := make([]*entry, 0, len(l.services)+len(l.reservations))
	for _, e := range l.reservations {
		all = append(all, e)
	}
	for _, e := range l.services {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *entry) int { return a.compare(b) })
	before := make([]Decision, len(all))
	l.waiting, l.onlookers = map[unique.Handle[string]][]*entry{}, map[netip.Addr][]*entry{}
	for i, e := range all {
		before[i] = e.Decision
		l.keep(e)
	}
	var changed Changed
	for i, e := range all {
		if l.settle(e, before[i]) {
			changed.add(e)
		}
	}
	return changed.and(l.serveWaiting()) // some may have let go what an older one could use
}

// compare is the order in which entries are served.
func (e *entry) compare(o *entry) int {
	if e.isReservation != o.isReservation {
		if e.isReservation {
			return -1
		}
		return 1
	}
	return e.before(o.Request)
}

// decide settles one entry and reports whether its decision changed.
func (l *Ledger) decide(e *entry) bool {
	before := e.Decision
	l.keep(e)
	return l.settle(e, before)
}

// settle gives an entry what it misses, makes it wait when that cannot be had, and reports whether its
// decision differs from the one before.
func (l *Ledger) settle(e *entry, before Decision) bool {
	for range e.slots { // one of a family at a time
		chosen := l.choose(e)
		if len(chosen) == 0 {
			break
		}
		l.adopt(e, chosen)
	}
	missing := l.unfilled(e)
	e.Missing = nil
	for _, s := range missing {
		e.Missing = append(e.Missing, s.family)
	}
	e.Reason, e.Message = l.explain(e, missing)
	if len(missing) > 0 {
		l.wait(e)
	}
	l.stand(e, e.Standing())
	return !e.Decision.Equal(before)
}

// adopt takes what was chosen and lets go what stood in for it.
func (l *Ledger) adopt(e *entry, chosen []netip.Addr) {
	for _, ip := range chosen {
		l.occupy(e, ip)
	}
	l.keep(e, chosen...)
}
