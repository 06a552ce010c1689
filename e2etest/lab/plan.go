package lab

import (
	"fmt"
	"net"
	"net/netip"
)

// The address plan, the same in every lab. Segment s is 10.77.s.0/24 and fd77:0:0:s::/64 (segment 0: fd77::/64):
//
//	.2                  cp, the control plane (segment 0 only)
//	.11, .12, ...       nodes n1, n2, ...
//	.101, .102, ...     clients c1, c2, ...
//	.200 to .250        free, for address pools; in IPv6 ::200 to ::2ff and beyond
//
// The last group of an IPv6 address is spelled like the last byte of the IPv4 one: n1 has 10.77.0.11 and fd77::11.
const (
	ServiceCIDR4 = "10.96.0.0/16"
	ServiceCIDR6 = "fd96::/112"
	PodCIDR4     = "10.244.0.0/16"
	PodCIDR6     = "fd44::/48"

	maxNodes   = 80
	maxClients = 90

	controlPlaneNumber = 2
	firstNodeNumber    = 10
	firstClientNumber  = 100
)

// Segment returns the IPv4 and IPv6 subnet of a segment of the LAN.
func Segment(s int) (v4, v6 netip.Prefix) {
	return netip.MustParsePrefix(fmt.Sprintf("10.77.%d.0/24", s)), netip.MustParsePrefix(fmt.Sprintf("fd77:0:0:%x::/64", s))
}

// Addr4 is the IPv4 address with host number n in segment s.
func Addr4(s, n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("10.77.%d.%d", s, n)) }

// Addr6 is the IPv6 address with host number n in segment s; n is spelled in decimal: 11 gives fd77::11.
func Addr6(s, n int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd77:0:0:%x::%d", s, n))
}

// podCIDRs are the pod subnets of the node with index i (1 for n1).
func podCIDRs(i int) (v4, v6 netip.Prefix) {
	return netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", i)), netip.MustParsePrefix(fmt.Sprintf("fd44:0:0:%x::/64", i))
}

// macFor is a locally administered address that can be read: the segment, the how-manieth NIC of the host, and in the last
// two bytes the host number, spelled in decimal. The first NIC of n1 has 02:77:00:00:00:11, of c1 02:77:00:00:01:01.
func macFor(segment, number, nic int) net.HardwareAddr {
	return net.HardwareAddr{0x02, 0x77, byte(segment), byte(nic), byte(number / 100), byte(number/10%10<<4 | number%10)}
}
