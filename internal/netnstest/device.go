package netnstest

import (
	"net"
	"testing"

	"github.com/vishvananda/netlink"
)

// Veth joins two namespaces (or one with itself) by a virtual cable with both ends up.
func Veth(t testing.TB, a *NS, nameA string, b *NS, nameB string) {
	t.Helper()
	a.Do(t, func() {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = nameA
		must(t, netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: attrs, PeerName: nameB, PeerNamespace: netlink.NsFd(int(b.handle)),
		}), "add veth %s-%s", nameA, nameB)
	})
	a.Up(t, nameA)
	b.Up(t, nameB)
}

// Bridge adds a switch that is up, with the given devices of the namespace as its ports.
func (n *NS) Bridge(t testing.TB, name string, ports ...string) {
	t.Helper()
	n.Do(t, func() {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		snooping := false
		must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}), "add bridge %s", name)
	})
	n.Up(t, name)
	for _, port := range ports {
		n.Enslave(t, port, name)
	}
}

// Enslave makes port a port of the device called master; an empty master releases it.
func (n *NS) Enslave(t testing.TB, port, master string) {
	t.Helper()
	n.Do(t, func() {
		if master == "" {
			must(t, netlink.LinkSetNoMaster(link(t, port)), "release %s", port)
			return
		}
		must(t, netlink.LinkSetMaster(link(t, port), link(t, master)), "enslave %s to %s", port, master)
	})
}

// Add adds a device that the other methods have no word for.
func (n *NS) Add(t testing.TB, device netlink.Link) {
	t.Helper()
	n.Do(t, func() { must(t, netlink.LinkAdd(device), "add %s", device.Attrs().Name) })
}

// Up and Down set the administrative state of a device.
func (n *NS) Up(t testing.TB, name string) {
	t.Helper()
	n.Do(t, func() { must(t, netlink.LinkSetUp(link(t, name)), "set %s up", name) })
}

// Down is described at Up.
func (n *NS) Down(t testing.TB, name string) {
	t.Helper()
	n.Do(t, func() { must(t, netlink.LinkSetDown(link(t, name)), "set %s down", name) })
}

// Delete removes a device; the other end of a veth goes with it.
func (n *NS) Delete(t testing.TB, name string) {
	t.Helper()
	n.Do(t, func() { must(t, netlink.LinkDel(link(t, name)), "delete %s", name) })
}

// Rename gives a device another name.
func (n *NS) Rename(t testing.TB, name, to string) {
	t.Helper()
	n.Do(t, func() { must(t, netlink.LinkSetName(link(t, name), to), "rename %s to %s", name, to) })
}

// SetMAC gives a device another MAC address.
func (n *NS) SetMAC(t testing.TB, name, mac string) {
	t.Helper()
	n.Do(t, func() {
		hw, err := net.ParseMAC(mac)
		must(t, err, "parse %s", mac)
		must(t, netlink.LinkSetHardwareAddr(link(t, name), hw), "set MAC of %s", name)
	})
}

// AddAddr gives a device an address with its prefix length, such as 10.1.0.1/24.
func (n *NS) AddAddr(t testing.TB, name, cidr string) {
	t.Helper()
	n.Do(t, func() { must(t, netlink.AddrAdd(link(t, name), addr(t, cidr)), "add %s to %s", cidr, name) })
}

// DelAddr takes an address away again.
func (n *NS) DelAddr(t testing.TB, name, cidr string) {
	t.Helper()
	n.Do(t, func() { must(t, netlink.AddrDel(link(t, name), addr(t, cidr)), "delete %s from %s", cidr, name) })
}

// Neigh returns what the kernel's neighbour table says about ip, written like 10.1.0.9, on a device:
// the state (netlink.NUD_...) and the MAC address, or zeros when there is no entry.
func (n *NS) Neigh(t testing.TB, name, ip string) (state int, mac net.HardwareAddr) {
	t.Helper()
	n.Do(t, func() {
		list, err := netlink.NeighList(link(t, name).Attrs().Index, netlink.FAMILY_ALL)
		must(t, err, "list neighbours of %s", name)
		for _, entry := range list {
			if entry.IP.Equal(net.ParseIP(ip)) {
				state, mac = entry.State, entry.HardwareAddr
			}
		}
	})
	return state, mac
}

func addr(t testing.TB, cidr string) *netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(cidr)
	must(t, err, "parse %s", cidr)
	return a
}
