package suite

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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

func advertisementComesAndGoes(t *testing.T, c *cluster) {
	c.Pool(t, "quiet", "[10.77.0.200, fd77::200]")
	c.Pool(t, "loud", "[10.77.0.201, fd77::201]")
	c.Advertise(t, "loud")
	all := c.Services(t, "web", 2)
	quiet, loud := all[2:], all[:2] // pools are tried by name
	c.Owners(t, loud...)
	c.Silent(t, 0, quiet...)

	c.Advertise(t, "quiet")
	c.Owners(t, all...)
	c.Delete(t, "L2Advertisement", "quiet")
	c.Silent(t, 2*time.Second, quiet...)
	if _, err := c.OwnersNow(loud...); err != nil {
		t.Error(err)
	}
}

// chosenNodes is row T8 of the list in layer2/doc.go: addresses are only where the advertisement's selectors match, and follow the labels and the selectors.
func chosenNodes(t *testing.T, c *cluster) {
	c.Label(t, c.Node(2), "zone", "edge")
	c.Pool(t, "edge", "[10.77.0.204-10.77.0.207, fd77::204-fd77::207]")
	c.Advertise(t, "edge", "nodeSelectors: [{matchLabels: {zone: edge}}]")
	ips := c.Services(t, "edge", 4)
	c.OwnedBy(t, 10*time.Second, []string{c.Node(2)}, ips...)
	c.Label(t, c.Node(3), "zone", "edge")
	c.Label(t, c.Node(2), "zone", "core")
	c.OwnedBy(t, 5*time.Second, []string{c.Node(3)}, ips...)
	c.Patch(t, "L2Advertisement", "edge", `{"spec":{"nodeSelectors":[{"matchExpressions":[{"key":"zone","operator":"DoesNotExist"}]}]}}`)
	c.OwnedBy(t, 5*time.Second, []string{c.Node(1)}, ips...)
	c.Patch(t, "L2Advertisement", "edge", `{"spec":{"nodeSelectors":[{"matchLabels":{"zone":"none"}}]}}`)
	c.Silent(t, 2*time.Second, ips...)
	c.Judged(t, "L2Advertisement", "edge", metav1.ConditionTrue, "NoNode")
	c.Patch(t, "L2Advertisement", "edge", `{"spec":{"nodeSelectors":[{"matchLabels":{"zone":"core"}},{"matchLabels":{"zone":"edge"}}]}}`)
	c.OwnedBy(t, 5*time.Second, []string{c.Node(2), c.Node(3)}, ips...)
}

// localTraffic is the other half of row T1: the owner is a node with a ready pod and follows it; the backend sees the client's own address.
func localTraffic(t *testing.T, c *cluster) {
	c.Pool(t, "local", "[10.77.0.210-10.77.0.213, fd77::210-fd77::213]")
	c.Advertise(t, "local")
	c.RunWeb(t, c.Node(2), "web-on-second")
	ips := c.Services(t, "local", 4, "externalTrafficPolicy: Local")
	c.OwnedBy(t, 10*time.Second, []string{c.Node(2)}, ips...)
	c.seesClients(t, "web-on-second", ips[0], ips[1])

	c.RunWeb(t, c.Node(3), "web-on-third")
	must(t, c.SetPodReady(within(t, 10*time.Second), metav1.NamespaceDefault, "web-on-second", false))
	c.OwnedBy(t, 5*time.Second, []string{c.Node(3)}, ips...)
	c.seesClients(t, "web-on-third", ips[0], ips[1])

	c.RunWeb(t, c.Node(1), "web-on-first")
	must(t, c.DeletePod(within(t, 10*time.Second), metav1.NamespaceDefault, "web-on-third"))
	c.OwnedBy(t, 5*time.Second, []string{c.Node(1)}, ips...)
	c.seesClients(t, "web-on-first", ips[0], ips[1])

	// Without any endpoint the addresses stay on the LAN, where kube-proxy refuses connections.
	must(t, c.SetPodReady(within(t, 10*time.Second), metav1.NamespaceDefault, "web-on-first", false))
	eventually(t, 5*time.Second, func() error {
		reply, err := c.HTTPGet("c1", lab.URL(ips[0], lab.HTTPPort), time.Second)
		if err == nil {
			return fmt.Errorf("answered by %+v although no pod is ready", reply)
		}
		return nil
	})
	c.Owners(t, ips...)
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
	c.Pool(t, "moving", "[10.77.0.220-10.77.0.223, fd77::220-fd77::223]")
	c.Pool(t, "probe", "[10.77.0.229]") // the last pool by name, with the last free address
	c.Create(t, advertisementYAML("all", "{}"))
	ips := c.Services(t, "moving", 4)
	before := c.Owners(t, ips...)

	for _, node := range c.Nodes() {
		c.Label(t, node, label, "false")
	}
	c.Create(t, serviceYAML("probe")) // once it is answered, the speakers have seen the labels before it
	c.Owner(t, c.Address(t, "probe"))
	for ip, owner := range c.Owners(t, ips...) {
		if owner != before[ip] {
			t.Errorf("%s moved from %s to %s on the label's value false", ip, before[ip], owner)
		}
	}
	c.Label(t, c.Node(1), label, "true")
	c.OwnedBy(t, 5*time.Second, []string{c.Node(2), c.Node(3)}, ips...)
	c.Label(t, c.Node(2), label, "")
	c.OwnedBy(t, 5*time.Second, []string{c.Node(3)}, ips...)
	c.Label(t, c.Node(3), label, "true")
	c.Silent(t, 2*time.Second, ips...)
	c.Unlabel(t, c.Node(2), label)
	c.OwnedBy(t, 5*time.Second, []string{c.Node(2)}, ips...)
}

// TestInterfaces has two LANs: every node and c1 on the first, every node and c2 on the second. TestSegments in layer2 goes on.
func TestInterfaces(t *testing.T) {
	c := serve(t, lab.Options{Nodes: 2, Clients: 2, Segments: 2, Attach: map[string][]int{"c2": {1}}})
	c.Pool(t, "second", "[10.77.1.200, fd77:0:0:1::200]")
	// What leaves a node's first NIC shows on the port of the switch where that NIC's cable ends.
	var captures []*lab.Capture
	for _, node := range c.Nodes() {
		capture, err := c.Capture(node, "eth0")
		must(t, err)
		t.Cleanup(capture.Stop)
		captures = append(captures, capture)
	}
	c.Advertise(t, "second", "interfaces: [eth1]")
	c.Create(t, serviceYAML("web", dualStack))
	ips := c.Assigned(t, "web", 2)
	c.RunWeb(t, c.Node(1), "web-1")
	c.answeredOnly(t, "c2", "c1", 1, ips)
	for _, ip := range ips {
		c.Fetch(t, "c2", ip)
		for _, capture := range captures {
			if claims := capture.Claims(ip); len(claims) > 0 {
				t.Errorf("%s is claimed on eth0: %v", ip, claims)
			}
		}
	}
	c.Patch(t, "L2Advertisement", "second", `{"spec":{"interfaces":["eth0"]}}`)
	c.answeredOnly(t, "c1", "c2", 0, ips)
	c.Patch(t, "L2Advertisement", "second", `{"spec":{"interfaces":["wlan*", "?th1"]}}`)
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
			hosts, err := c.Ask(other, ip)
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
