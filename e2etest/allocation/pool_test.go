package allocation

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// unexpected is a finding that is not what was wanted.
type unexpected struct {
	what, have, want string
	cause            error
}

func (u *unexpected) Error() string {
	return fmt.Sprintf("%s: have %q, want %q (%v)", u.what, u.have, u.want, u.cause)
}

// retain: a deleted Service's address is kept for its name for a while, then free for those who wait.
func retain(t *testing.T, c *cluster) {
	c.pool(t, "kept", "addresses: [10.52.0.1], retain: 10s")
	c.service(t, "web")
	c.expect(t, "web", "10.52.0.1 True Assigned")
	c.delete(t, "Service", "web")
	c.service(t, "other")
	c.expect(t, "other", "False PoolExhausted")
	c.service(t, "thief", addresses("10.52.0.1"))
	c.says(t, "thief", "AddressInUse", "kept for default/web until")
	c.delete(t, "Service", "thief")
	c.service(t, "web")
	c.expect(t, "web", "10.52.0.1 True Assigned")
	c.keeps(t, "other", "False PoolExhausted")
	c.delete(t, "Service", "web")
	deleted := time.Now()
	c.expect(t, "other", "10.52.0.1 True Assigned")
	if after := time.Since(deleted); after < 5*time.Second {
		t.Errorf("the address was free after %v, want 10 s", after)
	}
}

// leastRecentlyUsed: what was never used first, then what has been free for the longest time, also over a restart.
func leastRecentlyUsed(t *testing.T, c *cluster) {
	c.pool(t, "rest", "addresses: [10.53.0.1-10.53.0.3], strategy: LeastRecentlyUsed")
	next := func(name, ip string) {
		t.Helper()
		c.service(t, name)
		c.expect(t, name, ip+" True Assigned")
	}
	next("a", "10.53.0.1")
	c.delete(t, "Service", "a")
	next("b", "10.53.0.2")
	next("c", "10.53.0.3")
	next("d", "10.53.0.1")
	c.delete(t, "Service", "c")
	c.nextSecond(t)
	c.delete(t, "Service", "b")
	c.stop(t)
	c.start(t)
	next("e", "10.53.0.3")
	next("f", "10.53.0.2")
}

// nextSecond waits until what happens now has another time, of a resolution of a second.
func (c *cluster) nextSecond(t *testing.T) {
	t.Helper()
	begun := time.Now().Unix()
	eventually(t, 2*time.Second, func() error {
		if time.Now().Unix() == begun {
			return errors.New("it is the same second")
		}
		return nil
	})
}

// quota: so many addresses of the pool for a namespace, both families together; another namespace has its own.
func quota(t *testing.T, c *cluster) {
	c.pool(t, "limited", "addresses: [10.54.0.1-10.54.0.9, 'fd54::/124'], limits: {addressesPerNamespace: 2}")
	c.service(t, "blue/a", require())
	c.expect(t, "blue/a", "10.54.0.1 fd54:: True Assigned")
	c.service(t, "blue/b")
	c.expect(t, "blue/b", "False QuotaExceeded")
	c.says(t, "blue/b", "QuotaExceeded", "namespace blue", "(2)")
	c.service(t, "green/a")
	c.expect(t, "green/a", "10.54.0.2 True Assigned")
	c.service(t, "green/b", require())
	c.expect(t, "green/b", "False QuotaExceeded")
	c.edit(t, "blue/a", singleStack(four))
	c.expect(t, "blue/b", "10.54.0.3 True Assigned")
	c.patch(t, "IPAddressPool", "limited", `{"spec":{"limits":{"addressesPerNamespace":1}}}`)
	c.keeps(t, "blue/a", "10.54.0.1 True Assigned")
	c.patch(t, "IPAddressPool", "limited", `{"spec":{"limits":null}}`)
	c.expect(t, "green/b", "10.54.0.4 fd54:: True Assigned")
}

func paused(t *testing.T, c *cluster) {
	c.pool(t, "p", "addresses: [10.55.0.1-10.55.0.9]")
	c.service(t, "a")
	c.expect(t, "a", "10.55.0.1 True Assigned")
	c.patch(t, "IPAddressPool", "p", `{"spec":{"paused":true}}`)
	c.service(t, "b")
	c.expect(t, "b", "False PoolPaused")
	c.service(t, "c", addresses("10.55.0.5"))
	c.expect(t, "c", "False PoolPaused")
	c.keeps(t, "a", "10.55.0.1 True Assigned")
	c.patch(t, "IPAddressPool", "p", `{"spec":{"paused":false}}`)
	c.expect(t, "b", "10.55.0.2 True Assigned")
	c.expect(t, "c", "10.55.0.5 True Assigned")
}

// leftOut: what is excluded, buggy, or something else on the LAN or in the cluster is never handed out, and told.
func leftOut(t *testing.T, c *cluster) {
	node := c.Node(1)
	own := c.Host(node).Addr4().String()
	c.pool(t, "lan", "addresses: [10.77.0.240-10.77.0.244, "+own+"], excludedAddresses: [10.77.0.242, 10.77.0.244-10.77.0.250]")
	c.expectAll(t, "lan", "10.77.0.240", "10.77.0.241", "10.77.0.243")
	c.leavesOut(t, "lan", own+" (an address of node "+node+")")
	c.pool(t, "subnet", "addresses: [10.56.0.0/29, 'fd56::/126'], subnets: [10.56.0.0/29, 'fd56::/64']")
	c.expectAll(t, "subnet", "10.56.0.1", "10.56.0.2", "10.56.0.3", "10.56.0.4", "10.56.0.5", "10.56.0.6")
	c.leavesOut(t, "subnet", "10.56.0.0 (the network address of 10.56.0.0/29)", "10.56.0.7 (the broadcast address",
		"fd56:: (the Subnet-Router anycast address of fd56::/64)")
	c.pool(t, "buggy", "addresses: [10.56.1.255-10.56.2.1], avoidBuggyIPs: true")
	c.expectAll(t, "buggy", "10.56.2.1")
	cidr := c.podCIDR(t, node)
	c.pool(t, "cluster", "addresses: [10.95.255.255-10.96.0.1, "+cidr.String()+"]")
	c.expectAll(t, "cluster", "10.95.255.255")
	c.leavesOut(t, "cluster", "10.96.0.0/31 (in the Service CIDR 10.96.0.0/16)", cidr.String()+" (in the pod CIDR of node "+node+")")
	c.pool(t, "whole", "addresses: [10.56.9.1]")
	c.judged(t, "IPAddressPool", "whole", "AddressesLeftOut", "False None")
}

// podCIDR is where a node's pods have their IPv4 addresses.
func (c *cluster) podCIDR(t *testing.T, node string) netip.Prefix {
	t.Helper()
	n, err := c.Client().CoreV1().Nodes().Get(within(t, 10*time.Second), node, metav1.GetOptions{})
	must(t, err)
	return netip.MustParsePrefix(n.Spec.PodCIDRs[0])
}

// expectAll sees to it that a pool gives these addresses and, if it says that it has no more, no other.
func (c *cluster) expectAll(t *testing.T, pool string, ips ...string) {
	t.Helper()
	t.Run(pool, func(t *testing.T) {
		var given []string
		for i := range ips {
			name := fmt.Sprint("s", i)
			c.service(t, name, fromPool(pool))
			eventually(t, patience, func() error {
				list := ingress(c.read(t, name))
				if len(list) != 1 {
					return fmt.Errorf("%s has %v", name, list)
				}
				given = append(given, list[0])
				return nil
			})
		}
		slices.Sort(given)
		if !slices.Equal(given, ips) {
			t.Errorf("pool %s gave %v, want %v", pool, given, ips)
		}
		var have poolCounts
		must(t, c.get(t, "IPAddressPool", pool, &have))
		if have.Status.IPv4.Total == fmt.Sprint(len(ips)) {
			c.service(t, "over", fromPool(pool))
			c.expect(t, "over", "False PoolExhausted")
		}
	})
}

func (c *cluster) leavesOut(t *testing.T, pool string, words ...string) {
	t.Helper()
	message := c.judged(t, "IPAddressPool", pool, "AddressesLeftOut", "True InUseOtherwise")
	for _, w := range words {
		if !strings.Contains(message, w) {
			t.Errorf("pool %s: the message %q does not have %q", pool, message, w)
		}
	}
}

// shrinking: the holders keep what falls out of the pool until their owner or the pool says otherwise.
func shrinking(t *testing.T, c *cluster) {
	c.pool(t, "s", "addresses: [10.57.0.1-10.57.0.4]")
	for _, s := range [][2]string{{"a", "10.57.0.1"}, {"b", "10.57.0.2"}, {"c", "10.57.0.3"}} {
		c.service(t, s[0], addresses(""))
		c.expect(t, s[0], s[1]+" True Assigned")
	}
	c.patch(t, "IPAddressPool", "s", `{"spec":{"addresses":["10.57.0.3-10.57.0.4"]}}`)
	c.expect(t, "a", "10.57.0.1 True OutsidePool")
	c.expect(t, "b", "10.57.0.2 True OutsidePool")
	c.keeps(t, "c", "10.57.0.3 True Assigned")
	c.edit(t, "a", annotation("lanyard.dev/reassign", "true"))
	c.expect(t, "a", "10.57.0.4 True Assigned")
	c.edit(t, "b", annotation("lanyard.dev/reassign", "true"))
	c.expect(t, "b", "10.57.0.2 True PoolExhausted") // until one can be had
	c.delete(t, "Service", "a")
	c.expect(t, "b", "10.57.0.4 True Assigned")

	c.pool(t, "m", "addresses: [10.57.1.1-10.57.1.4], onShrink: Reassign, autoAssign: false")
	c.service(t, "d", fromPool("m"))
	c.expect(t, "d", "10.57.1.1 True Assigned")
	c.patch(t, "IPAddressPool", "m", `{"spec":{"addresses":["10.57.1.3-10.57.1.4"]}}`)
	c.expect(t, "d", "10.57.1.3 True Assigned")

	// Said afterwards.
	c.pool(t, "afterwards", "addresses: [10.57.2.1-10.57.2.4], autoAssign: false")
	c.service(t, "e", fromPool("afterwards"))
	c.expect(t, "e", "10.57.2.1 True Assigned")
	c.patch(t, "IPAddressPool", "afterwards", `{"spec":{"addresses":["10.57.2.3-10.57.2.4"]}}`)
	c.expect(t, "e", "10.57.2.1 True OutsidePool")
	c.patch(t, "IPAddressPool", "afterwards", `{"spec":{"onShrink":"Reassign"}}`)
	c.expect(t, "e", "10.57.2.3 True Assigned")

	// Shrunk while nobody looks.
	c.stop(t)
	c.patch(t, "IPAddressPool", "m", `{"spec":{"addresses":["10.57.1.4"]}}`)
	c.start(t)
	c.expect(t, "d", "10.57.1.4 True Assigned")
}

// overlap: of two pools that have addresses in common both say so, to people too, until they have none.
func overlap(t *testing.T, c *cluster) {
	c.pool(t, "older", "addresses: [10.58.0.0/28]")
	c.judged(t, "IPAddressPool", "older", "Conflict", "False None")
	c.apply(t, poolYAML("younger", "addresses: [10.58.0.8-10.58.0.31]"))
	c.judged(t, "IPAddressPool", "younger", "Ready", "False Overlap")
	for _, pool := range []string{"older", "younger"} {
		c.judged(t, "IPAddressPool", pool, "Conflict", "True Overlap")
		out, err := c.Kubectl(within(t, 20*time.Second), "describe", "ippool", pool)
		must(t, err)
		for _, words := range []string{"Conflict", "10.58.0.8-10.58.0.31 of pool younger overlaps 10.58.0.0/28 of pool older"} {
			if !strings.Contains(out, words) {
				t.Errorf("kubectl describe ippool %s does not say %q:\n%s", pool, words, out)
			}
		}
	}
	c.service(t, "a", addresses("10.58.0.8"))
	c.expect(t, "a", "10.58.0.8 True Assigned")
	c.service(t, "b", addresses("10.58.0.16"))
	c.expect(t, "b", "False AddressNotInPool")

	c.patch(t, "IPAddressPool", "younger", `{"spec":{"addresses":["10.58.0.16-10.58.0.31"]}}`)
	c.judged(t, "IPAddressPool", "younger", "Ready", "True InForce")
	for _, pool := range []string{"older", "younger"} {
		c.judged(t, "IPAddressPool", pool, "Conflict", "False None")
	}
	c.expect(t, "b", "10.58.0.16 True Assigned")
}

// quarantine: what speakers report of strangers in a pool's status is not handed out, and counted. Who holds one by chance,
// before it was in use, gets another; who asked for it, or used it when the stranger came, does not.
func quarantine(t *testing.T, c *cluster) {
	c.pool(t, "q", "addresses: [10.59.0.1-10.59.0.9]")
	c.service(t, "chance")
	c.expect(t, "chance", "10.59.0.1 True Assigned")
	c.service(t, "named", addresses("10.59.0.2"))
	c.expect(t, "named", "10.59.0.2 True Assigned")
	c.service(t, "used")
	c.expect(t, "used", "10.59.0.3 True Assigned")
	report := func(entries ...string) {
		t.Helper()
		c.patch(t, "IPAddressPool", "q", `{"status":{"quarantined":[`+strings.Join(entries, ",")+`]}}`, "status")
	}
	stranger := func(ip string, held bool) string {
		now := time.Now().UTC().Format(time.RFC3339)
		return fmt.Sprintf(`{"address":%q,"mac":"02:00:00:00:00:99","interface":"eth0","node":"one","since":%q,"checked":%q,"held":%v}`, ip, now, now, held)
	}
	report(stranger("10.59.0.1", false), stranger("10.59.0.2", false), stranger("10.59.0.3", true), stranger("10.59.0.4", false))
	c.expect(t, "chance", "10.59.0.5 True Assigned")
	c.says(t, "named", "Assigned", "10.59.0.2", "a stranger on the LAN uses", "02:00:00:00:00:99")
	c.says(t, "used", "Assigned", "10.59.0.3", "a stranger on the LAN uses")
	c.told(t, "chance", "Assigned=2 Quarantined=1")
	eventually(t, patience, func() error {
		var have poolCounts
		must(t, c.get(t, "IPAddressPool", "q", &have))
		if have.Status.IPv4 != (counts{"9", "3", "4", "2"}) {
			return fmt.Errorf("the pool counts %+v", have.Status.IPv4)
		}
		return nil
	})
	c.service(t, "wants", addresses("10.59.0.4"))
	c.says(t, "wants", "Quarantined", "10.59.0.4", "02:00:00:00:00:99")
	c.stop(t)
	c.start(t)
	c.keeps(t, "wants", "False Quarantined")
	report()
	c.expect(t, "wants", "10.59.0.4 True Assigned")
	c.says(t, "named", "Assigned", "10.59.0.2 from pool q")
	c.keeps(t, "chance", "10.59.0.5 True Assigned")
}
