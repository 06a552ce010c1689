package kube

import (
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
)

// Trim returns what makes of each object that a watch or a list has brought what the caches keep of it: all that the
// controller or the speaker reads, be it to decide or to write a patch or an event. Lanyard's namespace is where the
// speakers' Service is. Objects are changed in place; trimmed once more they stay as they are. Kept are
//
//   - of each object: namespace, name, UID, resourceVersion, generation, when it was created and is deleted, and labels;
//     never managed fields, owners and annotations of others;
//   - of a Service of type LoadBalancer: Lanyard's annotations and their aliases, class, families,
//     spec.loadBalancerIP, spec.externalTrafficPolicy, the load-balancer status, and Lanyard's conditions. Protocols
//     and numbers of its ports, and its selector, only if it shares addresses. Of Services of other types, which have
//     no use for labels: the type, the load-balancer status and Lanyard's conditions;
//   - of an EndpointSlice: its Service, and the nodes and conditions of its endpoints, of those that are the same in
//     these one. Of the speakers' own also addresses and ports, each;
//   - of a Node: labels, pod CIDRs, keys of taints, whether it is cordoned, addresses, and since when it is Ready or
//     not and its network unavailable or not: nothing that changes with a heartbeat;
//   - of a Namespace its labels, of a ServiceCIDR its blocks;
//   - of Lanyard's own kinds everything but what is never kept, and finalizers.
//
// Objects of any other kind are left as they are.
func Trim(namespace string) cache.TransformFunc {
	t := &trimmer{namespace: namespace, names: map[string]*string{}}
	return func(o any) (any, error) {
		t.trim(o)
		return o, nil
	}
}

type trimmer struct {
	namespace string

	mu    sync.Mutex
	names map[string]*string // of nodes, so that endpoints share them
}

func (t *trimmer) trim(o any) {
	switch o := o.(type) {
	case *corev1.Service:
		trimService(o)
	case *discoveryv1.EndpointSlice:
		t.trimEndpointSlice(o)
	case *corev1.Node:
		trimNode(o)
	case *corev1.Namespace:
		*o = corev1.Namespace{ObjectMeta: trimMeta(o.ObjectMeta)}
	case *networkingv1.ServiceCIDR:
		*o = networkingv1.ServiceCIDR{ObjectMeta: trimMeta(o.ObjectMeta), Spec: o.Spec}
	case *v1beta1.IPAddressPool, *v1beta1.IPReservation, *v1beta1.L2Advertisement:
		own := o.(client.Object)
		own.SetManagedFields(nil)
		own.SetAnnotations(nil)
		own.SetOwnerReferences(nil)
	}
}

func trimMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion, Generation: m.Generation,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp, Labels: m.Labels,
	}
}

func trimService(s *corev1.Service) {
	trimmed := corev1.Service{ObjectMeta: trimMeta(s.ObjectMeta)}
	trimmed.Spec.Type = s.Spec.Type
	trimmed.Status.LoadBalancer = s.Status.LoadBalancer
	for _, c := range s.Status.Conditions {
		if c.Type == v1beta1.ConditionIPAssigned || c.Type == v1beta1.ConditionAnnounced {
			trimmed.Status.Conditions = append(trimmed.Status.Conditions, c)
		}
	}
	trimmed.Status.Conditions = slices.Clip(trimmed.Status.Conditions)
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		trimmed.Labels = nil
		*s = trimmed
		return
	}
	trimmed.Annotations = own(s.Annotations)
	trimmed.Spec.LoadBalancerClass, trimmed.Spec.LoadBalancerIP = s.Spec.LoadBalancerClass, s.Spec.LoadBalancerIP
	trimmed.Spec.IPFamilies, trimmed.Spec.IPFamilyPolicy = s.Spec.IPFamilies, s.Spec.IPFamilyPolicy
	trimmed.Spec.ExternalTrafficPolicy = s.Spec.ExternalTrafficPolicy
	if shares(trimmed.Annotations) {
		trimmed.Spec.Selector = s.Spec.Selector
		trimmed.Spec.Ports = make([]corev1.ServicePort, len(s.Spec.Ports))
		for i, p := range s.Spec.Ports {
			trimmed.Spec.Ports[i] = corev1.ServicePort{Protocol: p.Protocol, Port: p.Port}
		}
	}
	*s = trimmed
}

// own returns the annotations that are for Lanyard.
func own(annotations map[string]string) map[string]string {
	var kept map[string]string
	for name, value := range annotations {
		if !strings.HasPrefix(name, v1beta1.GroupVersion.Group+"/") && !isAlias(name) {
			continue
		}
		if kept == nil {
			kept = map[string]string{}
		}
		kept[name] = value
	}
	return kept
}

func isAlias(name string) bool {
	return slices.Contains(v1beta1.AliasesAddresses[:], name) || slices.Contains(v1beta1.AliasesPool[:], name) ||
		slices.Contains(v1beta1.AliasesSharingKey[:], name)
}

// shares reports whether a Service has a sharing key, or may have.
func shares(annotations map[string]string) bool {
	for name := range annotations {
		if name == v1beta1.AnnotationSharingKey || slices.Contains(v1beta1.AliasesSharingKey[:], name) {
			return true
		}
	}
	return false
}

func (t *trimmer) trimEndpointSlice(s *discoveryv1.EndpointSlice) {
	trimmed := discoveryv1.EndpointSlice{ObjectMeta: trimMeta(s.ObjectMeta), AddressType: s.AddressType}
	service := s.Labels[discoveryv1.LabelServiceName]
	trimmed.Labels = map[string]string{discoveryv1.LabelServiceName: service}
	whole := s.Namespace == t.namespace && service == SpeakerService
	if whole {
		trimmed.Ports = s.Ports
	}
	known := map[endpoint]bool{}
	for _, e := range s.Endpoints {
		k := endpoint{t.name(e.NodeName), shared(e.Conditions.Ready), shared(e.Conditions.Serving), shared(e.Conditions.Terminating)}
		short := discoveryv1.Endpoint{NodeName: k.node,
			Conditions: discoveryv1.EndpointConditions{Ready: k.ready, Serving: k.serving, Terminating: k.terminating}}
		if whole {
			short.Addresses = e.Addresses
		} else if known[k] {
			continue
		}
		known[k] = true
		trimmed.Endpoints = append(trimmed.Endpoints, short)
	}
	trimmed.Endpoints = slices.Clip(trimmed.Endpoints)
	*s = trimmed
}

// endpoint is what tells endpoints from each other that are not the speakers'. Equal values share their memory.
type endpoint struct {
	node                        *string
	ready, serving, terminating *bool
}

var yes, no = true, false

func shared(b *bool) *bool {
	switch {
	case b == nil:
		return nil
	case *b:
		return &yes
	}
	return &no
}

// mostNames is how many names are remembered; more Nodes than that are gone.
const mostNames = 20_000

// name returns a name that is shared by all endpoints on a node, or by nearly all.
func (t *trimmer) name(node *string) *string {
	if node == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.names[*node]
	if known == nil {
		if len(t.names) >= mostNames {
			clear(t.names)
		}
		known = node
		t.names[*node] = node
	}
	return known
}

func trimNode(n *corev1.Node) {
	trimmed := corev1.Node{ObjectMeta: trimMeta(n.ObjectMeta)}
	trimmed.Spec.PodCIDR, trimmed.Spec.PodCIDRs, trimmed.Spec.Unschedulable = n.Spec.PodCIDR, n.Spec.PodCIDRs, n.Spec.Unschedulable
	for _, t := range n.Spec.Taints {
		trimmed.Spec.Taints = append(trimmed.Spec.Taints, corev1.Taint{Key: t.Key})
	}
	trimmed.Status.Addresses = n.Status.Addresses
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady || c.Type == corev1.NodeNetworkUnavailable {
			trimmed.Status.Conditions = append(trimmed.Status.Conditions,
				corev1.NodeCondition{Type: c.Type, Status: c.Status, LastTransitionTime: c.LastTransitionTime})
		}
	}
	trimmed.Status.Conditions = slices.Clip(trimmed.Status.Conditions)
	*n = trimmed
}
