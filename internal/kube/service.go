package kube

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
)

// IsOurs reports whether a Service is for us to serve: of type LoadBalancer, and of our class; without a
// class of our own we serve the Services that name none.
func IsOurs(s *corev1.Service, class string) bool {
	named := ""
	if s.Spec.LoadBalancerClass != nil {
		named = *s.Spec.LoadBalancerClass
	}
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && named == class
}

// HasOurMark reports whether the controller has written the status of a Service.
func HasOurMark(s *corev1.Service) bool {
	return meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionIPAssigned) != nil
}

// IngressIPs returns the addresses that a Service's status names, each once, in order; what is no address is
// left out.
func IngressIPs(s *corev1.Service) []netip.Addr {
	var ips []netip.Addr
	for _, ingress := range s.Status.LoadBalancer.Ingress {
		ip, err := netip.ParseAddr(ingress.IP)
		if err == nil && !slices.Contains(ips, ip.Unmap()) {
			ips = append(ips, ip.Unmap())
		}
	}
	return ips
}
