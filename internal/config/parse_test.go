package config

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/ipam"
)

func pool(name string, age int, ranges ...v1beta1.AddressRange) v1beta1.IPAddressPool {
	return v1beta1.IPAddressPool{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"name": name},
			CreationTimestamp: metav1.NewTime(time.Unix(1_000_000-int64(age), 0))},
		Spec: v1beta1.IPAddressPoolSpec{Addresses: ranges},
	}
}

func ad(name string, spec v1beta1.L2AdvertisementSpec) v1beta1.L2Advertisement {
	return v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
}

func node(name string) corev1.Node {
	return corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"name": name}}}
}

func named(name string) []metav1.LabelSelector {
	return []metav1.LabelSelector{{MatchLabels: map[string]string{"name": name}}}
}

func TestPools(t *testing.T) {
	for _, tc := range []struct {
		name   string
		pools  []v1beta1.IPAddressPool
		good   string
		faults []string
	}{
		{name: "both families", pools: []v1beta1.IPAddressPool{pool("b", 0, "10.0.0.0/24", "fd00::1-fd00::9"), pool("a", 0, "10.1.0.5")}, good: "a b"},
		{name: "a bad pool harms no other", pools: []v1beta1.IPAddressPool{pool("bad", 9, "10.0.0.300/24", "10.0.0.9-10.0.0.1"), pool("good", 0, "10.0.0.0/24")},
			good: "good", faults: []string{`IPAddressPool bad: spec.addresses[0]: CIDR "10.0.0.300/24"`, `IPAddressPool bad: spec.addresses[1]: range "10.0.0.9-10.0.0.1"`}},
		{name: "nothing in it", pools: []v1beta1.IPAddressPool{pool("bad", 0)}, faults: []string{"spec.addresses: a pool needs"}},
		{name: "the older wins", pools: []v1beta1.IPAddressPool{pool("a-young", 1, "10.0.0.128-10.0.1.5"), pool("old", 2, "10.0.0.0/24")},
			good: "old", faults: []string{"IPAddressPool a-young: spec.addresses[0]: 10.0.0.128-10.0.1.5 overlaps 10.0.0.0/24 of pool old"}},
		{name: "of the same age the lower name", pools: []v1beta1.IPAddressPool{pool("b", 1, "fd00::/64"), pool("a", 1, "fd00::1")},
			good: "a", faults: []string{"IPAddressPool b: spec.addresses[0]: fd00::/64 overlaps fd00::1 of pool a"}},
		{name: "within itself", pools: []v1beta1.IPAddressPool{pool("a", 1, "10.0.0.0/24", "10.0.0.7")},
			faults: []string{"spec.addresses[1]: 10.0.0.7 overlaps 10.0.0.0/24 of the same pool"}},
		{name: "a refused pool takes nothing from a third", pools: []v1beta1.IPAddressPool{pool("a", 3, "10.0.0.0/24"), pool("b", 2, "10.0.0.0/23"), pool("c", 1, "10.0.1.0/24")},
			good: "a c", faults: []string{"IPAddressPool b"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, faults := Parse(Objects{Pools: tc.pools})
			var names []string
			for _, p := range s.Pools {
				names = append(names, p.Name)
			}
			if got := strings.Join(names, " "); got != tc.good {
				t.Errorf("pools in force: %q, want %q", got, tc.good)
			}
			if len(faults) != len(tc.faults) {
				t.Fatalf("faults %v, want %q", faults, tc.faults)
			}
			for i, f := range faults {
				if !strings.Contains(f.Error(), tc.faults[i]) {
					t.Errorf("fault %q, want it to contain %q", f.Error(), tc.faults[i])
				}
			}
		})
	}
}

func TestAutoAssign(t *testing.T) {
	off, manual := false, pool("manual", 0, "10.1.0.0/24")
	manual.Spec.AutoAssign = &off
	s, _ := Parse(Objects{Pools: []v1beta1.IPAddressPool{pool("auto", 0, "10.0.0.0/24"), manual}})
	if auto := slices.ContainsFunc(s.Pools, func(p ipam.Pool) bool { return p.AutoAssign != (p.Name == "auto") }); auto {
		t.Errorf("autoAssign is read wrongly: %+v", s.Pools)
	}
}

func TestAdvertisements(t *testing.T) {
	pools := []v1beta1.IPAddressPool{pool("lan", 0, "10.0.0.0/24"), pool("dmz", 0, "10.1.0.0/24")}
	nodes := []corev1.Node{node("n1"), node("n2")}
	for _, tc := range []struct {
		name         string
		spec         v1beta1.L2AdvertisementSpec
		pools, nodes string
		fault        string
		refused      bool
	}{
		{name: "empty is everything", pools: "dmz lan", nodes: "n1 n2"},
		{name: "by name", spec: v1beta1.L2AdvertisementSpec{IPAddressPools: []string{"lan"}}, pools: "lan", nodes: "n1 n2"},
		{name: "names and selectors are a union", spec: v1beta1.L2AdvertisementSpec{IPAddressPools: []string{"lan"}, IPAddressPoolSelectors: named("dmz")},
			pools: "dmz lan", nodes: "n1 n2"},
		{name: "a selector that matches nothing selects nothing", spec: v1beta1.L2AdvertisementSpec{IPAddressPoolSelectors: named("x")}, nodes: "n1 n2"},
		{name: "an unknown name is said, the known one works", spec: v1beta1.L2AdvertisementSpec{IPAddressPools: []string{"lan", "lam"}},
			pools: "lan", nodes: "n1 n2", fault: `spec.ipAddressPools[1]: there is no IPAddressPool "lam"`},
		{name: "nodes by selector", spec: v1beta1.L2AdvertisementSpec{NodeSelectors: named("n2")}, pools: "dmz lan", nodes: "n2"},
		{name: "no node is said", spec: v1beta1.L2AdvertisementSpec{NodeSelectors: named("n9")}, pools: "dmz lan", fault: "spec.nodeSelectors: no node matches"},
		{name: "a broken selector", spec: v1beta1.L2AdvertisementSpec{NodeSelectors: []metav1.LabelSelector{{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Inn"}}}}},
			fault: "spec.nodeSelectors[0]", refused: true},
		{name: "a broken pattern", spec: v1beta1.L2AdvertisementSpec{Interfaces: []string{"eth0", "eth["}}, fault: "spec.interfaces[1]", refused: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, faults := Parse(Objects{Pools: pools, Nodes: nodes, L2Advertisements: []v1beta1.L2Advertisement{ad("ad", tc.spec)}})
			if tc.fault == "" && len(faults) > 0 || tc.fault != "" && (len(faults) != 1 || !strings.Contains(faults[0].Error(), tc.fault)) {
				t.Fatalf("faults %v, want %q", faults, tc.fault)
			}
			if refused := len(s.Advertisements) == 0; refused != tc.refused || len(faults) == 1 && faults[0].Warning == refused {
				t.Fatalf("refused: %v, want %v (%v)", refused, tc.refused, faults)
			}
			if tc.refused {
				return
			}
			if got := sorted(s.Advertisements[0].Pools); got != tc.pools {
				t.Errorf("pools %q, want %q", got, tc.pools)
			}
			if got := sorted(s.Advertisements[0].Nodes); got != tc.nodes {
				t.Errorf("nodes %q, want %q", got, tc.nodes)
			}
		})
	}
}

func sorted(set map[string]bool) string {
	var names []string
	for n := range set {
		names = append(names, n)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}
