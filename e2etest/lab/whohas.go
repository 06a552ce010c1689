package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Answer is one reply to WhoHas.
type Answer struct {
	MAC  net.HardwareAddr
	Host string        // the host that has this MAC address, or ""
	In   time.Duration // from the request to the reply
}

// WhoHas asks the LAN for an address, by one broadcast ARP request or one Neighbor Solicitation to the solicited-node
// group from a host's first NIC, and returns every reply that comes within wait, in order. The host's kernel sees the
// replies too and updates entries that it has: to see what a client believes by itself, ask from another one. Replies
// to other questions of the host count as well, so ask one at a time.
func (l *Lab) WhoHas(host string, ip netip.Addr, wait time.Duration) ([]Answer, error) {
	return l.ask(host, ip, wait, false)
}

// Answered asks as WhoHas does and returns with the first reply, or without one when the limit is over: what is late on a busy
// machine is told from what is lost.
func (l *Lab) Answered(host string, ip netip.Addr, limit time.Duration) (bool, error) {
	answers, err := l.ask(host, ip, limit, true)
	return len(answers) > 0, err
}

// Request is the frame by which WhoHas asks.
func (l *Lab) Request(host string, ip netip.Addr) ([]byte, error) {
	h := l.Host(host)
	nic := h.NICs()[0]
	mac, err := nic.MAC()
	if err != nil {
		return nil, err
	}
	source := h.addrIn(nic.Segment, ip)
	if ip.Is6() {
		return solicitation(mac, source, ip), nil
	}
	return arpRequest(mac, source, ip), nil
}

func (l *Lab) ask(host string, ip netip.Addr, wait time.Duration, firstOnly bool) ([]Answer, error) {
	h := l.Host(host)
	nic := h.NICs()[0]
	mac, err := nic.MAC()
	if err != nil {
		return nil, err
	}
	socket, err := openRaw(h.Namespace, nic.Name)
	if err != nil {
		return nil, err
	}
	defer socket.close()
	request, err := l.Request(host, ip)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := errors.Join(socket.write(request), socket.setReadDeadline(begun.Add(wait))); err != nil {
		return nil, fmt.Errorf("ask for %s from %s: %w", ip, host, err)
	}
	var answers []Answer
	for {
		f, err := socket.read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return answers, nil
		}
		if err != nil {
			return answers, fmt.Errorf("ask for %s from %s: %w", ip, host, err)
		}
		reply := f.Kind == ARPReply || (f.Kind == NeighborAdvertisement && f.Solicited)
		if !f.Outgoing && reply && f.Claims(ip) && slices.Equal(f.Dst, mac) {
			answers = append(answers, Answer{MAC: f.Claimant(), Host: l.HostByMAC(f.Claimant()), In: f.Time.Sub(begun)})
			if firstOnly {
				return answers, nil
			}
		}
	}
}

// arpRequest is a broadcast request for ip (RFC 826).
func arpRequest(mac net.HardwareAddr, source, ip netip.Addr) []byte {
	b := ethernet(net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac, unix.ETH_P_ARP)
	b = append(b, 0, 1, 8, 0, 6, 4, 0, 1)
	b = append(append(b, mac...), source.AsSlice()...)
	return append(append(b, make([]byte, 6)...), ip.AsSlice()...)
}

// solicitation is an NS for ip to its solicited-node group, with our link-layer address unless it has no source (RFC 4861
// section 4.3).
func solicitation(mac net.HardwareAddr, source, ip netip.Addr) []byte {
	target := ip.As16()
	group := netip.MustParseAddr("ff02::1:ff00:0").As16()
	copy(group[13:], target[13:])
	return solicitationTo(mac, source, netip.AddrFrom16(group), ip)
}

// solicitationTo is an NS for ip to any destination. The Ethernet one is the group's; for a host, the caller puts it in.
func solicitationTo(mac net.HardwareAddr, source, to, ip netip.Addr) []byte {
	message := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, ip.AsSlice()...)
	if !source.IsUnspecified() {
		message = append(append(message, 1, 1), mac...)
	}
	return icmpv6(mac, source, to, message)
}

// advertisement is an unsolicited NA for ip to all nodes, with Override and our link-layer address (RFC 4861 section 4.4).
func advertisement(mac net.HardwareAddr, ip netip.Addr) []byte {
	message := append([]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, ip.AsSlice()...)
	return icmpv6(mac, ip, netip.IPv6LinkLocalAllNodes(), append(append(message, 2, 1), mac...))
}

// icmpv6 is the frame of an ICMPv6 message to a group.
func icmpv6(mac net.HardwareAddr, source, to netip.Addr, message []byte) []byte {
	group := to.As16()
	binary.BigEndian.PutUint16(message[2:], icmpChecksum(source.As16(), group, message))
	b := ethernet(append(net.HardwareAddr{0x33, 0x33}, group[12:]...), mac, unix.ETH_P_IPV6)
	b = append(b, 0x60, 0, 0, 0, 0, byte(len(message)), unix.IPPROTO_ICMPV6, 255)
	b = append(append(b, source.AsSlice()...), group[:]...)
	return append(b, message...)
}

func ethernet(dst, src net.HardwareAddr, protocol uint16) []byte {
	return binary.BigEndian.AppendUint16(append(slices.Clone(dst), src...), protocol)
}

// icmpChecksum is that of an ICMPv6 message with its pseudo-header (RFC 8200 section 8.1).
func icmpChecksum(src, dst [16]byte, message []byte) uint16 {
	all := append(append(slices.Clone(src[:]), dst[:]...), 0, 0, byte(len(message)>>8), byte(len(message)), 0, 0, 0, unix.IPPROTO_ICMPV6)
	all = append(all, message...)
	var sum uint32
	for i := 0; i+1 < len(all); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(all[i:]))
	}
	if len(all)%2 == 1 {
		sum += uint32(all[len(all)-1]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
