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

	ipv6Source  = etherLen + 8
	ipv6Dest    = etherLen + 24
	icmpStart   = etherLen + ipv6Len
	ndpTarget   = icmpStart + 8
	ndpOptions  = icmpStart + ndpLen
	solicitSize = icmpStart + ndpLen
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

// ndpTargetOf returns the address that a frame may be asking for, without checking more than the length.
func ndpTargetOf(frame []byte) (netip.Addr, bool) {
	if len(frame) < solicitSize {
		return netip.Addr{}, false
	}
	return netip.AddrFrom16([16]byte(frame[ndpTarget:])), true
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

// parseSolicitation checks a frame as RFC 4861 section 7.1.1 demands and returns the link-layer address to
// answer to: the one in the source option, otherwise the one the frame came from. Packets with extension
// headers are not taken.
func parseSolicitation(frame []byte, self placement.MAC) (link placement.MAC, ok bool) {
	if len(frame) < solicitSize || !heard(frame, self, typeIPv6) {
		return link, false
	}
	header, body := frame[etherLen:icmpStart], frame[icmpStart:]
	size := int(binary.BigEndian.Uint16(header[4:]))
	if header[0]>>4 != 6 || header[6] != icmpv6 || header[7] != hopLimit || size < ndpLen || size > len(body) {
		return link, false
	}
	body = body[:size] // the rest is padding
	if body[0] != solicit || body[1] != 0 || checksum(header[8:], body) != 0 {
		return link, false
	}
	source, dest := netip.AddrFrom16([16]byte(header[8:])), netip.AddrFrom16([16]byte(header[24:]))
	if source.IsMulticast() || netip.AddrFrom16([16]byte(body[8:])).IsMulticast() {
		return link, false
	}
	link, given, ok := sourceOption(body[ndpLen:])
	if !ok || source.IsUnspecified() && (given || !solicitedNode.Contains(dest)) {
		return link, false
	}
	if !unicast(link) {
		link = placement.MAC(frame[6:12])
	}
	return link, true
}

// sourceOption finds the source link-layer address among the options. It is not ok if an option has no
// length or does not fit; options that we do not know are skipped (RFC 4861 section 4.6).
func sourceOption(options []byte) (link placement.MAC, given, ok bool) {
	for len(options) > 0 {
		if len(options) < optionLen || options[1] == 0 {
			return link, given, false
		}
		size := int(options[1]) * optionLen
		if size > len(options) {
			return link, given, false
		}
		if options[0] == optionSource {
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
	b = appendEther(b, dst, self, typeIPv6)
	start := len(b)
	b = append(b, 6<<4, 0, 0, 0, 0, ndpLen+optionLen, icmpv6, hopLimit)
	ip, dest := target.As16(), to.As16()
	b = append(b, ip[:]...)
	b = append(b, dest[:]...)
	b = append(b, advertise, 0, 0, 0, flags, 0, 0, 0)
	b = append(b, ip[:]...)
	b = append(b, optionTarget, 1)
	b = append(b, self[:]...)
	header, body := b[start:start+ipv6Len], b[start+ipv6Len:]
	binary.BigEndian.PutUint16(body[2:], checksum(header[8:], body))
	return b
}

// checksum is that of ICMPv6 (RFC 4443 section 2.3) over both addresses, the length, the protocol and the
// body. It is zero for a received body that is intact.
func checksum(addresses, body []byte) uint16 {
	sum := uint32(len(body)) + icmpv6
	for _, part := range [][]byte{addresses, body} {
		for ; len(part) > 1; part = part[2:] {
			sum += uint32(binary.BigEndian.Uint16(part))
		}
		if len(part) == 1 {
			sum += uint32(part[0]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
