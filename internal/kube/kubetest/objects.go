// Package kubetest makes objects for tests as clusters are full of them: every field is set, to something, and
// those that Lanyard goes by to all that it may meet.
package kubetest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/randfill"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
)

// Maker makes objects. Two of the same seed make the same.
type Maker struct {
	r    *rand.Rand
	fill *randfill.Filler
}

// NewMaker returns a Maker.
func NewMaker(seed uint64) *Maker {
	return &Maker{r: rand.New(rand.NewPCG(seed, 0)), fill: randfill.NewWithSeed(int64(seed)).NilChance(.1).NumElements(1, 3)}
}

// one returns one of the choices.
func one[T any](m *Maker, choices ...T) T { return choices[m.r.IntN(len(choices))] }

func (m *Maker) maybe() bool { return m.r.IntN(2) == 0 }

func (m *Maker) address() string {
	return one(m, "10.0.0.1", "10.0.0.2", "::ffff:10.0.0.3", "fd00::1", "fd00::2", "10.9.9.9", "no address", "")
}

func (m *Maker) labels() map[string]string {
	return map[string]string{"app": one(m, "web", "db"), "tier": one(m, "front", "back"), fmt.Sprint("l", m.r.IntN(3)): "x"}
}

func (m *Maker) meta(o *metav1.ObjectMeta, namespace, name string) {
	o.Namespace, o.Name, o.Labels = namespace, name, m.labels()
	o.CreationTimestamp, o.DeletionTimestamp = metav1.NewTime(time.Unix(int64(m.r.IntN(100)), 0)), nil
	fields := &metav1.FieldsV1{}
	fields.SetRawString(`{"f:spec":{` + strings.Repeat(" ", 2000) + "}}")
	o.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl", Operation: "Update", FieldsV1: fields}}
	o.Annotations = map[string]string{"kubectl.kubernetes.io/last-applied-configuration": strings.Repeat("x", 3000)}
}

// Service returns a Service of some name out of a few in two namespaces.
func (m *Maker) Service() *corev1.Service {
	s := &corev1.Service{}
	m.fill.Fill(s)
	m.meta(&s.ObjectMeta, one(m, "red", "blue"), one(m, "web", "db", "mail"))
	class := one(m, "x", "y")
	s.Spec.Type = one(m, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort)
	s.Spec.LoadBalancerClass = one(m, nil, nil, &class)
	s.Spec.LoadBalancerIP = one(m, "", "", m.address())
	s.Spec.IPFamilies = one(m, []corev1.IPFamily{corev1.IPv4Protocol}, []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol})
	policy := one(m, corev1.IPFamilyPolicyRequireDualStack, corev1.IPFamilyPolicyPreferDualStack)
	s.Spec.IPFamilyPolicy = one(m, nil, &policy)
	s.Spec.ExternalTrafficPolicy = one(m, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal, "")
	annotations := map[string]string{
		v1beta1.AnnotationAddresses: m.address(), v1beta1.AnnotationPool: one(m, "lan", "lan, wan"), v1beta1.AnnotationReservation: "r",
		v1beta1.AnnotationSharingKey: one(m, "k", ""), v1beta1.AnnotationSharingNamespaces: one(m, "red", "*"),
		v1beta1.AnnotationSharingSpill: one(m, "true", "perhaps"), v1beta1.AnnotationReassign: one(m, "false", "no"),
		v1beta1.AnnotationMoveTo: one(m, "n1", "n2"), v1beta1.AliasesAddresses[m.r.IntN(len(v1beta1.AliasesAddresses))]: m.address(),
		v1beta1.AliasesPool[m.r.IntN(len(v1beta1.AliasesPool))]: "old", v1beta1.AliasesSharingKey[m.r.IntN(len(v1beta1.AliasesSharingKey))]: "k2",
	}
	for _, name := range slices.Sorted(maps.Keys(annotations)) {
		if m.r.IntN(4) == 0 {
			s.Annotations[name] = annotations[name]
		}
	}
	s.Status.LoadBalancer.Ingress = nil
	for range m.r.IntN(3) {
		in := corev1.LoadBalancerIngress{IP: m.address(), Hostname: one(m, "", "", "host")}
		mode := corev1.LoadBalancerIPModeVIP
		in.IPMode = one(m, nil, &mode)
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, in)
	}
	for i := range s.Status.Conditions {
		s.Status.Conditions[i].Type = one(m, v1beta1.ConditionIPAssigned, v1beta1.ConditionAnnounced, "example.com/Other")
		s.Status.Conditions[i].Status = one(m, metav1.ConditionTrue, metav1.ConditionFalse)
	}
	return s
}

// EndpointSlice returns an EndpointSlice of one of the Services, or of the Service named.
func (m *Maker) EndpointSlice(namespace, service string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{}
	m.fill.Fill(s)
	m.meta(&s.ObjectMeta, one(m, "red", "blue"), fmt.Sprint("slice", m.r.IntN(10)))
	s.Labels[discoveryv1.LabelServiceName] = one(m, "web", "db", "mail")
	switch {
	case service != "":
		s.Namespace, s.Labels[discoveryv1.LabelServiceName] = namespace, service
	case m.r.IntN(5) == 0:
		delete(s.Labels, discoveryv1.LabelServiceName)
	}
	s.Endpoints = s.Endpoints[:0]
	for i := range m.r.IntN(6) {
		e := discoveryv1.Endpoint{}
		m.fill.Fill(&e)
		e.Addresses = one(m, []string{fmt.Sprintf("10.2.0.%d", i)}, []string{"fd00::9", "10.2.0.99"}, nil)
		node := fmt.Sprint("n", m.r.IntN(3))
		e.NodeName = one(m, nil, &node, &node)
		yes, no := true, false
		e.Conditions.Ready, e.Conditions.Serving, e.Conditions.Terminating = one(m, nil, &yes, &no), one(m, nil, &yes, &no), one(m, nil, &yes, &no)
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// Node returns a Node of that name.
func (m *Maker) Node(name string) *corev1.Node {
	n := &corev1.Node{}
	m.fill.Fill(n)
	m.meta(&n.ObjectMeta, "", name)
	if m.maybe() {
		n.Labels[corev1.LabelNodeExcludeBalancers] = one(m, "", "false", "perhaps")
	}
	if deleted := metav1.NewTime(time.Unix(100, 0)); m.r.IntN(5) == 0 {
		n.DeletionTimestamp = &deleted
	}
	n.Spec.PodCIDR = one(m, "", "10.0.1.0/24")
	n.Spec.PodCIDRs = one(m, nil, []string{"10.0.2.0/24", "fd00:1::/64"})
	for i := range n.Spec.Taints {
		n.Spec.Taints[i].Key = one(m, "ToBeDeletedByClusterAutoscaler", "node.kubernetes.io/unschedulable")
	}
	for i := range n.Status.Addresses {
		n.Status.Addresses[i].Address = m.address()
	}
	for i := range n.Status.Conditions {
		n.Status.Conditions[i].Type = one(m, corev1.NodeReady, corev1.NodeNetworkUnavailable, corev1.NodeMemoryPressure)
		n.Status.Conditions[i].Status = one(m, corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown)
	}
	for range 50 {
		n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: []string{"registry.example.com/some/image:v1.2.3"}, SizeBytes: 1 << 30})
	}
	return n
}

// Namespace returns a Namespace of that name.
func (m *Maker) Namespace(name string) *corev1.Namespace {
	n := &corev1.Namespace{}
	m.fill.Fill(n)
	m.meta(&n.ObjectMeta, "", name)
	return n
}

// Pool returns a pool of that name.
func (m *Maker) Pool(name string) *v1beta1.IPAddressPool {
	p := &v1beta1.IPAddressPool{}
	m.fill.Fill(p)
	m.meta(&p.ObjectMeta, "", name)
	p.Spec = v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{one[v1beta1.AddressRange](m, "10.0.0.0/16", "10.1.0.0/24", "fd00::/64", "10.0.0.0/33")}}
	if m.maybe() {
		p.Spec.ServiceAllocation = &v1beta1.ServiceAllocation{NamespaceSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"app": "web"}}}}
	}
	for i := range p.Status.Quarantined {
		p.Status.Quarantined[i].Address = m.address()
	}
	for i := range p.Status.Conditions {
		p.Status.Conditions[i].Type = one(m, v1beta1.ConditionReady, v1beta1.ConditionConflict)
		p.Status.Conditions[i].Status = one(m, metav1.ConditionTrue, metav1.ConditionFalse)
		p.Status.Conditions[i].ObservedGeneration = one(m, p.Generation, 7)
	}
	return p
}

// L2Advertisement returns an advertisement of that name.
func (m *Maker) L2Advertisement(name string) *v1beta1.L2Advertisement {
	a := &v1beta1.L2Advertisement{}
	m.fill.Fill(a)
	m.meta(&a.ObjectMeta, "", name)
	selectors := []metav1.LabelSelector{{MatchLabels: map[string]string{"app": "web"}}}
	a.Spec = v1beta1.L2AdvertisementSpec{IPAddressPools: one(m, nil, []string{"lan"}, []string{"none"})}
	a.Spec.NodeSelectors, a.Spec.ServiceSelectors, a.Spec.IPAddressPoolSelectors = one(m, nil, selectors), one(m, nil, selectors), one(m, nil, selectors)
	return a
}
