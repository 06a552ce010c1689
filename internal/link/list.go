package link

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// dumps is how often a list is asked for again when a change made the kernel interrupt it.
const dumps = 20

// list asks the kernel for all interfaces and returns them sorted by index.
func list(handle *netlink.Handle) ([]placement.Interface, error) {
	links, err := again(handle.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	addrs, err := again(func() ([]netlink.Addr, error) { return handle.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return interfaces(links, addrs), nil
}

func again[T any](dump func() ([]T, error)) (list []T, err error) {
	for range dumps {
		if list, err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return list, err
}

// interfaces joins links and addresses. Addresses of links that are not there are left out.
func interfaces(links []netlink.Link, addrs []netlink.Addr) []placement.Interface {
	kinds := make(map[int]string, len(links))
	for _, l := range links {
		kinds[l.Attrs().Index] = l.Type()
	}
	subnets := make(map[int][]netip.Prefix)
	for _, a := range addrs {
		subnets[a.LinkIndex] = append(subnets[a.LinkIndex], prefixes(a)...)
	}
	list := make([]placement.Interface, 0, len(links))
	for _, l := range links {
		i := describe(l.Attrs(), kinds)
		i.Subnets = subnets[i.Index]
		slices.SortFunc(i.Subnets, comparePrefix)
		i.Subnets = slices.Compact(i.Subnets)
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b placement.Interface) int { return cmp.Compare(a.Index, b.Index) })
	return list
}

// describe reads one link; kinds holds the type of every link by index.
func describe(a *netlink.LinkAttrs, kinds map[int]string) placement.Interface {
	// IFF_RUNNING speaks for the operational state (RFC 2863): up or unknown, but not, say, dormant
	// because 802.1X has not let the port in yet.
	const carrier = unix.IFF_LOWER_UP | unix.IFF_RUNNING
	const unfit = unix.IFF_LOOPBACK | unix.IFF_POINTOPOINT | unix.IFF_NOARP
	i := placement.Interface{
		Name:    a.Name,
		Index:   a.Index,
		Up:      a.RawFlags&unix.IFF_UP != 0,
		Carrier: a.RawFlags&carrier == carrier,
		Ether: a.EncapType == "ether" &&
			a.RawFlags&unix.IFF_BROADCAST != 0 && a.RawFlags&unfit == 0,
		// A VRF is a routing table more than a switch: its ports keep their own traffic.
		Master: a.MasterIndex != 0 && kinds[a.MasterIndex] != "vrf",
	}
	if len(a.HardwareAddr) == len(i.MAC) {
		copy(i.MAC[:], a.HardwareAddr)
	}
	return i
}

// prefixes of one address: itself with its prefix length and, if it has a peer, the peer's network too.
func prefixes(a netlink.Addr) (list []netip.Prefix) {
	for _, n := range []*net.IPNet{a.IPNet, a.Peer} {
		if n == nil {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		ones, bits := n.Mask.Size()
		if ip = ip.Unmap(); ok && ip.BitLen() == bits {
			list = append(list, netip.PrefixFrom(ip, ones))
		}
	}
	return list
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
