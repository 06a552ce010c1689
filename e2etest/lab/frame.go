package lab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Kind is what a frame carries, as far as the lab looks.
type Kind string

// The kinds of frames. A gratuitous ARP packet is one of the two ARP kinds with equal sender and target.
const (
	ARPRequest            Kind = "arp request"
	ARPReply              Kind = "arp reply"
	NeighborSolicitation  Kind = "neighbor solicitation"
	NeighborAdvertisement Kind = "neighbor advertisement"
	MLDReport             Kind = "mld report"
	TCP                   Kind = "tcp"
	UDP                   Kind = "udp"
	Other                 Kind = "other"
)

// Frame is a decoded Ethernet frame. Fields that its kind does not have are zero.
type Frame struct {
	Time     time.Time // by the kernel's clock, when the frame passed
	Outgoing bool      // from the switch to the host; false: from the host to the switch
	Src, Dst net.HardwareAddr
	Kind     Kind

	// Sender and Target are the protocol addresses of ARP, and the IP source and the target of an NS or NA. For other IP
	// packets they are source and destination.
	Sender, Target netip.Addr
	// SenderMAC and TargetMAC are the hardware addresses inside ARP; SenderMAC is also the source link-layer address option
	// of an NS, TargetMAC the target link-layer address option of an NA. Nil if the option is absent.
	SenderMAC, TargetMAC net.HardwareAddr
	// IPDst is the IP destination of an NS or NA.
	IPDst netip.Addr
	// Override and Solicited are flags of an NA (RFC 4861 section 4.4).
	Override, Solicited bool
	// HopLimit is that of IPv6.
	HopLimit int
	// SrcPort and DstPort are those of TCP and UDP.
	SrcPort, DstPort int
	Raw              []byte
}

// Claims tells whether the frame says that its sender holds ip: an ARP packet from ip or an NA for ip.
func (f Frame) Claims(ip netip.Addr) bool {
	switch f.Kind {
	case ARPRequest, ARPReply:
		return f.Sender == ip
	case NeighborAdvertisement:
		return f.Target == ip
	}
	return false
}

// Claimant is the MAC address that a claim gives: the sender hardware address of ARP, the target link-layer address of an
// NA, or its Ethernet source if that option is absent.
func (f Frame) Claimant() net.HardwareAddr {
	switch {
	case f.Kind == ARPRequest || f.Kind == ARPReply:
		return f.SenderMAC
	case f.TargetMAC != nil:
		return f.TargetMAC
	}
	return f.Src
}

// String is one line, in the manner of tcpdump.
func (f Frame) String() string {
	way := "<"
	if f.Outgoing {
		way = ">"
	}
	head := fmt.Sprintf("%s %s %s > %s %s", f.Time.Format("15:04:05.000000"), way, f.Src, f.Dst, f.Kind)
	switch f.Kind {
	case ARPRequest:
		return fmt.Sprintf("%s who-has %s tell %s (%s)", head, f.Target, f.Sender, f.SenderMAC)
	case ARPReply:
		return fmt.Sprintf("%s %s is-at %s", head, f.Sender, f.SenderMAC)
	case NeighborSolicitation:
		return fmt.Sprintf("%s %s > %s who-has %s", head, f.Sender, f.IPDst, f.Target)
	case NeighborAdvertisement:
		return fmt.Sprintf("%s %s > %s %s is-at %s override=%t solicited=%t", head, f.Sender, f.IPDst, f.Target, f.TargetMAC, f.Override, f.Solicited)
	case TCP, UDP:
		return fmt.Sprintf("%s %s > %s, %d bytes", head, netip.AddrPortFrom(f.Sender, uint16(f.SrcPort)),
			netip.AddrPortFrom(f.Target, uint16(f.DstPort)), len(f.Raw))
	}
	return fmt.Sprintf("%s %v > %v, %d bytes", head, f.Sender, f.Target, len(f.Raw))
}

const ethernetHeader = 14

// decodeFrame reads an Ethernet frame. It never fails: what it does not understand is Other.
func decodeFrame(raw []byte) Frame {
	f := Frame{Kind: Other, Raw: raw}
	if len(raw) < ethernetHeader {
		return f
	}
	f.Dst, f.Src = raw[0:6], raw[6:12]
	body := raw[ethernetHeader:]
	switch binary.BigEndian.Uint16(raw[12:14]) {
	case unix.ETH_P_ARP:
		f.decodeARP(body)
	case unix.ETH_P_IP:
		f.decodeIPv4(body)
	case unix.ETH_P_IPV6:
		f.decodeIPv6(body)
	}
	return f
}

// decodeARP reads an ARP packet for IPv4 over Ethernet (RFC 826).
func (f *Frame) decodeARP(b []byte) {
	if len(b) < 28 || binary.BigEndian.Uint16(b[2:4]) != unix.ETH_P_IP || b[4] != 6 || b[5] != 4 {
		return
	}
	switch binary.BigEndian.Uint16(b[6:8]) {
	case 1:
		f.Kind = ARPRequest
	case 2:
		f.Kind = ARPReply
	default:
		return
	}
	f.SenderMAC, f.Sender = b[8:14], netip.AddrFrom4([4]byte(b[14:18]))
	f.TargetMAC, f.Target = b[18:24], netip.AddrFrom4([4]byte(b[24:28]))
}

func (f *Frame) decodeIPv4(b []byte) {
	if len(b) < 20 || int(b[0]&15)*4 < 20 || len(b) < int(b[0]&15)*4 {
		return
	}
	f.Sender, f.Target = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	f.decodeTransport(b[9], b[int(b[0]&15)*4:])
}

func (f *Frame) decodeIPv6(b []byte) {
	if len(b) < 40 {
		return
	}
	f.Sender, f.Target = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	f.HopLimit = int(b[7])
	next, rest := b[6], b[40:]
	// MLD reports come behind a hop-by-hop option header (RFC 3810 section 5).
	if next == unix.IPPROTO_HOPOPTS && len(rest) >= 8 && len(rest) >= 8+int(rest[1])*8 {
		next, rest = rest[0], rest[8+int(rest[1])*8:]
	}
	if next == unix.IPPROTO_ICMPV6 {
		f.decodeICMPv6(rest)
		return
	}
	f.decodeTransport(next, rest)
}

// decodeICMPv6 reads NS and NA (RFC 4861 sections 4.3 and 4.4) and tells MLD reports.
func (f *Frame) decodeICMPv6(b []byte) {
	if len(b) < 1 {
		return
	}
	if b[0] == 131 || b[0] == 143 {
		f.Kind = MLDReport
	}
	if len(b) < 24 || (b[0] != 135 && b[0] != 136) {
		return
	}
	f.IPDst, f.Target = f.Target, netip.AddrFrom16([16]byte(b[8:24]))
	if b[0] == 135 {
		f.Kind, f.SenderMAC = NeighborSolicitation, linkLayerOption(b[24:], 1)
		return
	}
	f.Kind, f.TargetMAC = NeighborAdvertisement, linkLayerOption(b[24:], 2)
	f.Solicited, f.Override = b[4]&0x40 != 0, b[4]&0x20 != 0
}

// linkLayerOption finds the source (1) or target (2) link-layer address among the options of an NS or NA.
func linkLayerOption(b []byte, kind byte) net.HardwareAddr {
	for len(b) >= 8 && b[1] > 0 && len(b) >= int(b[1])*8 {
		if b[0] == kind {
			return net.HardwareAddr(b[2:8])
		}
		b = b[int(b[1])*8:]
	}
	return nil
}

func (f *Frame) decodeTransport(protocol byte, b []byte) {
	if len(b) < 4 {
		return
	}
	switch protocol {
	case unix.IPPROTO_TCP:
		f.Kind = TCP
	case unix.IPPROTO_UDP:
		f.Kind = UDP
	default:
		return
	}
	f.SrcPort, f.DstPort = int(binary.BigEndian.Uint16(b[0:2])), int(binary.BigEndian.Uint16(b[2:4]))
}
