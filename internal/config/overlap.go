package config

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/lanyard-lb/lanyard/internal/iprange"
)

// index holds parts that do not overlap, sorted by address.
type index []part

func (x *index) add(parts []part) {
	*x = append(*x, parts...)
	slices.SortFunc(*x, func(a, b part) int { return a.First().Compare(b.First()) })
}

// overlapping returns the parts that have an address in common with r.
func (x index) overlapping(r iprange.Range) []part {
	from, _ := slices.BinarySearchFunc(x, r.First(), func(p part, a netip.Addr) int { return p.Last().Compare(a) })
	to := from
	for to < len(x) && x[to].Overlaps(r) {
		to++
	}
	return x[from:to]
}

// clash is an overlap between an item of a pool and one that was there before it.
type clash struct{ item, taken part }

// clashes returns every pair of items that overlap, once, in the order of the parts and then by address.
func (x index) clashes(parts []part) []clash {
	type pair struct {
		field, pool string
		item        iprange.Range
	}
	var list []clash
	seen := map[pair]bool{}
	for _, mine := range parts {
		for _, taken := range x.overlapping(mine.Range) {
			if id := (pair{mine.field, taken.pool, taken.item}); !seen[id] {
				seen[id] = true
				list = append(list, clash{mine, taken})
			}
		}
	}
	return list
}

func (c clash) owner() string {
	if c.item.pool == c.taken.pool {
		return "the same pool"
	}
	return "pool " + c.taken.pool
}

func faults(clashes []clash) []Fault {
	var list []Fault
	for _, c := range clashes {
		list = append(list, Fault{Kind: KindIPAddressPool, Name: c.item.pool, Field: c.item.field, Reason: Overlap,
			Message: fmt.Sprintf("%s overlaps %s of %s", c.item.item, c.taken.item, c.owner())})
	}
	return list
}

// conflicts tells both pools of a clash.
func (s *Snapshot) conflicts(clashes []clash) {
	for _, c := range clashes {
		mine, other := c.item.pool, c.taken.pool
		message := fmt.Sprintf("%s of pool %s overlaps %s of pool %s; the addresses they have in common are those of %s",
			c.item.item, mine, c.taken.item, other, other)
		s.Conflicts[mine] = append(s.Conflicts[mine], Conflict{Pool: mine, Other: other, Message: message})
		s.Conflicts[other] = append(s.Conflicts[other], Conflict{Pool: other, Other: mine, Message: message})
	}
	for _, list := range s.Conflicts {
		slices.SortFunc(list, Conflict.compare)
	}
}
