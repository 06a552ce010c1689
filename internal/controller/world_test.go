package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/config"
	"github.com/lanyard-lb/lanyard/internal/kube"
)

// world is an API server in small: it holds objects, refuses writes to a version that is not the newest, and
// has the controller called for what changed, one Service after the other.
type world struct {
	t          *testing.T
	controller *Controller
	objects    config.Objects
	services   map[types.NamespacedName]*corev1.Service
	queue      []types.NamespacedName
	version    int
	writes     int
	events     []string
	clock      time.Time
}

func newWorld(t *testing.T) *world {
	return &world{t: t, services: map[types.NamespacedName]*corev1.Service{}, clock: time.Unix(1_700_000_000, 0)}
}

// start runs a controller (a new one, if one ran before) until nothing is left to do.
func (w *world) start(class string) {
	w.t.Helper()
	w.queue = nil
	w.controller = New(Config{Class: class, Writer: w, Enqueue: w.enqueue, Event: w.event, Logger: log.NewNopLogger(), Now: w.now})
	var all []corev1.Service
	for _, s := range w.services {
		all = append(all, *s.DeepCopy())
		w.enqueue(client.ObjectKeyFromObject(s))
	}
	if err := w.controller.Start(context.Background(), w.objects, all); err != nil {
		w.t.Fatal(err)
	}
	w.settle()
}

func (w *world) now() time.Time { w.clock = w.clock.Add(time.Second); return w.clock }

func (w *world) enqueue(names ...types.NamespacedName) { w.queue = append(w.queue, names...) }

func (w *world) event(_ client.Object, eventType, reason, _, _ string) {
	w.events = append(w.events, eventType+" "+reason)
}

func (w *world) settle() {
	w.t.Helper()
	for calls := 0; len(w.queue) > 0; calls++ {
		if calls > 1000 {
			w.t.Fatal("the controller does not come to rest")
		}
		name := w.queue[0]
		w.queue = w.queue[1:]
		var seen *corev1.Service
		if s := w.services[name]; s != nil {
			seen = s.DeepCopy()
		}
		if err := w.controller.Service(context.Background(), name, seen); err != nil {
			w.t.Fatal(err)
		}
	}
}

// apply creates or changes a Service the way a user does.
func (w *world) apply(name string, change ...func(*corev1.Service)) {
	w.t.Helper()
	key := types.NamespacedName{Namespace: "default", Name: name}
	s := w.services[key]
	if s == nil {
		s = &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name),
			CreationTimestamp: metav1.NewTime(w.now())}}
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
		w.services[key] = s
	}
	for _, c := range change {
		c(s)
	}
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		s.Status.LoadBalancer = corev1.LoadBalancerStatus{} // as the API server does
	}
	w.touch(s)
	w.settle()
}

func (w *world) delete(name string) {
	key := types.NamespacedName{Namespace: "default", Name: name}
	delete(w.services, key)
	w.enqueue(key)
	w.settle()
}

func (w *world) touch(s *corev1.Service) {
	w.version++
	s.ResourceVersion = fmt.Sprint(w.version)
	w.enqueue(client.ObjectKeyFromObject(s))
}

// pools replaces the pools: "name: range range".
func (w *world) pools(texts ...string) {
	w.t.Helper()
	w.objects.Pools = nil
	for i, text := range texts {
		name, ranges, _ := strings.Cut(text, ": ")
		p := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(int64(i), 0))}}
		for r := range strings.FieldsSeq(ranges) {
			p.Spec.Addresses = append(p.Spec.Addresses, v1beta1.AddressRange(r))
		}
		w.objects.Pools = append(w.objects.Pools, p)
	}
	if w.controller == nil {
		return
	}
	if err := w.controller.Configure(context.Background(), w.objects); err != nil {
		w.t.Fatal(err)
	}
	w.settle()
}

func (w *world) WriteServiceStatus(_ context.Context, seen *corev1.Service, o kube.ServiceStatus) error {
	s := w.services[client.ObjectKeyFromObject(seen)]
	if s == nil || s.ResourceVersion != seen.ResourceVersion {
		return apierrors.NewConflict(schema.GroupResource{Resource: "services"}, seen.Name, nil)
	}
	w.writes++
	if !o.LeaveIngress {
		s.Status.LoadBalancer.Ingress = o.Ingress
	}
	meta.RemoveStatusCondition(&s.Status.Conditions, o.Condition.Type)
	if !o.Remove {
		s.Status.Conditions = append(s.Status.Conditions, o.Condition)
	}
	w.touch(s)
	return nil
}

func (w *world) WriteConditions(_ context.Context, seen client.Object, conditions []metav1.Condition) error {
	for i := range w.objects.Pools {
		if w.objects.Pools[i].Name == seen.GetName() {
			w.objects.Pools[i].Status.Conditions = conditions
			w.writes++
		}
	}
	return nil
}

// show prints a Service's status: addresses, then condition.
func (w *world) show(name string) string {
	s := w.services[types.NamespacedName{Namespace: "default", Name: name}]
	var words []string
	for _, ingress := range s.Status.LoadBalancer.Ingress {
		words = append(words, ingress.IP+ingress.Hostname)
	}
	if c := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionIPAssigned); c != nil {
		words = append(words, string(c.Status), c.Reason)
	}
	return strings.Join(words, " ")
}

func (w *world) expect(name, want string) {
	w.t.Helper()
	if got := w.show(name); got != want {
		w.t.Errorf("%s has %q, want %q", name, got, want)
	}
}

func (w *world) expectPool(name string, status metav1.ConditionStatus, reason, message string) {
	w.t.Helper()
	at := slices.IndexFunc(w.objects.Pools, func(p v1beta1.IPAddressPool) bool { return p.Name == name })
	c := meta.FindStatusCondition(w.objects.Pools[at].Status.Conditions, v1beta1.ConditionReady)
	if c == nil || c.Status != status || c.Reason != reason || !strings.Contains(c.Message, message) {
		w.t.Errorf("pool %s says %+v, want %s %s %q", name, c, status, reason, message)
	}
}
