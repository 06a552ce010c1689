package ipam

import (
	"net/netip"
	"time"
)

// pool is a Pool with what is needed to find a free address fast.
type pool struct {
	Pool
	free    map[Family][]*freeList // in the order of Ranges
	account account
}

// newPool takes over the free lists of the ranges that old has too; others learn from released what was in
// use before, and when it became free.
func newPool(p Pool, old *pool, released map[netip.Addr]time.Time) *pool {
	n := &pool{Pool: p, free: map[Family][]*freeList{}}
	for _, r := range p.Ranges {
		family := FamilyOf(r.First())
		list := newFreeList(r, p.Rest)
		if old != nil && old.Rest == p.Rest {
			for _, known := range old.free[family] {
				if known.Range == r {
					list = known
				}
			}
		}
		n.free[family] = append(n.free[family], list)
	}
	if p.Rest {
		for ip, since := range released {
			n.release(ip, since)
		}
	}
	return n
}

// find returns the address of a family that the pool gives next: the first range that has one decides.
func (p *pool) find(f Family, taken func(netip.Addr) bool) (netip.Addr, bool) {
	for _, list := range p.free[f] {
		if a, ok := list.find(func(a netip.Addr) bool { return taken(a) || p.avoids(a) }); ok {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func (p *pool) release(a netip.Addr, since time.Time) {
	for _, list := range p.free[FamilyOf(a)] {
		if list.Contains(a) {
			list.release(a, since)
		}
	}
}
