package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

func lanyard(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "lanyard.dev", Version: "v1beta1", Resource: resource}
}

var (
	servicesResource     = schema.GroupVersionResource{Version: "v1", Resource: "services"}
	nodesResource        = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
	slicesResource       = schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}
	poolsResource        = lanyard("ipaddresspools")
	advertsResource      = lanyard("l2advertisements")
	reservationsResource = lanyard("ipreservations")
	reportsResource      = lanyard("servicel2statuses")
	recordsResource      = lanyard("ipallocationrecords")
)

// starting is how long an API server may take to serve CRDs that are new to it.
const starting = 30 * time.Second

// Eye sees every version of the objects that matter, in the order in which the API server wrote them.
type Eye struct {
	client dynamic.Interface
	// Service and Pool, if set, are told of each version of each as it comes, before anybody sees it in Facts.
	Service func(before, now *Service)
	Pool    func(now *Pool)
	// Note is told what happens to the watches themselves.
	Note func(format string, args ...any)

	mu       sync.Mutex
	facts    Facts
	slices   map[string]slice // by namespace/name
	versions int
	relists  int
	done     sync.WaitGroup
}

type slice struct {
	of        string
	endpoints []Endpoint
}

// NewEye returns an Eye that looks at nothing yet.
func NewEye(client dynamic.Interface) *Eye {
	return &Eye{client: client, slices: map[string]slice{}, Note: func(string, ...any) {}, facts: Facts{
		Services: map[string]*Service{}, Pools: map[string]*Pool{}, Advertisements: map[string]*Advert{},
		Reservations: map[string]*Reservation{}, Nodes: map[string]*Node{}, Reports: map[string]*L2Status{}}}
}

// impatient has clients made of a config not wait when the API server asks them to, as one does for five seconds of
// whoever asks for a custom resource while it starts: an Eye is to see at once what others may.
func impatient(config *rest.Config) *rest.Config {
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return noWaiting{next} })
	return config
}

type noWaiting struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (i noWaiting) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := i.RoundTripper.RoundTrip(r)
	if err == nil {
		answer.Header.Del("Retry-After")
	}
	return answer, err
}

// Open begins to watch and returns when everything has been seen once; it goes on until ctx ends.
func (e *Eye) Open(ctx context.Context) error {
	for _, of := range []struct {
		resource schema.GroupVersionResource
		take     func(o *unstructured.Unstructured, gone bool) error
	}{
		{servicesResource, e.takeService}, {nodesResource, e.takeNode}, {slicesResource, e.takeSlice}, {poolsResource, e.takePool},
		{advertsResource, e.takeAdvert}, {reservationsResource, e.takeReservation}, {reportsResource, e.takeReport},
	} {
		f := &follower{eye: e, resource: of.resource, take: of.take, known: map[string]*unstructured.Unstructured{}}
		err := f.list(ctx)
		for begun := time.Now(); err != nil && ctx.Err() == nil && time.Since(begun) < starting; err = f.list(ctx) {
			pause(ctx, 50*time.Millisecond)
		}
		if err != nil {
			return fmt.Errorf("list %s: %w", of.resource.Resource, err)
		}
		e.done.Go(func() { f.follow(ctx) })
	}
	return nil
}

// Close waits until the watches have ended, after the context has.
func (e *Eye) Close() { e.done.Wait() }

// Facts returns what has been seen.
func (e *Eye) Facts() *Facts {
	e.mu.Lock()
	defer e.mu.Unlock()
	f := Facts{Services: maps.Clone(e.facts.Services), Pools: maps.Clone(e.facts.Pools), Advertisements: maps.Clone(e.facts.Advertisements),
		Reservations: maps.Clone(e.facts.Reservations), Nodes: maps.Clone(e.facts.Nodes), Reports: maps.Clone(e.facts.Reports),
		Endpoints: map[string][]Endpoint{}}
	for _, s := range e.slices {
		f.Endpoints[s.of] = append(f.Endpoints[s.of], s.endpoints...)
	}
	return &f
}

// Seen is how many versions were seen, and how often a watch had to begin anew with a list.
func (e *Eye) Seen() (versions, relists int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.versions, e.relists
}

// follower watches one kind.
type follower struct {
	eye      *Eye
	resource schema.GroupVersionResource
	take     func(o *unstructured.Unstructured, gone bool) error
	known    map[string]*unstructured.Unstructured
	version  string
}

func (f *follower) list(ctx context.Context) error {
	list, err := f.eye.client.Resource(f.resource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	present := map[string]bool{}
	for i := range list.Items {
		o := &list.Items[i]
		present[fullName(o)] = true
		if was := f.known[fullName(o)]; was == nil || was.GetResourceVersion() != o.GetResourceVersion() {
			f.see(o, false)
		}
	}
	for name, o := range f.known {
		if !present[name] {
			f.see(o, true)
		}
	}
	f.version = list.GetResourceVersion()
	return nil
}

// follow goes on where the last watch ended, as connections do; where the API server does not know that version any
// more, as after its restart, it lists anew.
func (f *follower) follow(ctx context.Context) {
	for ctx.Err() == nil {
		stream, err := f.eye.client.Resource(f.resource).Watch(ctx, metav1.ListOptions{ResourceVersion: f.version, AllowWatchBookmarks: true})
		if err == nil {
			err = f.drain(stream)
		}
		if apierrors.IsGone(err) || apierrors.IsResourceExpired(err) {
			f.eye.relisted()
			err = f.list(ctx)
		}
		if err != nil {
			pause(ctx, 50*time.Millisecond)
		}
	}
}

func (f *follower) drain(stream watch.Interface) error {
	defer stream.Stop()
	for event := range stream.ResultChan() {
		o, is := event.Object.(*unstructured.Unstructured)
		if !is || event.Type == watch.Error {
			return apierrors.FromObject(event.Object)
		}
		f.version = o.GetResourceVersion()
		if event.Type != watch.Bookmark {
			f.see(o, event.Type == watch.Deleted)
		}
	}
	return nil
}

func (f *follower) see(o *unstructured.Unstructured, gone bool) {
	f.known[fullName(o)] = o
	if gone {
		delete(f.known, fullName(o))
	}
	f.eye.mu.Lock()
	f.eye.versions++
	f.eye.mu.Unlock()
	if err := f.take(o, gone); err != nil {
		f.eye.Note("cannot read %s %s: %v", f.resource.Resource, fullName(o), err)
	}
}

func (e *Eye) relisted() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.relists++
}

func fullName(o *unstructured.Unstructured) string {
	if o.GetNamespace() == "" {
		return o.GetName()
	}
	return o.GetNamespace() + "/" + o.GetName()
}

// put adds or removes an object under its full name.
func put[T any](e *Eye, all map[string]*T, name string, value *T, gone bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if gone {
		delete(all, name)
		return
	}
	all[name] = value
}

func (e *Eye) takeService(o *unstructured.Unstructured, gone bool) error {
	var s corev1.Service
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &s); err != nil {
		return err
	}
	now := serviceOf(&s)
	e.mu.Lock()
	before := e.facts.Services[now.Full()]
	e.mu.Unlock()
	if e.Service != nil {
		if gone {
			e.Service(before, nil)
		} else {
			e.Service(before, now)
		}
	}
	put(e, e.facts.Services, now.Full(), now, gone)
	return nil
}

func (e *Eye) takeNode(o *unstructured.Unstructured, gone bool) error {
	var n corev1.Node
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &n); err != nil {
		return err
	}
	put(e, e.facts.Nodes, n.Name, nodeOf(&n), gone)
	return nil
}

func nodeOf(n *corev1.Node) *Node {
	out := &Node{Name: n.Name, Labels: n.Labels, Excluded: n.DeletionTimestamp != nil}
	if value, is := n.Labels[corev1.LabelNodeExcludeBalancers]; is {
		excluded, err := strconv.ParseBool(value)
		out.Excluded = out.Excluded || err != nil || excluded
	}
	for _, t := range n.Spec.Taints {
		out.Excluded = out.Excluded || t.Key == "ToBeDeletedByClusterAutoscaler"
	}
	for _, c := range n.Status.Conditions {
		out.Excluded = out.Excluded || c.Type == corev1.NodeNetworkUnavailable && c.Status == corev1.ConditionTrue
	}
	return out
}

func (e *Eye) takeSlice(o *unstructured.Unstructured, gone bool) error {
	var s discoveryv1.EndpointSlice
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &s); err != nil {
		return err
	}
	now := slice{of: s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]}
	for _, p := range s.Endpoints {
		node := ""
		if p.NodeName != nil {
			node = *p.NodeName
		}
		ready := p.Conditions.Ready == nil || *p.Conditions.Ready
		now.endpoints = append(now.endpoints, Endpoint{node, ready || p.Conditions.Serving != nil && *p.Conditions.Serving})
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.slices[fullName(o)] = now; gone {
		delete(e.slices, fullName(o))
	}
	return nil
}

// What follows reads the product's own kinds, by the words that docs/ promises, not by the product's types.

type conditions []struct {
	Type, Status, Reason, Message string
	ObservedGeneration            int64
}

func (c conditions) find(kind string) (found Condition, generation int64) {
	for _, x := range c {
		if x.Type == kind {
			return Condition{x.Status, x.Reason, x.Message}, x.ObservedGeneration
		}
	}
	return Condition{}, 0
}

type labelSelectors []struct{ MatchLabels map[string]string }

func (l labelSelectors) maps() (all []map[string]string) {
	for _, s := range l {
		all = append(all, s.MatchLabels)
	}
	return all
}

// decode reads an object into a value by JSON.
func decode(o *unstructured.Unstructured, into any) error {
	raw, err := o.MarshalJSON()
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

func (e *Eye) takePool(o *unstructured.Unstructured, gone bool) error {
	type counts struct{ Total, Assigned, Available, Quarantined string }
	var have struct {
		Spec struct {
			Addresses  []string
			AutoAssign *bool
			Paused     bool
			OnShrink   string
			Retain     string
		}
		Status struct {
			Conditions  conditions
			IPv4, IPv6  *counts
			Quarantined []Quarantined
		}
	}
	if err := decode(o, &have); err != nil {
		return err
	}
	p := &Pool{Name: o.GetName(), AutoAssign: have.Spec.AutoAssign == nil || *have.Spec.AutoAssign, Paused: have.Spec.Paused,
		Reassign: have.Spec.OnShrink == "Reassign", Retains: have.Spec.Retain != "" && have.Spec.Retain != "0s",
		Closing: o.GetDeletionTimestamp() != nil, Counts: map[int]Counts{}, Quarantined: have.Status.Quarantined}
	for _, text := range have.Spec.Addresses {
		span, err := parseSpan(text)
		if err != nil {
			return err
		}
		p.Spans = append(p.Spans, span)
	}
	var generation int64
	p.Ready, generation = have.Status.Conditions.find("Ready")
	p.Current = generation == o.GetGeneration()
	for family, c := range map[int]*counts{4: have.Status.IPv4, 6: have.Status.IPv6} {
		if c == nil {
			continue
		}
		var n Counts
		for text, into := range map[*string]*int{&c.Total: &n.Total, &c.Assigned: &n.Assigned, &c.Available: &n.Available,
			&c.Quarantined: &n.Quarantined} {
			number, err := strconv.Atoi(*text)
			if err != nil {
				return fmt.Errorf("counts of IPv%d: %w", family, err)
			}
			*into = number
		}
		p.Counts[family] = n
	}
	if e.Pool != nil && !gone {
		e.Pool(p)
	}
	put(e, e.facts.Pools, p.Name, p, gone)
	return nil
}

func parseSpan(text string) (Span, error) {
	from, to, ranged := strings.Cut(text, "-")
	if !ranged {
		to = from
	}
	a, err := netip.ParseAddr(from)
	if err != nil {
		return Span{}, err
	}
	b, err := netip.ParseAddr(to)
	return Span{a, b}, err
}

func (e *Eye) takeAdvert(o *unstructured.Unstructured, gone bool) error {
	var have struct {
		Spec struct {
			IPAddressPools   []string
			NodeSelectors    labelSelectors
			ServiceSelectors labelSelectors
			NoEndpoints      string
		}
		Status struct{ Conditions conditions }
	}
	if err := decode(o, &have); err != nil {
		return err
	}
	a := &Advert{Name: o.GetName(), Pools: have.Spec.IPAddressPools, Selectors: have.Spec.NodeSelectors.maps(),
		Services: have.Spec.ServiceSelectors.maps(), Withdraw: have.Spec.NoEndpoints == "Withdraw"}
	var generation int64
	a.Ready, generation = have.Status.Conditions.find("Ready")
	a.Current = generation == o.GetGeneration()
	put(e, e.facts.Advertisements, a.Name, a, gone)
	return nil
}

func (e *Eye) takeReservation(o *unstructured.Unstructured, gone bool) error {
	var have struct {
		Spec   struct{ Addresses []netip.Addr }
		Status struct {
			Conditions conditions
			Held       []netip.Addr
		}
	}
	if err := decode(o, &have); err != nil {
		return err
	}
	r := &Reservation{Name: o.GetName(), Namespace: o.GetNamespace(), Addresses: have.Spec.Addresses, Held: have.Status.Held}
	r.Ready, _ = have.Status.Conditions.find("Ready")
	put(e, e.facts.Reservations, fullName(o), r, gone)
	return nil
}

func (e *Eye) takeReport(o *unstructured.Unstructured, gone bool) error {
	var have struct {
		Status struct {
			Announcements []struct {
				Address                              netip.Addr
				Node, Phase, Reason, Protocol, Rival string
				Interfaces                           []struct{ Name, MAC string }
			}
		}
	}
	if err := decode(o, &have); err != nil {
		return err
	}
	r := &L2Status{}
	for _, owner := range o.GetOwnerReferences() {
		r.Owners = append(r.Owners, string(owner.UID))
	}
	for _, a := range have.Status.Announcements {
		n := Announcement{IP: a.Address, Node: a.Node, Phase: a.Phase, Why: a.Reason, Protocol: a.Protocol, RivalOf: a.Rival}
		if len(a.Interfaces) > 0 {
			n.Interface, n.MAC = a.Interfaces[0].Name, a.Interfaces[0].MAC
		}
		r.Announcements = append(r.Announcements, n)
	}
	put(e, e.facts.Reports, fullName(o), r, gone)
	return nil
}

func portText(p corev1.ServicePort) string { return fmt.Sprintf("%d/%s", p.Port, p.Protocol) }

// pause lets time pass, or less if the context ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
