package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
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
	"github.com/lanyard-lb/lanyard/internal/record"
)

// world is an API server in small: it holds objects, refuses writes to a version that is not the newest, and
// has the controller called for what changed, one Service after the other.
type world struct {
	t          testing.TB
	controller *Controller
	rival      *Controller // of another class
	objects    config.Objects
	services   map[types.NamespacedName]*corev1.Service
	records    *records
	queue      []types.NamespacedName
	configure  bool
	report     bool
	version    int
	writes     int
	tolerate   bool // errors, after which a Service is tried again
	events     []string
	clock      time.Time
	step       time.Duration // from one look at the clock to the next
	most       int           // calls after which the controller should have come to rest
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, services: map[types.NamespacedName]*corev1.Service{}, clock: time.Unix(1_700_000_000, 0), step: time.Second, most: 1000}
	w.records = newRecords(w.now)
	return w
}

// start runs a controller (a new one, if one ran before) until nothing is left to do.
func (w *world) start(class string) {
	w.t.Helper()
	w.queue = nil
	w.controller = w.launch(class)
	w.settle()
}

// startRival is start for a second controller.
func (w *world) startRival(class string) {
	w.t.Helper()
	w.rival = w.launch(class)
	w.settle()
}

func (w *world) launch(class string) *Controller {
	w.t.Helper()
	metrics, err := NewMetrics(prometheus.NewRegistry())
	if err != nil {
		w.t.Fatal(err)
	}
	c := New(Config{Class: class, Writer: w, Records: w.records.of(class), Queue: w, Event: w.event, Metrics: metrics,
		Logger: log.NewNopLogger(), Now: w.now})
	c.batcher.linger = 0 // calls come one after the other
	for _, s := range w.services {
		w.Enqueue(client.ObjectKeyFromObject(s))
	}
	if err := c.Start(context.Background(), w.objects, w.list); err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) controllers() []*Controller {
	if w.rival == nil {
		return []*Controller{w.controller}
	}
	return []*Controller{w.controller, w.rival}
}

func (w *world) list(context.Context) ([]corev1.Service, error) {
	var all []corev1.Service
	for _, s := range w.services {
		all = append(all, *s.DeepCopy())
	}
	return all, nil
}

func (w *world) now() time.Time { w.clock = w.clock.Add(w.step); return w.clock }

// Enqueue and the next two are the queue.
func (w *world) Enqueue(names ...types.NamespacedName) { w.queue = append(w.queue, names...) }

func (w *world) EnqueueConfigure() { w.configure = true }

func (w *world) EnqueueReport(after time.Duration) { w.report = w.report || after <= reportDelay }

func (w *world) event(_ client.Object, eventType, reason, _, _ string) {
	w.events = append(w.events, eventType+" "+reason)
}

func (w *world) settle() {
	w.t.Helper()
	for calls := 0; len(w.queue) > 0 || w.configure || w.report; calls++ {
		if calls > w.most {
			w.t.Fatal("the controller does not come to rest")
		}
		if len(w.queue) == 0 {
			w.callRest()
			continue
		}
		name := w.queue[0]
		w.queue = w.queue[1:]
		for _, c := range w.controllers() {
			w.callService(c, name)
		}
	}
}

func (w *world) callService(c *Controller, name types.NamespacedName) {
	w.t.Helper()
	var seen *corev1.Service
	if s := w.services[name]; s != nil {
		seen = s.DeepCopy()
	}
	switch err := c.Service(context.Background(), name, seen); {
	case err != nil && w.tolerate:
		w.Enqueue(name)
	case err != nil:
		w.t.Fatal(err)
	}
}

// callRest makes the calls that are not about one Service.
func (w *world) callRest() {
	w.t.Helper()
	configure := w.configure
	w.configure, w.report = false, false
	for _, c := range w.controllers() {
		call := c.Report
		if configure {
			call = c.Configure
		}
		if err := call(context.Background(), w.objects); err != nil {
			w.t.Fatal(err)
		}
	}
}

// later lets a time pass, after which the controllers are called as they have asked to be.
func (w *world) later(d time.Duration) {
	w.t.Helper()
	w.clock = w.clock.Add(d)
	w.report = true
	w.settle()
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// ipOf returns the first address that a Service is given.
func (c *Controller) ipOf(namespace, name string) netip.Addr {
	return c.decision(types.NamespacedName{Namespace: namespace, Name: name}).IPs()[0]
}

// settleIfRunning is settle once there is a controller.
func (w *world) settleIfRunning() {
	if w.controller != nil {
		w.settle()
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
	w.settleIfRunning()
}

func (w *world) delete(name string) {
	key := types.NamespacedName{Namespace: "default", Name: name}
	delete(w.services, key)
	w.Enqueue(key)
	w.settle()
}

func (w *world) touch(s *corev1.Service) {
	w.version++
	s.ResourceVersion = fmt.Sprint(w.version)
	w.Enqueue(client.ObjectKeyFromObject(s))
}

// pools replaces the pools: "name: range range".
func (w *world) pools(texts ...string) {
	w.t.Helper()
	old := w.objects.Pools
	w.objects.Pools = nil
	for i, text := range texts {
		name, ranges, _ := strings.Cut(text, ": ")
		p := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(time.Unix(int64(i), 0))}}
		for _, o := range old {
			if o.Name == name {
				p = o
			}
		}
		p.Spec.Addresses = nil
		for r := range strings.FieldsSeq(ranges) {
			p.Spec.Addresses = append(p.Spec.Addresses, v1beta1.AddressRange(r))
		}
		w.objects.Pools = append(w.objects.Pools, p)
	}
	w.reconfigure()
}

func (w *world) reconfigure() {
	w.t.Helper()
	if w.controller == nil {
		return
	}
	w.configure = true
	w.settle()
}

// reservation adds or replaces a reservation in the namespace default.
func (w *world) reservation(name string, spec v1beta1.IPReservationSpec) {
	w.t.Helper()
	w.unreserve(name)
	w.objects.Reservations = append(w.objects.Reservations, v1beta1.IPReservation{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("r-" + name)}, Spec: spec})
	w.reconfigure()
}

func (w *world) unreserve(name string) {
	w.t.Helper()
	w.objects.Reservations = slices.DeleteFunc(w.objects.Reservations, func(r v1beta1.IPReservation) bool { return r.Name == name })
	w.reconfigure()
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

func (w *world) WriteStatus(_ context.Context, seen client.Object, status any) error {
	data, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	w.writes++
	for i := range w.objects.Pools {
		if p := &w.objects.Pools[i]; client.Object(p) == seen {
			fresh := v1beta1.IPAddressPool{ObjectMeta: p.ObjectMeta, Spec: p.Spec}
			fresh.Status.Quarantined = p.Status.Quarantined // a merge leaves alone what it does not name
			err = json.Unmarshal(data, &fresh)
			*p = fresh
			w.report = true
		}
	}
	for i := range w.objects.Reservations {
		if r := &w.objects.Reservations[i]; client.Object(r) == seen {
			fresh := v1beta1.IPReservation{ObjectMeta: r.ObjectMeta, Spec: r.Spec}
			err = json.Unmarshal(data, &fresh)
			*r = fresh
			w.configure = true
		}
	}
	return err
}

func (w *world) WriteFinalizers(_ context.Context, seen client.Object, finalizers []string) error {
	seen.SetFinalizers(finalizers)
	w.writes++
	w.report = true
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

func (w *world) pool(name string) *v1beta1.IPAddressPool {
	w.t.Helper()
	at := slices.IndexFunc(w.objects.Pools, func(p v1beta1.IPAddressPool) bool { return p.Name == name })
	return &w.objects.Pools[at]
}

func (w *world) expectPool(name string, status metav1.ConditionStatus, reason, message string) {
	w.t.Helper()
	c := meta.FindStatusCondition(w.pool(name).Status.Conditions, v1beta1.ConditionReady)
	if c == nil || c.Status != status || c.Reason != reason || !strings.Contains(c.Message, message) {
		w.t.Errorf("pool %s says %+v, want %s %s %q", name, c, status, reason, message)
	}
}

// records are allocation records in memory. They obey the rules of the real ones.
type records struct {
	blocks  map[netip.Prefix]record.Block
	class   string
	offices map[string]time.Time // by class, when it was in office last
	now     func() time.Time
	living  map[string]bool                       // the names of those who are not gone, though it is said
	held    map[record.Holder]map[netip.Addr]bool // what each, by name, has held ever
}

func newRecords(now func() time.Time) *records {
	return &records{blocks: map[netip.Prefix]record.Block{}, offices: map[string]time.Time{}, now: now, living: map[string]bool{},
		held: map[record.Holder]map[netip.Addr]bool{}}
}

// of returns the same records for a controller of a class.
func (r *records) of(class string) *records {
	mine := *r
	mine.class = class
	return &mine
}

func (r *records) Load(context.Context) error    { return nil }
func (r *records) Confirm(context.Context) error { return nil }
func (r *records) Refresh(context.Context) error { return nil }

func (r *records) Resign(context.Context) error {
	r.offices[r.class] = time.Time{}
	return nil
}

func (r *records) Renew(context.Context) (terms []record.Term, _ error) {
	r.offices[r.class] = r.now()
	for class, renewed := range r.offices {
		terms = append(terms, record.Term{Class: class, Renewed: renewed})
	}
	return terms, nil
}

func (r *records) Commit(_ context.Context, changes ...record.Change) error {
	var failed []error
	for _, c := range changes {
		c.Class = r.class
		p := record.BlockOf(c.Addr)
		if _, known := r.blocks[p]; !known {
			r.blocks[p] = record.New(p)
		}
		if c.Gone && r.living[c.Holder.Name] {
			failed = append(failed, &record.HeldError{Addr: c.Addr, By: c.Holder})
			continue
		}
		if e, _ := r.blocks[p].Lookup(c.Addr); c.Gone {
			for _, h := range e.Holders {
				if h.Holder == c.Holder {
					c.Class = h.Class
				}
			}
		}
		_, err := r.blocks[p].Apply(c)
		failed = append(failed, err)
		if r.held[c.Holder.Named()] == nil {
			r.held[c.Holder.Named()] = map[netip.Addr]bool{}
		}
		r.held[c.Holder.Named()][c.Addr] = true
	}
	return errors.Join(failed...)
}

func (r *records) Lookup(a netip.Addr) (record.Entry, bool) {
	b, known := r.blocks[record.BlockOf(a)]
	if !known {
		return record.Entry{}, false
	}
	return b.Lookup(a)
}

func (r *records) All() iter.Seq[record.Entry] {
	return func(yield func(record.Entry) bool) {
		for _, b := range r.blocks {
			for e := range b.All() {
				if !yield(e) {
					return
				}
			}
		}
	}
}

func (r *records) HeldBy(who record.Holder) []record.Entry {
	var entries []record.Entry
	for _, a := range slices.SortedFunc(maps.Keys(r.held[who.Named()]), netip.Addr.Compare) {
		e, _ := r.Lookup(a)
		if slices.ContainsFunc(e.Holders, func(h record.Holding) bool { return h.Same(who) }) {
			entries = append(entries, e)
		}
	}
	return entries
}

// holdersOf prints who holds an address, as the records say.
func (r *records) holdersOf(ip string) string {
	e, _ := r.Lookup(netip.MustParseAddr(ip))
	var who []string
	for _, h := range e.Holders {
		who = append(who, h.Name)
	}
	return strings.Join(who, " ")
}
