package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-kit/log/level"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/config"
	"github.com/lanyard-lb/lanyard/internal/record"
)

// Allocator is what the controller's loop offers to be driven by. Service is called by several goroutines,
// but never for one Service at the same time; Configure and Report each by one at a time.
type Allocator interface {
	// Start is told everything once, before any other call: when each source has delivered its first full
	// list and this process has become the leader. list asks the API server itself for all Services.
	Start(ctx context.Context, objects config.Objects, list func(context.Context) ([]corev1.Service, error)) error
	// Configure is told the whole configuration whenever a part of it has changed.
	Configure(ctx context.Context, objects config.Objects) error
	// Report is called when EnqueueReport has asked for it, and when only the status of a pool has changed. Of the
	// configuration it is told the pools and reservations.
	Report(ctx context.Context, objects config.Objects) error
	// Service is told of one Service that changed or was enqueued; service is nil when it is gone.
	Service(ctx context.Context, name types.NamespacedName, service *corev1.Service) error
	// End is called after all other calls have returned, if the process ends in good order.
	End(ctx context.Context)
}

// writers is how many Services are worked on at the same time. Most of that time is spent waiting for the
// API server, and the more wait for the record of a block, the more share a write of it.
const writers = 48

// endsWithin is how long the process may take to end in good order.
const endsWithin = 2 * time.Second

// task is one entry of the queue: a Service, or one of the other two calls.
type task struct {
	types.NamespacedName
	call call
}

type call int

const (
	service call = iota
	configure
	report
)

// AllocationQueue drives an Allocator while this process is the leader.
type AllocationQueue struct {
	cluster   *Cluster
	queue     workqueue.TypedRateLimitingInterface[task]
	allocator Allocator
}

// NewAllocationQueue adds a queue to the cluster's Run. Drive must be called before Run.
func (c *Cluster) NewAllocationQueue(metrics *QueueMetrics) *AllocationQueue {
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[task](10*time.Millisecond, 30*time.Second)
	options := workqueue.TypedRateLimitingQueueConfig[task]{Name: "allocation", MetricsProvider: queueProvider{metrics}}
	return &AllocationQueue{cluster: c, queue: workqueue.NewTypedRateLimitingQueueWithConfig(limiter, options)}
}

// Enqueue has Service called for each of the names, soon and once, however often they are enqueued until then.
func (q *AllocationQueue) Enqueue(names ...types.NamespacedName) {
	for _, n := range names {
		q.queue.Add(task{NamespacedName: n})
	}
}

// EnqueueConfigure has Configure called, soon and once.
func (q *AllocationQueue) EnqueueConfigure() { q.queue.Add(task{call: configure}) }

// EnqueueReport has Report called after a time, or earlier when somebody else asks for that.
func (q *AllocationQueue) EnqueueReport(after time.Duration) {
	q.queue.AddAfter(task{call: report}, after)
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
	err := q.cluster.watch(ctx, q.changed, &corev1.Service{}, &v1beta1.IPAddressPool{},
		&v1beta1.IPReservation{}, &v1beta1.L2Advertisement{}, &corev1.Node{}, &corev1.Namespace{}, &networkingv1.ServiceCIDR{})
	if err != nil {
		return err
	}
	if err := q.start(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for range writers {
		group.Go(func() error {
			for {
				if more, err := q.next(ctx); err != nil || !more {
					return err
				}
			}
		})
	}
	<-ctx.Done()
	q.queue.ShutDown()
	err = group.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), endsWithin)
	defer cancel()
	q.allocator.End(last)
	return err
}

func (q *AllocationQueue) start(ctx context.Context) error {
	objects, err := q.cluster.allocationObjects(ctx)
	if err != nil {
		return err
	}
	return q.allocator.Start(ctx, objects, q.cluster.listServices)
}

// listServices asks the API server itself, page by page, and keeps what the caches would.
func (c *Cluster) listServices(ctx context.Context) ([]corev1.Service, error) {
	var all []corev1.Service
	for next := ""; ; {
		var page corev1.ServiceList
		if err := c.manager.GetAPIReader().List(ctx, &page, client.Limit(500), client.Continue(next)); err != nil {
			return nil, fmt.Errorf("list Services: %w", err)
		}
		for i := range page.Items {
			trimService(&page.Items[i])
		}
		all = append(all, page.Items...)
		if next = page.Continue; next == "" {
			return all, nil
		}
	}
}

// statusDelay is how long a status of a pool that somebody has written may stand before it is looked at: most often
// that is the write of a Report, and gathering has begun for the next. It is no less than the controller gathers for.
const statusDelay = 500 * time.Millisecond

// changed takes in an object as it was (nil: it is new) and as it is (nil: it is gone).
func (q *AllocationQueue) changed(before, after client.Object) {
	either := after
	if after == nil {
		either = before
	}
	_, isPool := either.(*v1beta1.IPAddressPool)
	switch s, isService := either.(*corev1.Service); {
	case isService:
		q.Enqueue(client.ObjectKeyFromObject(s))
	case reconfigures(before, after):
		q.EnqueueConfigure()
	case isPool:
		q.EnqueueReport(statusDelay)
	}
}

// next carries out one task; more is false when the queue has been shut down. The error is one that this
// process cannot go on after.
func (q *AllocationQueue) next(ctx context.Context) (more bool, _ error) {
	t, down := q.queue.Get()
	if down {
		return false, nil
	}
	defer q.queue.Done(t)
	var fenced *FencedError
	var held *record.HeldError
	switch err := q.do(ctx, t); {
	case errors.As(err, &fenced):
		return false, err
	case err == nil:
		q.queue.Forget(t)
	case ctx.Err() != nil:
	case apierrors.IsConflict(err), errors.As(err, &held):
		// Our cache was behind, and the newer version is on its way and brings its own event; or what we knew
		// of addresses was, and we know better now.
		q.queue.AddRateLimited(t)
	default:
		_ = level.Error(q.cluster.logger).Log("msg", "could not carry out a change, trying again", "service", t.NamespacedName, "err", err)
		q.queue.AddRateLimited(t)
	}
	return true, nil
}

func (q *AllocationQueue) do(ctx context.Context, t task) error {
	switch t.call {
	case configure:
		objects, err := q.cluster.allocationObjects(ctx)
		if err != nil {
			return err
		}
		return q.allocator.Configure(ctx, objects)
	case report:
		objects, err := q.cluster.reportObjects(ctx)
		if err != nil {
			return err
		}
		return q.allocator.Report(ctx, objects)
	}
	var s corev1.Service
	err := q.cluster.manager.GetCache().Get(ctx, t.NamespacedName, &s)
	if apierrors.IsNotFound(err) {
		return q.allocator.Service(ctx, t.NamespacedName, nil)
	}
	if err != nil {
		return fmt.Errorf("get Service %s: %w", t, err)
	}
	return q.allocator.Service(ctx, t.NamespacedName, &s)
}

// objects lists from the caches what a configuration is made of.
func (c *Cluster) objects(ctx context.Context) (config.Objects, error) {
	var pools v1beta1.IPAddressPoolList
	var ads v1beta1.L2AdvertisementList
	var nodes corev1.NodeList
	err := c.list(ctx, &pools, &ads, &nodes)
	return config.Objects{Pools: pools.Items, L2Advertisements: ads.Items, Nodes: nodes.Items}, err
}

// allocationObjects lists from the caches what only the controller needs, too.
func (c *Cluster) allocationObjects(ctx context.Context) (config.Objects, error) {
	objects, err := c.objects(ctx)
	if err != nil {
		return config.Objects{}, err
	}
	var reservations v1beta1.IPReservationList
	var namespaces corev1.NamespaceList
	var cidrs networkingv1.ServiceCIDRList
	if err := c.list(ctx, &reservations, &namespaces, &cidrs); err != nil {
		return config.Objects{}, err
	}
	objects.Reservations, objects.Namespaces = reservations.Items, namespaces.Items
	for _, o := range cidrs.Items {
		objects.ServiceCIDRs = append(objects.ServiceCIDRs, o.Spec.CIDRs...)
	}
	return objects, nil
}

// reportObjects lists from the caches what Report reports on.
func (c *Cluster) reportObjects(ctx context.Context) (config.Objects, error) {
	var pools v1beta1.IPAddressPoolList
	var reservations v1beta1.IPReservationList
	err := c.list(ctx, &pools, &reservations)
	return config.Objects{Pools: pools.Items, Reservations: reservations.Items}, err
}

// list fills lists from the caches.
func (c *Cluster) list(ctx context.Context, lists ...client.ObjectList) error {
	for _, list := range lists {
		if err := c.manager.GetCache().List(ctx, list); err != nil {
			return fmt.Errorf("list %T: %w", list, err)
		}
	}
	return nil
}
