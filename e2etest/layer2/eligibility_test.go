package layer2

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
	"github.com/lanyard-lb/lanyard/e2etest/labtest"
)

// TestEligibility tells the nodes that may announce from those that may not, row T3: what moves off a node does so without a
// loss, and does not come back by itself.
func TestEligibility(t *testing.T) {
	c := serve(t, lab.Options{Nodes: 3, Clients: 3, NodeGracePeriod: 4 * time.Second})
	c.RunWeb(t, c.Node(3), "web-1")
	t.Run("the exclusion label is a bool", func(t *testing.T) { excluded(t, c) })
	t.Run("the autoscaler's taint", func(t *testing.T) {
		c.takenOff(t, func(node string) { c.Taint(t, node, labtest.AutoscalerTaint) }, func(node string) { c.Untaint(t, node, labtest.AutoscalerTaint) })
	})
	t.Run("NetworkUnavailable", func(t *testing.T) {
		c.takenOff(t, func(node string) { c.NetworkUnavailable(t, node, true) }, func(node string) { c.NetworkUnavailable(t, node, false) })
	})
	t.Run("cordoned for a drain", func(t *testing.T) { c.takenOff(t, c.cordon(t, true), c.cordon(t, false)) })
	t.Run("what does not matter", func(t *testing.T) { doesNotMatter(t, c) })
	t.Run("service selectors", func(t *testing.T) { serviceSelectors(t, c) })
	t.Run("no endpoint", func(t *testing.T) { noEndpoint(t, c) })
	t.Run("a local policy without a local endpoint", func(t *testing.T) { nothingLocal(t, c) })
	t.Run("NotReady for too long", func(t *testing.T) { notReadyForLong(t, c) })
}

// two makes two dual-stack Services with addresses of their own.
func (c *cluster) two(t *testing.T) []netip.Addr {
	t.Helper()
	c.Pool(t, "two", "[10.77.0.200-10.77.0.201, fd77::200-fd77::201]")
	c.Advertise(t, "two")
	return c.Services(t, "two", 2)
}

// takenOff takes a node that owns an address out of service by something said of it, and checks that what it owns
// moves without a question or a request going unanswered, and stays where it is when that is no longer said.
func (c *cluster) takenOff(t *testing.T, say, unsay func(node string)) {
	ips := c.two(t)
	for _, ip := range ips[:2] { // one of each family
		victim := c.Owner(t, ip)
		end := c.lossless(t, fmt.Sprint("moved off ", victim), ips...)
		say(victim)
		c.OwnedBy(t, 5*time.Second, c.Others(victim), ips...)
		end()
		owners := c.Owners(t, ips...)
		unsay(victim)
		c.staysPut(t, 2*time.Second, owners)
	}
}

// excluded: the label's value false does nothing, true and nothing at all take a node off.
func excluded(t *testing.T, c *cluster) {
	value := "true"
	c.takenOff(t, func(node string) {
		c.Label(t, node, labtest.ExcludeLabel, value)
		value = ""
	}, func(node string) { c.Label(t, node, labtest.ExcludeLabel, "false") })
}

// doesNotMatter: a node that is tainted by somebody else, or NotReady since its kubelet died, goes on announcing.
func doesNotMatter(t *testing.T, c *cluster) {
	ips := c.two(t)
	owners := c.Owners(t, ips...)
	victim := owners[ips[0]]
	c.Taint(t, victim, "example.com/maintenance")
	t.Cleanup(func() { c.awake(t, victim) })
	must(t, c.Kubelet(victim).Kill())
	must(t, c.WaitNodeReady(within(t, 30*time.Second), victim, false))
	c.staysPut(t, 2*time.Second, owners)
}

// cordon returns what cordons nodes, or ends that.
func (c *cluster) cordon(t *testing.T, value bool) func(node string) {
	return func(node string) { must(t, c.setUnschedulable(within(t, 10*time.Second), node, value)) }
}

func (c *cluster) setUnschedulable(ctx context.Context, node string, value bool) error {
	_, err := c.Kubectl(ctx, "patch", "node", node, "-p", fmt.Sprintf(`{"spec":{"unschedulable":%t}}`, value))
	return err
}

// awake brings a node's kubelet back and waits until the node is Ready.
func (c *cluster) awake(t *testing.T, node string) {
	t.Helper()
	if kubelet := c.Kubelet(node); !kubelet.Alive() {
		must(t, kubelet.Restart())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	must(t, c.WaitNodeReady(ctx, node, true))
}

// notReadyForLong: with --node-not-ready-after, a node that is NotReady for longer than that gives its addresses up.
func notReadyForLong(t *testing.T, c *cluster) {
	ips := c.two(t)
	c.StartSpeakers(t, "--node-not-ready-after=1s")
	owners := c.Owners(t, ips...)
	victim := owners[ips[0]]
	t.Cleanup(func() { c.awake(t, victim) })
	must(t, c.Kubelet(victim).Kill())
	must(t, c.WaitNodeReady(within(t, 30*time.Second), victim, false))
	c.OwnedBy(t, 10*time.Second, c.Others(victim), ips...)
	owners = c.Owners(t, ips...)
	c.awake(t, victim)
	c.staysPut(t, 2*time.Second, owners)
}

// serviceSelectors is row T10: an advertisement is for some Services of its pools, on some nodes, and several add up.
func serviceSelectors(t *testing.T, c *cluster) {
	c.Label(t, c.Node(1), "zone", "a")
	c.Label(t, c.Node(2), "zone", "b")
	c.Pool(t, "chosen", "[10.77.0.210-10.77.0.211, fd77::210-fd77::211]")
	c.Create(t, advertisementYAML("web-on-a", "ipAddressPools: [chosen]",
		"serviceSelectors: [{matchLabels: {tier: web}}, {matchLabels: {tier: api}}]", "nodeSelectors: [{matchLabels: {zone: a}}]"))
	c.Create(t, serviceYAML(labelled("web", "tier", "web"), dualStack))
	web := c.Assigned(t, "web", 2)
	c.Create(t, serviceYAML(labelled("db", "tier", "db"), dualStack))
	db := c.Assigned(t, "db", 2)
	c.OwnedBy(t, 5*time.Second, []string{c.Node(1)}, web...)
	c.announced(t, "db", metav1.ConditionFalse, "NoAdvertisement")
	c.Silent(t, 0, db...)

	// Another advertisement for the other Service and another node: each has one owner, its own.
	c.Create(t, advertisementYAML("db-on-b", "ipAddressPools: [chosen]", "serviceSelectors: [{matchLabels: {tier: db}}]",
		"nodeSelectors: [{matchLabels: {zone: b}}]"))
	c.OwnedBy(t, 5*time.Second, []string{c.Node(2)}, db...)
	c.OwnedBy(t, 5*time.Second, []string{c.Node(1)}, web...)
	c.Patch(t, "Service", "web", `{"metadata":{"labels":{"tier":"db"}}}`)
	c.OwnedBy(t, 5*time.Second, []string{c.Node(2)}, web...)
	c.Patch(t, "Service", "web", `{"metadata":{"labels":{"tier":"api"}}}`)
	c.OwnedBy(t, 5*time.Second, []string{c.Node(1)}, web...)
	c.Patch(t, "Service", "web", `{"metadata":{"labels":{"tier":null}}}`)
	c.Silent(t, 2*time.Second, web...)
	c.announced(t, "web", metav1.ConditionFalse, "NoAdvertisement")

	// The selectors of one advertisement must match together: no node of the one's may announce for the other.
	c.Patch(t, "Service", "web", `{"metadata":{"labels":{"tier":"web"}}}`)
	c.OwnedBy(t, 5*time.Second, []string{c.Node(1)}, web...)
	c.Unlabel(t, c.Node(1), "zone")
	c.Silent(t, 2*time.Second, web...)
	c.announced(t, "web", metav1.ConditionFalse, "NoEligibleNode")
	c.OwnedBy(t, 5*time.Second, []string{c.Node(2)}, db...)
}

// noEndpoint: an address that nothing serves is announced, and the condition says that nothing serves it; or it is withdrawn, if
// its advertisement says so, until something serves it.
func noEndpoint(t *testing.T, c *cluster) {
	c.Pool(t, "kept", "[10.77.0.220, fd77::220]")
	c.Advertise(t, "kept")
	c.Create(t, serviceYAML("kept", dualStack))
	kept := c.Assigned(t, "kept", 2)
	c.announced(t, "kept", metav1.ConditionTrue, "Announced")
	c.Pool(t, "withdrawn", "[10.77.0.221, fd77::221]")
	c.Advertise(t, "withdrawn", "noEndpoints: Withdraw")
	c.Create(t, serviceYAML("withdrawn", dualStack))
	withdrawn := c.Assigned(t, "withdrawn", 2)
	c.announced(t, "withdrawn", metav1.ConditionTrue, "Announced")
	owners := c.Owners(t, append(kept, withdrawn...)...)

	must(t, c.SetPodReady(within(t, 10*time.Second), metav1.NamespaceDefault, "web-1", false))
	afterwards(t, func(ctx context.Context) error { return c.SetPodReady(ctx, metav1.NamespaceDefault, "web-1", true) })
	c.announced(t, "kept", metav1.ConditionTrue, "NoEndpoint")
	c.announced(t, "withdrawn", metav1.ConditionFalse, "NoEndpoint")
	c.Silent(t, 2*time.Second, withdrawn...)
	c.OwnedBy(t, time.Second, []string{owners[kept[0]]}, kept[0])
	c.OwnedBy(t, time.Second, []string{owners[kept[1]]}, kept[1])

	must(t, c.SetPodReady(within(t, 10*time.Second), metav1.NamespaceDefault, "web-1", true))
	c.announced(t, "kept", metav1.ConditionTrue, "Announced")
	c.announced(t, "withdrawn", metav1.ConditionTrue, "Announced")
	c.OwnedBy(t, 5*time.Second, c.Nodes(), withdrawn...)
}

// nothingLocal: with externalTrafficPolicy Local the owner is a node with an endpoint, of all that it might be; where two Services
// share an address, one with endpoints of both.
func nothingLocal(t *testing.T, c *cluster) {
	c.Pool(t, "local", "[10.77.0.230, fd77::230]")
	c.Advertise(t, "local", "nodeSelectors: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: ["+c.Node(1)+", "+c.Node(2)+"]}]}]")
	c.Create(t, serviceYAML("local", dualStack, "externalTrafficPolicy: Local"))
	ips := c.Assigned(t, "local", 2)
	c.announced(t, "local", metav1.ConditionFalse, "NoEligibleNode") // the one backend is on the third
	c.Silent(t, 0, ips...)
	c.RunWeb(t, c.Node(2), "web-2")
	c.OwnedBy(t, 5*time.Second, []string{c.Node(2)}, ips...)
	c.announced(t, "local", metav1.ConditionTrue, "Announced")
}
