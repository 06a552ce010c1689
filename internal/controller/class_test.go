package controller

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
)

const theirs = "example.com/theirs"

// beside is a world with two controllers: one without a class, and one of the class theirs.
func beside(t *testing.T, pools ...string) *world {
	w := newWorld(t)
	w.step = 10 * time.Millisecond
	w.tolerate = true // who is told that somebody else has an address tries again
	w.pools(pools...)
	w.start("")
	w.startRival(theirs)
	return w
}

// TestClassesBesideEachOther: both give addresses of one pool, none to two; what one lets go the other gives when
// it has looked; and neither touches what is the other's, be it restarted, deleted or in want.
func TestClassesBesideEachOther(t *testing.T) {
	w := beside(t, "lan: 10.0.0.1-10.0.0.4")
	w.apply("a")
	w.apply("b", ofClass(theirs))
	w.apply("c")
	w.apply("d", ofClass(theirs))
	w.apply("f", annotated(v1beta1.AnnotationAddresses, "10.0.0.2"))
	w.apply("e")
	w.expect("a", "10.0.0.1 True Assigned")
	w.expect("b", "10.0.0.2 True Assigned")
	w.expect("c", "10.0.0.3 True Assigned")
	w.expect("d", "10.0.0.4 True Assigned")
	w.expect("e", "False PoolExhausted")
	if got, want := w.message("f"), "10.0.0.2: it is held by default/b, a Service of class example.com/theirs. It is served when the address is free, or ask for another one"; got != want {
		t.Errorf("f is told %q, want %q", got, want)
	}
	before := w.writes
	w.start("")
	w.startRival(theirs)
	for range 4 {
		w.later(refreshEvery)
	}
	if w.writes != before {
		t.Errorf("%d writes although nothing has changed", w.writes-before)
	}
	w.delete("b")
	w.later(refreshEvery)
	w.expect("f", "10.0.0.2 True Assigned")
	w.delete("c")
	w.apply("g", ofClass(theirs))
	w.later(refreshEvery)
	w.expect("e", "10.0.0.3 True Assigned")
	w.expect("g", "False PoolExhausted")
	w.delete("a")
	w.later(refreshEvery)
	w.expect("g", "10.0.0.1 True Assigned")
}

// TestChangesItsClass: from the one to the other, by way of another type: no mark is left, and no address is lost.
func TestChangesItsClass(t *testing.T) {
	w := beside(t, "lan: 10.0.0.1-10.0.0.2")
	w.apply("a")
	w.apply("b")
	for _, class := range []string{theirs, "", theirs} {
		w.apply("a", ofType(corev1.ServiceTypeClusterIP), func(s *corev1.Service) { s.Spec.LoadBalancerClass = nil })
		w.expect("a", "")
		w.apply("a", ofType(corev1.ServiceTypeLoadBalancer), func(s *corev1.Service) {
			if class != "" {
				s.Spec.LoadBalancerClass = &class
			}
		})
		w.later(refreshEvery)
		w.expect("a", "10.0.0.1 True Assigned")
		w.expect("b", "10.0.0.2 True Assigned")
	}
	// Nobody has seen it in between.
	s := w.services[types.NamespacedName{Namespace: "default", Name: "a"}]
	s.Status.LoadBalancer = corev1.LoadBalancerStatus{}
	w.apply("a", func(s *corev1.Service) { s.Spec.LoadBalancerClass = nil })
	w.later(refreshEvery)
	w.expect("a", "10.0.0.1 True Assigned")
	if got := w.records.holdersOf("10.0.0.1") + w.records.holdersOf("10.0.0.2"); got != "ab" {
		t.Errorf("the records say %q", got)
	}
}

// TestOneReports: both classes are in the pool's counts, which one of them writes; with the other gone the pool is
// kept for it, and the one that is left takes the word.
func TestOneReports(t *testing.T) {
	w := beside(t, "lan: 10.0.0.1-10.0.0.4")
	w.apply("a")
	w.apply("b", ofClass(theirs))
	w.later(refreshEvery)
	if !w.controller.reports() || w.rival.reports() {
		t.Fatalf("the one without a class reports: %v; the other: %v", w.controller.reports(), w.rival.reports())
	}
	if c := w.pool("lan").Status; c.IPv4.Assigned != "2" || c.IPv4.Available != "2" || len(c.Holders) != 2 || c.Holders[1].Service != "default/b" {
		t.Errorf("the pool says %+v %+v", c.IPv4, c.Holders)
	}
	w.delete("a")
	if !slices.Contains(w.pool("lan").Finalizers, v1beta1.FinalizerInUse) {
		t.Error("the pool may vanish although the other class uses it")
	}
	w.controller, w.rival = w.rival, nil // the one without a class ends
	w.later(renewEvery)
	if w.controller.reports() {
		t.Error("two have the word")
	}
	w.later(expired)
	w.apply("d", ofClass(theirs))
	if got := w.pool("lan").Status.IPv4.Assigned; !w.controller.reports() || got != "2" {
		t.Errorf("reports: %v, assigned: %s", w.controller.reports(), got)
	}
	w.delete("b")
	w.delete("d")
	if slices.Contains(w.pool("lan").Finalizers, v1beta1.FinalizerInUse) {
		t.Error("the pool is kept although nobody uses it")
	}
}

// TestReservationsForAllClasses: one decides what a reservation holds; Services of each class may use it.
func TestReservationsForAllClasses(t *testing.T) {
	w := beside(t, "lan: 10.0.0.1-10.0.0.9")
	two := int32(2)
	w.reservation("r", v1beta1.IPReservationSpec{Pool: "lan", IPv4: &two})
	w.apply("a", annotated(v1beta1.AnnotationReservation, "r"))
	w.apply("b", ofClass(theirs), annotated(v1beta1.AnnotationReservation, "r"))
	w.apply("c", ofClass(theirs))
	w.later(refreshEvery)
	w.expect("a", "10.0.0.1 True Assigned")
	w.expect("b", "10.0.0.2 True Assigned")
	w.expect("c", "10.0.0.3 True Assigned")
	w.apply("d", annotated(v1beta1.AnnotationReservation, "r"))
	w.later(refreshEvery)
	w.expect("d", "False ReservationFull")
	w.delete("b")
	w.later(refreshEvery)
	w.expect("d", "10.0.0.2 True Assigned")
}

// TestLeftByAClass: what a class held that has no controller any more is free once its holder is gone.
func TestLeftByAClass(t *testing.T) {
	w := beside(t, "lan: 10.0.0.1-10.0.0.2")
	w.apply("b", ofClass(theirs))
	w.apply("d", ofClass(theirs))
	w.apply("a")
	w.expect("a", "False PoolExhausted")
	w.later(renewEvery)
	w.rival = nil
	w.delete("b") // by then nobody knows that the other one has ended
	w.expect("a", "False PoolExhausted")
	w.records.living["d"] = true
	w.later(renewEvery)
	w.expect("a", "False PoolExhausted")
	w.later(expired)
	w.expect("a", "10.0.0.1 True Assigned")
	w.apply("e", annotated(v1beta1.AnnotationAddresses, "10.0.0.2"))
	w.expect("e", "False AddressInUse")
	w.controller = nil
	delete(w.records.living, "d")
	delete(w.services, types.NamespacedName{Namespace: "default", Name: "d"})
	w.start("")
	w.expect("e", "10.0.0.2 True Assigned")
}

// TestKeepsForTheOtherClass: what a pool keeps for a deleted Service of one class the other does not give away.
func TestKeepsForTheOtherClass(t *testing.T) {
	w := beside(t, "lan: 10.0.0.1")
	w.pool("lan").Spec.Retain = &metav1.Duration{Duration: time.Hour}
	w.reconfigure()
	w.apply("b", ofClass(theirs))
	w.apply("a")
	w.expect("a", "False PoolExhausted")
	w.delete("b")
	w.later(refreshEvery)
	w.expect("a", "False PoolExhausted")
	w.apply("b", ofClass(theirs))
	w.later(refreshEvery)
	w.expect("b", "10.0.0.1 True Assigned")
	w.delete("b")
	w.later(refreshEvery)
	w.later(time.Hour)
	w.expect("a", "10.0.0.1 True Assigned")
}

// TestResigns: who ends in good order need not be missed first.
func TestResigns(t *testing.T) {
	w := beside(t, "lan: 10.0.0.1")
	w.later(renewEvery)
	w.controller.End(t.Context())
	w.controller, w.rival = w.rival, nil
	w.later(renewEvery)
	if !w.controller.reports() {
		t.Error("the one that is left does not take the word")
	}
}

// TestBurstsOfTwoClasses: however the two come together, no address is in two statuses.
func TestBurstsOfTwoClasses(t *testing.T) {
	w := beside(t, "lan: 10.0.0.0/25")
	for i := range 60 {
		w.apply(fmt.Sprint("a", i))
		w.apply(fmt.Sprint("b", i), ofClass(theirs))
	}
	owner := map[string]string{}
	for name, s := range w.services {
		if len(s.Status.LoadBalancer.Ingress) != 1 {
			t.Fatalf("%s has %v", name, s.Status.LoadBalancer.Ingress)
		}
		ip := s.Status.LoadBalancer.Ingress[0].IP
		if owner[ip] != "" {
			t.Errorf("%s stands in the statuses of %s and %s", ip, owner[ip], name)
		}
		owner[ip] = name.String()
	}
}

// TestLeavesAClassThatHasEnded: what a Service held by a class that has no controller any more is free as soon as
// the Service is seen to be no more, of a type without addresses, or ours; but not while it is of that class.
func TestLeavesAClassThatHasEnded(t *testing.T) {
	noClass := func(s *corev1.Service) { s.Spec.LoadBalancerClass = nil }
	noMark := func(s *corev1.Service) { s.Status.Conditions = nil }
	for name, tc := range map[string]struct {
		unseen, seen func(*world)
		want, holder string
	}{
		"it does not": {
			seen: func(w *world) { w.apply("a", annotated("looked", "at")) },
			want: "10.0.0.1 True Assigned", holder: "a",
		},
		"but for a third class": {
			seen: func(w *world) { w.apply("a", ofClass("example.com/third")) },
			want: "10.0.0.1 True Assigned", holder: "a",
		},
		"is of another type": {
			seen: func(w *world) { w.apply("a", ofType(corev1.ServiceTypeClusterIP), noClass) },
		},
		"is of another type, without a mark": {
			seen: func(w *world) { w.apply("a", ofType(corev1.ServiceTypeClusterIP), noClass, noMark) },
		},
		"is ours": {
			unseen: func(w *world) {
				w.apply("a", ofType(corev1.ServiceTypeClusterIP), noClass)
				w.apply("a", ofType(corev1.ServiceTypeLoadBalancer))
			},
			want: "10.0.0.2 True Assigned",
		},
		"is gone": {
			unseen: func(w *world) { delete(w.services, types.NamespacedName{Namespace: "default", Name: "a"}) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.most = 20
			w.pools("lan: 10.0.0.1-10.0.0.2")
			w.start(theirs)
			w.apply("a", ofClass(theirs))
			w.controller = nil
			w.clock = w.clock.Add(expired + time.Second)
			if tc.unseen != nil {
				tc.unseen(w)
			}
			w.start("")
			if tc.seen != nil {
				tc.seen(w)
			}
			if w.services[types.NamespacedName{Namespace: "default", Name: "a"}] != nil {
				w.expect("a", tc.want)
			}
			if got := w.records.holdersOf("10.0.0.1"); got != tc.holder {
				t.Errorf("10.0.0.1 is held by %q, want %q", got, tc.holder)
			}
		})
	}
}

// TestLeftItsClassBefore: of a Service that has left a class that stands still, nothing is left behind once that has
// ended, be the Service there or gone.
func TestLeftItsClassBefore(t *testing.T) {
	for _, gone := range []bool{false, true} {
		w := beside(t, "lan: 10.0.0.1-10.0.0.2")
		w.apply("a", ofClass(theirs))
		w.later(renewEvery)
		w.rival = nil
		w.apply("a", ofType(corev1.ServiceTypeClusterIP), func(s *corev1.Service) { s.Spec.LoadBalancerClass = nil })
		w.apply("a", ofType(corev1.ServiceTypeLoadBalancer))
		w.expect("a", "10.0.0.2 True Assigned")
		w.records.living["a"] = true
		w.clock = w.clock.Add(expired + renewEvery)
		if err := w.controller.Report(t.Context(), w.objects); err != nil {
			t.Fatal(err)
		}
		if gone {
			w.queue = nil
			w.delete("a")
		}
		w.settle()
		if got := w.records.holdersOf("10.0.0.1"); got != "" {
			t.Errorf("gone: %v: 10.0.0.1 is still held by %q", gone, got)
		}
	}
}

// TestStatusNamesWhatTheOtherClassHolds: whoever wrote it, the Service gets another address or none, and is told why.
func TestStatusNamesWhatTheOtherClassHolds(t *testing.T) {
	for name, tc := range map[string]struct {
		pool   string
		change func(*corev1.Service)
		want   string
	}{
		"another one is free":   {"lan: 10.0.0.1-10.0.0.2", func(*corev1.Service) {}, "10.0.0.2 True Assigned"},
		"there is no other one": {"lan: 10.0.0.1", func(*corev1.Service) {}, "False PoolExhausted"},
		"it is asked for": {"lan: 10.0.0.1-10.0.0.2", annotated(v1beta1.AnnotationAddresses, "10.0.0.1"),
			"False AddressInUse"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, known := range []bool{true, false} {
				w := beside(t, tc.pool)
				w.apply("b", ofClass(theirs))
				if known {
					w.later(refreshEvery)
				}
				w.apply("x", withStatus(corev1.LoadBalancerIngress{IP: "10.0.0.1"}), tc.change)
				w.expect("x", tc.want)
				w.start("") // and again, should it be named while nobody looks
				w.apply("x", withStatus(corev1.LoadBalancerIngress{IP: "10.0.0.1"}))
				w.expect("x", tc.want)
				w.expect("b", "10.0.0.1 True Assigned")
				w.delete("b")
				w.later(refreshEvery)
				if tc.want != "10.0.0.2 True Assigned" {
					w.expect("x", "10.0.0.1 True Assigned")
				}
			}
		})
	}
}

// TestKeepsWhatOthersHoldAsWell: a controller that starts leaves alone who holds an address by right beside somebody
// whom it does not serve, and who comes back to what is still recorded.
func TestKeepsWhatOthersHoldAsWell(t *testing.T) {
	w := beside(t, "lan: 10.0.0.1-10.0.0.9")
	w.reservation("r", v1beta1.IPReservationSpec{Addresses: []string{"10.0.0.2"}})
	w.apply("theirs", ofClass(theirs), annotated(v1beta1.AnnotationReservation, "r"))
	w.expect("theirs", "10.0.0.2 True Assigned")
	w.apply("web", annotated(v1beta1.AnnotationSharingKey, "k"), onPort(80))
	w.apply("dns", annotated(v1beta1.AnnotationSharingKey, "k"), onPort(53))
	w.controller, w.rival = nil, nil
	w.apply("dns", ofType(corev1.ServiceTypeClusterIP))
	w.controller = w.launch("") // dns is still to be given up
	w.queue = nil
	w.touch(w.services[types.NamespacedName{Namespace: "default", Name: "web"}])
	w.settle()
	w.expect("web", "10.0.0.1 True Assigned")
	w.apply("dns", ofType(corev1.ServiceTypeLoadBalancer))
	w.expect("dns", "10.0.0.1 True Assigned")
	w.expect("theirs", "10.0.0.2 True Assigned")
	if got := w.objects.Reservations[0].Status.Held; !slices.Equal(got, []string{"10.0.0.2"}) {
		t.Errorf("r holds %q", got)
	}
}
