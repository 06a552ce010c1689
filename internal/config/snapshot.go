package config

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/ipam"
	"github.com/lanyard-lb/lanyard/internal/iprange"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// Objects is all that a Snapshot is made of, as the API server holds it.
type Objects struct {
	Pools            []v1beta1.IPAddressPool
	Reservations     []v1beta1.IPReservation
	L2Advertisements []v1beta1.L2Advertisement
	Nodes            []corev1.Node
	Namespaces       []corev1.Namespace
	// ServiceCIDRs are the blocks that cluster IPs are taken from, of all ServiceCIDR objects.
	ServiceCIDRs []string
}

// Snapshot is a checked configuration. It holds no reference to the objects that it was made of, and is not to
// be modified: the next one may share parts of it.
type Snapshot struct {
	Pools          []ipam.Pool               // sorted by priority, then name; their Ranges as of iprange.Union
	Reservations   []ipam.Reservation        // sorted by age, then namespace and name
	Advertisements []placement.Advertisement // sorted by name
	// LeftOut lists what of each pool in force is not handed out although the pool lists it, sorted by address.
	LeftOut map[string][]LeftOut
	// Totals are how many addresses of each family each pool in force can hand out. Families that it lists
	// no address of are absent.
	Totals map[string]map[ipam.Family]*big.Int
	// Conflicts lists for each pool, in force or not, the others that it overlaps, sorted.
	Conflicts map[string][]Conflict

	written  []placement.Pool
	services map[string][]labels.Selector // spec.serviceSelectors of the advertisements that have some, by name
	good     lastGood
}

// LeftOut is a part of a pool that is not handed out because it is something else.
type LeftOut struct {
	Range iprange.Range
	Why   string // as in "an address of node n1"
}

// String says both, as in "10.0.0.1 (an address of node n1)".
func (l LeftOut) String() string { return fmt.Sprintf("%s (%s)", l.Range, l.Why) }

// Describe lists what is left out for people, in bounded length: the first 20, and how many there are beyond.
func Describe(list []LeftOut) string {
	const most = 20
	var words []string
	for _, l := range list[:min(len(list), most)] {
		words = append(words, l.String())
	}
	if more := len(list) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(words, ", "), more)
	}
	return strings.Join(words, ", ")
}

// Conflict says that two pools have addresses in common.
type Conflict struct {
	Pool, Other string
	Message     string // names both, and which of them is in force with those addresses
}

func (c Conflict) compare(o Conflict) int {
	return cmp.Or(cmp.Compare(c.Other, o.Other), cmp.Compare(c.Message, o.Message))
}

// PlacementPools returns the pools as placement sees them: with the addresses as they are written, also those
// that are excluded or left out, so that who holds one falls under the pool's advertisements all the same.
// What two pools list and one excludes is the other's. They are sorted by name and do not overlap.
func (s Snapshot) PlacementPools() []placement.Pool { return slices.Clone(s.written) }

// The kinds that faults are found on.
const (
	KindIPAddressPool   = "IPAddressPool"
	KindIPReservation   = "IPReservation"
	KindL2Advertisement = "L2Advertisement"
)

// A Fault is something wrong with one object. It is an error.
type Fault struct {
	Kind    string
	Name    string // namespace/name of what has a namespace
	Field   string // path within the object, as in spec.addresses[1]
	Reason  Reason
	Message string
	// Warning says that this alone does not keep the object, as it is written, from being in force.
	Warning bool
}

// Error names the object, the field and what is wrong.
func (f Fault) Error() string {
	return fmt.Sprintf("%s %s: %s: %s", f.Kind, f.Name, f.Field, f.Message)
}

// Reason says in one word what is wrong with an object, or that it is in force.
type Reason string

// The reasons.
const (
	InForce         Reason = "InForce"
	LastGoodInForce Reason = "LastGoodInForce"
	InvalidAddress  Reason = "InvalidAddress"
	InvalidSelector Reason = "InvalidSelector"
	InvalidPattern  Reason = "InvalidPattern"
	InvalidValue    Reason = "InvalidValue"
	Overlap         Reason = "Overlap"
	NothingLeft     Reason = "NothingLeft"
	UnknownPool     Reason = "UnknownPool"
	NoNode          Reason = "NoNode"
)
