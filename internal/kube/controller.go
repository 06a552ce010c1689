package kube

import (
	"context"
	"fmt"
	"time"

	"github.com/go-kit/log/level"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/config"
)

// Allocator is what the controller's loop offers to be driven by. Service is called by several goroutines,
// but never for one Service at the same time; Configure by one at a time.
type Allocator interface {
	// Start is told everything once, before any other call: when each source has delivered its first full
	// list and this process has become the leader.
	Start(ctx context.Context, objects config.Objects, services []corev1.Service) error
	// Configure is told the whole configuration whenever a part of it has changed.
	Configure(ctx context.Context, objects config.Objects) error
	// Service is told of one Service that changed or was enqueued; service is nil when it is gone.
	Service(ctx context.Context, name types.NamespacedName, service *corev1.Service) error
}

// writers is how many statuses are written at the same time.
const writers = 16

// task is one entry of the queue: a Service, or, with no name, the configuration.
type task struct {
	types.NamespacedName
}

// AllocationQueue drives an Allocator while this process is the leader.
type AllocationQueue struct {
	cluster   *Cluster
	queue     workqueue.TypedRateLimitingInterface[task]
	allocator Allocator
}

// NewAllocationQueue adds a queue to the cluster's Run. Drive must be called before Run.
func (c *Cluster) NewAllocationQueue() *AllocationQueue {
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[task](10*time.Millisecond, 30*time.Second)
	return &AllocationQueue{cluster: c, queue: workqueue.NewTypedRateLimitingQueue(limiter)}
}

// Enqueue has Service called for each of the names, soon and once, however often they are enqueued until then.
func (q *AllocationQueue) Enqueue(names ...types.NamespacedName) {
	for _, n := range names {
		q.queue.Add(task{n})
	}
}

// Drive makes the queue call the allocator.
func (q *AllocationQueue) Drive(a Allocator) error {
	q.allocator = a
	return q.cluster.manager.Add(q)
}

// NeedLeaderElection tells the manager to start the queue on the leader only.
func (q *AllocationQueue) NeedLeaderElection() bool { return true }

// Start runs the queue until ctx ends.
func (q *AllocationQueue) Start(ctx context.Context) error {
	err := q.cluster.sources(ctx, q.notify, &corev1.Service{}, &v1beta1.IPAddressPool{}, &v1beta1.L2Advertisement{}, &corev1.Node{})
	if err != nil {
		return err
	}
	if err := q.start(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for range writers {
		group.Go(func() error {
			for q.next(ctx) {
			}
			return nil
		})
	}
	<-ctx.Done()
	q.queue.ShutDown()
	return group.Wait()
}

func (q *AllocationQueue) start(ctx context.Context) error {
	objects, err := q.cluster.objects(ctx)
	if err != nil {
		return err
	}
	var services corev1.ServiceList
	if err := q.cluster.manager.GetCache().List(ctx, &services); err != nil {
		return fmt.Errorf("list Services: %w", err)
	}
	return q.allocator.Start(ctx, objects, services.Items)
}

func (q *AllocationQueue) notify(o client.Object) {
	if service, ok := o.(*corev1.Service); ok {
		q.Enqueue(client.ObjectKeyFromObject(service))
		return
	}
	q.queue.Add(task{})
}

// next carries out one task; it returns false when the queue has been shut down.
func (q *AllocationQueue) next(ctx context.Context) bool {
	t, down := q.queue.Get()
	if down {
		return false
	}
	defer q.queue.Done(t)
	switch err := q.do(ctx, t); {
	case err == nil:
		q.queue.Forget(t)
	case ctx.Err() != nil:
	case apierrors.IsConflict(err):
		// Our cache was behind: the newer version is on its way and brings its own event.
		q.queue.AddRateLimited(t)
	default:
		_ = level.Error(q.cluster.logger).Log("msg", "could not carry out a change, trying again", "service", t.NamespacedName, "err", err)
		q.queue.AddRateLimited(t)
	}
	return true
}

func (q *AllocationQueue) do(ctx context.Context, t task) error {
	if t == (task{}) {
		objects, err := q.cluster.objects(ctx)
		if err != nil {
			return err
		}
		return q.allocator.Configure(ctx, objects)
	}
	var service corev1.Service
	err := q.cluster.manager.GetCache().Get(ctx, t.NamespacedName, &service)
	if apierrors.IsNotFound(err) {
		return q.allocator.Service(ctx, t.NamespacedName, nil)
	}
	if err != nil {
		return fmt.Errorf("get Service %s: %w", t, err)
	}
	return q.allocator.Service(ctx, t.NamespacedName, &service)
}

// objects lists from the caches what a configuration is made of.
func (c *Cluster) objects(ctx context.Context) (config.Objects, error) {
	var pools v1beta1.IPAddressPoolList
	var ads v1beta1.L2AdvertisementList
	var nodes corev1.NodeList
	for _, list := range []client.ObjectList{&pools, &ads, &nodes} {
		if err := c.manager.GetCache().List(ctx, list); err != nil {
			return config.Objects{}, fmt.Errorf("list %T: %w", list, err)
		}
	}
	return config.Objects{Pools: pools.Items, L2Advertisements: ads.Items, Nodes: nodes.Items}, nil
}
