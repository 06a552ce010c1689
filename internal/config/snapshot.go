package config

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/ipam"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// Objects is all that a Snapshot is made of, as the API server holds it.
type Objects struct {
	Pools            []v1beta1.IPAddressPool
	L2Advertisements []v1beta1.L2Advertisement
	Nodes            []corev1.Node
}

// Snapshot is a checked configuration. It holds no reference to the objects that it was made of.
type Snapshot struct {
	Pools          []ipam.Pool // sorted by name
	Advertisements []placement.Advertisement
}

// PlacementPools returns the pools as placement sees them.
func (s Snapshot) PlacementPools() []placement.Pool {
	pools := make([]placement.Pool, len(s.Pools))
	for i, p := range s.Pools {
		pools[i] = placement.Pool{Name: p.Name, Ranges: p.Ranges}
	}
	return pools
}

// The kinds that faults are found on.
const (
	KindIPAddressPool   = "IPAddressPool"
	KindL2Advertisement = "L2Advertisement"
)

// A Fault is something wrong with one object. It is an error.
type Fault struct {
	Kind, Name string
	Field      string // path within the object, as in spec.addresses[1]
	Reason     Reason
	Message    string
	// Warning says that the object is in force all the same.
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
	InvalidAddress  Reason = "InvalidAddress"
	InvalidSelector Reason = "InvalidSelector"
	InvalidPattern  Reason = "InvalidPattern"
	Overlap         Reason = "Overlap"
	UnknownPool     Reason = "UnknownPool"
	NoNode          Reason = "NoNode"
)
