package speaker

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/config"
	"github.com/lanyard-lb/lanyard/internal/kube"
	"github.com/lanyard-lb/lanyard/internal/membership"
	"github.com/lanyard-lb/lanyard/internal/placement"
	"github.com/lanyard-lb/lanyard/internal/sortedlist"
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
				f := seen.facts()
				if service(f, 0).Served != tc.served || service(f, 1).Served {
					t.Errorf("%s, %s: served %v, and without endpoints %v; want %v and false", tc.name, policy, service(f, 0).Served, service(f, 1).Served, tc.served)
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
	f := seen.facts()
	if got := service(f, 0); got.MoveTo != "n1" || got.Advertisements != nil {
		t.Errorf("the Service is %+v, want it on its way to n1, and selected by all", got)
	}
	seen.L2Advertisements = append(seen.L2Advertisements, v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: v1beta1.L2AdvertisementSpec{ServiceSelectors: []metav1.LabelSelector{{MatchLabels: s.Labels}}}})
	f = seen.facts()
	if a, b := service(f, 0).Advertisements, service(f, 1).Advertisements; len(a) != 2 || len(b) != 1 || !b["lan"] {
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
	f := seen.facts()
	want := map[string]placement.Node{"silent": {}, "ready": {}, "unready": {NotReadySince: since}, "unknown": {NotReadySince: since},
		"leaving": {Excluded: "BeingDeleted"}, "cordoned": {Cordoned: true}}
	if !reflect.DeepEqual(f.Cluster.Nodes, want) {
		t.Errorf("nodes %+v, want %+v", f.Cluster.Nodes, want)
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
	before := line{Cluster: seen.facts().Cluster, Service: service(seen.facts(), 0)}
	data, err := json.Marshal(before)
	if err != nil {
		t.Fatal(err)
	}
	var after line
	if err := json.Unmarshal(data, &after); err != nil {
		t.Fatal(err)
	}
	if before.Service.Advertisements == nil || !reflect.DeepEqual(before, after) {
		t.Errorf("wrote\n%+v\nand read\n%+v", before, after)
	}
}

// TestFactsOfChanges: whatever happens to the objects, in whatever order and however much at once, the facts are those
// that follow from the objects as they are; what says the same stays the same pointer, and nothing that was given out
// is changed.
func TestFactsOfChanges(t *testing.T) {
	for seed := range uint64(10) {
		c := newChurn(seed)
		w := newWorld("")
		last, _ := w.take(c.all().observed(), false)
		for step := range 40 {
			before, said := last, text(t, plain(last))
			changed := false
			last, changed = w.take(c.next(), false)
			want := c.all().facts()
			if !reflect.DeepEqual(plain(last), plain(want)) {
				t.Fatalf("seed %d, step %d: knows\n%s, want\n%s", seed, step, text(t, plain(last)), text(t, plain(want)))
			}
			if text(t, plain(before)) != said {
				t.Fatalf("seed %d, step %d: what was known before has been changed", seed, step)
			}
			if same := reflect.DeepEqual(plain(before), plain(last)); same == changed {
				t.Fatalf("seed %d, step %d: says changed=%t, but the same=%t", seed, step, changed, same)
			}
			sortedlist.Differences(before.Services, last.Services, byName, func(was, now *placement.Service) {
				if reflect.DeepEqual(was, now) {
					t.Errorf("seed %d, step %d: %s is another pointer, and the same", seed, step, now.Name)
				}
			})
		}
	}
}

// service is the i-th Service.
func service(k knowledge, i int) *placement.Service { return slices.Collect(k.Services.All())[i] }

// plain is what is known as it can be compared and printed: a list may lie in memory in other ways.
func plain(k knowledge) any {
	return struct {
		Cluster  *placement.Cluster
		Services []*placement.Service
		Peers    []membership.Peer
		Running  map[string]bool
	}{k.Cluster, slices.Collect(k.Services.All()), k.Peers, k.Running}
}

// text is all that is in it.
func text(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// churn is a cluster that changes by chance.
type churn struct {
	*rand.Rand
	config.Objects
	services map[string]*corev1.Service
	slices   map[string]*discoveryv1.EndpointSlice
	seen     kube.Observed // what has changed since the last next
}

func newChurn(seed uint64) *churn {
	c := &churn{Rand: rand.New(rand.NewPCG(seed, 3)), Objects: cluster(0, "n1", "n2", "n3").Objects,
		services: map[string]*corev1.Service{}, slices: map[string]*discoveryv1.EndpointSlice{}}
	c.forget()
	for range 20 {
		c.step()
	}
	c.forget()
	return c
}

func (c *churn) forget() {
	c.seen = kube.Observed{Services: map[string]*corev1.Service{}, EndpointSlices: map[string]*discoveryv1.EndpointSlice{}}
}

// all is the cluster as it is, in no particular order.
func (c *churn) all() everything {
	e := everything{Objects: c.Objects}
	for _, s := range c.services {
		e.Services = append(e.Services, *s)
	}
	for _, s := range c.slices {
		e.EndpointSlices = append(e.EndpointSlices, *s)
	}
	return e
}

// next is what has happened in one to five steps.
func (c *churn) next() kube.Observed {
	c.forget()
	for range 1 + c.IntN(5) {
		c.step()
	}
	if c.seen.Objects != nil {
		objects := c.Objects
		c.seen.Objects = &objects
	}
	return c.seen
}

func (c *churn) step() {
	switch c.IntN(10) {
	case 0:
		c.configure()
	case 1, 2, 3, 4:
		c.service(fmt.Sprint("svc", c.IntN(8)))
	default:
		c.slice(fmt.Sprint("slice", c.IntN(10)))
	}
}

// service has a Service come, change or go.
func (c *churn) service(name string) {
	key := "default/" + name
	if c.IntN(5) == 0 {
		if c.services[key] != nil {
			delete(c.services, key)
			c.seen.Services[key] = nil
		}
		return
	}
	s := assigned(name, fmt.Sprint("10.0.0.", c.IntN(4)))
	if c.IntN(4) == 0 {
		s.Spec.Type = corev1.ServiceTypeClusterIP
	}
	if c.IntN(4) == 0 {
		s.Status.Conditions = nil
	}
	if c.IntN(2) == 0 {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	if c.IntN(2) == 0 {
		s.Labels = map[string]string{"app": "web"}
	}
	if c.IntN(4) == 0 {
		s.Annotations = map[string]string{v1beta1.AnnotationMoveTo: "n2"}
	}
	c.services[key], c.seen.Services[key] = &s, &s
}

// slice has an EndpointSlice come, change or go, also from one Service to another.
func (c *churn) slice(name string) {
	key := "default/" + name
	if c.IntN(5) == 0 {
		if c.slices[key] != nil {
			delete(c.slices, key)
			c.seen.EndpointSlices[key] = nil
		}
		return
	}
	maybe := func() *bool {
		if c.IntN(3) == 0 {
			return nil
		}
		b := c.IntN(2) == 0
		return &b
	}
	s := endpoints(fmt.Sprint("svc", c.IntN(8)), discoveryv1.EndpointConditions{}, nil)
	s.Name, s.Endpoints = name, nil
	for range c.IntN(4) {
		e := discoveryv1.Endpoint{Conditions: discoveryv1.EndpointConditions{Ready: maybe(), Serving: maybe(), Terminating: maybe()}}
		if node := fmt.Sprint("n", c.IntN(4)); node != "n0" {
			e.NodeName = &node
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	c.slices[key], c.seen.EndpointSlices[key] = &s, &s
}

// configure changes a node, an advertisement or a quarantine.
func (c *churn) configure() {
	switch c.IntN(3) {
	case 0:
		c.Nodes = slices.Clone(c.Nodes)
		c.Nodes[c.IntN(3)].Spec.Unschedulable = c.IntN(2) == 0
	case 1:
		web := v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: "web"}}
		web.Spec.ServiceSelectors = []metav1.LabelSelector{{MatchLabels: map[string]string{"app": []string{"web", "mail"}[c.IntN(2)]}}}
		c.L2Advertisements = []v1beta1.L2Advertisement{c.L2Advertisements[0], web}[:1+c.IntN(2)]
	default:
		c.Pools = slices.Clone(c.Pools)
		c.Pools[0].Status.Quarantined = nil
		for i := range c.IntN(3) {
			c.Pools[0].Status.Quarantined = append(c.Pools[0].Status.Quarantined, v1beta1.QuarantinedAddress{Address: fmt.Sprint("10.0.0.", 9-i)})
		}
	}
	c.seen.Objects = &c.Objects
}
