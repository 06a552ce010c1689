package layer2

import (
	"encoding/binary"
	"net/netip"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// ARP for IPv4 over Ethernet (RFC 826): 28 bytes after the Ethernet header.
const (
	arpLen     = 28
	arpFormat  = 0x0001_0800 // hardware type Ethernet, protocol type IPv4
	arpSizes   = 0x0604      // of a MAC and an IPv4 address
	arpRequest = 1
	arpReply   = 2

	arpSenderMAC = etherLen + 8
	arpSenderIP  = etherLen + 14
	arpTargetIP  = etherLen + 24
)

// arpTarget returns the address that a frame may be asking for, without checking more than the length.
func arpTarget(frame []byte) (netip.Addr, bool) {
	if len(frame) < etherLen+arpLen {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte(frame[arpTargetIP:])), true
}

// arpClaimed returns the address that a frame may be claiming, without checking more than the length: that
// of its sender. A sender without one may be probing for its target; then it is tentative.
func arpClaimed(frame []byte) (ip netip.Addr, tentative bool) {
	if len(frame) < etherLen+arpLen {
		return netip.Addr{}, false
	}
	source := [4]byte(frame[arpSenderIP:])
	if source == ([4]byte{}) {
		return netip.AddrFrom4([4]byte(frame[arpTargetIP:])), true
	}
	return netip.AddrFrom4(source), false
}

// arpClaimant returns who claims the address that arpClaimed tells of: the sender that the packet names,
// which need not be the station that sent it. Requests and replies both claim (RFC 5227 sections 2.1.1 and
// 2.4); a reply without sender address claims nothing.
func arpClaimant(frame []byte, self placement.MAC) (mac placement.MAC, ok bool) {
	if len(frame) < etherLen+arpLen || !heard(frame, self, typeARP) {
		return mac, false
	}
	op, ok := arpOperation(frame)
	probe := [4]byte(frame[arpSenderIP:]) == [4]byte{}
	if !ok || op != arpRequest && (op != arpReply || probe) {
		return mac, false
	}
	mac = placement.MAC(frame[arpSenderMAC:])
	return mac, mac != placement.MAC{}
}

// arpOperation of a frame that is long enough; ok is false unless it is ARP for IPv4 over Ethernet.
func arpOperation(frame []byte) (op uint16, ok bool) {
	packet := frame[etherLen:]
	ok = binary.BigEndian.Uint32(packet) == arpFormat && binary.BigEndian.Uint16(packet[4:]) == arpSizes
	return binary.BigEndian.Uint16(packet[6:]), ok
}

// arpAnswer appends the reply to an ARP request, or returns nil for anything that deserves none. Requests
// are answered whether broadcast, unicast (a neighbour checking its cache) or sent from 0.0.0.0 (a probe,
// RFC 5227 section 2.1.1). A request whose sender is its own target is the announcement of somebody else.
// The reply goes to the sender that the packet names, as RFC 826 says, not to the station that sent it.
func arpAnswer(out, frame []byte, self placement.MAC) []byte {
	if len(frame) < etherLen+arpLen || !heard(frame, self, typeARP) {
		return nil
	}
	if op, ok := arpOperation(frame); !ok || op != arpRequest {
		return nil
	}
	asker := placement.MAC(frame[arpSenderMAC:])
	source, target := [4]byte(frame[arpSenderIP:]), [4]byte(frame[arpTargetIP:])
	if asker == self || !unicast(asker) || source == target {
		return nil
	}
	out = appendEther(out, asker, self, typeARP)
	return appendARP(out, arpReply, self, target, asker, source)
}

// arpAnnouncement appends the ARP announcement of RFC 5227 section 2.3: a broadcast request of ip for
// itself, with no target hardware address.
func arpAnnouncement(out []byte, self placement.MAC, ip netip.Addr) []byte {
	out = appendEther(out, broadcast, self, typeARP)
	return appendARP(out, arpRequest, self, ip.As4(), placement.MAC{}, ip.As4())
}

// arpGratuitousReply appends the same news as a broadcast reply, for neighbours that learn from replies
// only. The target hardware address is the one to be cached (RFC 5944 section 4.6).
func arpGratuitousReply(out []byte, self placement.MAC, ip netip.Addr) []byte {
	out = appendEther(out, broadcast, self, typeARP)
	return appendARP(out, arpReply, self, ip.As4(), self, ip.As4())
}

// arpProbe appends the ARP probe of RFC 5227 section 2.1.1: a broadcast request for ip that names no sender
// address, lest it pollute the caches of others, and no target hardware address.
func arpProbe(out []byte, self placement.MAC, ip netip.Addr) []byte {
	out = appendEther(out, broadcast, self, typeARP)
	return appendARP(out, arpRequest, self, [4]byte{}, placement.MAC{}, ip.As4())
}

func appendARP(b []byte, op uint16, sender placement.MAC, senderIP [4]byte, target placement.MAC, targetIP [4]byte) []byte {
	b = binary.BigEndian.AppendUint32(b, arpFormat)
	b = binary.BigEndian.AppendUint16(b, arpSizes)
	b = binary.BigEndian.AppendUint16(b, op)
	b = append(b, sender[:]...)
	b = append(b, senderIP[:]...)
	b = append(b, target[:]...)
	return append(b, targetIP[:]...)
}
