package controller

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
)

func ofType(t corev1.ServiceType) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Type = t }
}

func ofClass(class string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.LoadBalancerClass = &class }
}

func withStatus(ingress ...corev1.LoadBalancerIngress) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Status.LoadBalancer.Ingress = ingress }
}

func families(policy corev1.IPFamilyPolicy, f ...corev1.IPFamily) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.IPFamilyPolicy, s.Spec.IPFamilies = &policy, f }
}

func TestAssignsAndReleases(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1-10.0.0.2")
	w.start("")
	w.apply("a")
	w.apply("b")
	w.apply("c")
	w.expect("a", "10.0.0.1 True Assigned")
	w.expect("b", "10.0.0.2 True Assigned")
	w.expect("c", "False PoolExhausted")
	mode := w.services[types.NamespacedName{Namespace: "default", Name: "a"}].Status.LoadBalancer.Ingress[0].IPMode
	if mode == nil || *mode != corev1.LoadBalancerIPModeVIP {
		t.Errorf("ipMode is %v, want VIP", mode)
	}
	w.delete("a")
	w.expect("c", "10.0.0.1 True Assigned")
	if want := []string{"Normal Assigned", "Normal Assigned", "Warning PoolExhausted", "Normal Assigned"}; !slices.Equal(w.events, want) {
		t.Errorf("events %q, want %q", w.events, want)
	}
}

func TestDualStack(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1-10.0.0.9")
	w.start("")
	w.apply("prefer", families(corev1.IPFamilyPolicyPreferDualStack, corev1.IPv6Protocol, corev1.IPv4Protocol))
	w.apply("require", families(corev1.IPFamilyPolicyRequireDualStack, corev1.IPv4Protocol, corev1.IPv6Protocol))
	w.expect("prefer", "10.0.0.1 True FamilyUnavailable")
	w.expect("require", "False FamilyUnavailable")
	w.pools("lan: 10.0.0.1-10.0.0.9", "six: fd00::1-fd00::9")
	w.expect("prefer", "fd00::1 10.0.0.1 True Assigned")
	w.expect("require", "10.0.0.2 fd00::2 True Assigned")
}

func TestRestartMovesAndWritesNothing(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1-10.0.0.9", "manual: 10.1.0.0/24")
	w.start("")
	for _, name := range []string{"a", "b", "c"} {
		w.apply(name)
	}
	w.delete("a")
	before := w.writes
	w.start("")
	w.expect("b", "10.0.0.2 True Assigned")
	w.expect("c", "10.0.0.3 True Assigned")
	if w.writes != before {
		t.Errorf("the restart wrote %d times", w.writes-before)
	}
}

func TestStopsBeingOurs(t *testing.T) {
	for _, class := range []string{"", "example.com/lanyard"} {
		t.Run("class "+class, func(t *testing.T) {
			w := newWorld(t)
			w.pools("lan: 10.0.0.1")
			ours := func(*corev1.Service) {}
			if class != "" {
				ours = ofClass(class)
			}
			w.start(class)
			w.apply("a", ours)
			w.apply("b", ours)
			w.expect("a", "10.0.0.1 True Assigned")
			w.expect("b", "False PoolExhausted")
			// The API server drops the class with the type.
			w.apply("a", ofType(corev1.ServiceTypeClusterIP), func(s *corev1.Service) { s.Spec.LoadBalancerClass = nil })
			w.expect("a", "")
			w.expect("b", "10.0.0.1 True Assigned")
			w.apply("b", ofClass("example.com/other"))
			w.expect("b", "")
			w.apply("c", ours)
			w.expect("c", "10.0.0.1 True Assigned")
		})
	}
}

func TestLeavesOthersAlone(t *testing.T) {
	cloud := corev1.LoadBalancerIngress{IP: "203.0.113.9"}
	w := newWorld(t)
	w.start("")
	w.apply("no-pool-at-all", withStatus(cloud))
	w.pools("lan: 10.0.0.1-10.0.0.9")
	w.apply("foreign", withStatus(cloud))
	w.apply("other-class", ofClass("example.com/other"), withStatus(corev1.LoadBalancerIngress{Hostname: "lb.example.com"}))
	w.apply("adopted", withStatus(corev1.LoadBalancerIngress{IP: "10.0.0.7"}))
	w.expect("no-pool-at-all", "203.0.113.9")
	w.expect("foreign", "203.0.113.9")
	w.expect("other-class", "lb.example.com")
	w.expect("adopted", "10.0.0.7 True Assigned")
}

func TestPutsManualEditsRight(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1-10.0.0.9")
	w.start("")
	w.apply("a")
	w.apply("b")
	w.apply("a", withStatus(corev1.LoadBalancerIngress{IP: "10.0.0.2"}))
	w.expect("a", "10.0.0.1 True Assigned")
	w.apply("a", withStatus())
	w.expect("a", "10.0.0.1 True Assigned")
	w.apply("b", func(s *corev1.Service) { s.Status.Conditions = nil })
	w.expect("b", "10.0.0.2 True Assigned")
}

func TestPoolEditsMoveNothing(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1-10.0.0.9")
	w.start("")
	w.apply("a")
	w.apply("b")
	w.pools("lan: 10.0.0.1")
	w.expect("b", "10.0.0.2 True OutsidePool")
	w.start("")
	w.expect("b", "10.0.0.2 True OutsidePool")
	w.pools()
	w.expect("a", "10.0.0.1 True OutsidePool")
	w.start("")
	w.expect("a", "10.0.0.1 True OutsidePool")
}

// TestReassignSaidAfterwards: what becomes of the holders of what fell out of a pool may be said when it has.
func TestReassignSaidAfterwards(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1-10.0.0.9")
	w.start("")
	w.apply("a")
	w.pools("lan: 10.0.0.5-10.0.0.9")
	w.expect("a", "10.0.0.1 True OutsidePool")
	w.pool("lan").Spec.OnShrink = v1beta1.ShrinkReassign
	w.reconfigure()
	w.expect("a", "10.0.0.5 True Assigned")
}

// TestTellsWhoHasItNow: who waits for an address is told who has it, also when it passes on.
func TestTellsWhoHasItNow(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1")
	w.start("")
	w.apply("first")
	w.apply("second")
	w.apply("third", annotated(v1beta1.AnnotationAddresses, "10.0.0.1"))
	w.apply("other")
	if m := w.message("third"); !strings.Contains(m, "used by default/first") {
		t.Errorf("third is told %q", m)
	}
	before := w.services[types.NamespacedName{Namespace: "default", Name: "other"}].ResourceVersion
	w.delete("first")
	w.expect("second", "10.0.0.1 True Assigned")
	w.expect("third", "False AddressInUse")
	if m := w.message("third"); !strings.Contains(m, "used by default/second") {
		t.Errorf("third is told %q", m)
	}
	if now := w.services[types.NamespacedName{Namespace: "default", Name: "other"}].ResourceVersion; now != before {
		t.Error("who is told nothing else is written to")
	}
}

func TestOverlapIsSaidAndHarmsNobody(t *testing.T) {
	w := newWorld(t)
	w.pools("old: 10.0.0.0/30", "young: 10.0.0.2-10.0.0.9")
	w.start("")
	w.apply("a")
	w.expect("a", "10.0.0.0 True Assigned")
	w.expectPool("old", metav1.ConditionTrue, "InForce", "in force")
	w.expectPool("young", metav1.ConditionFalse, "Overlap", "10.0.0.2-10.0.0.9 overlaps 10.0.0.0/30 of pool old")
	if n := testutil.ToFloat64(w.controller.Metrics.faulty.WithLabelValues("IPAddressPool")); n != 1 {
		t.Errorf("%v faulty pools in the metrics, want 1", n)
	}
	w.reconfigure()
	if told := slices.DeleteFunc(slices.Clone(w.events), func(e string) bool { return e != "Warning Overlap" }); len(told) != 1 {
		t.Errorf("events %q, want Overlap once", w.events)
	}
	w.pools("old: 10.0.0.0/31", "young: 10.0.0.2-10.0.0.9")
	w.expectPool("young", metav1.ConditionTrue, "InForce", "in force")
}

// TestWritesOnlyWhatItHasSeen: a Service that changed meanwhile is not overwritten.
func TestWritesOnlyWhatItHasSeen(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1")
	w.start("")
	w.apply("a", ofType(corev1.ServiceTypeClusterIP))
	name := types.NamespacedName{Namespace: "default", Name: "a"}
	stale := w.services[name].DeepCopy()
	stale.Spec.Type = corev1.ServiceTypeLoadBalancer
	w.apply("a", func(s *corev1.Service) { s.Labels = map[string]string{"changed": "meanwhile"} })
	if err := w.controller.Service(context.Background(), name, stale); !apierrors.IsConflict(err) {
		t.Errorf("a write to an old version gives %v, want a conflict", err)
	}
	w.expect("a", "")
}
