package controller

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/record"
)

// asleep lets changes happen while no controller runs, and then starts one.
func (w *world) asleep(change func()) {
	w.t.Helper()
	w.controller = nil
	change()
	w.start("")
}

// TestRetypedWhileNobodyLooked: the address of a Service that is not ours any more goes to one that waits, in
// whichever order the two are looked at, and nobody calls that a conflict.
func TestRetypedWhileNobodyLooked(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1")
	w.start("")
	w.apply("a")
	w.apply("b")
	w.expect("b", "False PoolExhausted")
	w.controller = nil
	w.apply("a", ofType(corev1.ServiceTypeClusterIP))
	w.start("")
	w.expect("a", "")
	w.expect("b", "10.0.0.1 True Assigned")
	if got := w.records.holdersOf("10.0.0.1"); got != "b" {
		t.Errorf("10.0.0.1 is held by %q, want b", got)
	}
}

// TestDeniedUntilReleased: an address that the records say is somebody else's is to be had once that one lets go.
func TestDeniedUntilReleased(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1-10.0.0.2")
	w.start("")
	w.apply("late", ofType(corev1.ServiceTypeClusterIP))
	who := record.Holder{Kind: record.Service, Namespace: "default", Name: "late", UID: "late"}
	if err := w.records.Commit(context.Background(), record.Hold(addr("10.0.0.1"), who, "lan", w.now())); err != nil {
		t.Fatal(err)
	}
	name := types.NamespacedName{Namespace: "default", Name: "a"}
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a", UID: "a", CreationTimestamp: metav1.NewTime(w.now())}}
	s.Spec.Type, s.Spec.IPFamilies = corev1.ServiceTypeLoadBalancer, []corev1.IPFamily{corev1.IPv4Protocol}
	w.services[name] = s
	w.touch(s)
	if err := w.controller.Service(context.Background(), name, s.DeepCopy()); err == nil {
		t.Fatal("a was given what the records say is another's")
	}
	w.settle()
	w.expect("a", "10.0.0.2 True Assigned")
	w.apply("b")
	w.expect("b", "False PoolExhausted")
	w.apply("late", func(s *corev1.Service) { s.Labels = map[string]string{"looked": "at"} })
	w.expect("b", "10.0.0.1 True Assigned")
}

// TestShrunkWhileNobodyLooked: onShrink counts also for what was edited while no controller ran.
func TestShrunkWhileNobodyLooked(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1-10.0.0.9", "stay: 10.1.0.1-10.1.0.9")
	w.pool("lan").Spec.OnShrink = v1beta1.ShrinkReassign
	w.start("")
	w.apply("a")
	w.apply("b", annotated("lanyard.dev/pool", "stay"))
	w.asleep(func() { w.pools("lan: 10.0.0.5", "stay: 10.1.0.5") })
	w.expect("a", "10.0.0.5 True Assigned")
	w.expect("b", "10.1.0.1 True OutsidePool")
}

// TestKeepsOnlyForTheDeleted: after a restart an address is kept for a Service that was deleted, and not for a
// reservation of its name, nor for a Service that has moved on to another address.
func TestKeepsOnlyForTheDeleted(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1-10.0.0.9")
	w.pool("lan").Spec.Retain = &metav1.Duration{Duration: time.Hour}
	w.start("")
	w.reservation("held", v1beta1.IPReservationSpec{Addresses: []string{"10.0.0.1"}})
	w.unreserve("held")
	w.apply("moved", annotated("lanyard.dev/addresses", "10.0.0.2"))
	w.apply("moved", annotated("lanyard.dev/addresses", "10.0.0.9"))
	w.apply("deleted", annotated("lanyard.dev/addresses", "10.0.0.3"))
	w.delete("deleted")
	w.start("")
	for _, tc := range [][2]string{
		{"10.0.0.1", "10.0.0.1 True Assigned"}, {"10.0.0.2", "10.0.0.2 True Assigned"}, {"10.0.0.3", "False AddressInUse"},
	} {
		w.apply("wants-"+tc[0], annotated("lanyard.dev/addresses", tc[0]))
		w.expect("wants-"+tc[0], tc[1])
	}
}

// TestReservationStatusIsInOrder: named addresses as they are named, then the others by address.
func TestReservationStatusIsInOrder(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1-10.0.0.9")
	w.start("")
	two, three := int32(2), int32(3)
	w.reservation("r", v1beta1.IPReservationSpec{Pool: "lan", IPv4: &two, Addresses: []string{"10.0.0.7", "10.0.0.5"}})
	w.apply("user", annotated("lanyard.dev/reservation", "r", "lanyard.dev/addresses", "10.0.0.2"))
	one := int32(1)
	for _, count := range []*int32{&one, &three} {
		w.objects.Reservations[0].Spec.IPv4 = count
		w.reconfigure()
	}
	want := []string{"10.0.0.7", "10.0.0.5", "10.0.0.1", "10.0.0.2", "10.0.0.3"}
	if got := w.objects.Reservations[0].Status.Held; !slices.Equal(got, want) {
		t.Errorf("holds %q, want %q", got, want)
	}
}

// refusing is a Writer whose statuses somebody else has just written.
type refusing struct{ *world }

func (refusing) WriteStatus(_ context.Context, seen client.Object, _ any) error {
	return apierrors.NewConflict(schema.GroupResource{Resource: "ipaddresspools"}, seen.GetName(), nil)
}

// TestStartsWhileAnotherWrites: a leader that is on its way out may still write statuses. That is no reason for
// the next one not to start.
func TestStartsWhileAnotherWrites(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1")
	metrics, err := NewMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	c := New(Config{Writer: refusing{w}, Records: w.records, Queue: w, Event: w.event, Metrics: metrics, Logger: log.NewNopLogger(), Now: w.now})
	if err := c.Start(context.Background(), w.objects, w.list); err != nil {
		t.Errorf("does not start: %v", err)
	}
	if !w.configure {
		t.Error("nobody will write the statuses")
	}
}

// TestKeptForLongEnough: whatever has the controller look at the time first, who waits for an address that is kept no
// longer gets it.
func TestKeptForLongEnough(t *testing.T) {
	for name, look := range map[string]func(*world){
		"a report":                 func(*world) {},
		"the pools":                (*world).reconfigure,
		"a Service that waits":     func(w *world) { w.apply("c") },
		"a Service of no concern":  func(w *world) { w.apply("c", ofType(corev1.ServiceTypeClusterIP)) },
		"a Service that goes":      func(w *world) { w.delete("b") },
		"one that was never known": func(w *world) { w.delete("c") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.pools("lan: 10.0.0.1-10.0.0.2")
			w.pool("lan").Spec.Retain = &metav1.Duration{Duration: time.Hour}
			w.start("")
			w.apply("a")
			w.apply("b")
			w.delete("a")
			w.apply("waits")
			w.expect("waits", "False PoolExhausted")
			w.clock = w.clock.Add(time.Hour)
			look(w)
			w.later(time.Minute)
			w.expect("waits", "10.0.0.1 True Assigned")
		})
	}
}

// TestStartsBeforeItKnowsOfAReservation: one that the records tell of and the cache does not yet is not gone for that,
// and is no reason not to start; another failure is.
func TestStartsBeforeItKnowsOfAReservation(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1-10.0.0.2")
	ip := addr("10.0.0.1")
	for _, name := range []string{"gone", "new"} {
		who := record.Holder{Kind: record.Reservation, Namespace: "default", Name: name, UID: "r-" + name}
		if err := w.records.Commit(t.Context(), record.Hold(ip, who, "lan", w.now())); err != nil {
			t.Fatal(err)
		}
		ip = ip.Next()
	}
	w.records.living["new"] = true
	w.start("")
	if gone, young := w.records.holdersOf("10.0.0.1"), w.records.holdersOf("10.0.0.2"); gone != "" || young != "new" {
		t.Errorf("10.0.0.1 is held by %q, 10.0.0.2 by %q", gone, young)
	}
	w.apply("a")
	w.apply("b")
	w.expect("b", "False PoolExhausted")
	w.reservation("new", v1beta1.IPReservationSpec{Addresses: []string{"10.0.0.2"}})
	w.later(time.Minute)
	w.apply("b", annotated(v1beta1.AnnotationReservation, "new"))
	w.expect("b", "10.0.0.2 True Assigned")

	failure := errors.New("no answer")
	refused := errors.Join(errors.Join(&record.HeldError{Addr: ip}, failure), &record.HeldError{Addr: ip})
	if err := butHeld(refused); !errors.Is(err, failure) {
		t.Errorf("the failure is lost: %v", err)
	}
}
