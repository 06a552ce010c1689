package controller

import (
	"context"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/config"
	"github.com/lanyard-lb/lanyard/internal/ipam"
	"github.com/lanyard-lb/lanyard/internal/kube"
)

// Writer carries decisions to the API server. Writes fail with a conflict when the object has changed since
// it was seen.
type Writer interface {
	WriteServiceStatus(ctx context.Context, seen *corev1.Service, s kube.ServiceStatus) error
	WriteConditions(ctx context.Context, seen client.Object, conditions []metav1.Condition) error
}

// Config of a Controller. Every field is needed, but Class.
type Config struct {
	Class   string // the loadBalancerClass to serve; empty: Services that name none
	Writer  Writer
	Enqueue func(...types.NamespacedName) // asks for a call of Service
	Event   func(on client.Object, eventType, reason, action, note string)
	Logger  log.Logger
	Now     func() time.Time
}

// Controller joins the ledger to the API server. It implements kube.Allocator.
type Controller struct {
	Config

	mu     sync.Mutex // guards ledger
	ledger *ipam.Ledger
}

var _ kube.Allocator = (*Controller)(nil)

// New returns a Controller that knows nothing yet.
func New(c Config) *Controller { return &Controller{Config: c, ledger: ipam.NewLedger()} }

// Start learns every pool and Service before anything is decided, so that nobody is given an address that a
// status somewhere already names.
func (c *Controller) Start(ctx context.Context, objects config.Objects, services []corev1.Service) error {
	snapshot, faults := config.Parse(objects)
	var requests []ipam.Request
	for i := range services {
		if kube.IsOurs(&services[i], c.Class) {
			requests = append(requests, request(&services[i]))
		}
	}
	c.mu.Lock()
	c.ledger = ipam.NewLedger()
	c.ledger.SetPools(snapshot.Pools)
	changed := c.ledger.Load(requests)
	c.mu.Unlock()
	_ = level.Info(c.Logger).Log("msg", "serving", "class", c.Class, "pools", len(snapshot.Pools), "services", len(requests))
	c.Enqueue(names(changed)...)
	return c.report(ctx, objects, faults)
}

// Configure puts a new configuration in force.
func (c *Controller) Configure(ctx context.Context, objects config.Objects) error {
	snapshot, faults := config.Parse(objects)
	c.mu.Lock()
	changed := c.ledger.SetPools(snapshot.Pools)
	c.mu.Unlock()
	c.Enqueue(names(changed)...)
	return c.report(ctx, objects, faults)
}

// Service decides on one Service and writes its status when that says something else.
func (c *Controller) Service(ctx context.Context, name types.NamespacedName, s *corev1.Service) error {
	switch {
	case s == nil:
		c.forget(name)
		return nil
	case !kube.IsOurs(s, c.Class):
		return c.giveUp(ctx, name, s)
	}
	c.mu.Lock()
	changed := c.ledger.Set(request(s))
	decision, _ := c.ledger.Decision(key(name))
	c.mu.Unlock()
	c.enqueueOthers(name, changed)
	if decision.Foreign {
		_ = level.Debug(c.Logger).Log("msg", "left alone", "service", name, "reason", decision.Reason, "detail", decision.Message)
		return nil
	}
	return c.write(ctx, s, decision)
}

func (c *Controller) write(ctx context.Context, s *corev1.Service, d ipam.Decision) error {
	want := outcome(s, d, c.Now())
	if !differs(s, want) {
		return nil
	}
	if err := c.Writer.WriteServiceStatus(ctx, s, want); err != nil {
		return err
	}
	_ = level.Info(c.Logger).Log("msg", "status written", "service", s.Namespace+"/"+s.Name, "reason", d.Reason, "detail", d.Message)
	eventType := corev1.EventTypeNormal
	if want.Condition.Status != metav1.ConditionTrue || len(d.Missing) > 0 {
		eventType = corev1.EventTypeWarning
	}
	c.Event(s, eventType, string(d.Reason), "AssignAddress", d.Message)
	return nil
}

// giveUp takes back what we wrote on a Service that is not ours (any more), then frees its addresses: in
// this order, so that no address ever stands in two statuses.
func (c *Controller) giveUp(ctx context.Context, name types.NamespacedName, s *corev1.Service) error {
	if kube.HasOurMark(s) {
		clear := kube.ServiceStatus{Remove: true, Condition: metav1.Condition{Type: v1beta1.ConditionIPAssigned}}
		clear.LeaveIngress = !c.ownIngress(name, s)
		if err := c.Writer.WriteServiceStatus(ctx, s, clear); err != nil {
			return err
		}
		_ = level.Info(c.Logger).Log("msg", "given up", "service", name, "type", s.Spec.Type)
		c.Event(s, corev1.EventTypeNormal, "Released", "ReleaseAddress", "the Service is not for Lanyard any more; its addresses are free")
	}
	c.forget(name)
	return nil
}

// ownIngress reports whether the load-balancer status of a Service is what we wrote: addresses that it holds
// in the ledger, or, after a restart, addresses of our pools.
func (c *Controller) ownIngress(name types.NamespacedName, s *corev1.Service) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ip := range kube.IngressIPs(s) {
		if holder, held := c.ledger.Holder(ip); held && holder != key(name) || !held && !c.ledger.InPool(ip) {
			return false
		}
	}
	return true
}

func (c *Controller) forget(name types.NamespacedName) {
	c.mu.Lock()
	changed := c.ledger.Delete(key(name))
	c.mu.Unlock()
	c.Enqueue(names(changed)...)
}

func (c *Controller) enqueueOthers(name types.NamespacedName, changed []ipam.Key) {
	for _, n := range names(changed) {
		if n != name {
			c.Enqueue(n)
		}
	}
}
