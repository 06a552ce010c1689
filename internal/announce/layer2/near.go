package layer2

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
)

// Span is a range of addresses of one family, by their last four bytes, ends included.
type Span struct{ Low, High uint32 }

// everywhere is near any address.
var everywhere = []Span{{0, math.MaxUint32}}

// neighbourhood covers addresses by few spans, so that a filter can tell at little cost that a frame is about none of them. It
// also covers some others between them. Spans are sorted, do not touch, and begin and end with a block.
type neighbourhood []Span

const (
	mostSpans = 16
	// block is how many addresses, a power of two, are covered together: growing address by address changes little.
	block = 8
)

func tail(ip netip.Addr) uint32 {
	b := ip.As16()
	return binary.BigEndian.Uint32(b[12:])
}

// after returns the index of the first span that begins after an address.
func (n neighbourhood) after(address uint32) int {
	i, found := slices.BinarySearchFunc(n, address, func(s Span, a uint32) int {
		switch {
		case s.Low < a:
			return -1
		case s.Low > a:
			return 1
		}
		return 0
	})
	if found {
		i++
	}
	return i
}

func (n neighbourhood) covers(ip netip.Addr) bool {
	i := n.after(tail(ip))
	return i > 0 && tail(ip) <= n[i-1].High
}

// cover adds an address, and whatever lies in the smallest gap if there would be too many spans.
func (n *neighbourhood) cover(ip netip.Addr) {
	if n.covers(ip) {
		return
	}
	i := n.after(tail(ip))
	*n = slices.Insert(*n, i, Span{tail(ip) &^ (block - 1), tail(ip) | (block - 1)})
	n.join(i, 1)
	n.join(i-1, 1)
	if len(*n) > mostSpans {
		smallest := 0
		for i := range len(*n) - 1 {
			if n.gap(i) < n.gap(smallest) {
				smallest = i
			}
		}
		n.join(smallest, math.MaxUint32)
	}
}

// gap is the distance between the i-th span and the next.
func (n neighbourhood) gap(i int) uint32 { return n[i+1].Low - n[i].High }

// join makes one of the i-th span and the next, if there are both and their distance is not larger than that.
func (n *neighbourhood) join(i int, distance uint32) {
	if i < 0 || i+1 >= len(*n) || n.gap(i) > distance {
		return
	}
	(*n)[i].High = (*n)[i+1].High
	*n = slices.Delete(*n, i+1, i+2)
}
