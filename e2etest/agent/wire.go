package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lanyard-lb/lanyard/e2etest/netspace"
)

// wire is the network of a pod: a namespace, with a veth pair to its node and one address of each family.
type wire struct {
	space  *netspace.Namespace
	link   string // the node's end
	v4, v6 netip.Addr
}

// wires hands out pod networks on one node. It is used by one goroutine.
type wires struct {
	Config
	node *netspace.Namespace
	used map[int]bool
}

func newWires(c Config, node *netspace.Namespace) *wires {
	return &wires{Config: c, node: node, used: map[int]bool{}}
}

const linkPrefix = "pod"

// gateway6 is the same on every node: it is only good on the link between a pod and its node.
var gateway6 = netip.MustParseAddr("fe80::1")

// clear removes the pod networks that an agent before this one left on the node.
func (w *wires) clear() error {
	links, err := w.node.Netlink().LinkList()
	if err != nil {
		return fmt.Errorf("list the links of %s: %w", w.Node, err)
	}
	for _, link := range links {
		if strings.HasPrefix(link.Attrs().Name, linkPrefix) {
			if err := w.node.Netlink().LinkDel(link); err != nil {
				return fmt.Errorf("remove link %s of %s: %w", link.Attrs().Name, w.Node, err)
			}
		}
	}
	left, err := netspace.List(w.Prefix + "-" + w.Node + "-")
	if err != nil {
		return err
	}
	var faults []error
	for _, name := range left {
		faults = append(faults, netspace.Delete(name))
	}
	return errors.Join(faults...)
}

// add makes the network of a pod, at the addresses it had before if they are free.
func (w *wires) add(pod string, before []string) (*wire, error) {
	n, err := w.pick(before)
	if err != nil {
		return nil, err
	}
	space, err := netspace.Create(context.Background(), w.Prefix+"-"+w.Node+"-"+pod)
	if err != nil {
		return nil, err
	}
	made := &wire{space: space, link: fmt.Sprintf("%s%d", linkPrefix, n), v4: w.addr(0, n), v6: w.addr(1, n)}
	w.used[n] = true
	if err := w.connect(made); err != nil {
		return nil, errors.Join(err, w.remove(made))
	}
	return made, nil
}

// addr is the n-th address of the node's pod subnet of a family.
func (w *wires) addr(family, n int) netip.Addr {
	raw := w.PodCIDRs[family].Addr().AsSlice()
	raw[len(raw)-1] = byte(n)
	addr, _ := netip.AddrFromSlice(raw)
	return addr
}

func (w *wires) pick(before []string) (int, error) {
	for n := 2; n < 255; n++ {
		if !w.used[n] && len(before) > 0 && before[0] == w.addr(0, n).String() {
			return n, nil
		}
	}
	for n := 2; n < 255; n++ {
		if !w.used[n] {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%s is out of pod addresses", w.PodCIDRs[0])
}

// remove takes a pod's network away.
func (w *wires) remove(x *wire) error {
	if link, err := w.node.Netlink().LinkByName(x.link); err == nil {
		if err := w.node.Netlink().LinkDel(link); err != nil {
			return fmt.Errorf("remove link %s: %w", x.link, err)
		}
	}
	delete(w.used, int(x.v4.As4()[3]))
	return errors.Join(x.space.Close(), netspace.Delete(x.space.Name()))
}

// connect makes the link, with a host route on the node's side and a default route on the pod's.
func (w *wires) connect(x *wire) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = x.link
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerNamespace = "eth0", netlink.NsFd(x.space.FD())
	if err := x.space.Sysctl("ipv6/conf/default/accept_dad", "0"); err != nil {
		return err
	}
	if err := w.node.Netlink().LinkAdd(veth); err != nil {
		return fmt.Errorf("make link %s: %w", x.link, err)
	}
	gateway4 := w.addr(0, 1)
	nodeEnd, err := upWith(w.node.Netlink(), x.link, gateway4, gateway6)
	if err != nil {
		return err
	}
	podEnd, err := upWith(x.space.Netlink(), "eth0", x.v4, x.v6)
	if err != nil {
		return err
	}
	return errors.Join(
		route(w.node.Netlink(), &netlink.Route{LinkIndex: nodeEnd, Dst: single(x.v4), Scope: unix.RT_SCOPE_LINK}),
		route(w.node.Netlink(), &netlink.Route{LinkIndex: nodeEnd, Dst: single(x.v6), Scope: unix.RT_SCOPE_LINK}),
		route(x.space.Netlink(), &netlink.Route{LinkIndex: podEnd, Dst: single(gateway4), Scope: unix.RT_SCOPE_LINK}),
		route(x.space.Netlink(), &netlink.Route{LinkIndex: podEnd, Gw: gateway4.AsSlice()}),
		route(x.space.Netlink(), &netlink.Route{LinkIndex: podEnd, Gw: gateway6.AsSlice()}))
}

// upWith gives a link its addresses, without subnets, sets it up and returns its index.
func upWith(nl *netlink.Handle, name string, addrs ...netip.Addr) (int, error) {
	link, err := nl.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("find link %s: %w", name, err)
	}
	if err := nl.LinkSetUp(link); err != nil {
		return 0, fmt.Errorf("set link %s up: %w", name, err)
	}
	for _, a := range addrs {
		addr := &netlink.Addr{IPNet: single(a)}
		if a.Is6() {
			addr.Flags = unix.IFA_F_NODAD // usable at once
		}
		if err := nl.AddrAdd(link, addr); err != nil {
			return 0, fmt.Errorf("put %s on %s: %w", a, name, err)
		}
	}
	return link.Attrs().Index, nil
}

func route(nl *netlink.Handle, r *netlink.Route) error {
	if err := nl.RouteReplace(r); err != nil {
		return fmt.Errorf("route %s: %w", r, err)
	}
	return nil
}

func single(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}
