package kube

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/config"
)

// SpeakerService is the name of the headless Service in Lanyard's namespace whose EndpointSlices name the
// speakers.
const SpeakerService = "lanyard-speaker"

// Observed is what has changed of the cluster since it was told last; the first time, that is all there is. The
// objects are shared with the cache: they may be kept, and nobody may change them.
type Observed struct {
	// Objects is the whole configuration; nil if nothing that counts of it has changed.
	Objects *config.Objects
	// Services and EndpointSlices that have changed, by namespace/name; nil for one that is gone.
	Services       map[string]*corev1.Service
	EndpointSlices map[string]*discoveryv1.EndpointSlice
	// Speakers are all EndpointSlices of the Service SpeakerService; nil if none of them has changed.
	Speakers []*discoveryv1.EndpointSlice
}

// Observe adds to Run that tell is called with the whole state once every source has delivered its first
// full list, and then with what changes; changes that come while tell works are told together. While the API
// server is away, nothing is told.
func (c *Cluster) Observe(tell func(Observed)) error {
	return c.manager.Add(newObserver(c, tell))
}

type observer struct {
	cluster *Cluster
	tell    func(Observed)
	dirty   chan struct{}

	mu         sync.Mutex
	services   map[string]*corev1.Service // since the last tell, as the next three
	slices     map[string]*discoveryv1.EndpointSlice
	configured bool
	manned     bool                                  // one of the speakers' slices has changed
	speakers   map[string]*discoveryv1.EndpointSlice // by namespace/name
}

// newObserver has everything told first.
func newObserver(c *Cluster, tell func(Observed)) *observer {
	return &observer{cluster: c, tell: tell, dirty: make(chan struct{}, 1), configured: true, manned: true,
		services: map[string]*corev1.Service{}, slices: map[string]*discoveryv1.EndpointSlice{}, speakers: map[string]*discoveryv1.EndpointSlice{}}
}

// NeedLeaderElection tells the manager that every speaker observes.
func (o *observer) NeedLeaderElection() bool { return false }

// Start observes until ctx ends.
func (o *observer) Start(ctx context.Context) error {
	err := o.cluster.watch(ctx, o.changed, &corev1.Service{}, &discoveryv1.EndpointSlice{}, &corev1.Node{},
		&v1beta1.IPAddressPool{}, &v1beta1.L2Advertisement{})
	if err != nil {
		return err
	}
	o.touch()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-o.dirty:
		}
		if err := o.report(ctx); err != nil {
			return err
		}
	}
}

func (o *observer) touch() {
	select {
	case o.dirty <- struct{}{}:
	default:
	}
}

// changed takes in one object as it was (nil: it is new) and as it is (nil: it is gone).
func (o *observer) changed(before, after client.Object) {
	o.mu.Lock()
	defer o.mu.Unlock()
	either := after
	if after == nil {
		either = before
	}
	name := cache.MetaObjectToName(either).String()
	switch either.(type) {
	case *corev1.Service:
		o.services[name], _ = after.(*corev1.Service)
	case *discoveryv1.EndpointSlice:
		o.slice(name, before, after)
	default:
		if before != nil && after != nil && sameConfig(before, after) {
			return
		}
		o.configured = true
	}
	o.touch()
}

func (o *observer) slice(name string, before, after client.Object) {
	now, _ := after.(*discoveryv1.EndpointSlice)
	o.slices[name] = now
	_, was := o.speakers[name] // what was deleted unseen may have no more than a name
	if was || o.ofSpeakers(before) || o.ofSpeakers(after) {
		o.manned = true
		delete(o.speakers, name)
		if o.ofSpeakers(after) {
			o.speakers[name] = now
		}
	}
}

func (o *observer) ofSpeakers(slice client.Object) bool {
	return slice != nil && slice.GetNamespace() == o.cluster.namespace && slice.GetLabels()[discoveryv1.LabelServiceName] == SpeakerService
}

// report tells what has changed. Until it has been told, nothing newer is in it but the configuration.
func (o *observer) report(ctx context.Context) error {
	o.mu.Lock()
	seen := Observed{Services: o.services, EndpointSlices: o.slices}
	o.services, o.slices = map[string]*corev1.Service{}, map[string]*discoveryv1.EndpointSlice{}
	if o.manned {
		seen.Speakers = make([]*discoveryv1.EndpointSlice, 0, len(o.speakers))
		for _, s := range o.speakers {
			seen.Speakers = append(seen.Speakers, s)
		}
	}
	configured := o.configured
	o.configured, o.manned = false, false
	o.mu.Unlock()
	if configured {
		objects, err := o.cluster.objects(ctx)
		if err != nil {
			return err
		}
		seen.Objects = &objects
	}
	o.tell(seen)
	return nil
}

// sameConfig reports whether two versions of one object mean the same for a speaker: nodes report how they are,
// and pools how full they are, every few seconds.
func sameConfig(before, after client.Object) bool {
	if before.GetUID() != after.GetUID() || before.GetGeneration() != after.GetGeneration() ||
		(before.GetDeletionTimestamp() == nil) != (after.GetDeletionTimestamp() == nil) ||
		!equality.Semantic.DeepEqual(before.GetLabels(), after.GetLabels()) {
		return false
	}
	switch b := before.(type) {
	case *corev1.Node:
		return sameNode(b, after.(*corev1.Node))
	case *v1beta1.IPAddressPool:
		a := after.(*v1beta1.IPAddressPool)
		return equality.Semantic.DeepEqual(b.Spec, a.Spec) && equality.Semantic.DeepEqual(b.Status.Quarantined, a.Status.Quarantined) &&
			equality.Semantic.DeepEqual(b.Status.Conditions, a.Status.Conditions)
	case *v1beta1.L2Advertisement:
		return equality.Semantic.DeepEqual(b.Spec, after.(*v1beta1.L2Advertisement).Spec)
	}
	return false
}

func sameNode(before, after *corev1.Node) bool {
	return equality.Semantic.DeepEqual(before.Spec, after.Spec) && equality.Semantic.DeepEqual(before.Status.Addresses, after.Status.Addresses) &&
		sameCondition(before, after, corev1.NodeReady) && sameCondition(before, after, corev1.NodeNetworkUnavailable)
}

// sameCondition compares all of a condition but what changes with each heartbeat.
func sameCondition(before, after *corev1.Node, kind corev1.NodeConditionType) bool {
	of := func(n *corev1.Node) (found corev1.NodeCondition) {
		for _, c := range n.Status.Conditions {
			if c.Type == kind {
				found = c
			}
		}
		return found
	}
	b, a := of(before), of(after)
	return b.Status == a.Status && b.LastTransitionTime.Equal(&a.LastTransitionTime)
}
