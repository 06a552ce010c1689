package placement

import (
	"net/netip"
	"time"
)

// Report is what a node tells the others of itself. It is a value: nobody may change what its slices hold.
type Report struct {
	// Interfaces of the node: those with a MAC-48 address, whether suitable now or not. Sorted by name.
	Interfaces []Interface
	// Claims of the node, sorted by address, each address once. One that says the same as before is best the same
	// pointer.
	Claims []*Claim
	// Leaving says that the node hands over what it has and takes nothing.
	Leaving bool
}

// Weakened returns the report with all claims weak.
func (r Report) Weakened() Report {
	weak := make([]*Claim, len(r.Claims))
	for i, c := range r.Claims {
		w := *c
		w.Weak = true
		weak[i] = &w
	}
	r.Claims = weak
	return r
}

// A Claim is a node's word that it owns an address: it announces it, or is about to.
type Claim struct {
	IP netip.Addr
	// Since is when the claim began, in whole milliseconds of UTC, by the clock of the node that made it, but
	// later than all claims on the address that the node had heard of, however far the clocks differ: it is for
	// telling which of two claims was made first, and for people. A successor named by Successor goes on with
	// the time of its predecessor.
	Since time.Time
	// Weak says that the node may have missed that others took the address over: not long before, it was cut off from most
	// of the others or from the LAN, or stood still.
	Weak  bool
	Phase Phase
	// Rival is who else uses the address, a stranger to the cluster. Zero: nobody that the owner knows of.
	Rival MAC
	// Successor is the node that the owner hands the address to; it goes on answering until the successor
	// does. Empty while it hands nothing over. A claim with a successor that is Pending has lost against the
	// successor's: it only lets it know that the address may have been announced beside it.
	Successor string
	// After is the node that had the address before and was held for dead, if this claim was made for that
	// reason: should it live, its claim does not count any more, although it is older.
	After string
}

func (c *Claim) conceded() bool { return c.Successor != "" && c.Phase == Pending }

// underWay reports whether the address is announced, or is going to be unless a stranger is found.
func (c *Claim) underWay() bool { return c.Phase == Probing || c.Phase == Announcing }

// Phase is how far the announcing of an address has come.
type Phase uint8

// The phases.
const (
	// Pending is an address that is not announced yet.
	Pending Phase = iota
	// Probing asks the LAN whether somebody uses the address; it is not announced yet.
	Probing
	// Announcing answers for the address.
	Announcing
	// Taken is an address that a stranger was found to use before it was announced: it is not.
	Taken
	// Free is an address that was only probed, and that nobody uses.
	Free
)

// String is the name of the phase, as in "Announcing".
func (p Phase) String() string {
	return [...]string{"Pending", "Probing", "Announcing", "Taken", "Free"}[p]
}

// Standing is how an address that this node was told to announce stands.
type Standing struct {
	IP netip.Addr
	// Phase is Pending while the address is served on no interface, or nothing runs. Taken and Free are
	// findings: they stay until the address is set with another Round, or for announcing.
	Phase Phase
	// Rival is the stranger that was last heard to claim the address, on RivalOn at RivalAt: of one that is
	// Taken, who took it. Zero: nobody has since the address was set or set with another Round.
	Rival   MAC
	RivalOn string
	RivalAt time.Time
	// Peer is the peer that was last heard to claim it, at PeerAt. Zero: as with Rival.
	Peer   MAC
	PeerAt time.Time
}
