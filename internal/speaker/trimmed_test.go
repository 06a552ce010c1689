package speaker

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/config"
	"github.com/lanyard-lb/lanyard/internal/kube"
	"github.com/lanyard-lb/lanyard/internal/kube/kubetest"
)

// TestTrimmedObjectsAreKnownTheSame: what the caches keep of objects is all that the speaker goes by and reports on.
func TestTrimmedObjectsAreKnownTheSame(t *testing.T) {
	announced := 0
	for seed := range uint64(400) {
		full, kept := observed(seed, func(any) {}), observed(seed, func(o any) {
			if _, err := kube.Trim("lanyard-system")(o); err != nil {
				t.Fatal(err)
			}
		})
		before, _ := newWorld("").take(full, false)
		after, _ := newWorld("").take(kept, false)
		if !reflect.DeepEqual(plain(before), plain(after)) {
			is, _ := json.Marshal(plain(after))
			want, _ := json.Marshal(plain(before))
			t.Fatalf("seed %d: known of what is kept: %s\nof the whole: %s", seed, is, want)
		}
		announced += before.Services.Len()
		for name, s := range full.Services {
			read := func(s *corev1.Service) []any {
				return []any{s.UID, s.ResourceVersion, s.Generation, s.Name, s.Namespace, s.Spec.Type, s.CreationTimestamp,
					meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionAnnounced)}
			}
			if is, want := read(kept.Services[name]), read(s); !reflect.DeepEqual(is, want) {
				t.Fatalf("seed %d: %s is reported on as %v, want %v", seed, name, is, want)
			}
		}
	}
	if announced < 200 {
		t.Errorf("only %d Services were to be announced: this shows little", announced)
	}
}

// observed is a cluster in which everything has gone through trim.
func observed(seed uint64, trim func(any)) kube.Observed {
	m := kubetest.NewMaker(seed)
	seen := kube.Observed{Objects: &config.Objects{}, Services: map[string]*corev1.Service{}, EndpointSlices: map[string]*discoveryv1.EndpointSlice{}}
	name := func(o client.Object) string { return o.GetNamespace() + "/" + o.GetName() }
	for i := range 3 {
		node, pool, ad := m.Node(fmt.Sprint("n", i)), m.Pool([]string{"lan", "wan", "six"}[i]), m.L2Advertisement(fmt.Sprint("ad", i))
		own := m.EndpointSlice("lanyard-system", kube.SpeakerService)
		for _, o := range []any{node, pool, ad, own} {
			trim(o)
		}
		seen.Objects.Nodes = append(seen.Objects.Nodes, *node)
		seen.Objects.Pools = append(seen.Objects.Pools, *pool)
		seen.Objects.L2Advertisements = append(seen.Objects.L2Advertisements, *ad)
		seen.Speakers = append(seen.Speakers, own)
	}
	for range 6 {
		s, slice := m.Service(), m.EndpointSlice("", "")
		trim(s)
		trim(slice)
		seen.Services[name(s)], seen.EndpointSlices[name(slice)] = s, slice
	}
	return seen
}
