package placement

import (
	"net/netip"
	"time"

	"github.com/lanyard-lb/lanyard/internal/iprange"
	"github.com/lanyard-lb/lanyard/internal/sortedlist"
)

// Facts is all that a decision rests on. Nodes that hold the same facts, but for Self, Standings, Stood, Apart and
// Leaving, come to the same owners.
//
// What it refers to is shared with the elector, which tells by identity what has not changed since the last
// decision: nobody may change what a Cluster, a Service, a Report or Standings refer to, once it was
// given; what is another value now is to be another pointer, or another slice. What is the same had better be the
// same pointer, slice, or version of the list of Services: then it costs next to nothing, while another Cluster has all
// addresses looked at. The map of Reports itself may be filled anew.
type Facts struct {
	// Cluster is what concerns all addresses; nil stands for an empty one.
	*Cluster
	// Services, best sorted by name.
	Services sortedlist.List[*Service]

	Self    string    `json:"-"` // the node that asks
	Now     time.Time `json:"-"`
	Members []string  `json:"-"` // nodes whose speaker is alive, Self among them
	Known   int       `json:"-"` // how many speakers there ought to be, Self's among them
	// Unheard says that there is a speaker, alive or not, that has not told this process of its interfaces within
	// living memory: a MAC address that nobody knows may be its.
	Unheard bool              `json:"-"`
	Reports map[string]Report `json:"-"` // of the members that have told; of Self, only its interfaces count
	// Standings of what Self announces, sorted by address.
	Standings []*Standing `json:"-"`
	// Stood says that this process has stood still since the last decision, for so long that others may have
	// taken it for dead.
	Stood bool `json:"-"`
	// Apart says that Self has lost the LAN by which it knows of the others.
	Apart bool `json:"-"`
	// Leaving says that Self hands over what it has, and takes nothing.
	Leaving bool `json:"-"`
}

// Cluster is what of the cluster concerns all addresses.
type Cluster struct {
	Nodes map[string]Node
	// Pools of the cluster; an address that none of them contains falls under every advertisement, so that
	// a pool edit silences nobody.
	Pools          []Pool
	Advertisements []Advertisement
	// Quarantined are the addresses that a stranger uses, as the statuses of the pools say.
	Quarantined []netip.Addr
}

// CutOff reports whether Self sees at most half of the speakers that there ought to be.
func (f Facts) CutOff() bool { return 2*len(f.Members) <= f.Known }

// Outnumbered reports whether most of them are elsewhere.
func (f Facts) Outnumbered() bool { return 2*len(f.Members) < f.Known }

// Node is a node as far as its place in the cluster goes.
type Node struct {
	// Excluded says why the node must not announce, as a Reason-like word; empty when it may.
	Excluded string
	// NotReadySince is since when the node has not been ready; zero: it is.
	NotReadySince time.Time
	// Cordoned nodes are about to be drained: others come first.
	Cordoned bool
}

// Pool is the address set of one pool.
type Pool struct {
	Name   string
	Ranges []iprange.Range
}

// Advertisement says from which nodes and interfaces the addresses of some pools are announced.
type Advertisement struct {
	Name       string
	Pools      map[string]bool
	Nodes      map[string]bool
	Interfaces []string // names or patterns as of path.Match; empty: all suitable ones
	// Preferred nodes come before others; the weights of all that match a node add up.
	Preferred []Preference
	// IgnoreSubnets has an address announced also on interfaces whose subnets do not contain it.
	IgnoreSubnets bool
	// Withdraw has an address announced by nobody while no Service with it has a serving endpoint.
	Withdraw bool
}

// Preference gives some nodes more weight.
type Preference struct {
	Weight int
	Nodes  map[string]bool
}

// Service is a Service with addresses to announce.
type Service struct {
	Name string // namespace/name
	IPs  []netip.Addr
	// Advertisements that select the Service, by name; nil: all do.
	Advertisements map[string]bool
	// MoveTo is the node that the Service's owner wants its addresses on; empty: any.
	MoveTo string
	// Served says that some endpoint serves, wherever it is.
	Served bool
	// Local says that only nodes with a serving endpoint forward traffic (externalTrafficPolicy: Local).
	Local bool
	// EndpointNodes are the nodes with a serving endpoint. Only meaningful with Local.
	EndpointNodes map[string]bool
	// FadingNodes are those of them whose serving endpoints all terminate.
	FadingNodes map[string]bool
	// EndpointAnywhere says that an endpoint is bound to no node and counts for every one.
	EndpointAnywhere bool
}

// demands reports whether only some nodes serve the Service.
func (s *Service) demands() bool { return s.Local && s.Served }

func (s *Service) servedOn(node string) bool {
	return !s.Local || s.EndpointAnywhere || s.EndpointNodes[node]
}

// fadesOn reports whether a node serves only until its endpoints have terminated.
func (s *Service) fadesOn(node string) bool {
	return s.Local && !s.EndpointAnywhere && s.FadingNodes[node]
}

// A Verdict says who announces one address.
type Verdict struct {
	IP       netip.Addr
	Services []string // namespace/name of those that hold it, sorted
	Owner    string   // the node that announces it, or is about to; empty when none does
	Reason   Reason
	Detail   string // for people: what more there is to say; often empty
	// Interfaces of the owner to announce on; empty unless the address is announced.
	Interfaces []string
	// Claim of the owner; its Since is zero while the owner has not claimed the address.
	Claim Claim
}

// Reason says in one word why an address is announced or not.
type Reason string

// The reasons. Those without an owner: NoAdvertisement, NoEligibleNode, NoInterface, and NoEndpoint where the
// advertisement says so.
const (
	Announced       Reason = "Announced"
	Settling        Reason = "Settling"        // the owner is about to announce it
	NoAdvertisement Reason = "NoAdvertisement" // no L2Advertisement covers the address
	NoEligibleNode  Reason = "NoEligibleNode"  // no live node may announce it
	NoInterface     Reason = "NoInterface"     // no node that may announce it has a suitable interface
	NoEndpoint      Reason = "NoEndpoint"      // no node has a serving endpoint
	AddressConflict Reason = "AddressConflict" // a stranger on the LAN uses the address
)
