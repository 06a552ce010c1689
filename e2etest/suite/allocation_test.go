package suite

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// TestAllocation is about who gets which address. It needs no nodes: statuses tell.
func TestAllocation(t *testing.T) {
	t.Parallel()
	c := install(t, lab.Options{Nodes: -1, Clients: -1})
	t.Run("a pool that is too small", func(t *testing.T) { smallPool(t, c) })
	t.Run("several pools, ranges and CIDRs", func(t *testing.T) { manyRanges(t, c) })
	t.Run("a pool without autoAssign", func(t *testing.T) { manualPool(t, c) })
	t.Run("families", func(t *testing.T) { families(t, c) })
	t.Run("PreferDualStack", func(t *testing.T) { preferDualStack(t, c) })
	t.Run("RequireDualStack", func(t *testing.T) { requireDualStack(t, c) })
	t.Run("pools that overlap", func(t *testing.T) { overlappingPools(t, c) })
	t.Run("pool edits move nothing", func(t *testing.T) { poolEdits(t, c) })
}

// smallPool: of three Services for two addresses the last waits, says why, and gets the first address that is free.
func smallPool(t *testing.T, c *cluster) {
	c.Pool(t, "small", "[10.10.0.1-10.10.0.2]")
	c.Create(t, serviceYAML("one"))
	first := c.Address(t, "one")
	c.Create(t, serviceYAML("two"))
	if second := c.Address(t, "two"); second == first {
		t.Fatalf("two Services have %s", first)
	}
	c.Create(t, serviceYAML("three"))
	s := c.Decided(t, "three", metav1.ConditionFalse, "PoolExhausted")
	message := conditionOf(s).Message
	if len(ingress(s)) > 0 || !strings.Contains(message, "small") {
		t.Errorf("the third has the addresses %v and the message %q, want none, and one that names the pool", ingress(s), message)
	}
	eventually(t, 5*time.Second, func() error {
		if events := c.Events(t, "three"); !slices.Contains(events, "Warning PoolExhausted: "+message) {
			return fmt.Errorf("the events are %q, want a warning like the condition: %s", events, message)
		}
		return nil
	})
	c.Delete(t, "Service", "one")
	if ip := c.Address(t, "three"); ip != first {
		t.Errorf("the third has %s, want %s, which is free", ip, first)
	}
}

// manyRanges is row T4 of the list in layer2/doc.go: every address of every kind of entry is used, pool by pool, and none twice.
func manyRanges(t *testing.T, c *cluster) {
	c.Pool(t, "a", "[10.11.0.7, 10.11.0.20-10.11.0.21, 10.11.0.30/31]")
	c.Pool(t, "b", "['10.11.1.255 - 10.11.2.0']")
	want := []string{"10.11.0.7", "10.11.0.20", "10.11.0.21", "10.11.0.30", "10.11.0.31", "10.11.1.255", "10.11.2.0"}
	for i := range want {
		c.Create(t, serviceYAML(fmt.Sprint("web-", i)))
	}
	var have []string
	for i := range want {
		have = append(have, c.Address(t, fmt.Sprint("web-", i)).String())
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("the addresses are %v, want %v", have, want)
	}
	c.Create(t, serviceYAML("web-8"))
	message := conditionOf(c.Decided(t, "web-8", metav1.ConditionFalse, "PoolExhausted")).Message
	if !strings.Contains(message, "pool a") || !strings.Contains(message, "pool b") {
		t.Errorf("the message %q does not name both pools", message)
	}
}

func manualPool(t *testing.T, c *cluster) {
	c.Create(t, poolYAML("manual", "[10.12.0.0/24]", false))
	c.Judged(t, "IPAddressPool", "manual", metav1.ConditionTrue, "InForce")
	c.Create(t, serviceYAML("web"))
	c.Decided(t, "web", metav1.ConditionFalse, "PoolNotAllowed")
	c.Pool(t, "other", "[10.12.1.1]")
	if ip := c.Address(t, "web"); ip.String() != "10.12.1.1" {
		t.Errorf("the address is %s, want that of the pool that gives addresses by itself", ip)
	}
	c.Create(t, serviceYAML("web-2"))
	c.Decided(t, "web-2", metav1.ConditionFalse, "PoolExhausted")
	c.Patch(t, "IPAddressPool", "manual", `{"spec":{"autoAssign":true}}`)
	c.Address(t, "web-2")
}

// families: a Service gets the families that its spec has, in that order, as virtual IPs.
func families(t *testing.T, c *cluster) {
	c.Pool(t, "both", "[10.13.0.0/28, 'fd13::/124']")
	for _, tc := range []struct {
		name, spec string
		want       []corev1.IPFamily
	}{
		{"four", "ipFamilies: [IPv4]", []corev1.IPFamily{corev1.IPv4Protocol}},
		{"six", onlyIPv6, []corev1.IPFamily{corev1.IPv6Protocol}},
		{"prefer", "ipFamilyPolicy: PreferDualStack", []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}},
		{"require", dualStack, []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}},
		{"six-four", "ipFamilies: [IPv6, IPv4]\n  " + dualStack, []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}},
		{"six-four-prefer", "ipFamilies: [IPv6, IPv4]\n  ipFamilyPolicy: PreferDualStack", []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c.Create(t, serviceYAML(tc.name, tc.spec))
			ips := c.Assigned(t, tc.name, len(tc.want))
			if have := familiesOf(ips); !slices.Equal(have, tc.want) {
				t.Errorf("the addresses are %v, want families %v", ips, tc.want)
			}
			s := c.Service(t, tc.name)
			if !slices.Equal(s.Spec.IPFamilies, tc.want) {
				t.Fatalf("the API server made the families %v, want %v", s.Spec.IPFamilies, tc.want)
			}
			for _, i := range s.Status.LoadBalancer.Ingress {
				if i.IPMode == nil || *i.IPMode != corev1.LoadBalancerIPModeVIP || i.Hostname != "" {
					t.Errorf("the ingress is %+v, want the mode VIP and no host name", i)
				}
			}
		})
	}
}

func familiesOf(ips []netip.Addr) (families []corev1.IPFamily) {
	for _, ip := range ips {
		families = append(families, map[bool]corev1.IPFamily{true: corev1.IPv4Protocol, false: corev1.IPv6Protocol}[ip.Is4()])
	}
	return families
}

// preferDualStack: one family is better than none; the other is added when it can be had, in its place.
func preferDualStack(t *testing.T, c *cluster) {
	c.Pool(t, "four", "[10.14.0.0/28]")
	c.Create(t, serviceYAML("web", "ipFamilyPolicy: PreferDualStack"))
	c.Create(t, serviceYAML("bew", "ipFamilyPolicy: PreferDualStack", "ipFamilies: [IPv6, IPv4]"))
	alone := map[string]netip.Addr{}
	for _, name := range []string{"web", "bew"} {
		s := c.Decided(t, name, metav1.ConditionTrue, "FamilyUnavailable")
		if ips := ingress(s); len(ips) != 1 || !ips[0].Is4() {
			t.Fatalf("Service %s has %v, want one IPv4 address", name, ips)
		}
		alone[name] = ingress(s)[0]
	}
	c.Pool(t, "six", "['fd14::/124']")
	if ips := c.Assigned(t, "web", 2); ips[0] != alone["web"] || !ips[1].Is6() {
		t.Errorf("web has %v, want %s and one of IPv6", ips, alone["web"])
	}
	if ips := c.Assigned(t, "bew", 2); ips[1] != alone["bew"] || !ips[0].Is6() {
		t.Errorf("bew has %v, want one of IPv6 and %s", ips, alone["bew"])
	}
}

// requireDualStack: nothing is better than one family, and nothing is held while the other is missing.
func requireDualStack(t *testing.T, c *cluster) {
	c.Pool(t, "four", "[10.15.0.1-10.15.0.2]")
	c.Create(t, serviceYAML("both", dualStack))
	s := c.Decided(t, "both", metav1.ConditionFalse, "FamilyUnavailable")
	if len(ingress(s)) > 0 {
		t.Fatalf("the Service has %v, want nothing while there is no IPv6", ingress(s))
	}
	c.Create(t, serviceYAML("four-1"))
	c.Create(t, serviceYAML("four-2"))
	c.Address(t, "four-1")
	c.Address(t, "four-2")
	c.Pool(t, "six", "['fd15::1']")
	s = c.Decided(t, "both", metav1.ConditionFalse, "PoolExhausted")
	if len(ingress(s)) > 0 {
		t.Fatalf("the Service has %v, want nothing while there is no free IPv4", ingress(s))
	}
	c.Delete(t, "Service", "four-1")
	c.Assigned(t, "both", 2)
}

// overlappingPools: the younger of two that overlap is not used and says why; it comes in force when it can.
func overlappingPools(t *testing.T, c *cluster) {
	c.Pool(t, "zulu", "[10.16.0.8-10.16.0.14]")
	c.nextSecond(t)
	c.Create(t, poolYAML("alpha", "[10.16.0.1-10.16.0.2, 10.16.0.12/30]", true))
	message := c.Judged(t, "IPAddressPool", "alpha", metav1.ConditionFalse, "Overlap")
	t.Log(message)
	for _, part := range []string{"zulu", "spec.addresses[1]", "10.16.0.12", "10.16.0.8-10.16.0.14"} {
		if !strings.Contains(message, part) {
			t.Errorf("the message %q of pool alpha does not have %q", message, part)
		}
	}
	c.Judged(t, "IPAddressPool", "zulu", metav1.ConditionTrue, "InForce")
	c.Create(t, serviceYAML("web"))
	ip := c.Address(t, "web")
	if ip.Less(netip.MustParseAddr("10.16.0.8")) {
		t.Errorf("the Service has %s, which is not of pool zulu", ip)
	}
	c.Patch(t, "IPAddressPool", "zulu", `{"spec":{"addresses":["10.16.0.8-10.16.0.11"]}}`)
	c.Judged(t, "IPAddressPool", "alpha", metav1.ConditionTrue, "InForce")
	// An edit that brings the overlap back puts one of the two out of force, whichever.
	c.Patch(t, "IPAddressPool", "zulu", `{"spec":{"addresses":["10.16.0.8-10.16.0.14"]}}`)
	eventually(t, 10*time.Second, func() error { return c.oneReady(t, "zulu", "alpha") })

	c.Delete(t, "Service", "web")
	c.Delete(t, "IPAddressPool", "zulu")
	c.Judged(t, "IPAddressPool", "alpha", metav1.ConditionTrue, "InForce")
	c.Create(t, serviceYAML("late"))
	if ip := c.Address(t, "late"); ip.String() != "10.16.0.1" {
		t.Errorf("the Service has %s, want 10.16.0.1 of pool alpha", ip)
	}
}

// oneReady is an error unless one of two pools is in force and the other is not, for they overlap.
func (c *cluster) oneReady(t *testing.T, a, b string) error {
	t.Helper()
	first, err := c.Judgement(t, "IPAddressPool", a)
	if err != nil {
		return err
	}
	second, err := c.Judgement(t, "IPAddressPool", b)
	if err != nil {
		return err
	}
	if first.Status == second.Status || (first.Reason != "Overlap" && second.Reason != "Overlap") {
		return fmt.Errorf("pool %s has Ready %v, pool %s %v, want one of them out of force for Overlap", a, first, b, second)
	}
	return nil
}

// nextSecond waits until what is created now has another creation time, which has a resolution of a second.
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

// poolEdits: a Service keeps its address when its pool shrinks below it or gives no addresses by itself any more, and says
// so; the address is free again only when the Service goes.
func poolEdits(t *testing.T, c *cluster) {
	c.Pool(t, "edited", "[10.17.0.1-10.17.0.2]")
	c.Create(t, serviceYAML("web"))
	ip := c.Address(t, "web")
	c.Patch(t, "IPAddressPool", "edited", `{"spec":{"addresses":["10.17.0.2"]}}`)
	if s := c.Decided(t, "web", metav1.ConditionTrue, "OutsidePool"); !slices.Equal(ingress(s), []netip.Addr{ip}) {
		t.Fatalf("the Service has %v, want %s as before", ingress(s), ip)
	}
	c.Create(t, serviceYAML("next"))
	if next := c.Address(t, "next"); next.String() != "10.17.0.2" {
		t.Errorf("the next Service has %s, want 10.17.0.2", next)
	}
	c.Patch(t, "IPAddressPool", "edited", `{"spec":{"addresses":["10.17.0.0/24"]}}`)
	if now := c.Address(t, "web"); now != ip {
		t.Errorf("the Service has %s, want %s as before", now, ip)
	}
}
