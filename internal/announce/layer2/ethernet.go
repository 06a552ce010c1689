package layer2

import (
	"encoding/binary"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

const (
	etherLen  = 14 // destination, source, type; 802.1Q tags are gone when a packet socket reads
	typeARP   = 0x0806
	typeIPv6  = 0x86dd
	frameSize = 2048 // more than any request we answer
)

var (
	broadcast = placement.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodes  = placement.MAC{0x33, 0x33, 0, 0, 0, 1} // of ff02::1, RFC 2464 section 7
)

// appendEther appends an Ethernet II header (RFC 894).
func appendEther(b []byte, dst, src placement.MAC, etherType uint16) []byte {
	b = append(b, dst[:]...)
	b = append(b, src[:]...)
	return binary.BigEndian.AppendUint16(b, etherType)
}

// heard reports whether a frame of that type came from another station and was meant for us: for our MAC
// address or for a group. Frames for others are seen too while someone has made the interface promiscuous.
func heard(frame []byte, self placement.MAC, etherType uint16) bool {
	if len(frame) < etherLen || binary.BigEndian.Uint16(frame[12:]) != etherType {
		return false
	}
	dst, src := placement.MAC(frame[0:6]), placement.MAC(frame[6:12])
	return src != self && unicast(src) && (dst == self || group(dst))
}

func group(m placement.MAC) bool { return m[0]&1 == 1 }

// unicast reports whether the address can be that of one station.
func unicast(m placement.MAC) bool { return !group(m) && m != placement.MAC{} }
