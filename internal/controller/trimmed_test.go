package controller

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/lanyard-lb/lanyard/internal/config"
	"github.com/lanyard-lb/lanyard/internal/ipam"
	"github.com/lanyard-lb/lanyard/internal/kube"
	"github.com/lanyard-lb/lanyard/internal/kube/kubetest"
)

// TestTrimmedServicesDecideTheSame: what the caches keep of a Service is all that the controller goes by.
func TestTrimmedServicesDecideTheSame(t *testing.T) {
	trim := kube.Trim("lanyard-system")
	pools := []ipam.Pool{{Name: "lan", AutoAssign: true}}
	for seed := range uint64(1000) {
		full := kubetest.NewMaker(seed).Service()
		kept, err := trim(full.DeepCopy())
		if err != nil {
			t.Fatal(err)
		}
		read := func(s *corev1.Service) []any {
			ledger := ipam.NewLedger()
			ledger.SetPools(pools)
			ours := kube.IsOurs(s, "")
			all := []any{ours, s.Spec.Type, kube.HasOurMark(s), holder(s), s.ResourceVersion, namesOnly(s, []netip.Addr{addr("10.0.0.1")}), deprives(s, nil)}
			if !ours {
				return all
			}
			r := request(s)
			r.Labels = nil // compared below: nil or not, no label is none
			ledger.Set(r)
			d, _ := ledger.Decision(r.Service)
			o := outcome(s, d, time.Unix(1, 0))
			return append(all, r, d, o, differs(s, o))
		}
		before, after := read(full), read(kept.(*corev1.Service))
		if !reflect.DeepEqual(before, after) {
			t.Fatalf("seed %d: of the whole:   %+v\nof what is kept: %+v", seed, before, after)
		}
		if kube.IsOurs(full, "") && !reflect.DeepEqual(full.Labels, kept.(*corev1.Service).Labels) {
			t.Fatalf("seed %d: the labels are %v, want %v", seed, kept.(*corev1.Service).Labels, full.Labels)
		}
	}
}

// TestTrimmedConfigurationIsTheSame: what the caches keep of pools, advertisements, nodes and namespaces makes the
// same configuration.
func TestTrimmedConfigurationIsTheSame(t *testing.T) {
	trim := kube.Trim("lanyard-system")
	inForce := 0
	for seed := range uint64(300) {
		objects := func() config.Objects {
			m := kubetest.NewMaker(seed)
			var o config.Objects
			for i := range 3 {
				o.Nodes = append(o.Nodes, *m.Node(fmt.Sprint("n", i)))
				o.Namespaces = append(o.Namespaces, *m.Namespace(fmt.Sprint("ns", i)))
				o.Pools = append(o.Pools, *m.Pool([]string{"lan", "wan", "six"}[i]))
				o.L2Advertisements = append(o.L2Advertisements, *m.L2Advertisement(fmt.Sprint("ad", i)))
			}
			return o
		}
		full, kept := objects(), objects()
		for i := range 3 {
			for _, o := range []any{&kept.Nodes[i], &kept.Namespaces[i], &kept.Pools[i], &kept.L2Advertisements[i]} {
				if _, err := trim(o); err != nil {
					t.Fatal(err)
				}
			}
		}
		before, faultsBefore := config.Parse(full)
		after, faultsAfter := config.Parse(kept)
		if !reflect.DeepEqual(before, after) || !reflect.DeepEqual(faultsBefore, faultsAfter) {
			t.Fatalf("seed %d: of the whole:   %+v %v\nof what is kept: %+v %v", seed, before, faultsBefore, after, faultsAfter)
		}
		if !reflect.DeepEqual(strangers(full.Pools), strangers(kept.Pools)) {
			t.Fatalf("seed %d: strangers are %v, want %v", seed, strangers(kept.Pools), strangers(full.Pools))
		}
		inForce += len(before.Pools) + len(before.Advertisements)
	}
	if inForce < 300 {
		t.Errorf("only %d pools and advertisements were in force: this shows little", inForce)
	}
}
