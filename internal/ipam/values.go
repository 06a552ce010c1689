package ipam

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/lanyard-lb/lanyard/internal/iprange"
)

// Key names a Service or a Reservation.
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
	Name string
	// Ranges that may be handed out, sorted; no two overlap, here or in another pool.
	Ranges []iprange.Range
	// AvoidBuggy leaves out IPv4 addresses that end in .0 or .255.
	AvoidBuggy bool
	// AutoAssign says whether the pool serves requests that name neither it nor an address of it.
	AutoAssign bool
	// Priority: pools of a lower one are tried first; ties by name.
	Priority int
	Audience Audience
	// Paused pools keep what is assigned and give nothing new. Closing ones are being deleted: the same.
	Paused, Closing bool
	// Rest makes the pool give the address that has been free for the longest time, not the lowest.
	Rest bool
	// PerNamespace limits how many addresses the Services of one namespace hold; 0: no limit.
	PerNamespace int
	// Reassign has Services whose address no pool contains any more move as soon as they can, without their
	// owner saying so. It is the property of the pool that contained the address last.
	Reassign bool
	// Retain is how long the address of a deleted Service is kept for a new one of the same name.
	Retain time.Duration
}

// Contains reports whether the pool may hand an address out.
func (p Pool) Contains(a netip.Addr) bool {
	_, listed := iprange.Search(p.Ranges, a)
	return listed && !p.avoids(a)
}

func (p Pool) avoids(a netip.Addr) bool {
	if !p.AvoidBuggy || !a.Is4() {
		return false
	}
	last := a.As4()[3]
	return last == 0 || last == 255
}

func (p Pool) equal(o Pool) bool {
	ranges, audience := slices.Equal(p.Ranges, o.Ranges), p.Audience.equal(o.Audience)
	p.Ranges, o.Ranges, p.Audience, o.Audience = nil, nil, Audience{}, Audience{}
	return ranges && audience && p.scalars() == o.scalars()
}

// scalars are the fields that can be compared, as one value.
func (p Pool) scalars() any {
	return [...]any{p.Name, p.AvoidBuggy, p.AutoAssign, p.Priority, p.Paused, p.Closing, p.Rest, p.PerNamespace, p.Reassign, p.Retain}
}

// Audience says which Services a pool may serve. The zero Audience is everybody.
type Audience struct {
	// Namespaces that are served; nil: all. An empty map serves nobody: selectors that match nothing match
	// nothing.
	Namespaces map[string]bool
	// Services: one of the selectors must match the Service's labels; nil: all.
	Services []Selector
}

// Selector matches labels. Two selectors are the same when their strings are.
type Selector interface {
	Matches(labels map[string]string) bool
	String() string
}

// admits reports whether the pool may serve a Service.
func (a Audience) admits(namespace string, labels map[string]string) bool {
	return (a.Namespaces == nil || a.Namespaces[namespace]) &&
		(a.Services == nil || slices.ContainsFunc(a.Services, func(s Selector) bool { return s.Matches(labels) }))
}

func (a Audience) equal(o Audience) bool {
	if (a.Namespaces == nil) != (o.Namespaces == nil) || len(a.Namespaces) != len(o.Namespaces) || (a.Services == nil) != (o.Services == nil) {
		return false
	}
	for n := range a.Namespaces {
		if !o.Namespaces[n] {
			return false
		}
	}
	return slices.EqualFunc(a.Services, o.Services, func(x, y Selector) bool { return x.String() == y.String() })
}

// Port is a port that a Service listens on.
type Port struct {
	Protocol string // TCP, UDP or SCTP
	Number   uint16
}

// Sharing says with whom a Service is willing to share its addresses. The zero Sharing is nobody.
type Sharing struct {
	// Key must be the same for all that share; empty: no sharing.
	Key string
	// Namespaces besides its own that the Service is willing to share with; "*" is all. Each of the Services
	// involved must name the other's.
	Namespaces []string
	// Spill has the Service take a second address of the same key when its ports clash on the first.
	Spill bool
	Ports []Port
	// Local says that only endpoints on the announcing node are served; then Backends, the canonical text of
	// the Service's selector, must be the same and of the same namespace for all that share.
	Local    bool
	Backends string
}

// Request is what one Service asks for, and what it has.
type Request struct {
	Service Key
	Labels  map[string]string
	// Created orders requests that wait: the oldest is served first, ties by Key.
	Created time.Time
	// Families wanted, in order of preference: one address each, unless Addresses names more.
	Families []Family
	// AllOrNothing says that some of the families are of no use without the others.
	AllOrNothing bool
	// Addresses asked for by name, any number of a family. A family of which none is named gets one chosen.
	Addresses []netip.Addr
	// Pools asked for by name, in order of preference; nil: any that serves by itself.
	Pools []string
	// Reservation in the Service's namespace to take the addresses from; empty: none.
	Reservation string
	Sharing     Sharing
	// Reassign says that the owner lets an address go that no pool contains any more.
	Reassign bool
	// Invalid says what cannot be read in the request. What the Service holds is kept; nothing new is given.
	Invalid string
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

// Reservation keeps addresses for the Services of its namespace that name it, used or not.
type Reservation struct {
	Key     Key
	Created time.Time
	// Addresses asked for by name; in addition Count of each family are chosen from Pool.
	Addresses []netip.Addr
	Pool      string
	Count     map[Family]int
	// Status holds the addresses that the reservation's status names now.
	Status []netip.Addr
}

// Assignment is one address given to a Service or a Reservation.
type Assignment struct {
	IP   netip.Addr
	Pool string // empty when no pool contains the address any more
}

// Decision is what a Service or Reservation holds and why it does not hold more.
type Decision struct {
	// Assigned addresses, in the order of the families that are asked for, then as they are asked for.
	Assigned []Assignment
	// Missing says how many addresses of which families are missing. Who misses one waits, and is tried again.
	Missing []Family
	// Foreign says that the Service's status names addresses that are not ours to judge (no pool contains
	// them and we did not write them): it is to be left as it is.
	Foreign bool
	Reason  Reason
	Message string // for people: what was tried, pool by pool, and what would help
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
