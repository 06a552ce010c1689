package speaker

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/lanyard-lb/lanyard/internal/iprange"
	"github.com/lanyard-lb/lanyard/internal/membership"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// lanFacts are what tells whether a node is on the LAN.
type lanFacts struct {
	cluster    *placement.Cluster // nil: not known
	peers      []membership.Peer
	interfaces []placement.Interface
}

func (l lanFacts) same(o lanFacts) bool {
	return l.cluster == o.cluster && sameSlice(l.peers, o.peers) && sameSlice(l.interfaces, o.interfaces)
}

// linked reports whether an interface is up and has carrier that leads to the others: it has the address by which they
// gossip with the node, or addresses of pools are in its subnets. A bridge for pods, which is always up, does not. If none
// leads there, any will do that could be announced on.
func (l lanFacts) linked(node string) bool {
	known, up := false, false
	for _, i := range l.interfaces {
		if l.leads(i, node) {
			known, up = true, up || i.Up && i.Carrier
		}
	}
	if known {
		return up
	}
	return slices.ContainsFunc(l.interfaces, placement.Interface.Suitable)
}

func (l lanFacts) leads(i placement.Interface, node string) bool {
	return slices.ContainsFunc(i.Subnets, func(p netip.Prefix) bool {
		own := func(peer membership.Peer) bool { return peer.Name == node && peer.Addr.Addr() == p.Addr() }
		return slices.ContainsFunc(l.peers, own) || l.pooled(p)
	})
}

// pooled reports whether a subnet has addresses of pools.
func (l lanFacts) pooled(p netip.Prefix) bool {
	subnet, err := iprange.FromPrefix(p)
	if err != nil || l.cluster == nil {
		return false
	}
	return slices.ContainsFunc(l.cluster.Pools, func(pool placement.Pool) bool { return slices.ContainsFunc(pool.Ranges, subnet.Overlaps) })
}

// companions are the members that we see while we are on the LAN, and afterwards those that we saw.
type companions struct {
	now    []string
	missed map[string]time.Time // others that we saw, and since when not
	parted time.Time            // when we lost the LAN; zero: we have not
}

// none reports whether we have never been on the LAN.
func (c *companions) none() bool { return c.now == nil }

// meet takes in who is a member.
func (c *companions) meet(members []string, at time.Time) {
	before := c.now
	c.now, c.parted = members, time.Time{}
	if sameSlice(before, members) {
		return
	}
	maps.DeleteFunc(c.missed, func(m string, since time.Time) bool {
		return at.Sub(since) >= foreboding || slices.Contains(members, m)
	})
	for _, m := range before {
		if !slices.Contains(members, m) {
			c.missed = merged(c.missed, map[string]time.Time{m: at})
		}
	}
}

// part takes in that we are not on the LAN.
func (c *companions) part(at time.Time) {
	if c.parted.IsZero() {
		c.parted = at
	}
}

// had reports whether we saw a member when we lost the LAN, or shortly before.
func (c *companions) had(name string) bool {
	since, missed := c.missed[name]
	return slices.Contains(c.now, name) || missed && c.parted.Sub(since) < foreboding
}
