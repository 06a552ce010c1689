package config

import (
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/ipam"
	"github.com/lanyard-lb/lanyard/internal/iprange"
)

func ptr[T any](v T) *T { return &v }

func edited(p v1beta1.IPAddressPool, edit func(*v1beta1.IPAddressPoolSpec)) v1beta1.IPAddressPool {
	edit(&p.Spec)
	return p
}

// one parses the only pool of the objects and wants no fault.
func one(t *testing.T, o Objects) ipam.Pool {
	t.Helper()
	s, faults := Parse(o)
	if len(s.Pools) != 1 || len(faults) > 0 {
		t.Fatalf("%d pools, faults %v", len(s.Pools), faults)
	}
	return s.Pools[0]
}

func text(ranges []iprange.Range) string {
	words := make([]string, len(ranges))
	for i, r := range ranges {
		words[i] = r.String()
	}
	return strings.Join(words, " ")
}

func TestPoolFields(t *testing.T) {
	plain := one(t, Objects{Pools: []v1beta1.IPAddressPool{pool("lan", 0, "10.0.0.0/24")}})
	if !plain.AutoAssign || plain.Priority != math.MaxInt || plain.Audience.Namespaces != nil || plain.Audience.Services != nil ||
		plain.AvoidBuggy || plain.Paused || plain.Closing || plain.Rest || plain.PerNamespace != 0 || plain.Reassign || plain.Retain != 0 {
		t.Errorf("the defaults are wrong: %+v", plain)
	}
	full := edited(pool("lan", 0, "10.0.0.0/24"), func(s *v1beta1.IPAddressPoolSpec) {
		s.AvoidBuggyIPs, s.Paused, s.Strategy, s.OnShrink = true, true, v1beta1.LeastRecentlyUsed, v1beta1.ShrinkReassign
		s.ServiceAllocation = &v1beta1.ServiceAllocation{Priority: ptr[int32](7)}
		s.Limits = &v1beta1.PoolLimits{AddressesPerNamespace: ptr[int32](3)}
		s.Retain = &metav1.Duration{Duration: time.Hour}
	})
	full.DeletionTimestamp = &metav1.Time{}
	got := one(t, Objects{Pools: []v1beta1.IPAddressPool{full}})
	if !got.AvoidBuggy || got.Priority != 7 || !got.Paused || !got.Closing || !got.Rest || got.PerNamespace != 3 || !got.Reassign || got.Retain != time.Hour {
		t.Errorf("a field is lost: %+v", got)
	}
	if got.Audience.Namespaces != nil || got.Audience.Services != nil {
		t.Errorf("a priority alone must shut nobody out: %+v", got.Audience)
	}
}

func TestPoolsAreInOrderOfPriority(t *testing.T) {
	prioritized := func(name string, third byte, n *int32) v1beta1.IPAddressPool {
		return edited(pool(name, 0, v1beta1.AddressRange(fmt.Sprintf("10.0.%d.0/24", third))), func(s *v1beta1.IPAddressPoolSpec) {
			s.ServiceAllocation = &v1beta1.ServiceAllocation{Priority: n}
		})
	}
	s, _ := Parse(Objects{Pools: []v1beta1.IPAddressPool{pool("b", 0, "10.0.0.0/24"), prioritized("a-zero", 1, ptr[int32](0)),
		prioritized("z-first", 2, ptr[int32](1)), prioritized("c-none", 3, nil), prioritized("y-tenth", 4, ptr[int32](10))}})
	var names []string
	for _, p := range s.Pools {
		names = append(names, p.Name)
	}
	if got := strings.Join(names, " "); got != "z-first y-tenth a-zero b c-none" {
		t.Error(got)
	}
}

func TestAudience(t *testing.T) {
	namespace := func(name string) corev1.Namespace {
		return corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"name": name}}}
	}
	for _, tc := range []struct {
		name       string
		allocation v1beta1.ServiceAllocation
		namespaces string // "all", or those that are let in
		services   int    // selectors
	}{
		{name: "nothing said is everybody", namespaces: "all"},
		{name: "by name, also before the namespace exists", allocation: v1beta1.ServiceAllocation{Namespaces: []string{"red", "later"}}, namespaces: "later red"},
		{name: "by selector", allocation: v1beta1.ServiceAllocation{NamespaceSelectors: named("red")}, namespaces: "red"},
		{name: "a union", allocation: v1beta1.ServiceAllocation{Namespaces: []string{"blue"}, NamespaceSelectors: named("red")}, namespaces: "blue red"},
		{name: "no match is nobody", allocation: v1beta1.ServiceAllocation{NamespaceSelectors: named("none")}, namespaces: ""},
		{name: "the empty selector is every namespace", allocation: v1beta1.ServiceAllocation{NamespaceSelectors: []metav1.LabelSelector{{}}}, namespaces: "blue red"},
		{name: "Services by label", allocation: v1beta1.ServiceAllocation{ServiceSelectors: append(named("x"), named("y")...)}, namespaces: "all", services: 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := edited(pool("lan", 0, "10.0.0.0/24"), func(s *v1beta1.IPAddressPoolSpec) { s.ServiceAllocation = &tc.allocation })
			got := one(t, Objects{Pools: []v1beta1.IPAddressPool{p}, Namespaces: []corev1.Namespace{namespace("red"), namespace("blue")}}).Audience
			names := strings.Join(slices.Sorted(maps.Keys(got.Namespaces)), " ")
			if got.Namespaces == nil {
				names = "all"
			}
			if names != tc.namespaces || len(got.Services) != tc.services {
				t.Errorf("namespaces %q and %d selectors, want %q and %d", names, len(got.Services), tc.namespaces, tc.services)
			}
			if tc.services > 0 && (!got.Services[0].Matches(map[string]string{"name": "x"}) || got.Services[0].Matches(nil) || got.Services[0].String() != "name=x") {
				t.Errorf("selector %v", got.Services[0])
			}
		})
	}
}

func TestPoolFaults(t *testing.T) {
	for want, edit := range map[string]func(*v1beta1.IPAddressPoolSpec){
		"spec.addresses[0]: 127.0.0.1 contains loopback":    func(s *v1beta1.IPAddressPoolSpec) { s.Addresses[0] = "127.0.0.1" },
		"spec.addresses[0]: 0.0.0.0/0 contains unspecified": func(s *v1beta1.IPAddressPoolSpec) { s.Addresses[0] = "0.0.0.0/0" },
		"spec.excludedAddresses[1]: address":                func(s *v1beta1.IPAddressPoolSpec) { s.ExcludedAddresses = []v1beta1.AddressRange{"127.0.0.1", "x"} },
		"spec.subnets[0]":                                   func(s *v1beta1.IPAddressPoolSpec) { s.Subnets = []string{"10.0.0.0"} },
		"spec: limits and retain":                           func(s *v1beta1.IPAddressPoolSpec) { s.Retain = &metav1.Duration{Duration: -1} },
		"spec.serviceAllocation.serviceSelectors[0]": func(s *v1beta1.IPAddressPoolSpec) {
			s.ServiceAllocation = &v1beta1.ServiceAllocation{ServiceSelectors: []metav1.LabelSelector{{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Inn"}}}}}
		},
	} {
		s, faults := Parse(Objects{Pools: []v1beta1.IPAddressPool{edited(pool("bad", 0, "10.0.0.0/24"), edit)}})
		if len(s.Pools) != 0 || len(faults) != 1 || !strings.Contains(faults[0].Error(), want) || faults[0].Warning {
			t.Errorf("%d pools, faults %v, want %q", len(s.Pools), faults, want)
		}
	}
}

func TestLeftOut(t *testing.T) {
	n1 := node("n1")
	n1.Status.Addresses = []corev1.NodeAddress{{Address: "n1.example"}, {Address: "10.0.0.9"}, {Address: "fd00::9"}, {Address: "192.168.9.9"}}
	n1.Spec.PodCIDRs = []string{"10.0.0.64/28", "fd01::/64"}
	n2 := node("n2")
	n2.Spec.PodCIDR = "10.0.0.80/28"
	lan := edited(pool("lan", 1, "10.0.0.0/24", "fd00::/120"), func(s *v1beta1.IPAddressPoolSpec) {
		s.ExcludedAddresses = []v1beta1.AddressRange{"10.0.0.128-10.0.0.255", "10.0.0.9"}
		s.Subnets = []string{"10.0.0.0/27", "10.0.0.40/31", "10.0.0.50/32", "fd00::10/124", "fd00::20/127", "172.16.0.0/12"}
	})
	other := pool("other", 0, "10.0.0.128-10.0.0.159", "10.9.0.0/30")
	s, faults := Parse(Objects{Pools: []v1beta1.IPAddressPool{lan, other}, Nodes: []corev1.Node{n1, n2}, ServiceCIDRs: []string{"10.0.0.152/29", "10.9.0.0/16", "bad"}})
	if len(faults) != 0 || len(s.Pools) != 2 {
		t.Fatalf("faults %v", faults)
	}
	if got := Describe(s.LeftOut["lan"]); got != "10.0.0.0 (the network address of 10.0.0.0/27), 10.0.0.31 (the broadcast address of 10.0.0.0/27), "+
		"10.0.0.64/28 (in the pod CIDR of node n1), 10.0.0.80/28 (in the pod CIDR of node n2), "+
		"fd00::9 (an address of node n1), fd00::10 (the Subnet-Router anycast address of fd00::10/124)" {
		t.Errorf("lan: %s", got)
	}
	if got := text(s.Pools[0].Ranges); got != "10.0.0.1-10.0.0.8 10.0.0.10-10.0.0.30 10.0.0.32/27 10.0.0.96/27 fd00::-fd00::8 fd00::a-fd00::f fd00::11-fd00::ff" {
		t.Errorf("lan: %s", got)
	}
	if got := Describe(s.LeftOut["other"]); got != "10.0.0.152/29 (in the Service CIDR 10.0.0.152/29), 10.9.0.0/30 (in the Service CIDR 10.9.0.0/16)" {
		t.Errorf("other: %s", got)
	}
	if got := fmt.Sprint(s.Totals["lan"], s.Totals["other"]); got != "map[IPv4:93 IPv6:254] map[IPv4:24]" {
		t.Errorf("totals %s", got)
	}
}

func TestNothingLeftIsSaid(t *testing.T) {
	lan := edited(pool("lan", 1, "10.0.0.0/24"), func(s *v1beta1.IPAddressPoolSpec) { s.ExcludedAddresses = []v1beta1.AddressRange{"10.0.0.0/23"} })
	s, faults := Parse(Objects{Pools: []v1beta1.IPAddressPool{lan}})
	if len(s.Pools) != 1 || len(faults) != 1 || faults[0].Reason != NothingLeft || !faults[0].Warning {
		t.Errorf("%v, faults %v", s.Pools, faults)
	}
	if fmt.Sprint(s.Totals["lan"]) != "map[IPv4:0]" {
		t.Error(s.Totals["lan"])
	}
}

func TestDescribeIsBounded(t *testing.T) {
	r, _ := iprange.Parse("10.0.0.1")
	if got := Describe(slices.Repeat([]LeftOut{{r, "x"}}, 5000)); !strings.HasSuffix(got, "and 4980 more") || len(got) > 1000 {
		t.Error(got)
	}
}

func TestTotalsAgreeWithCounting(t *testing.T) {
	for _, addresses := range []v1beta1.AddressRange{"10.0.0.0/24", "10.0.0.0/22", "10.0.0.1-10.0.3.254", "10.0.0.255-10.0.1.0", "10.0.0.1-10.0.1.0", "10.0.0.255-10.0.1.254", "10.0.0.255", "10.0.1.0", "10.0.0.7", "1.0.0.0-1.0.2.255"} {
		for _, avoid := range []bool{false, true} {
			s, _ := Parse(Objects{Pools: []v1beta1.IPAddressPool{edited(pool("p", 0, addresses), func(s *v1beta1.IPAddressPoolSpec) { s.AvoidBuggyIPs = avoid })}})
			r, _ := iprange.Parse(string(addresses))
			slow := int64(0)
			for a := r.First(); r.Contains(a); a = a.Next() {
				if s.Pools[0].Contains(a) {
					slow++
				}
			}
			if got := s.Totals["p"][ipam.IPv4]; got.Cmp(big.NewInt(slow)) != 0 {
				t.Errorf("%s, avoiding %v: %s, counted %d", addresses, avoid, got, slow)
			}
		}
	}
	s, _ := Parse(Objects{Pools: []v1beta1.IPAddressPool{pool("p", 0, "2001:db8::/32")}})
	if got := s.Totals["p"][ipam.IPv6].String(); got != "79228162514264337593543950336" {
		t.Error(got)
	}
}

func TestManyNodesAreFast(t *testing.T) {
	// Anything quadratic in pools or nodes takes minutes here.
	var o Objects
	for i := range 10_000 {
		n := node(fmt.Sprintf("n%d", i))
		n.Status.Addresses = []corev1.NodeAddress{{Address: fmt.Sprintf("10.%d.%d.9", i/200, i%200)}}
		o.Nodes = append(o.Nodes, n)
	}
	for i := range 50 {
		o.Pools = append(o.Pools, pool(fmt.Sprint("p", i), 0, v1beta1.AddressRange(fmt.Sprintf("10.%d.0.0/16", i))))
	}
	s, _ := Parse(o)
	if got := len(s.LeftOut["p7"]); got != 200 {
		t.Error(got)
	}
}
