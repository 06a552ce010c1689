package kube

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/reference"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/kube/kubetest"
)

// trimmed returns a copy as the caches keep it.
func trimmed[T client.Object](t *testing.T, o T) T {
	t.Helper()
	short, err := Trim("lanyard-system")(o.DeepCopyObject())
	if err != nil {
		t.Fatal(err)
	}
	return short.(T)
}

const seeds = 500

// TestTrimmedServiceReadsTheSame: what this package reads and writes of a Service, it reads and writes of a
// trimmed one. The controller's and the speaker's tests hold what they read against it.
func TestTrimmedServiceReadsTheSame(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(seeds) {
		full := kubetest.NewMaker(seed).Service()
		short := trimmed(t, full)
		read := func(s *corev1.Service) []any {
			condition := metav1.Condition{Type: v1beta1.ConditionAnnounced, Reason: "Announced"}
			patch, err := servicePatch(s, ServiceStatus{Ingress: s.Status.LoadBalancer.Ingress, Condition: condition})
			of, refErr := reference.GetReference(scheme, s)
			name := cache.MetaObjectToName(s)
			return []any{string(patch), err, of, refErr, name, IsOurs(s, ""), IsOurs(s, "x"), HasOurMark(s), IngressIPs(s)}
		}
		full.TypeMeta, short.TypeMeta = metav1.TypeMeta{}, metav1.TypeMeta{} // as they come out of a watch
		if before, after := read(full), read(short); !reflect.DeepEqual(before, after) {
			t.Fatalf("seed %d: read of the whole: %v\nof the trimmed: %v", seed, before, after)
		}
	}
}

// TestTrimMakesObjectsSmall: fat objects get small; trimmed once more they stay as they are.
func TestTrimMakesObjectsSmall(t *testing.T) {
	for _, kind := range []struct {
		name string
		most int // bytes of JSON
		make func(*kubetest.Maker) client.Object
	}{
		{"Service", 1800, func(m *kubetest.Maker) client.Object { return m.Service() }},
		{"EndpointSlice", 1000, func(m *kubetest.Maker) client.Object { return m.EndpointSlice("", "") }},
		{"EndpointSlice of the speakers", 1500, func(m *kubetest.Maker) client.Object { return m.EndpointSlice("lanyard-system", SpeakerService) }},
		{"Node", 1500, func(m *kubetest.Maker) client.Object { return m.Node("n1") }},
		{"Namespace", 350, func(m *kubetest.Maker) client.Object { return m.Namespace("red") }},
		{"ServiceCIDR", 400, func(m *kubetest.Maker) client.Object { return serviceCIDR(m) }},
		{"IPAddressPool", 2900, func(m *kubetest.Maker) client.Object { return m.Pool("lan") }},
		{"L2Advertisement", 1700, func(m *kubetest.Maker) client.Object { return m.L2Advertisement("lan") }},
	} {
		t.Run(kind.name, func(t *testing.T) {
			size, largest := 0, 0
			for seed := range uint64(seeds) {
				full := kind.make(kubetest.NewMaker(seed))
				short := trimmed(t, full)
				if short.GetName() != full.GetName() || short.GetResourceVersion() != full.GetResourceVersion() || short.GetNamespace() != full.GetNamespace() {
					t.Fatalf("seed %d: it is another object: %+v", seed, short)
				}
				if again := trimmed(t, short); !reflect.DeepEqual(short, again) {
					t.Fatalf("seed %d: trimmed %+v\nand again %+v", seed, short, again)
				}
				if len(short.GetManagedFields()) > 0 || short.GetAnnotations()["kubectl.kubernetes.io/last-applied-configuration"] != "" {
					t.Fatalf("seed %d: %+v", seed, short)
				}
				size, largest = size+jsonSize(t, full), max(largest, jsonSize(t, short))
			}
			if largest > kind.most {
				t.Errorf("the largest is %d bytes of JSON, want %d at most; whole, they are %d on average", largest, kind.most, size/seeds)
			}
			t.Logf("%d bytes at most, of %d on average", largest, size/seeds)
		})
	}
}

func serviceCIDR(m *kubetest.Maker) *networkingv1.ServiceCIDR {
	return &networkingv1.ServiceCIDR{ObjectMeta: m.Namespace("cidr").ObjectMeta, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/16"}}}
}

func jsonSize(t *testing.T, o any) int {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return len(text)
}

// TestTrimmedEndpoints: endpoints that are the same to Lanyard are one; those of the speakers are not.
func TestTrimmedEndpoints(t *testing.T) {
	yes, n1, n2 := true, "n1", "n2"
	var slice discoveryv1.EndpointSlice
	for i := range 100 {
		node := &n1
		if i == 50 {
			node = &n2
		}
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprint("10.0.0.", i)}, NodeName: node,
			Conditions: discoveryv1.EndpointConditions{Ready: &yes}, TargetRef: &corev1.ObjectReference{Name: fmt.Sprint("pod", i)}})
	}
	slice.Namespace, slice.Labels = "lanyard-system", map[string]string{discoveryv1.LabelServiceName: "web"}
	if n := len(trimmed(t, &slice).Endpoints); n != 2 {
		t.Errorf("100 endpoints on 2 nodes are %d, want 2", n)
	}
	slice.Labels[discoveryv1.LabelServiceName] = SpeakerService
	if n := len(trimmed(t, &slice).Endpoints); n != 100 {
		t.Errorf("100 speakers are %d", n)
	}
	slice.Namespace = "default"
	if n := len(trimmed(t, &slice).Endpoints); n != 2 {
		t.Errorf("100 endpoints of another namespace's Service on 2 nodes are %d, want 2", n)
	}
}

// TestReconfigures: what a change of an object means for the controller.
func TestReconfigures(t *testing.T) {
	node := func(change func(*corev1.Node)) client.Object {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"a": "b"}}}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		n.Status.Addresses = []corev1.NodeAddress{{Address: "10.0.0.1"}}
		change(n)
		return n
	}
	pool := func(change func(*v1beta1.IPAddressPool)) client.Object {
		p := &v1beta1.IPAddressPool{Spec: v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{"10.0.0.0/24"}}}
		p.Status.Conditions = []metav1.Condition{{Type: v1beta1.ConditionReady, Status: metav1.ConditionTrue}}
		change(p)
		return p
	}
	namespace := func(change func(*corev1.Namespace)) client.Object {
		n := &corev1.Namespace{}
		change(n)
		return n
	}
	sameNode, samePool := node(func(*corev1.Node) {}), pool(func(*v1beta1.IPAddressPool) {})
	for name, tc := range map[string]struct {
		before, after client.Object
		want          bool
	}{
		"new":  {nil, sameNode, true},
		"gone": {sameNode, nil, true},
		"a heartbeat": {sameNode, node(func(n *corev1.Node) {
			n.ResourceVersion, n.Status.Conditions[0].LastHeartbeatTime = "2", metav1.NewTime(time.Unix(1, 0))
		}), false},
		"not ready":     {sameNode, node(func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse }), false},
		"a label":       {sameNode, node(func(n *corev1.Node) { n.Labels["a"] = "c" }), true},
		"an address":    {sameNode, node(func(n *corev1.Node) { n.Status.Addresses[0].Address = "10.0.0.2" }), true},
		"a pod CIDR":    {sameNode, node(func(n *corev1.Node) { n.Spec.PodCIDR = "10.1.0.0/24" }), true},
		"pods' CIDRs":   {sameNode, node(func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"10.1.0.0/24"} }), true},
		"counts":        {samePool, pool(func(p *v1beta1.IPAddressPool) { p.Status.IPv4 = &v1beta1.AddressCounts{Total: "3"} }), false},
		"holders":       {samePool, pool(func(p *v1beta1.IPAddressPool) { p.Status.Holders = []v1beta1.PoolHolder{{Address: "10.0.0.1"}} }), false},
		"a finalizer":   {samePool, pool(func(p *v1beta1.IPAddressPool) { p.Finalizers = []string{v1beta1.FinalizerInUse} }), false},
		"a range":       {samePool, pool(func(p *v1beta1.IPAddressPool) { p.Spec.Addresses = nil }), true},
		"a pool's end":  {samePool, pool(func(p *v1beta1.IPAddressPool) { p.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }), true},
		"a pool's name": {samePool, pool(func(p *v1beta1.IPAddressPool) { p.Labels = map[string]string{"a": "b"} }), true},
		"a stranger": {samePool, pool(func(p *v1beta1.IPAddressPool) {
			p.Status.Quarantined = []v1beta1.QuarantinedAddress{{Address: "10.0.0.1"}}
		}), true},
		"a verdict":                {samePool, pool(func(p *v1beta1.IPAddressPool) { p.Status.Conditions[0].Status = metav1.ConditionFalse }), true},
		"another pool of the name": {samePool, pool(func(p *v1beta1.IPAddressPool) { p.UID = "another" }), true},
		"a namespace's label":      {namespace(func(*corev1.Namespace) {}), namespace(func(n *corev1.Namespace) { n.Labels = map[string]string{"a": "b"} }), true},
		"a namespace":              {namespace(func(*corev1.Namespace) {}), namespace(func(n *corev1.Namespace) { n.ResourceVersion = "2" }), false},
	} {
		if got := reconfigures(tc.before, tc.after); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
