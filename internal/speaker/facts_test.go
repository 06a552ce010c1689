package speaker

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/config"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

func endpoints(service string, conditions discoveryv1.EndpointConditions, node *string) discoveryv1.EndpointSlice {
	return discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		Endpoints:  []discoveryv1.Endpoint{{NodeName: node, Conditions: conditions}},
	}
}

func TestServed(t *testing.T) {
	yes, no, n1 := true, false, "n1"
	for _, tc := range []struct {
		name       string
		conditions discoveryv1.EndpointConditions
		served     bool
	}{
		{"it does not say", discoveryv1.EndpointConditions{}, true},
		{"ready", discoveryv1.EndpointConditions{Ready: &yes}, true},
		{"not ready", discoveryv1.EndpointConditions{Ready: &no}, false},
		{"serving while terminating", discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes}, true},
		{"terminating", discoveryv1.EndpointConditions{Ready: &no, Serving: &no, Terminating: &yes}, false},
	} {
		for _, policy := range []corev1.ServiceExternalTrafficPolicy{corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal} {
			for _, node := range []*string{&n1, nil} {
				seen := cluster(2, "n1")
				seen.Services[0].Spec.ExternalTrafficPolicy = policy
				seen.EndpointSlices = []discoveryv1.EndpointSlice{endpoints("svc0", tc.conditions, node)}
				f, _ := facts(seen, "", config.Snapshot{})
				if f.Services[0].Served != tc.served || f.Services[1].Served {
					t.Errorf("%s, %s: served %v, and without endpoints %v; want %v and false", tc.name, policy, f.Services[0].Served, f.Services[1].Served, tc.served)
				}
			}
		}
	}
}

func TestFactsOfAService(t *testing.T) {
	seen := cluster(2, "n1")
	s := &seen.Services[0]
	s.Labels = map[string]string{"app": "web"}
	s.Annotations = map[string]string{v1beta1.AnnotationMoveTo: " n1 "}
	f, _ := facts(seen, "", config.Snapshot{})
	if got := f.Services[0]; got.MoveTo != "n1" || got.Advertisements != nil {
		t.Errorf("the Service is %+v, want it on its way to n1, and selected by all", got)
	}
	seen.L2Advertisements = append(seen.L2Advertisements, v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: v1beta1.L2AdvertisementSpec{ServiceSelectors: []metav1.LabelSelector{{MatchLabels: s.Labels}}}})
	f, _ = facts(seen, "", config.Snapshot{})
	if a, b := f.Services[0].Advertisements, f.Services[1].Advertisements; len(a) != 2 || len(b) != 1 || !b["lan"] {
		t.Errorf("selected by %v and %v, want both advertisements and lan alone", a, b)
	}
}

func TestFactsOfANode(t *testing.T) {
	since := time.Unix(1_700_000_000, 0).UTC()
	ready := func(status corev1.ConditionStatus) []corev1.NodeCondition {
		return []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status, LastTransitionTime: metav1.NewTime(since)}}
	}
	seen := cluster(0, "silent", "ready", "unready", "unknown", "leaving", "cordoned")
	seen.Nodes[1].Status.Conditions = ready(corev1.ConditionTrue)
	seen.Nodes[2].Status.Conditions = ready(corev1.ConditionFalse)
	seen.Nodes[3].Status.Conditions = ready(corev1.ConditionUnknown)
	deleted := metav1.NewTime(since)
	seen.Nodes[4].DeletionTimestamp = &deleted
	seen.Nodes[5].Spec.Unschedulable = true
	f, _ := facts(seen, "", config.Snapshot{})
	want := map[string]placement.Node{"silent": {}, "ready": {}, "unready": {NotReadySince: since}, "unknown": {NotReadySince: since},
		"leaving": {Excluded: "BeingDeleted"}, "cordoned": {Cordoned: true}}
	if !reflect.DeepEqual(f.Nodes, want) {
		t.Errorf("nodes %+v, want %+v", f.Nodes, want)
	}
}

// TestFactsSurviveTheStateFile: a Service that no advertisement selects must not come back as one that all do.
func TestFactsSurviveTheStateFile(t *testing.T) {
	seen := cluster(1, "n1")
	seen.Nodes[0].Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(time.Unix(1, 0))}}
	seen.L2Advertisements[0].Spec = v1beta1.L2AdvertisementSpec{
		ServiceSelectors:       []metav1.LabelSelector{{MatchLabels: map[string]string{"app": "web"}}},
		PreferredNodeSelectors: []v1beta1.PreferredNodeSelector{{Weight: 3}},
		NoEndpoints:            v1beta1.NoEndpointsWithdraw,
		IgnoreSubnets:          true,
	}
	before, _ := facts(seen, "", config.Snapshot{})
	data, err := json.Marshal(before)
	if err != nil {
		t.Fatal(err)
	}
	var after placement.Facts
	if err := json.Unmarshal(data, &after); err != nil {
		t.Fatal(err)
	}
	if before.Services[0].Advertisements == nil || !reflect.DeepEqual(before, after) {
		t.Errorf("wrote\n%+v\nand read\n%+v", before, after)
	}
}
