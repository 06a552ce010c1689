package ipam

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/lanyard-lb/lanyard/internal/iprange"
)

// Key names a Service.
type Key struct {
	Namespace, Name string
}

// String returns namespace/name.
func (k Key) String() string { return k.Namespace + "/" + k.Name }

// Family is an IP address family.
type Family int

// The address families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// FamilyOf returns the family of an address.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// String returns IPv4 or IPv6.
func (f Family) String() string {
	if f == IPv4 {
		return "IPv4"
	}
	return "IPv6"
}

// Pool is a set of addresses that Services may be given.
type Pool struct {
	Name       string
	Ranges     []iprange.Range // no two overlap, here or in another pool
	AutoAssign bool            // whether it serves requests that name no pool
}

// Contains reports whether the address is in one of the pool's ranges.
func (p Pool) Contains(a netip.Addr) bool {
	return slices.ContainsFunc(p.Ranges, func(r iprange.Range) bool { return r.Contains(a) })
}

func (p Pool) equal(o Pool) bool {
	return p.Name == o.Name && p.AutoAssign == o.AutoAssign && slices.Equal(p.Ranges, o.Ranges)
}

// Request is what one Service asks for, and what it has.
type Request struct {
	Service Key
	// Created orders requests that wait: the oldest is served first, ties by Key.
	Created time.Time
	// Families wanted, one address each, in order of preference.
	Families []Family
	// AllOrNothing says that some of the families are of no use without the others.
	AllOrNothing bool
	// Status holds the addresses that the Service's status names now.
	Status []netip.Addr
	// Ours says that Status was written by this controller, now or in an earlier life.
	Ours bool
}

func (r Request) before(o Request) int {
	return cmp.Or(r.Created.Compare(o.Created),
		cmp.Compare(r.Service.Namespace, o.Service.Namespace),
		cmp.Compare(r.Service.Name, o.Service.Name))
}

// Assignment is one address given to a Service.
type Assignment struct {
	IP   netip.Addr
	Pool string // empty when no pool contains the address any more
}

// Decision is what a Service holds and why it does not hold more.
type Decision struct {
	// Assigned addresses, in the order of the families that the Service asks for.
	Assigned []Assignment
	// Missing families, in the same order. A Service that misses one waits, and is tried again.
	Missing []Family
	// Foreign says that the Service's status names addresses that are not ours to judge (no pool contains
	// them and we did not write them): it is to be left as it is.
	Foreign bool
	Reason  Reason
	Message string // for people: what was tried and what would help
}

// IPs returns the assigned addresses.
func (d Decision) IPs() []netip.Addr {
	ips := make([]netip.Addr, len(d.Assigned))
	for i, a := range d.Assigned {
		ips[i] = a.IP
	}
	return ips
}

// Equal reports whether two decisions say the same.
func (d Decision) Equal(o Decision) bool {
	return d.Foreign == o.Foreign && d.Reason == o.Reason && d.Message == o.Message &&
		slices.Equal(d.Assigned, o.Assigned) && slices.Equal(d.Missing, o.Missing)
}

// Reason says in one word why a Service holds what it holds. Conditions, events, metrics, logs and the
// command line all print this value.
type Reason string

// The reasons. Only Assigned and OutsidePool mean that the Service misses nothing.
const (
	Assigned          Reason = "Assigned"          // every family has its address
	NoPool            Reason = "NoPool"            // there is no pool to take an address from
	PoolNotAllowed    Reason = "PoolNotAllowed"    // pools exist, none may serve this Service
	PoolExhausted     Reason = "PoolExhausted"     // every pool that could serve is full
	FamilyUnavailable Reason = "FamilyUnavailable" // no pool has addresses of a family
	OutsidePool       Reason = "OutsidePool"       // an address is kept that no pool contains (any more)
	ForeignStatus     Reason = "ForeignStatus"     // the status was written by somebody else: left alone
)
