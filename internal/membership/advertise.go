package membership

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// defaultBind is where speakers gossip unless told otherwise.
const defaultBind = ":7946"

// parseBind reads host:port. The host is an IP address, or empty, which gives an invalid Addr: any.
func parseBind(s string) (netip.Addr, uint16, error) {
	if s == "" {
		s = defaultBind
	}
	host, service, err := net.SplitHostPort(s)
	if err != nil {
		return netip.Addr{}, 0, fmt.Errorf("gossip bind address %q: want host:port: %w", s, err)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return netip.Addr{}, 0, fmt.Errorf("gossip bind address %q: port %q is not a number from 0 to 65535", s, service)
	}
	if host == "" {
		return netip.Addr{}, uint16(port), nil
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}, 0, fmt.Errorf("gossip bind address %q: host %q is not an IP address", s, host)
	}
	if addr.Zone() != "" || addr.IsMulticast() {
		return netip.Addr{}, 0, fmt.Errorf("gossip bind address %q: %s can't be told to other nodes: "+
			"give a unicast address without zone", s, host)
	}
	if addr = addr.Unmap(); addr.IsUnspecified() {
		return netip.Addr{}, uint16(port), nil
	}
	return addr, uint16(port), nil
}

// hostAddr is an address of an interface of this host.
type hostAddr struct {
	iface        string
	up, loopback bool
	addr         netip.Addr
}

var errNoAdvertise = errors.New("no interface that is up has a global unicast address to tell the others: " +
	"give the gossip bind address a host, as in 10.0.0.1:7946")

// advertise chooses the address that other members reach us at: the bound one if there is one, else the
// first global unicast address, in the order given, of an interface that is up and not the loopback;
// IPv4 before IPv6.
func advertise(bind netip.Addr, have []hostAddr) (netip.Addr, error) {
	if bind.IsValid() {
		return bind, nil
	}
	var six netip.Addr
	for _, h := range have {
		addr := h.addr.Unmap()
		switch {
		case !h.up || h.loopback || !addr.IsGlobalUnicast():
		case addr.Is4():
			return addr, nil
		case !six.IsValid():
			six = addr
		}
	}
	if !six.IsValid() {
		return netip.Addr{}, errNoAdvertise
	}
	return six, nil
}

// hostAddrs lists the addresses of this host in the kernel's order: by interface index, and on an
// interface as they were added.
func hostAddrs() ([]hostAddr, error) {
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var have []hostAddr
	for _, ifi := range ifaces {
		addrs, err := ifi.Addrs()
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", ifi.Name, err)
		}
		for _, a := range addrs {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				have = append(have, hostAddr{
					iface: ifi.Name, up: ifi.Flags&net.FlagUp != 0,
					loopback: ifi.Flags&net.FlagLoopback != 0, addr: prefix.Addr(),
				})
			}
		}
	}
	return have, nil
}
