package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Neighbour is an entry of a kernel's neighbour table.
type Neighbour struct {
	IP    netip.Addr
	MAC   net.HardwareAddr // nil while unresolved
	State string           // as `ip neigh` has it: REACHABLE, STALE, DELAY, PROBE, INCOMPLETE, FAILED, ...
	NIC   string
}

// Neighbour reads what a host's kernel believes about an address; false if it has no entry.
func (l *Lab) Neighbour(host string, ip netip.Addr) (Neighbour, bool, error) {
	all, err := l.Neighbours(host)
	if err != nil {
		return Neighbour{}, false, err
	}
	for _, n := range all {
		if n.IP == ip {
			return n, true, nil
		}
	}
	return Neighbour{}, false, nil
}

// Neighbours reads a host's whole neighbour table, both families.
func (l *Lab) Neighbours(host string) ([]Neighbour, error) {
	var all []Neighbour
	err := l.eachNeighbour(host, func(nic *NIC, n netlink.Neigh) error {
		ip, _ := netip.AddrFromSlice(n.IP)
		mac := n.HardwareAddr
		if len(mac) == 0 {
			mac = nil
		}
		all = append(all, Neighbour{IP: ip.Unmap(), MAC: mac, State: stateName(n.State), NIC: nic.Name})
		return nil
	})
	return all, err
}

// FlushNeighbours empties a host's neighbour table.
func (l *Lab) FlushNeighbours(host string) error {
	nl := l.Host(host).Netlink()
	return l.eachNeighbour(host, func(_ *NIC, n netlink.Neigh) error {
		if n.State&unix.NUD_PERMANENT != 0 || n.State == unix.NUD_NOARP {
			return nil
		}
		if err := nl.NeighDel(&n); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("flush %s from the neighbours of %s: %w", n.IP, host, err)
		}
		return nil
	})
}

func (l *Lab) eachNeighbour(host string, f func(*NIC, netlink.Neigh) error) error {
	h := l.Host(host)
	for _, nic := range h.NICs() {
		link, err := h.Netlink().LinkByName(nic.Name)
		if err != nil {
			return fmt.Errorf("neighbours of %s: %w", host, err)
		}
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			entries, err := h.Netlink().NeighList(link.Attrs().Index, family)
			if err != nil {
				return fmt.Errorf("neighbours of %s: %w", host, err)
			}
			for _, n := range entries {
				if err := f(nic, n); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func stateName(state int) string {
	names := []struct {
		bit  int
		name string
	}{{unix.NUD_INCOMPLETE, "INCOMPLETE"}, {unix.NUD_REACHABLE, "REACHABLE"}, {unix.NUD_STALE, "STALE"}, {unix.NUD_DELAY, "DELAY"},
		{unix.NUD_PROBE, "PROBE"}, {unix.NUD_FAILED, "FAILED"}, {unix.NUD_NOARP, "NOARP"}, {unix.NUD_PERMANENT, "PERMANENT"}}
	var set []string
	for _, n := range names {
		if state&n.bit != 0 {
			set = append(set, n.name)
		}
	}
	return strings.Join(set, "|")
}

// HostByMAC returns the name of the host that has a NIC with this MAC address, or "" if none has.
func (l *Lab) HostByMAC(mac net.HardwareAddr) string {
	for _, name := range l.HostNames() {
		for _, nic := range l.Host(name).NICs() {
			if have, err := nic.MAC(); err == nil && have.String() == mac.String() {
				return name
			}
		}
	}
	return ""
}
