package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/config"
)

// SpeakerService is the name of the headless Service in Lanyard's namespace whose EndpointSlices name the
// speakers.
const SpeakerService = "lanyard-speaker"

// Observed is all that a speaker needs to know of the cluster, complete each time.
type Observed struct {
	config.Objects
	Services       []corev1.Service
	EndpointSlices []discoveryv1.EndpointSlice
	Speakers       []discoveryv1.EndpointSlice // those of the Service SpeakerService
}

// Observe adds to Run that tell is called with the whole state once every source has delivered its first
// full list, and again after changes; changes that come while tell works are told together. While the API
// server is away, nothing is told.
func (c *Cluster) Observe(tell func(Observed)) error {
	return c.manager.Add(&observer{cluster: c, tell: tell, dirty: make(chan struct{}, 1)})
}

type observer struct {
	cluster *Cluster
	tell    func(Observed)
	dirty   chan struct{}
}

// NeedLeaderElection tells the manager that every speaker observes.
func (o *observer) NeedLeaderElection() bool { return false }

// Start observes until ctx ends.
func (o *observer) Start(ctx context.Context) error {
	notify := func(client.Object) {
		select {
		case o.dirty <- struct{}{}:
		default:
		}
	}
	err := o.cluster.sources(ctx, notify, &corev1.Service{}, &discoveryv1.EndpointSlice{}, &corev1.Node{},
		&v1beta1.IPAddressPool{}, &v1beta1.L2Advertisement{})
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-o.dirty:
		}
		seen, err := o.cluster.observe(ctx)
		if err != nil {
			return err
		}
		o.tell(seen)
	}
}

func (c *Cluster) observe(ctx context.Context) (Observed, error) {
	objects, err := c.objects(ctx)
	if err != nil {
		return Observed{}, err
	}
	var services corev1.ServiceList
	var slices discoveryv1.EndpointSliceList
	for _, list := range []client.ObjectList{&services, &slices} {
		if err := c.manager.GetCache().List(ctx, list); err != nil {
			return Observed{}, fmt.Errorf("list %T: %w", list, err)
		}
	}
	seen := Observed{Objects: objects, Services: services.Items, EndpointSlices: slices.Items}
	for _, s := range slices.Items {
		if s.Namespace == c.namespace && s.Labels[discoveryv1.LabelServiceName] == SpeakerService {
			seen.Speakers = append(seen.Speakers, s)
		}
	}
	return seen, nil
}
