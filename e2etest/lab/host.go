package lab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/lanyard-lb/lanyard/e2etest/netspace"
)

// Role is what a host is for.
type Role string

// The roles of hosts.
const (
	ControlPlaneRole Role = "control-plane"
	NodeRole         Role = "node"
	ClientRole       Role = "client"
)

const (
	controlPlane = "cp"
	switchHost   = "switch"
)

// Host is a machine on the LAN: a network namespace with NICs. Its embedded Namespace runs functions and opens sockets
// there. All methods may be called concurrently.
type Host struct {
	*netspace.Namespace
	// Hostname is the short name: "n1" where the namespace is "lab-n1".
	Hostname string
	Role     Role

	lab    *Lab
	number int           // last byte of its addresses, in the address plan
	addrs  [2]netip.Addr // on segment 0, IPv4 first

	mu   sync.Mutex
	nics []*NIC
}

// Host returns a host by its short name, or panics: a wrong name is a mistake in the test.
func (l *Lab) Host(name string) *Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h, ok := l.hosts[name]; ok {
		return h
	}
	panic(fmt.Sprintf("lab %s has no host %q", l.Prefix, name))
}

// Node is the name of the i-th node, from 1.
func (l *Lab) Node(i int) string { return l.nodes[i-1] }

// Nodes are the names of the nodes: n1, n2, ..., or what the ground calls them.
func (l *Lab) Nodes() []string { return slices.Clone(l.nodes) }

// Clients are the names of the clients: c1, c2, ...
func (l *Lab) Clients() []string { return slices.Clone(l.clientNames) }

// HostNames lists all hosts by name, the switch apart.
func (l *Lab) HostNames() []string {
	return slices.Concat([]string{controlPlane}, l.Nodes(), l.Clients())
}

func names(n int, name func(int) string) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = name(i + 1)
	}
	return all
}

// NICs lists the host's NICs: eth0, eth1, ...
func (h *Host) NICs() []*NIC {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.nics)
}

// NIC returns a NIC by name, or panics: a wrong name is a mistake in the test.
func (h *Host) NIC(name string) *NIC {
	for _, n := range h.NICs() {
		if n.Name == name {
			return n
		}
	}
	panic(fmt.Sprintf("host %s has no NIC %q", h.Hostname, name))
}

// Addr4 is the host's IPv4 address on segment 0.
func (h *Host) Addr4() netip.Addr { return h.addrs[0] }

// Addr6 is the host's IPv6 address on segment 0.
func (h *Host) Addr6() netip.Addr { return h.addrs[1] }

// Addr is the host's address on segment 0 in the family of the given address.
func (h *Host) Addr(like netip.Addr) netip.Addr {
	if like.Is4() {
		return h.Addr4()
	}
	return h.Addr6()
}

// addrIn is the host's address in a segment, in the family of the given address.
func (h *Host) addrIn(segment int, like netip.Addr) netip.Addr {
	switch {
	case segment == 0:
		return h.Addr(like)
	case like.Is4():
		return Addr4(segment, h.number)
	}
	return Addr6(segment, h.number)
}

// newHost makes the namespace of a host, without NICs.
func (l *Lab) newHost(ctx context.Context, name string, role Role, number int) (*Host, error) {
	ns, err := netspace.Create(ctx, l.Prefix+"-"+name)
	if err != nil {
		return nil, err
	}
	h := &Host{Namespace: ns, Hostname: name, Role: role, lab: l, number: number, addrs: [2]netip.Addr{Addr4(0, number), Addr6(0, number)}}
	l.addHost(h)
	return h, h.sysctls()
}

// addHost adds a host, or replaces the one of that name.
func (l *Lab) addHost(h *Host) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hosts[h.Hostname] = h
}

// sysctls sets what a host of its role has on a real network. The defaults reach the NICs that are made later.
func (h *Host) sysctls() error {
	settings := [][2]string{
		// What the machine outside happens to have set is inherited for IPv4: start from the kernel's own defaults.
		{"ipv4/conf/all/rp_filter", "0"}, {"ipv4/conf/default/rp_filter", "0"},
		{"ipv4/conf/all/arp_ignore", "0"}, {"ipv4/conf/default/arp_ignore", "0"},
		{"ipv4/conf/all/arp_announce", "0"}, {"ipv4/conf/default/arp_announce", "0"},
		// Addresses are usable at once.
		{"ipv6/conf/all/accept_dad", "0"}, {"ipv6/conf/default/accept_dad", "0"},
		{"ipv6/conf/default/accept_ra", "0"},
		// An unplugged NIC keeps its IPv6 addresses when it is set down, as its IPv4 ones.
		{"ipv6/conf/all/keep_addr_on_down", "1"}, {"ipv6/conf/default/keep_addr_on_down", "1"},
	}
	if h.Role == NodeRole {
		settings = append(settings, [2]string{"ipv4/ip_forward", "1"}, [2]string{"ipv6/conf/all/forwarding", "1"},
			[2]string{"ipv4/conf/all/route_localnet", "1"}, [2]string{"ipv6/conf/default/forwarding", "1"})
	}
	for _, s := range settings {
		if err := h.Sysctl(s[0], s[1]); err != nil {
			return err
		}
	}
	return nil
}
