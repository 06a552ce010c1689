package ipam

import (
	"net/netip"
	"slices"
)

// pool is a Pool with what is needed to find a free address fast.
type pool struct {
	Pool
	free map[Family][]*freeList // in the order of Ranges
}

// newPool takes over the free lists of the ranges that old has too.
func newPool(p Pool, old *pool) *pool {
	n := &pool{Pool: p, free: map[Family][]*freeList{}}
	for _, r := range p.Ranges {
		list := newFreeList(r)
		family := FamilyOf(r.First())
		if old != nil {
			for _, known := range old.free[family] {
				if known.Range == r {
					list = known
				}
			}
		}
		n.free[family] = append(n.free[family], list)
	}
	return n
}

// lowest returns the pool's lowest free address of a family: the first range that has one decides.
func (p *pool) lowest(f Family, held func(netip.Addr) bool) (netip.Addr, bool) {
	for _, list := range p.free[f] {
		if a, ok := list.lowest(held); ok {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func (p *pool) release(a netip.Addr) {
	for _, list := range p.free[FamilyOf(a)] {
		if list.Contains(a) {
			list.release(a)
		}
	}
}

// serves reports whether the pool has a free address of each of the families.
func (p *pool) serves(families []Family, held func(netip.Addr) bool) bool {
	return !slices.ContainsFunc(families, func(f Family) bool {
		_, ok := p.lowest(f, held)
		return !ok
	})
}
