package layer2

import (
	"net/netip"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// Family is an address family, and with it the protocol that resolves its addresses.
type Family uint8

// The families, in the order in which they are served.
const (
	IPv4 Family = iota // by ARP
	IPv6               // by NDP
)

var families = [...]Family{IPv4, IPv6}

// FamilyOf returns the family of an address.
func FamilyOf(ip netip.Addr) Family {
	if ip.Is4() {
		return IPv4
	}
	return IPv6
}

// String names the family as in "ipv4".
func (f Family) String() string {
	if f == IPv4 {
		return "ipv4"
	}
	return "ipv6"
}

func (f Family) protocol() *protocol {
	if f == IPv4 {
		return &arp
	}
	return &ndp
}

// protocol is all that differs between the families: pure functions from frames to frames. Those that
// take out append to it.
type protocol struct {
	etherType uint16
	filter    []test
	tails     []uint32 // offsets of the last four bytes of the target and, where they differ, the claimed address
	// target of a frame, cheaply: the frame need not be a request, nor sound.
	target func(frame []byte) (netip.Addr, bool)
	// answer to a frame if that is a sound request, otherwise nil.
	answer func(out, frame []byte, self placement.MAC) []byte
	// claimed is the address that a frame may claim, as cheaply, or none. It is tentative if its sender
	// is still asking whether somebody has it.
	claimed func(frame []byte) (ip netip.Addr, tentative bool)
	// claimant is who claims it, if the frame is sound.
	claimant func(frame []byte, self placement.MAC) (mac placement.MAC, ok bool)
	// unsolicited announcements of an address, sent together. The first is the one to defend it with.
	unsolicited []message
	// probe asks whether somebody has an address.
	probe message
}

// message appends a frame about an address.
type message func(out []byte, self placement.MAC, ip netip.Addr) []byte

var arp = protocol{
	etherType:   typeARP,
	filter:      arpTests,
	tails:       []uint32{arpTargetIP, arpSenderIP},
	target:      arpTarget,
	answer:      arpAnswer,
	claimed:     arpClaimed,
	claimant:    arpClaimant,
	unsolicited: []message{arpAnnouncement, arpGratuitousReply},
	probe:       arpProbe,
}

var ndp = protocol{
	etherType:   typeIPv6,
	filter:      ndpTests,
	tails:       []uint32{ndpTarget + 12},
	target:      ndpTargetOf,
	answer:      ndpAnswer,
	claimed:     ndpClaimed,
	claimant:    ndpClaimant,
	unsolicited: []message{ndpUnsolicited},
	probe:       ndpProbe,
}
