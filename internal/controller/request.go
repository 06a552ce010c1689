package controller

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/internal/ipam"
	"github.com/lanyard-lb/lanyard/internal/kube"
)

// request reads what a Service asks for and what it has.
func request(s *corev1.Service) ipam.Request {
	r := ipam.Request{
		Service: key(types.NamespacedName{Namespace: s.Namespace, Name: s.Name}),
		Created: s.CreationTimestamp.Time,
		Status:  kube.IngressIPs(s),
		Ours:    kube.HasOurMark(s),
	}
	for _, f := range s.Spec.IPFamilies {
		family := ipam.IPv4
		if f == corev1.IPv6Protocol {
			family = ipam.IPv6
		}
		r.Families = append(r.Families, family)
	}
	r.AllOrNothing = s.Spec.IPFamilyPolicy != nil && *s.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack
	return r
}

func key(n types.NamespacedName) ipam.Key { return ipam.Key{Namespace: n.Namespace, Name: n.Name} }

func names(keys []ipam.Key) []types.NamespacedName {
	list := make([]types.NamespacedName, len(keys))
	for i, k := range keys {
		list[i] = types.NamespacedName{Namespace: k.Namespace, Name: k.Name}
	}
	return list
}
