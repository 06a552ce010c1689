package placement

import (
	"net/netip"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// bound is how many addresses a node may own before others come first: 1.25 times the mean, rounded up.
func bound(addresses, nodes int) int {
	if nodes == 0 {
		return 0
	}
	return (5*addresses + 4*nodes - 1) / (4 * nodes)
}

// bound of the preferred nodes of a group, as they are loaded now and when all that waits has been placed.
func (g *group) bound() int {
	total := g.unclaimed
	for i := range g.top {
		total += g.top[i].load
	}
	return bound(total, len(g.top))
}

// elect returns the node that an address should go to: of the preferred ones, the one with the highest
// rendezvous hash among those below the bound, else the one that owns the least. Ties go by hash, then name.
// It is empty when there is none but those to be left out.
func (g *group) elect(ip netip.Addr, but ...string) string {
	limit, address := g.bound(), hashOf(ip)
	var winner *node
	var best uint64
	var full bool // whether the winner has reached the bound
	for i := range g.top {
		c := g.top[i].node
		if slices.Contains(but, c.name) {
			continue
		}
		load, weight := c.load, mix(c.hash^address)
		over := load >= limit
		switch {
		case winner == nil, full && !over:
		case over && !full:
			continue
		case over && load != winner.load:
			if load > winner.load {
				continue
			}
		case weight < best, weight == best && c.name > winner.name:
			continue
		}
		winner, best, full = c, weight, over
	}
	if winner == nil {
		return ""
	}
	return winner.name
}

// hashOf is the part of an address in the rendezvous hash.
func hashOf(ip netip.Addr) uint64 {
	bytes := ip.As16()
	return xxhash.Sum64(bytes[:])
}

// affinity is the rendezvous hash of a node and an address.
func affinity(node string, ip netip.Addr) uint64 { return mix(xxhash.Sum64String(node) ^ hashOf(ip)) }

// mix spreads every bit of its argument over the result (the finalizer of SplitMix64), so that node and
// address hashes can be combined by exclusive or.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
