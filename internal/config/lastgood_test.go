package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/ipam"
	"github.com/lanyard-lb/lanyard/internal/iprange"
)

// inForce lists the pools of a Snapshot with their ranges.
func inForce(s Snapshot) string {
	words := make([]string, len(s.Pools))
	for i, p := range s.Pools {
		words[i] = p.Name + " " + text(p.Ranges)
	}
	return strings.Join(words, ", ")
}

func ready(p v1beta1.IPAddressPool) v1beta1.IPAddressPool {
	p.Status.Conditions = []metav1.Condition{{Type: v1beta1.ConditionReady, Status: metav1.ConditionTrue}}
	return p
}

func TestPoolsLastGood(t *testing.T) {
	type pools = []v1beta1.IPAddressPool
	a, b := pool("a", 9, "10.0.0.0/24"), pool("b", 1, "10.0.1.0/24")
	again := func(p v1beta1.IPAddressPool, uid types.UID) v1beta1.IPAddressPool { p.UID = uid; return p }
	for _, tc := range []struct {
		name          string
		before, after pools
		want          string
		faults        []string
	}{
		{name: "a faulty edit", before: pools{a, b}, after: pools{pool("a", 9, "10.0.0.0/33"), b}, want: "a 10.0.0.0/24, b 10.0.1.0/24",
			faults: []string{"a: spec.addresses[0]", "a: spec: this edit is not in force"}},
		{name: "the edit loses, not the older pool", before: pools{a, b}, after: pools{pool("a", 9, "10.0.0.0/23"), b}, want: "a 10.0.0.0/24, b 10.0.1.0/24",
			faults: []string{"a: spec.addresses[0]: 10.0.0.0/23 overlaps 10.0.1.0/24 of pool b", "a: spec: this edit"}},
		{name: "a new pool never takes from one in force", before: pools{b}, after: pools{pool("a", 9, "10.0.1.0/24"), b}, want: "b 10.0.1.0/24",
			faults: []string{"a: spec.addresses[0]: 10.0.1.0/24 overlaps"}},
		{name: "another pool of the same name has no past", before: pools{again(a, "1"), b}, after: pools{again(pool("a", 9, "10.0.0.0/33"), "2"), b}, want: "b 10.0.1.0/24",
			faults: []string{"a: spec.addresses[0]"}},
		{name: "a good edit", before: pools{a, b}, after: pools{pool("a", 9, "10.0.2.0/24"), b}, want: "a 10.0.2.0/24, b 10.0.1.0/24"},
		{name: "two change places", before: pools{a, b}, after: pools{pool("a", 9, "10.0.1.0/24"), pool("b", 1, "10.0.0.0/24")}, want: "a 10.0.1.0/24, b 10.0.0.0/24"},
		{name: "who would take from one that falls back falls back too", before: pools{a, b},
			after: pools{pool("a", 9, "10.0.1.0/24"), pool("b", 1, "10.0.1.0/33")}, want: "a 10.0.0.0/24, b 10.0.1.0/24",
			faults: []string{"a: spec.addresses[0]: 10.0.1.0/24 overlaps 10.0.1.0/24 of pool b", "a: spec: this edit", "b: spec.addresses[0]", "b: spec: this edit"}},
		{name: "it may fall back when others have been taken in", before: pools{a, b, pool("c", 5, "10.0.2.0/24")},
			after: pools{pool("a", 9, "10.0.1.0/24"), pool("b", 1, "10.0.2.0/24"), pool("c", 5, "10.0.2.0/24")}, want: "a 10.0.0.0/24, b 10.0.1.0/24, c 10.0.2.0/24",
			faults: []string{"a: spec.addresses[0]", "a: spec: this edit", "b: spec.addresses[0]", "b: spec: this edit"}},
		{name: "a refused new pool keeps its fault when another falls back", before: pools{a, b},
			after: pools{pool("a", 1, "10.0.0.0/23"), b, pool("n", 9, "10.0.1.0/25")}, want: "a 10.0.0.0/24, b 10.0.1.0/24",
			faults: []string{"a: spec.addresses[0]", "a: spec: this edit", "n: spec.addresses[0]"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			last, faults := Parse(Objects{Pools: tc.before})
			if len(faults) > 0 {
				t.Fatal(faults)
			}
			// The second time over, what was kept is still known.
			for range 2 {
				s, faults := ParseAfter(last, Objects{Pools: tc.after})
				if got := inForce(s); got != tc.want {
					t.Errorf("in force: %s, want %s", got, tc.want)
				}
				if len(faults) != len(tc.faults) {
					t.Fatalf("faults %v, want %q", faults, tc.faults)
				}
				for i, f := range faults {
					if !strings.Contains(f.Error(), tc.faults[i]) || f.Warning != (f.Reason == LastGoodInForce) {
						t.Errorf("fault %q (%s), want it to contain %q", f.Error(), f.Reason, tc.faults[i])
					}
				}
				last = s
			}
		})
	}
}

func TestOverlapAfterRestart(t *testing.T) {
	// Nothing is remembered but what the statuses say: the edit of the older pool was refused before.
	a, b := pool("a", 9, "10.0.0.0/23"), ready(pool("b", 1, "10.0.1.0/24"))
	s, _ := Parse(Objects{Pools: []v1beta1.IPAddressPool{a, b}})
	if got := inForce(s); got != "b 10.0.1.0/24" {
		t.Error(got)
	}
	b.Generation = 2 // Ready was said of an earlier generation
	s, _ = Parse(Objects{Pools: []v1beta1.IPAddressPool{a, b}})
	if got := inForce(s); got != "a 10.0.0.0/23" {
		t.Error(got)
	}
}

func TestConflictNamesBoth(t *testing.T) {
	s, _ := Parse(Objects{Pools: []v1beta1.IPAddressPool{pool("a", 9, "10.0.0.0/23"), pool("b", 1, "10.0.1.0/24"), pool("c", 0, "10.0.9.0/24")}})
	for name, other := range map[string]string{"a": "b", "b": "a"} {
		got := s.Conflicts[name]
		if len(got) != 1 || got[0].Pool != name || got[0].Other != other || !strings.Contains(got[0].Message, "pool a") || !strings.Contains(got[0].Message, "pool b") {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if len(s.Conflicts["c"]) > 0 {
		t.Error(s.Conflicts["c"])
	}
}

func TestPlacementPools(t *testing.T) {
	excluding := func(name string, age int, addresses, excluded v1beta1.AddressRange) v1beta1.IPAddressPool {
		return edited(pool(name, age, addresses), func(s *v1beta1.IPAddressPoolSpec) { s.ExcludedAddresses = []v1beta1.AddressRange{excluded} })
	}
	s, faults := Parse(Objects{ServiceCIDRs: []string{"10.0.0.0/28"}, Pools: []v1beta1.IPAddressPool{
		excluding("b", 2, "10.0.0.0/24", "10.0.0.128/25"), pool("a", 1, "10.0.0.192/26"), excluding("c", 0, "10.0.0.128-10.0.1.9", "10.0.0.128/25")}})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	var got []string
	for _, p := range s.PlacementPools() {
		got = append(got, p.Name+" "+text(p.Ranges))
	}
	if want := "a 10.0.0.192/26, b 10.0.0.0-10.0.0.191, c 10.0.1.0-10.0.1.9"; strings.Join(got, ", ") != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// drawPools draws pools over few addresses, so that many overlap and some are faulty.
func drawPools(t *rapid.T, label string) []v1beta1.IPAddressPool {
	ranges := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) v1beta1.AddressRange {
		from := rapid.IntRange(1, 40).Draw(t, "from")
		return v1beta1.AddressRange(fmt.Sprintf("10.0.0.%d-10.0.0.%d", from, from+rapid.IntRange(-1, 9).Draw(t, "size")))
	}), 0, 2)
	var pools []v1beta1.IPAddressPool
	for i, name := range []string{"a", "b", "c", "d", "e"} {
		if rapid.IntRange(0, 4).Draw(t, label+"exists") == 0 {
			continue
		}
		p := pool(name, (i*7)%5, ranges.Draw(t, label+"addresses")...)
		p.Spec.ExcludedAddresses = ranges.Draw(t, label+"excluded")
		pools = append(pools, p)
	}
	return pools
}

func checkDisjoint(t *rapid.T, what string, all []iprange.Range) {
	for i, r := range all {
		for _, o := range all[:i] {
			if r.Overlaps(o) {
				t.Fatalf("%s: %s and %s overlap", what, r, o)
			}
		}
	}
}

func TestEditsHarmNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var last Snapshot
		for step := range 4 {
			now := drawPools(t, fmt.Sprint(step))
			s, faults := ParseAfter(last, Objects{Pools: now})
			var handed, announced []iprange.Range
			for _, p := range s.Pools {
				handed = append(handed, p.Ranges...)
			}
			for _, p := range s.PlacementPools() {
				announced = append(announced, p.Ranges...)
			}
			checkDisjoint(t, "pools", handed)
			checkDisjoint(t, "placement pools", announced)
			for _, p := range now {
				refused := !slices.ContainsFunc(s.Pools, func(in ipam.Pool) bool { return in.Name == p.Name })
				was := slices.ContainsFunc(last.Pools, func(in ipam.Pool) bool { return in.Name == p.Name })
				faulty := slices.ContainsFunc(faults, func(f Fault) bool { return f.Name == p.Name && !f.Warning })
				if refused && (was || !faulty) {
					t.Fatalf("pool %s is not in force, it was: %v, faults %v", p.Name, was, faults)
				}
				if g, known := last.good.pools[p.Name]; known && faulty && fmt.Sprint(*g.spec) == fmt.Sprint(p.Spec) {
					t.Fatalf("pool %s is as it was in force and at fault: %v", p.Name, faults)
				}
			}
			last = s
		}
	})
}

func TestAdvertisementLastGood(t *testing.T) {
	pools := []v1beta1.IPAddressPool{pool("lan", 0, "10.0.0.0/24"), pool("dmz", 0, "10.1.0.0/24")}
	last, _ := Parse(Objects{Pools: pools, L2Advertisements: []v1beta1.L2Advertisement{ad("ad", v1beta1.L2AdvertisementSpec{Interfaces: []string{"eth0"}})}})
	bad := ad("ad", v1beta1.L2AdvertisementSpec{Interfaces: []string{"eth["}})
	for range 2 {
		s, faults := ParseAfter(last, Objects{Pools: pools[:1], L2Advertisements: []v1beta1.L2Advertisement{bad}})
		if len(s.Advertisements) != 1 || s.Advertisements[0].Interfaces[0] != "eth0" || sorted(s.Advertisements[0].Pools) != "lan" {
			t.Errorf("in force: %+v", s.Advertisements)
		}
		if len(faults) != 2 || faults[0].Reason != InvalidPattern || faults[1].Reason != LastGoodInForce {
			t.Errorf("faults %v", faults)
		}
		last = s
	}
	bad.UID = "another"
	if s, faults := ParseAfter(last, Objects{L2Advertisements: []v1beta1.L2Advertisement{bad}}); len(s.Advertisements) != 0 || len(faults) != 1 {
		t.Errorf("%v, faults %v", s.Advertisements, faults)
	}
}
