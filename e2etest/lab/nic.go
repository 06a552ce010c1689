package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// NIC is a network interface of a host, with the switch port that its cable ends in.
type NIC struct {
	Name    string // eth0, eth1, ...
	Port    string // the name of the port on the switch host: n1, n1.1, ...
	Segment int

	host   *Host
	routes []netlink.Route // those that SetUp gives back
}

// NICOptions describe a NIC to add; empty fields take what the address plan gives.
type NICOptions struct {
	MAC net.HardwareAddr
	// Addrs are the addresses with their prefix lengths. Nil means the host's own in that segment if it has no NIC there
	// yet; a slice that is empty but not nil means none.
	Addrs []netip.Prefix
}

// AddNIC plugs another NIC into a host while it runs. It is up when the call returns.
func (h *Host) AddNIC(segment int, opts NICOptions) (*NIC, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	index := len(h.nics)
	nic := &NIC{Name: fmt.Sprintf("eth%d", index), Port: h.lab.ground.port(h.Hostname, index), Segment: segment, host: h}
	if opts.MAC == nil {
		opts.MAC = macFor(segment, h.number, index)
	}
	if opts.Addrs == nil && !h.attachedTo(segment) {
		v4, v6 := Segment(segment)
		opts.Addrs = []netip.Prefix{netip.PrefixFrom(Addr4(segment, h.number), v4.Bits()),
			netip.PrefixFrom(Addr6(segment, h.number), v6.Bits())}
	}
	if err := h.plugIn(nic, opts); err != nil {
		return nil, fmt.Errorf("add %s to %s: %w", nic.Name, h.Hostname, err)
	}
	h.nics = append(h.nics, nic)
	return nic, nil
}

func (h *Host) attachedTo(segment int) bool {
	for _, n := range h.nics {
		if n.Segment == segment {
			return true
		}
	}
	return false
}

// plugIn makes the veth pair: the port on the bridge of the segment, the NIC in the host.
func (h *Host) plugIn(nic *NIC, opts NICOptions) error {
	sw := h.lab.Host(switchHost)
	bridge, err := sw.Netlink().LinkByName(h.lab.ground.bridge(nic.Segment))
	if err != nil {
		return fmt.Errorf("find the switch of segment %d: %w", nic.Segment, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = nic.Port, bridge.Attrs().Index
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerNamespace, veth.PeerHardwareAddr = nic.Name, netlink.NsFd(h.FD()), opts.MAC
	if err := sw.Netlink().LinkAdd(veth); err != nil {
		return fmt.Errorf("make veth pair: %w", err)
	}
	if err := setLink(sw.Netlink(), nic.Port, true); err != nil {
		return err
	}
	if err := setLink(h.Netlink(), nic.Name, true); err != nil {
		return err
	}
	for _, a := range opts.Addrs {
		if err := nic.AddAddr(a); err != nil {
			return err
		}
	}
	return nil
}

// AddAddr puts an address on the NIC.
func (n *NIC) AddAddr(a netip.Prefix) error {
	return n.change("add address "+a.String(), func(link netlink.Link) error {
		return n.host.Netlink().AddrAdd(link, kernelAddr(a))
	})
}

// RemoveAddr takes an address off the NIC.
func (n *NIC) RemoveAddr(a netip.Prefix) error {
	return n.change("remove address "+a.String(), func(link netlink.Link) error {
		return n.host.Netlink().AddrDel(link, kernelAddr(a))
	})
}

// SetDown switches the NIC off in the host (ip link set down). Its routes go with it.
func (n *NIC) SetDown() error {
	return n.change("set down", func(link netlink.Link) error {
		all, err := n.host.Netlink().RouteList(link, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		n.routes = slices.DeleteFunc(all, func(r netlink.Route) bool { return r.Protocol == unix.RTPROT_KERNEL })
		return n.host.Netlink().LinkSetDown(link)
	})
}

// SetUp switches it on again. Routes that are not the kernel's own (towards pods and services) come back too.
func (n *NIC) SetUp() error {
	return n.change("set up", func(link netlink.Link) error {
		if err := n.host.Netlink().LinkSetUp(link); err != nil {
			return err
		}
		for _, r := range n.routes {
			if err := n.host.Netlink().RouteReplace(&r); err != nil {
				return fmt.Errorf("route to %s: %w", r.Dst, err)
			}
		}
		return nil
	})
}

// SetMAC gives the NIC another MAC address while it is up.
func (n *NIC) SetMAC(mac net.HardwareAddr) error {
	return n.change("set MAC "+mac.String(), func(link netlink.Link) error {
		return n.host.Netlink().LinkSetHardwareAddr(link, mac)
	})
}

// MAC reads the NIC's present MAC address.
func (n *NIC) MAC() (net.HardwareAddr, error) {
	link, err := n.host.Netlink().LinkByName(n.Name)
	if err != nil {
		return nil, fmt.Errorf("read %s of %s: %w", n.Name, n.host.Hostname, err)
	}
	return link.Attrs().HardwareAddr, nil
}

// PullCable takes the carrier away, on both ends, as pulling the cable does.
func (n *NIC) PullCable() error { return setLink(n.host.lab.Host(switchHost).Netlink(), n.Port, false) }

// PutCable gives the carrier back.
func (n *NIC) PutCable() error { return setLink(n.host.lab.Host(switchHost).Netlink(), n.Port, true) }

func (n *NIC) change(what string, f func(netlink.Link) error) error {
	link, err := n.host.Netlink().LinkByName(n.Name)
	if err == nil {
		err = f(link)
	}
	if err != nil {
		return fmt.Errorf("%s on %s of %s: %w", what, n.Name, n.host.Hostname, err)
	}
	return nil
}

// AddRoute adds a route on the host: to a destination, through a gateway, or on-link on eth0 if the gateway is invalid.
func (h *Host) AddRoute(to netip.Prefix, gateway netip.Addr) error {
	link, err := h.Netlink().LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("route to %s on %s: %w", to, h.Hostname, err)
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(to)}
	if gateway.IsValid() {
		route.Gw = gateway.AsSlice()
	} else {
		route.Scope = unix.RT_SCOPE_LINK
	}
	if err := h.Netlink().RouteReplace(route); err != nil {
		return fmt.Errorf("route to %s on %s: %w", to, h.Hostname, err)
	}
	return nil
}

func setLink(nl *netlink.Handle, name string, up bool) error {
	link, err := nl.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	set := nl.LinkSetDown
	if up {
		set = nl.LinkSetUp
	}
	if err := set(link); err != nil {
		return fmt.Errorf("set link %s up=%t: %w", name, up, err)
	}
	return nil
}

// kernelAddr asks for no duplicate address detection: even where that is switched off, an IPv6 address is not usable
// before the kernel has had its turn.
func kernelAddr(a netip.Prefix) *netlink.Addr {
	addr := &netlink.Addr{IPNet: ipNetOf(a)}
	if a.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	return addr
}

// ipNet is the network of a prefix, ipNetOf the address with its length.
func ipNet(p netip.Prefix) *net.IPNet { return ipNetOf(p.Masked()) }

func ipNetOf(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// run runs a program in the machine's own namespace and adds what it printed to the error.
func run(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
