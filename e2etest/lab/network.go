package lab

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
)

func bridgeName(segment int) string { return fmt.Sprintf("lan%d", segment) }

// buildNetwork makes the switch, all hosts and their NICs, and the routes between nodes.
func (l *own) buildNetwork(ctx context.Context) error {
	if err := l.buildSwitch(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	add := func(name string, role Role, number int) {
		group.Go(func() error { return l.buildHost(ctx, name, role, number) })
	}
	add(controlPlane, ControlPlaneRole, controlPlaneNumber)
	for i, name := range l.Nodes() {
		add(name, NodeRole, firstNodeNumber+i+1)
	}
	for i, name := range l.Clients() {
		add(name, ClientRole, firstClientNumber+i+1)
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, name := range l.Nodes() {
		if err := l.routes(l.Host(name)); err != nil {
			return err
		}
	}
	return nil
}

// buildSwitch makes the namespace that holds a bridge per segment.
func (l *own) buildSwitch(ctx context.Context) error {
	sw, err := l.newHost(ctx, switchHost, "switch", 0)
	if err != nil {
		return err
	}
	// Frames that are bridged must not pass through IP netfilter: a switch does not look there. Without the module
	// br_netfilter there is nothing to switch off.
	for _, name := range []string{"iptables", "ip6tables", "arptables"} {
		_ = sw.Sysctl("bridge/bridge-nf-call-"+name, "0")
	}
	// The ports themselves are not hosts: no link-local addresses, no reports.
	if err := sw.Sysctl("ipv6/conf/default/disable_ipv6", "1"); err != nil {
		return err
	}
	for s := range l.opts.Segments {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = bridgeName(s)
		snooping := l.opts.MLDSnooping
		if err := sw.Netlink().LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil {
			return fmt.Errorf("make switch of segment %d: %w", s, err)
		}
		if err := sw.Sysctl("ipv6/conf/"+attrs.Name+"/disable_ipv6", boolSysctl(!snooping)); err != nil {
			return err
		}
		if err := setLink(sw.Netlink(), attrs.Name, true); err != nil {
			return err
		}
		if snooping {
			// Without a querier on the segment a bridge floods all multicast although snooping is on, and trusts its own
			// only when the response interval is over: 1 s (in hundredths) instead of 10.
			err := run(ctx, "ip", "-n", sw.Name(), "link", "set", attrs.Name, "type", "bridge",
				"mcast_querier", "1", "mcast_query_response_interval", "100")
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *own) buildHost(ctx context.Context, name string, role Role, number int) error {
	h, err := l.newHost(ctx, name, role, number)
	if err != nil {
		return err
	}
	for _, segment := range l.opts.attachments(name, role) {
		if _, err := h.AddNIC(segment, NICOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// routes gives a node its ways to the pods of the other nodes, and to the service addresses. The latter are rewritten by
// kube-proxy before they leave, but a route must exist first, and it chooses the source address.
func (l *own) routes(h *Host) error {
	if h.Role != NodeRole || l.opts.NoCluster {
		return nil
	}
	link, err := h.Netlink().LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("routes of %s: %w", h.Hostname, err)
	}
	for _, cidr := range []string{ServiceCIDR4, ServiceCIDR6} {
		to := netip.MustParsePrefix(cidr)
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(to), Src: h.Addr(to.Addr()).AsSlice()}
		if err := h.Netlink().RouteReplace(route); err != nil {
			return fmt.Errorf("route to services on %s: %w", h.Hostname, err)
		}
	}
	for i := range l.opts.Nodes {
		number := firstNodeNumber + i + 1
		if number == h.number {
			continue
		}
		v4, v6 := podCIDRs(i + 1)
		if err := h.AddRoute(v4, Addr4(0, number)); err != nil {
			return err
		}
		if err := h.AddRoute(v6, Addr6(0, number)); err != nil {
			return err
		}
	}
	return nil
}

func boolSysctl(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
