package suite

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// TestPlacement tells nodes and interfaces apart.
func TestPlacement(t *testing.T) {
	c := serve(t, lab.Options{Nodes: 3, Clients: 2})
	t.Run("an advertisement comes and goes", func(t *testing.T) { advertisementComesAndGoes(t, c) })
	t.Run("an advertisement chooses nodes", func(t *testing.T) { chosenNodes(t, c) })
	t.Run("externalTrafficPolicy Local", func(t *testing.T) { localTraffic(t, c) })
	t.Run("the exclusion label", func(t *testing.T) { excludedNodes(t, c) })
}

// services makes n dual-stack Services, for pools with exactly that many addresses, and returns their addresses.
func (c *cluster) services(t *testing.T, name string, n int, spec ...string) (ips []netip.Addr) {
	t.Helper()
	for i := range n {
		c.create(t, serviceYAML(fmt.Sprintf("%s-%d", name, i), append(spec, dualStack)...))
	}
	for i := range n {
		ips = append(ips, c.assigned(t, fmt.Sprintf("%s-%d", name, i), 2)...)
	}
	return ips
}

func advertisementComesAndGoes(t *testing.T, c *cluster) {
	c.pool(t, "quiet", "[10.77.0.200, fd77::200]")
	c.pool(t, "loud", "[10.77.0.201, fd77::201]")
	c.advertise(t, "loud")
	all := c.services(t, "web", 2)
	quiet, loud := all[2:], all[:2] // pools are tried by name
	c.owners(t, loud...)
	c.silent(t, 0, quiet...)

	c.advertise(t, "quiet")
	c.owners(t, all...)
	c.delete(t, "L2Advertisement", "quiet")
	c.silent(t, 2*time.Second, quiet...)
	if _, err := c.ownersNow(loud...); err != nil {
		t.Error(err)
	}
}

// chosenNodes: addresses are only where the advertisement's selectors match, and follow the labels and the selectors.
func chosenNodes(t *testing.T, c *cluster) {
	c.label(t, "n2", "zone", "edge")
	c.pool(t, "edge", "[10.77.0.204-10.77.0.207, fd77::204-fd77::207]")
	c.advertise(t, "edge", "nodeSelectors: [{matchLabels: {zone: edge}}]")
	ips := c.services(t, "edge", 4)
	c.ownedBy(t, 10*time.Second, []string{"n2"}, ips...)
	c.label(t, "n3", "zone", "edge")
	c.label(t, "n2", "zone", "core")
	c.ownedBy(t, 5*time.Second, []string{"n3"}, ips...)
	c.patch(t, "L2Advertisement", "edge", `{"spec":{"nodeSelectors":[{"matchExpressions":[{"key":"zone","operator":"DoesNotExist"}]}]}}`)
	c.ownedBy(t, 5*time.Second, []string{"n1"}, ips...)
	c.patch(t, "L2Advertisement", "edge", `{"spec":{"nodeSelectors":[{"matchLabels":{"zone":"none"}}]}}`)
	c.silent(t, 2*time.Second, ips...)
	c.judged(t, "L2Advertisement", "edge", metav1.ConditionTrue, "NoNode")
	c.patch(t, "L2Advertisement", "edge", `{"spec":{"nodeSelectors":[{"matchLabels":{"zone":"core"}},{"matchLabels":{"zone":"edge"}}]}}`)
	c.ownedBy(t, 5*time.Second, []string{"n2", "n3"}, ips...)
}

// label sets a label of a node until the test ends.
func (c *cluster) label(t *testing.T, node, key, value string) {
	t.Helper()
	c.setLabel(t, node, key, fmt.Sprintf("%q", value))
}

// unlabel takes it away now.
func (c *cluster) unlabel(t *testing.T, node, key string) {
	t.Helper()
	c.setLabel(t, node, key, "null")
}

func (c *cluster) setLabel(t *testing.T, node, key, value string) {
	t.Helper()
	set := func(ctx context.Context, value string) error {
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%s}}}`, key, value)
		_, err := c.Client().CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	}
	must(t, set(within(t, 10*time.Second), value))
	afterwards(t, func(ctx context.Context) error { return set(ctx, "null") })
}

// localTraffic: the owner is a node with a ready pod and follows it; the backend sees the client's own address.
func localTraffic(t *testing.T, c *cluster) {
	c.pool(t, "local", "[10.77.0.210-10.77.0.213, fd77::210-fd77::213]")
	c.advertise(t, "local")
	c.run(t, "n2", "web-on-n2")
	ips := c.services(t, "local", 4, "externalTrafficPolicy: Local")
	c.ownedBy(t, 10*time.Second, []string{"n2"}, ips...)
	c.seesClients(t, "web-on-n2", ips[0], ips[1])

	c.run(t, "n3", "web-on-n3")
	must(t, c.SetPodReady(within(t, 10*time.Second), metav1.NamespaceDefault, "web-on-n2", false))
	c.ownedBy(t, 5*time.Second, []string{"n3"}, ips...)
	c.seesClients(t, "web-on-n3", ips[0], ips[1])

	c.run(t, "n1", "web-on-n1")
	must(t, c.DeletePod(within(t, 10*time.Second), metav1.NamespaceDefault, "web-on-n3"))
	c.ownedBy(t, 5*time.Second, []string{"n1"}, ips...)
	c.seesClients(t, "web-on-n1", ips[0], ips[1])

	// Without any endpoint the addresses stay on the LAN, where kube-proxy refuses connections.
	must(t, c.SetPodReady(within(t, 10*time.Second), metav1.NamespaceDefault, "web-on-n1", false))
	eventually(t, 5*time.Second, func() error {
		reply, err := c.HTTPGet("c1", lab.URL(ips[0], lab.HTTPPort), time.Second)
		if err == nil {
			return fmt.Errorf("answered by %+v although no pod is ready", reply)
		}
		return nil
	})
	c.owners(t, ips...)
}

// seesClients checks that a pod serves the addresses and sees the clients' own addresses.
func (c *cluster) seesClients(t *testing.T, pod string, ips ...netip.Addr) {
	t.Helper()
	for _, ip := range ips {
		for _, client := range c.Clients() {
			eventually(t, 10*time.Second, func() error {
				reply, err := c.HTTPGet(client, lab.URL(ip, lab.HTTPPort), time.Second)
				if err == nil && (reply.Pod != pod || reply.Client.Addr() != c.Host(client).Addr(ip)) {
					err = fmt.Errorf("%s from %s: %+v, want pod %s to see %s", ip, client, reply, pod, c.Host(client).Addr(ip))
				}
				return err
			})
		}
	}
}

// excludedNodes: "true" and "" move addresses off the node, "false" does not.
func excludedNodes(t *testing.T, c *cluster) {
	const label = "node.kubernetes.io/exclude-from-external-load-balancers"
	c.pool(t, "moving", "[10.77.0.220-10.77.0.223, fd77::220-fd77::223]")
	c.pool(t, "probe", "[10.77.0.229]") // the last pool by name, with the last free address
	c.create(t, advertisementYAML("all", "{}"))
	ips := c.services(t, "moving", 4)
	before := c.owners(t, ips...)

	for _, node := range c.Nodes() {
		c.label(t, node, label, "false")
	}
	c.create(t, serviceYAML("probe")) // once it is answered, the speakers have seen the labels before it
	c.owner(t, c.address(t, "probe"))
	for ip, owner := range c.owners(t, ips...) {
		if owner != before[ip] {
			t.Errorf("%s moved from %s to %s on the label's value false", ip, before[ip], owner)
		}
	}
	c.label(t, "n1", label, "true")
	c.ownedBy(t, 5*time.Second, []string{"n2", "n3"}, ips...)
	c.label(t, "n2", label, "")
	c.ownedBy(t, 5*time.Second, []string{"n3"}, ips...)
	c.label(t, "n3", label, "true")
	c.silent(t, 2*time.Second, ips...)
	c.unlabel(t, "n2", label)
	c.ownedBy(t, 5*time.Second, []string{"n2"}, ips...)
}

// TestInterfaces has two LANs: every node and c1 on the first, every node and c2 on the second.
func TestInterfaces(t *testing.T) {
	c := serve(t, lab.Options{Nodes: 2, Clients: 2, Segments: 2, Attach: map[string][]int{"c2": {1}}})
	c.pool(t, "second", "[10.77.1.200, fd77:0:0:1::200]")
	// What leaves a node's first NIC shows on the port of the switch where that NIC's cable ends.
	var captures []*lab.Capture
	for _, node := range c.Nodes() {
		capture, err := c.Capture(node, "eth0")
		must(t, err)
		t.Cleanup(capture.Stop)
		captures = append(captures, capture)
	}
	c.advertise(t, "second", "interfaces: [eth1]")
	c.create(t, serviceYAML("web", dualStack))
	ips := c.assigned(t, "web", 2)
	c.run(t, "n1", "web-1")
	c.answeredOnly(t, "c2", "c1", 1, ips)
	for _, ip := range ips {
		c.fetch(t, "c2", ip)
		for _, capture := range captures {
			if claims := capture.Claims(ip); len(claims) > 0 {
				t.Errorf("%s is claimed on eth0: %v", ip, claims)
			}
		}
	}
	c.patch(t, "L2Advertisement", "second", `{"spec":{"interfaces":["eth0"]}}`)
	c.answeredOnly(t, "c1", "c2", 0, ips)
	c.patch(t, "L2Advertisement", "second", `{"spec":{"interfaces":["wlan*", "?th1"]}}`)
	c.answeredOnly(t, "c2", "c1", 1, ips)
}

// answeredOnly waits until a client gets one answer for each of the addresses, with the MAC address of a node's NIC in
// that segment, and another gets none.
func (c *cluster) answeredOnly(t *testing.T, client, other string, segment int, ips []netip.Addr) {
	t.Helper()
	check := func() error {
		for _, ip := range ips {
			answers, err := c.WhoHas(client, ip, patience)
			if err != nil {
				return err
			}
			if len(answers) != 1 || !c.isNIC(answers[0].Host, segment, answers[0].MAC.String()) {
				return fmt.Errorf("%s asks for %s and gets %v, want one answer with the MAC address of eth%d", client, ip, answers, segment)
			}
			hosts, err := c.ask(other, ip)
			if err != nil {
				return err
			}
			if len(hosts) > 0 {
				return fmt.Errorf("%s asks for %s and gets answers of %v; want none", other, ip, hosts)
			}
		}
		return nil
	}
	eventually(t, 10*time.Second, check)
	throughout(t, time.Second, check)
}

func (c *cluster) isNIC(host string, segment int, mac string) bool {
	if host == "" {
		return false
	}
	have, err := c.Host(host).NIC(fmt.Sprint("eth", segment)).MAC()
	return err == nil && have.String() == mac
}
