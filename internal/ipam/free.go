package ipam

import (
	"container/heap"
	"net/netip"

	"github.com/lanyard-lb/lanyard/internal/iprange"
)

// freeList finds the lowest free address of a range in amortized constant time, whatever the range's size:
// nothing above next has ever been passed, and what was released below it waits in a heap.
type freeList struct {
	iprange.Range
	next     netip.Addr // lowest address not yet passed; outside the range when all have been
	released addrHeap
	queued   map[netip.Addr]struct{} // what stands in released, so that nothing stands there twice
}

func newFreeList(r iprange.Range) *freeList {
	return &freeList{Range: r, next: r.First(), queued: map[netip.Addr]struct{}{}}
}

// lowest returns the lowest address that is not held, and false when there is none. It does not take it.
func (f *freeList) lowest(held func(netip.Addr) bool) (netip.Addr, bool) {
	for len(f.released) > 0 {
		if !held(f.released[0]) {
			return f.released[0], true
		}
		delete(f.queued, heap.Pop(&f.released).(netip.Addr))
	}
	for f.Contains(f.next) {
		if !held(f.next) {
			return f.next, true
		}
		f.next = f.next.Next()
	}
	return netip.Addr{}, false
}

// release takes note that an address of the range is free again.
func (f *freeList) release(a netip.Addr) {
	if _, twice := f.queued[a]; twice || f.Contains(f.next) && !a.Less(f.next) {
		return
	}
	f.queued[a] = struct{}{}
	heap.Push(&f.released, a)
}

// addrHeap is a min-heap of addresses.
type addrHeap []netip.Addr

func (h addrHeap) Len() int           { return len(h) }
func (h addrHeap) Less(i, j int) bool { return h[i].Less(h[j]) }
func (h addrHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *addrHeap) Push(a any)        { *h = append(*h, a.(netip.Addr)) }
func (h *addrHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
