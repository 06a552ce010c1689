package controller

import (
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/ipam"
	"github.com/lanyard-lb/lanyard/internal/kube"
)

// outcome is what a Service's status should say after a decision.
func outcome(s *corev1.Service, d ipam.Decision, now time.Time) kube.ServiceStatus {
	mode := corev1.LoadBalancerIPModeVIP
	var ingress []corev1.LoadBalancerIngress
	for _, ip := range d.IPs() {
		ingress = append(ingress, corev1.LoadBalancerIngress{IP: ip.String(), IPMode: &mode})
	}
	status := metav1.ConditionFalse
	if isServed(s, d) {
		status = metav1.ConditionTrue
	}
	return kube.ServiceStatus{Ingress: ingress, Condition: condition(s.Status.Conditions, metav1.Condition{
		Type:               v1beta1.ConditionIPAssigned,
		Status:             status,
		ObservedGeneration: s.Generation,
		Reason:             string(d.Reason),
		Message:            d.Message,
	}, now)}
}

// isServed reports whether a Service has what it cannot do without: an address of each family when it
// requires both, else any. It may wait for another one all the same.
func isServed(s *corev1.Service, d ipam.Decision) bool {
	r := request(s)
	has := func(f ipam.Family) bool {
		return slices.ContainsFunc(d.IPs(), func(ip netip.Addr) bool { return ipam.FamilyOf(ip) == f })
	}
	lacks := slices.ContainsFunc(r.Families, func(f ipam.Family) bool { return !has(f) })
	return len(d.Assigned) > 0 && (!lacks || !r.AllOrNothing)
}

// condition fills in since when a condition has its status.
func condition(have []metav1.Condition, want metav1.Condition, now time.Time) metav1.Condition {
	want.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
	if old := meta.FindStatusCondition(have, want.Type); old != nil && old.Status == want.Status {
		want.LastTransitionTime = old.LastTransitionTime
	}
	return want
}

// differs reports whether the Service's status says something else than the outcome.
func differs(s *corev1.Service, o kube.ServiceStatus) bool {
	have := meta.FindStatusCondition(s.Status.Conditions, o.Condition.Type)
	return have == nil || !equality.Semantic.DeepEqual(*have, o.Condition) ||
		!equality.Semantic.DeepEqual(s.Status.LoadBalancer.Ingress, o.Ingress)
}
