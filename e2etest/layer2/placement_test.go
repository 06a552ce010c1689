package layer2

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// TestPlacement is about which of the nodes that may announce an address does.
func TestPlacement(t *testing.T) {
	c := serve(t, lab.Options{Nodes: 3, Clients: 3})
	c.RunWeb(t, c.Node(3), "web-1")
	t.Run("thirty Services", func(t *testing.T) { evenly(t, c) })
	t.Run("a shared address", func(t *testing.T) { sharedAddress(t, c) })
	t.Run("moved by hand", func(t *testing.T) { movedByHand(t, c) })
	t.Run("preferred nodes", func(t *testing.T) { preferred(t, c) })
	t.Run("preferences add up", func(t *testing.T) { addUp(t, c) })
	t.Run("rebalance now", func(t *testing.T) { rebalanceNow(t, c) })
}

// evenly is W-08: no node owns more than 1.25 times the mean, rounded up, and nothing is without an owner.
func evenly(t *testing.T, c *cluster) {
	const services = 30
	c.Pool(t, "thirty", "[10.77.0.200-10.77.0.229, fd77::200-fd77::21d]")
	c.Advertise(t, "thirty")
	ips := c.Services(t, "thirty", services)
	share := map[string]int{}
	for _, owner := range c.Owners(t, ips...) {
		share[owner]++
	}
	t.Logf("addresses by owner: %v", share)
	c.withinBound(t, share)
	if total, byNode := c.owned(t); total != len(ips) || fmt.Sprint(byNode) != fmt.Sprint(share) {
		t.Errorf("by the metrics the nodes own %v, on the LAN they answer for %v", byNode, share)
	}
}

// withinBound checks that no node owns more than 1.25 times the mean, rounded up.
func (c *cluster) withinBound(t *testing.T, share map[string]int) {
	t.Helper()
	total, nodes := 0, len(c.Nodes())
	for _, n := range share {
		total += n
	}
	limit := (5*total + 4*nodes - 1) / (4 * nodes)
	for _, node := range c.Nodes() {
		if share[node] > limit {
			t.Errorf("of %d addresses %s owns %d, more than %d: %v", total, node, share[node], limit, share)
		}
	}
}

// sharedAddress is row T5 and W-17: an address has one owner, however many Services have it, with whatever other addresses, and
// wherever their endpoints are.
func sharedAddress(t *testing.T, c *cluster) {
	c.Pool(t, "shared", "[10.77.0.230-10.77.0.233, fd77::230-fd77::233]")
	c.Advertise(t, "shared")
	must(t, c.RunPod(within(t, 20*time.Second), c.Node(1), "tcp-1", map[string]string{"app": "tcp"}))
	must(t, c.RunPod(within(t, 20*time.Second), c.Node(2), "udp-1", map[string]string{"app": "udp"}))
	for i := range 4 {
		both, six := fmt.Sprint("both-", i), fmt.Sprint("six-", i)
		c.Create(t, sharing(both, i, "tcp", "{name: http, port: 80}", dualStack))
		ips := c.Assigned(t, both, 2)
		c.Create(t, sharing(six, i, "udp", "{name: echo, port: 7, protocol: UDP}", onlyIPv6))
		if have := c.Address(t, six); have != ips[1] {
			t.Fatalf("%s has %s, want %s of %s", six, have, ips[1], both)
		}
		owners := c.Owners(t, ips...)
		first, second := c.reported(t, both, ips...), c.reported(t, six, ips[1])
		a, _ := first.of(ips[1])
		b, _ := second.of(ips[1])
		if a.Node != owners[ips[1]] || b.Node != a.Node {
			t.Errorf("%s is owned by %s; %s says %s, %s says %s", ips[1], owners[ips[1]], both, a.Node, six, b.Node)
		}
		for _, ip := range ips {
			if reply := c.Fetch(t, "c1", ip); reply.Pod != "tcp-1" {
				t.Errorf("%s is answered by %+v", ip, reply)
			}
		}
		if reply, err := c.UDPEcho("c1", netip.AddrPortFrom(ips[1], lab.EchoPort), time.Second); err != nil || reply.Pod != "udp-1" {
			t.Errorf("echo of %s: %+v, %v", ips[1], reply, err)
		}
	}
}

// sharing is a Service that shares its addresses with those of the same number.
func sharing(name string, number int, app, port, families string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: %s, annotations: {lanyard.dev/sharing-key: "%d"}}
spec:
  type: LoadBalancer
  selector: {app: %s}
  ports: [%s]
  %s
`, name, number, app, port, families)
}

// movedByHand: the annotation hands the addresses of a Service over to the node that it names, without a loss; they stay there
// when it is taken away, and stay where they are if the node cannot have them.
func movedByHand(t *testing.T, c *cluster) {
	c.Pool(t, "moved", "[10.77.0.240, fd77::240]")
	c.Advertise(t, "moved", "nodeSelectors: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: ["+c.Node(1)+", "+c.Node(2)+"]}]}]")
	c.Create(t, serviceYAML("moved", dualStack))
	ips := c.Assigned(t, "moved", 2)
	c.Owners(t, ips...)
	end := c.lossless(t, "moved by hand", ips...)
	for _, node := range []string{c.Node(1), c.Node(2), c.Node(1)} {
		c.moveTo(t, "moved", fmt.Sprintf("%q", node))
		c.OwnedBy(t, 5*time.Second, []string{node}, ips...)
	}
	end()
	c.moveTo(t, "moved", fmt.Sprintf("%q", c.Node(3))) // which no advertisement allows
	c.staysPut(t, 2*time.Second, map[netip.Addr]string{ips[0]: c.Node(1), ips[1]: c.Node(1)})
	c.moveTo(t, "moved", "null")
	c.staysPut(t, 2*time.Second, map[netip.Addr]string{ips[0]: c.Node(1), ips[1]: c.Node(1)})
}

func (c *cluster) moveTo(t *testing.T, name, node string) {
	t.Helper()
	c.Patch(t, "Service", name, `{"metadata":{"annotations":{"lanyard.dev/move-to":`+node+`}}}`)
}

const preferNear = "preferredNodeSelectors: [{weight: 10, preference: {matchLabels: {place: near}}}]"

// preferred is row T11: new addresses go to the preferred node, and elsewhere only if it cannot have them. What is elsewhere
// stays there for the time being. A preference that no node meets is none.
func preferred(t *testing.T, c *cluster) {
	c.Label(t, c.Node(2), "place", "near")
	c.Pool(t, "near", "[10.77.0.200-10.77.0.202, fd77::200-fd77::202]")
	c.Advertise(t, "near", preferNear)
	ips := c.Services(t, "near", 3)
	c.OwnedBy(t, 10*time.Second, []string{c.Node(2)}, ips...)

	c.stop(t, c.Node(2))
	c.OwnedBy(t, 5*time.Second, c.Others(c.Node(2)), ips...)
	owners := c.Owners(t, ips...)
	must(t, c.Speaker(c.Node(2)).Restart())
	c.AllTogether(t)
	c.staysPut(t, 3*time.Second, owners)

	c.Pool(t, "nowhere", "[10.77.0.203, fd77::203]")
	c.Advertise(t, "nowhere", "preferredNodeSelectors: [{weight: 100, preference: {matchLabels: {place: nowhere}}}]")
	c.OwnedBy(t, 10*time.Second, c.Nodes(), c.Services(t, "nowhere", 1)...)
}

// addUp: the weights of all preferences that a node meets add up, over advertisements too; what limits is stronger than what
// prefers; and a preference is for the Services of its advertisement.
func addUp(t *testing.T, c *cluster) {
	c.Label(t, c.Node(1), "place", "near")
	c.Label(t, c.Node(1), "disk", "fast")
	c.Label(t, c.Node(2), "place", "near")
	c.Label(t, c.Node(3), "size", "big")
	c.Pool(t, "sum", "[10.77.0.204-10.77.0.209, fd77::204-fd77::209]")
	const weighed = "{weight: 30, preference: {matchLabels: {place: near}}}, {weight: 50, preference: {matchLabels: {size: big}}}"
	c.Advertise(t, "sum", "preferredNodeSelectors: ["+weighed+"]")
	c.Create(t, advertisementYAML("sum-fast", "ipAddressPools: [sum]", "serviceSelectors: [{matchLabels: {disk: fast}}]",
		"preferredNodeSelectors: [{weight: 30, preference: {matchLabels: {disk: fast}}}]"))
	c.Create(t, serviceYAML("plain", dualStack))
	c.OwnedBy(t, 10*time.Second, []string{c.Node(3)}, c.Assigned(t, "plain", 2)...) // 50 of the third over 30 of the others
	c.Create(t, serviceYAML(labelled("fast", "disk", "fast"), dualStack))
	c.OwnedBy(t, 10*time.Second, []string{c.Node(1)}, c.Assigned(t, "fast", 2)...) // 60 of the first over 50 of the third

	c.Pool(t, "hard", "[10.77.0.210, fd77::210]")
	c.Advertise(t, "hard", "nodeSelectors: [{matchLabels: {kubernetes.io/hostname: "+c.Node(2)+"}}]", "preferredNodeSelectors: ["+weighed+"]")
	c.OwnedBy(t, 10*time.Second, []string{c.Node(2)}, c.Services(t, "hard", 1)...)
}

// rebalanceNow: with --rebalance=now what is not where it should be goes there at once, one at a time and without a loss: to
// a preferred node that is back, to one that is preferred now, and to a node that owns nothing.
func rebalanceNow(t *testing.T, c *cluster) {
	c.StartSpeakers(t, "--rebalance=now")
	c.Label(t, c.Node(2), "place", "near")
	c.Pool(t, "near", "[10.77.0.211-10.77.0.213, fd77::211-fd77::213]")
	c.Advertise(t, "near", preferNear)
	ips := c.Services(t, "near", 3)
	c.OwnedBy(t, 10*time.Second, []string{c.Node(2)}, ips...)
	c.stop(t, c.Node(2))
	c.OwnedBy(t, 5*time.Second, c.Others(c.Node(2)), ips...)
	c.gradually(t, ips, []string{c.Node(2)}, func() { must(t, c.Speaker(c.Node(2)).Restart()) })
	c.gradually(t, ips, []string{c.Node(1)}, func() {
		c.Label(t, c.Node(1), "place", "near")
		c.Unlabel(t, c.Node(2), "place")
	})
	c.Patch(t, "L2Advertisement", "near", `{"spec":{"preferredNodeSelectors":null}}`)
	eventually(t, 20*time.Second, func() error {
		owners, err := c.OwnersNow(ips...)
		for _, node := range c.Nodes() {
			if n := countOf(owners, node); err == nil && n > 3 { // 1.25 times the mean of 2, rounded up
				err = fmt.Errorf("%s still owns %d of %d addresses", node, n, len(ips))
			}
		}
		return err
	})
}

func countOf(owners map[netip.Addr]string, node string) (n int) {
	for _, owner := range owners {
		if owner == node {
			n++
		}
	}
	return n
}

// gradually checks that addresses move to one of the nodes by a change, one after the other, each announced there before it is
// given up, and none unanswered for.
func (c *cluster) gradually(t *testing.T, ips []netip.Addr, to []string, change func()) {
	t.Helper()
	flooded := c.flood(t)
	flooded.quiet(t, ips...)
	end, begun := c.lossless(t, fmt.Sprint("moved to ", to), ips...), time.Now()
	change()
	c.OwnedBy(t, 30*time.Second, to, ips...)
	end()
	var moved []time.Time
	for _, ip := range ips {
		if frames := flooded.announcements(ip, begun, to[0]); len(frames) > 0 {
			moved = append(moved, frames[0].Time)
		}
	}
	slices.SortFunc(moved, time.Time.Compare)
	if len(moved) != len(ips) {
		t.Errorf("of %d addresses %d were announced by %v", len(ips), len(moved), to)
	}
	for i := 1; i < len(moved); i++ {
		if apart := moved[i].Sub(moved[i-1]); apart < 5*time.Millisecond {
			t.Errorf("two addresses moved within %v, want one at a time: %v", apart, moved)
		}
	}
	for _, name := range []string{"near-0", "near-1", "near-2"} {
		c.announced(t, name, metav1.ConditionTrue, "Announced")
	}
}
