package layer2

import (
	"encoding/binary"
	"net/netip"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// Neighbour discovery (RFC 4861) in ICMPv6, directly after the fixed IPv6 header.
const (
	ipv6Len       = 40
	ndpLen        = 24 // type to target, RFC 4861 sections 4.3 and 4.4
	optionLen     = 8  // a link-layer address option of Ethernet, RFC 2464 section 6
	icmpv6        = 58
	hopLimit      = 255 // proves that no router has forwarded the packet, RFC 4861 section 3.1
	solicit       = 135
	advertise     = 136
	optionSource  = 1
	optionTarget  = 2
	flagSolicited = 0x40
	flagOverride  = 0x20

	ipv6Source = etherLen + 8
	ipv6Dest   = etherLen + 24
	icmpStart  = etherLen + ipv6Len
	ndpTarget  = icmpStart + 8
	ndpOptions = icmpStart + ndpLen
)

var (
	allNodesIP    = netip.MustParseAddr("ff02::1")
	solicitedNode = netip.MustParsePrefix("ff02::1:ff00:0/104") // RFC 4291 section 2.7.1
)

// solicitedGroup returns the multicast group that solicitations for ip are sent to.
func solicitedGroup(ip netip.Addr) netip.Addr {
	g, a := solicitedNode.Addr().As16(), ip.As16()
	copy(g[13:], a[13:])
	return netip.AddrFrom16(g)
}

// groupMAC is the address that frames to an IPv6 group go to, RFC 2464 section 7.
func groupMAC(group netip.Addr) placement.MAC {
	b := group.As16()
	return placement.MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// ndpTargetOf returns the address that a frame may be asking for or advertising, without checking more than
// the length.
func ndpTargetOf(frame []byte) (netip.Addr, bool) {
	if len(frame) < ndpOptions {
		return netip.Addr{}, false
	}
	return netip.AddrFrom16([16]byte(frame[ndpTarget:])), true
}

// ndpClaimed returns the address that a frame may be claiming, without checking more than the length: the
// target of an advertisement. It is tentative if it is that of a solicitation from the unspecified address.
// Other solicitations claim nothing.
func ndpClaimed(frame []byte) (ip netip.Addr, tentative bool) {
	ip, ok := ndpTargetOf(frame)
	switch {
	case !ok || frame[icmpStart] == advertise:
		return ip, false
	case [16]byte(frame[ipv6Source:]) == [16]byte{}:
		return ip, true
	}
	return netip.Addr{}, false
}

// ndpClaimant returns who claims the address that ndpClaimed tells of: the link-layer address that an
// advertisement gives, otherwise the one that the frame came from.
func ndpClaimant(frame []byte, self placement.MAC) (mac placement.MAC, ok bool) {
	if len(frame) > icmpStart && frame[icmpStart] == advertise {
		return parseAdvertisement(frame, self)
	}
	mac, ok = parseSolicitation(frame, self)
	return mac, ok && [16]byte(frame[ipv6Source:]) == [16]byte{}
}

// ndpAnswer appends the neighbour advertisement that answers a solicitation, or returns nil for anything
// that deserves none. Multicast solicitations and unicast ones (neighbour unreachability detection) are
// answered to whoever asks; one from the unspecified address is somebody's duplicate address detection and
// is answered to all nodes, not marked as solicited (RFC 4861 section 7.2.4).
func ndpAnswer(out, frame []byte, self placement.MAC) []byte {
	link, ok := parseSolicitation(frame, self)
	if !ok {
		return nil
	}
	target, _ := ndpTargetOf(frame)
	source := netip.AddrFrom16([16]byte(frame[ipv6Source:]))
	if source.IsUnspecified() {
		return appendAdvertisement(out, allNodes, self, target, allNodesIP, flagOverride)
	}
	return appendAdvertisement(out, link, self, target, source, flagSolicited|flagOverride)
}

// ndpUnsolicited appends the advertisement that tells all nodes of ip (RFC 4861 section 7.2.6).
func ndpUnsolicited(out []byte, self placement.MAC, ip netip.Addr) []byte {
	return appendAdvertisement(out, allNodes, self, ip, allNodesIP, flagOverride)
}

// ndpProbe appends the solicitation by which duplicate address detection asks for ip (RFC 4862 section
// 5.4.2): from the unspecified address to the solicited-node group, and so without a link-layer address. It
// needs no nonce (RFC 7527): one that a loop brings back has our MAC address.
func ndpProbe(out []byte, self placement.MAC, ip netip.Addr) []byte {
	to := solicitedGroup(ip)
	start := len(out) + etherLen
	out = appendEther(out, groupMAC(to), self, typeIPv6)
	out = appendIPv6(out, netip.IPv6Unspecified(), to, ndpLen)
	return finishNDP(appendNDP(out, solicit, 0, ip), start)
}

// parseSolicitation checks a frame as RFC 4861 section 7.1.1 demands and returns the link-layer address to
// answer to: the one in the source option, otherwise the one the frame came from. Packets with extension
// headers are not taken.
func parseSolicitation(frame []byte, self placement.MAC) (link placement.MAC, ok bool) {
	body, ok := ndpBody(frame, self, solicit)
	if !ok {
		return link, false
	}
	source, dest := ndpEnds(frame)
	link, given, ok := linkOption(body[ndpLen:], optionSource)
	if !ok || source.IsUnspecified() && (given || !solicitedNode.Contains(dest)) {
		return link, false
	}
	return orSource(link, frame), true
}

// parseAdvertisement does the same as RFC 4861 section 7.1.2 demands for an advertisement.
func parseAdvertisement(frame []byte, self placement.MAC) (link placement.MAC, ok bool) {
	body, ok := ndpBody(frame, self, advertise)
	if !ok {
		return link, false
	}
	_, dest := ndpEnds(frame)
	link, _, ok = linkOption(body[ndpLen:], optionTarget)
	if !ok || dest.IsMulticast() && body[4]&flagSolicited != 0 {
		return link, false
	}
	return orSource(link, frame), true
}

// ndpBody checks what both messages have in common, and returns the whole ICMPv6 message without padding.
func ndpBody(frame []byte, self placement.MAC, kind byte) (body []byte, ok bool) {
	if len(frame) < ndpOptions || !heard(frame, self, typeIPv6) {
		return nil, false
	}
	header, body := frame[etherLen:icmpStart], frame[icmpStart:]
	size := int(binary.BigEndian.Uint16(header[4:]))
	if header[0]>>4 != 6 || header[6] != icmpv6 || header[7] != hopLimit || size < ndpLen || size > len(body) {
		return nil, false
	}
	body = body[:size] // the rest is padding
	if body[0] != kind || body[1] != 0 || checksum(header[8:], body) != 0 {
		return nil, false
	}
	source, _ := ndpEnds(frame)
	return body, !source.IsMulticast() && !netip.AddrFrom16([16]byte(body[8:])).IsMulticast()
}

func ndpEnds(frame []byte) (source, dest netip.Addr) {
	return netip.AddrFrom16([16]byte(frame[ipv6Source:])), netip.AddrFrom16([16]byte(frame[ipv6Dest:]))
}

// orSource is a link-layer address, or the frame's if it is not that of a station.
func orSource(link placement.MAC, frame []byte) placement.MAC {
	if unicast(link) {
		return link
	}
	return placement.MAC(frame[6:12])
}

// linkOption finds a link-layer address among the options. It is not ok if an option has no length or does
// not fit; options that we do not know are skipped (RFC 4861 section 4.6).
func linkOption(options []byte, kind byte) (link placement.MAC, given, ok bool) {
	for len(options) > 0 {
		if len(options) < optionLen || options[1] == 0 {
			return link, given, false
		}
		size := int(options[1]) * optionLen
		if size > len(options) {
			return link, given, false
		}
		if options[0] == kind {
			given = true
			link = placement.MAC(options[2:optionLen])
		}
		options = options[size:]
	}
	return link, given, true
}

// appendAdvertisement appends a whole frame. The packet comes from the target itself, as a host that has
// the address would send it, and carries the target's link-layer address.
func appendAdvertisement(b []byte, dst, self placement.MAC, target, to netip.Addr, flags byte) []byte {
	start := len(b) + etherLen
	b = appendEther(b, dst, self, typeIPv6)
	b = appendIPv6(b, target, to, ndpLen+optionLen)
	b = appendNDP(b, advertise, flags, target)
	b = append(b, optionTarget, 1)
	b = append(b, self[:]...)
	return finishNDP(b, start)
}

// appendIPv6 appends a header for an ICMPv6 message of that many bytes.
func appendIPv6(b []byte, source, dest netip.Addr, size byte) []byte {
	b = append(b, 6<<4, 0, 0, 0, 0, size, icmpv6, hopLimit)
	from, to := source.As16(), dest.As16()
	b = append(b, from[:]...)
	return append(b, to[:]...)
}

// appendNDP appends a message without options and checksum.
func appendNDP(b []byte, kind, flags byte, target netip.Addr) []byte {
	b = append(b, kind, 0, 0, 0, flags, 0, 0, 0)
	ip := target.As16()
	return append(b, ip[:]...)
}

// finishNDP fills in the checksum of the packet that begins at start.
func finishNDP(b []byte, start int) []byte {
	header, body := b[start:start+ipv6Len], b[start+ipv6Len:]
	binary.BigEndian.PutUint16(body[2:], checksum(header[8:], body))
	return b
}

// checksum is that of ICMPv6 (RFC 4443 section 2.3) over both addresses, the length, the protocol and the
// body. It is zero for a received body that is intact.
func checksum(addresses, body []byte) uint16 {
	// Four bytes at a time give the same as two at a time in the end, RFC 1071 section 2(C).
	sum := uint64(len(body)) + icmpv6
	for ; len(addresses) >= 4; addresses = addresses[4:] {
		sum += uint64(binary.BigEndian.Uint32(addresses))
	}
	for ; len(body) >= 4; body = body[4:] {
		sum += uint64(binary.BigEndian.Uint32(body))
	}
	var rest [4]byte
	copy(rest[:], body)
	sum += uint64(binary.BigEndian.Uint32(rest[:]))
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
