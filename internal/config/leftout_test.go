package config

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"github.com/lanyard-lb/lanyard/internal/ipam"
	"github.com/lanyard-lb/lanyard/internal/iprange"
)

func contains(ranges []iprange.Range, a netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(r iprange.Range) bool { return r.Contains(a) })
}

func parsed[T ~string](texts []T) []iprange.Range {
	var ranges []iprange.Range
	for _, text := range texts {
		if r, err := iprange.Parse(string(text)); err == nil {
			ranges = append(ranges, r)
		}
	}
	return ranges
}

func TestLeftOutAgreesWithTheSlowTwin(t *testing.T) {
	blocks := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
		return fmt.Sprintf("10.0.0.%d/%d", rapid.IntRange(0, 63).Draw(t, "a"), rapid.IntRange(26, 32).Draw(t, "bits"))
	}), 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		pools := drawPools(t, "pools")
		n := node("n")
		n.Status.Addresses = []corev1.NodeAddress{{Address: fmt.Sprintf("10.0.0.%d", rapid.IntRange(0, 63).Draw(t, "node"))}}
		n.Spec.PodCIDRs = blocks.Draw(t, "pod")
		services := blocks.Draw(t, "service")
		holes := parsed(slices.Concat(n.Spec.PodCIDRs, services, []string{n.Status.Addresses[0].Address}))
		s, _ := Parse(Objects{Pools: pools, Nodes: []corev1.Node{n}, ServiceCIDRs: services})
		for _, p := range pools {
			i := slices.IndexFunc(s.Pools, func(in ipam.Pool) bool { return in.Name == p.Name })
			if i < 0 {
				if len(s.LeftOut[p.Name]) > 0 || s.Totals[p.Name] != nil {
					t.Fatalf("pool %s is not in force and something is said of it", p.Name)
				}
				continue
			}
			var leftOut []iprange.Range
			for _, l := range s.LeftOut[p.Name] {
				leftOut = append(leftOut, l.Range)
			}
			for a := netip.MustParseAddr("10.0.0.0"); a.As4()[3] < 70; a = a.Next() {
				listed := contains(parsed(p.Spec.Addresses), a) && !contains(parsed(p.Spec.ExcludedAddresses), a)
				if got := contains(s.Pools[i].Ranges, a); got != (listed && !contains(holes, a)) {
					t.Fatalf("pool %s hands %s out: %v", p.Name, a, got)
				}
				if got := contains(leftOut, a); got != (listed && contains(holes, a)) {
					t.Fatalf("pool %s leaves %s out: %v", p.Name, a, got)
				}
			}
		}
	})
}
