package membership

import (
	"cmp"
	"encoding/binary"
	"net/netip"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// A node's report travels in items, each of which has a version of its own: a claim, an interface, and
// what there is once. Whoever holds the newest of each item holds the report.

// itemKey names an item within a node's report: a claim by its address, an interface by its name. Zero is
// what there is once.
type itemKey struct {
	addr  netip.Addr
	iface string
}

// compare orders keys: what there is once, interfaces by name, claims by address.
func (k itemKey) compare(o itemKey) int {
	return cmp.Or(k.addr.Compare(o.addr), cmp.Compare(k.iface, o.iface))
}

// item is one version of an item; nobody changes what it points to.
type item struct {
	key  itemKey
	seq  uint64 // the change of the report that made it so
	gone bool   // taken out; the pointers are nil
	// One of these is set, as the key says.
	claim *placement.Claim
	iface *placement.Interface
	once  *once
}

// once is what a node tells of itself besides its interfaces and claims.
type once struct {
	published bool // it has published a report
	leaving   bool // Report.Leaving
	keys      keyState
}

// keyState is which gossip keys a node holds, by their fingerprints. A node without keys has none.
type keyState struct {
	primary   fingerprint
	installed []fingerprint // sorted; the primary is one of them
}

// fingerprint tells keys apart without giving them away. Zero is no key.
type fingerprint [8]byte

// hash is the item's part in the digest of a report. The node alone makes versions, so that a key and the
// number of the change stand for the value too.
func (i item) hash() uint64 {
	h := mix(i.seq)
	if i.key.addr.IsValid() {
		b := i.key.addr.As16()
		h = mix(h ^ binary.BigEndian.Uint64(b[:8]))
		return mix(h ^ binary.BigEndian.Uint64(b[8:]))
	}
	return mix(h ^ hashString(i.key.iface))
}

// mix spreads the bits of a number (the finalizer of SplitMix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// hashString is 64-bit FNV-1a.
func hashString(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}
