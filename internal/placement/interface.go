package placement

import (
	"net"
	"net/netip"
)

// MAC is an IEEE 802 MAC-48 address. It is comparable, unlike net.HardwareAddr.
type MAC [6]byte

// String formats the address the usual way, as in 02:00:5e:10:00:01.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// Interface is a network interface of one node, as far as announcing needs to know it.
type Interface struct {
	Name    string
	Index   int
	MAC     MAC            // zero when the interface has no MAC-48 address
	Up      bool           // administratively up
	Carrier bool           // the link below is there (IFF_LOWER_UP)
	Ether   bool           // broadcast-capable Ethernet: neither loopback, point-to-point nor NOARP
	Master  bool           // enslaved to a bond, bridge or the like; the master carries the traffic
	Subnets []netip.Prefix // its addresses with their prefix lengths, of both families, sorted
}

// Suitable reports whether layer-2 announcements can be made on the interface now.
func (i Interface) Suitable() bool {
	return i.Up && i.Carrier && i.Ether && !i.Master && i.MAC != MAC{}
}

// An Announcement is one address that this node is to announce, and where.
type Announcement struct {
	IP         netip.Addr
	Interfaces []string // names; empty means nowhere. Callers must not modify it: it may be shared
	// Round, when it differs from the one set before, has the address announced again (or probed again)
	// although nothing else has changed: others may have announced it meanwhile.
	Round uint64
	Probe Probe
}

// Probe says whether to find out first if somebody else on the LAN uses an address.
type Probe uint8

// The ways of probing.
const (
	// NoProbe announces at once: the address comes from another node of ours.
	NoProbe Probe = iota
	// ProbeFirst announces once nobody has answered for a while, and not at all when somebody has.
	ProbeFirst
	// ProbeOnly announces nothing.
	ProbeOnly
)
