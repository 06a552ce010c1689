package kind

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Files on a node. The first three are what its pod network is made from at each start.
const (
	routeFile      = "/kind/pod-routes"
	masqueradeFile = "/kind/pod-masquerade"
	cniFile        = "/etc/cni/net.d/10-lanyard.conflist"
	addressFile    = "/kind/addresses"
)

// podNet is what the pod network has to know of a node: the address and the pods' subnet of each family.
type podNet struct {
	name    string
	address []netip.Addr
	pods    []netip.Prefix
}

// connectPods gives our own image's nodes a pod network: a bridge on each, and routes to those of the others.
func (c *Cluster) connectPods(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	var nets []podNet
	patience, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	err = poll(patience, 500*time.Millisecond, func() error {
		nets, err = listPodNets(patience, client)
		return err
	})
	if err != nil {
		return fmt.Errorf("pod network: %w", err)
	}
	return c.eachNode(ctx, func(n Node) error {
		for _, net := range nets {
			if net.name == n.Name {
				return net.configure(ctx, n, nets)
			}
		}
		return fmt.Errorf("node %s is not known to the API server", n.Name)
	})
}

func listPodNets(ctx context.Context, client kubernetes.Interface) ([]podNet, error) {
	list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var nets []podNet
	for _, n := range list.Items {
		net, err := readPodNet(&n)
		if err != nil {
			return nil, err
		}
		nets = append(nets, net)
	}
	return nets, nil
}

func readPodNet(n *corev1.Node) (podNet, error) {
	net := podNet{name: n.Name}
	for _, a := range n.Status.Addresses {
		if a.Type != corev1.NodeInternalIP {
			continue
		}
		address, err := netip.ParseAddr(a.Address)
		if err != nil {
			return net, fmt.Errorf("node %s: status.addresses: %w", n.Name, err)
		}
		net.address = append(net.address, address)
	}
	for _, cidr := range n.Spec.PodCIDRs {
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil {
			return net, fmt.Errorf("node %s: spec.podCIDRs: %w", n.Name, err)
		}
		net.pods = append(net.pods, prefix)
	}
	if len(net.address) != 2 || len(net.pods) != 2 {
		return net, fmt.Errorf("node %s has addresses %v and pod subnets %v: want one of each family", n.Name, net.address, net.pods)
	}
	return net, nil
}

func (p podNet) configure(ctx context.Context, n Node, all []podNet) error {
	cni, err := p.cniConfig()
	if err != nil {
		return err
	}
	files := map[string][]byte{routeFile: []byte(p.routes(all)), masqueradeFile: []byte(p.masquerade(all)),
		addressFile: []byte(n.addresses()), cniFile: cni}
	for path, content := range files {
		if err := writeFile(ctx, p.name, path, content); err != nil {
			return err
		}
	}
	_, err = docker(ctx, "exec", p.name, "systemctl", "restart", "pod-routes")
	return err
}

// routes are commands for `ip -batch`: to the pods of all other nodes.
func (p podNet) routes(all []podNet) string {
	var b strings.Builder
	for _, other := range all {
		if other.name == p.name {
			continue
		}
		for _, pods := range other.pods {
			for _, via := range other.address {
				if via.Is4() == pods.Addr().Is4() {
					fmt.Fprintf(&b, "route replace %s via %s\n", pods, via)
				}
			}
		}
	}
	return b.String()
}

// masquerade is a table for `nft -f`: pods that speak to what is no pod do so with their node's address, for nothing
// else has routes to pods.
func (p podNet) masquerade(all []podNet) string {
	families := map[bool][]string{}
	for _, n := range all {
		for _, pods := range n.pods {
			families[pods.Addr().Is4()] = append(families[pods.Addr().Is4()], pods.String())
		}
	}
	var b strings.Builder
	b.WriteString("table inet pod-masquerade\ndelete table inet pod-masquerade\n")
	b.WriteString("table inet pod-masquerade {\n\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat;\n")
	for _, pods := range p.pods {
		family := map[bool]string{true: "ip", false: "ip6"}[pods.Addr().Is4()]
		fmt.Fprintf(&b, "\t\toifname eth0 %[1]s saddr %[2]s %[1]s daddr != { %[3]s } masquerade\n",
			family, pods, strings.Join(families[pods.Addr().Is4()], ", "))
	}
	b.WriteString("\t}\n}\n")
	return b.String()
}

// cniConfig tells the container runtime to put pods on a bridge.
func (p podNet) cniConfig() ([]byte, error) {
	type m = map[string]any
	var ranges [][]m
	for _, pods := range p.pods {
		ranges = append(ranges, []m{{"subnet": pods.String()}})
	}
	return json.MarshalIndent(m{"cniVersion": "0.4.0", "name": "pods", "plugins": []m{
		{"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipam": m{"type": "host-local",
			"ranges": ranges, "routes": []m{{"dst": "0.0.0.0/0"}, {"dst": "::/0"}}}},
		{"type": "portmap", "capabilities": m{"portMappings": true}},
	}}, "", " ")
}
