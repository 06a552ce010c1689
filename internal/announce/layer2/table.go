package layer2

import (
	"encoding/binary"
	"net/netip"
)

// table finds holdings by address, in less time than a map of addresses: it is asked twice for every frame.
// Go's maps are quickest with small numbers as keys; addresses that share one are chained.
type table map[uint64]*holding

func number(ip netip.Addr) uint64 {
	if ip.Is4() {
		b := ip.As4()
		return uint64(binary.BigEndian.Uint32(b[:]))
	}
	const golden = 0x9e3779b97f4a7c15 // so that prefix and host do not cancel each other out
	b := ip.As16()
	return binary.BigEndian.Uint64(b[:8])*golden ^ binary.BigEndian.Uint64(b[8:])
}

// get returns the holding of an address, or nil.
func (t table) get(ip netip.Addr) *holding {
	h := t[number(ip)]
	for h != nil && h.ip != ip {
		h = h.next
	}
	return h
}

// put adds a holding, which is in no table, and returns the one that it takes the place of, or nil.
func (t table) put(h *holding) (old *holding) {
	old = t.take(h.ip)
	n := number(h.ip)
	h.next = t[n]
	t[n] = h
	return old
}

// take removes the holding of an address and returns it, or nil.
func (t table) take(ip netip.Addr) (old *holding) {
	n := number(ip)
	old = t.get(ip)
	switch first := t[n]; {
	case old == nil:
	case first != old:
		for first.next != old {
			first = first.next
		}
		first.next = old.next
	case old.next == nil:
		delete(t, n)
	default:
		t[n] = old.next
	}
	return old
}

// all returns the holdings in no particular order.
func (t table) all() []*holding {
	list := make([]*holding, 0, len(t))
	for _, h := range t {
		for ; h != nil; h = h.next {
			list = append(list, h)
		}
	}
	return list
}
