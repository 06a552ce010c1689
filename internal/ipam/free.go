package ipam

import (
	"container/heap"
	"net/netip"
	"time"

	"github.com/lanyard-lb/lanyard/internal/iprange"
)

// freeList finds a free address of a range in amortized logarithmic time, whatever the range's size. Nothing
// above next has been looked at; what was released waits in a heap.
type freeList struct {
	iprange.Range
	rest   bool       // give what was never used, then what has been free for the longest time
	next   netip.Addr // lowest address not yet passed; outside the range when all have been
	heap   releaseHeap
	queued map[netip.Addr]struct{} // what stands in heap, so that nothing stands there twice
}

func newFreeList(r iprange.Range, rest bool) *freeList {
	return &freeList{Range: r, rest: rest, next: r.First(), heap: releaseHeap{byTime: rest}, queued: map[netip.Addr]struct{}{}}
}

// find returns the address to give next, and false when there is none. It does not take it.
func (f *freeList) find(taken func(netip.Addr) bool) (netip.Addr, bool) {
	if f.rest {
		if a, ok := f.findUnused(taken); ok {
			return a, true
		}
		return f.findReleased(taken)
	}
	if a, ok := f.findReleased(taken); ok {
		return a, true
	}
	return f.findUnused(taken)
}

func (f *freeList) findReleased(taken func(netip.Addr) bool) (netip.Addr, bool) {
	for len(f.heap.list) > 0 {
		first := f.heap.list[0].ip
		if !taken(first) {
			return first, true
		}
		heap.Pop(&f.heap)
		delete(f.queued, first)
	}
	return netip.Addr{}, false
}

func (f *freeList) findUnused(taken func(netip.Addr) bool) (netip.Addr, bool) {
	for f.Contains(f.next) {
		if _, used := f.queued[f.next]; !used && !taken(f.next) {
			return f.next, true
		}
		f.next = f.next.Next()
	}
	return netip.Addr{}, false
}

// release takes note that an address of the range is free since a time.
func (f *freeList) release(a netip.Addr, since time.Time) {
	_, twice := f.queued[a]
	ahead := f.Contains(f.next) && !a.Less(f.next) && !f.rest
	if twice || ahead {
		return
	}
	f.queued[a] = struct{}{}
	heap.Push(&f.heap, released{a, since})
}

type released struct {
	ip    netip.Addr
	since time.Time
}

// releaseHeap is a min-heap of addresses, by address or by the time of their release.
type releaseHeap struct {
	list   []released
	byTime bool
}

func (h releaseHeap) Len() int      { return len(h.list) }
func (h releaseHeap) Swap(i, j int) { h.list[i], h.list[j] = h.list[j], h.list[i] }
func (h *releaseHeap) Push(x any)   { h.list = append(h.list, x.(released)) }

func (h releaseHeap) Less(i, j int) bool {
	if h.byTime && !h.list[i].since.Equal(h.list[j].since) {
		return h.list[i].since.Before(h.list[j].since)
	}
	return h.list[i].ip.Less(h.list[j].ip)
}

func (h *releaseHeap) Pop() any {
	last := h.list[len(h.list)-1]
	h.list = h.list[:len(h.list)-1]
	return last
}
