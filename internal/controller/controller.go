package controller

import (
	"context"
	"iter"
	"net/netip"
	"slices"
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
	"github.com/lanyard-lb/lanyard/internal/record"
)

// Writer carries decisions to the API server. Writes fail with a conflict when the object has changed since
// it was seen. *kube.Cluster is one.
type Writer interface {
	WriteServiceStatus(ctx context.Context, seen *corev1.Service, s kube.ServiceStatus) error
	// WriteStatus replaces the status fields that are given.
	WriteStatus(ctx context.Context, seen client.Object, status any) error
	WriteFinalizers(ctx context.Context, seen client.Object, finalizers []string) error
}

// Records is the durable memory of who holds which address. *kube.Records is one.
type Records interface {
	Load(ctx context.Context) error
	Commit(ctx context.Context, changes ...record.Change) error
	Confirm(ctx context.Context) error
	Renew(ctx context.Context) ([]record.Term, error)
	Resign(ctx context.Context) error
	Refresh(ctx context.Context) error
	Lookup(netip.Addr) (record.Entry, bool)
	HeldBy(record.Holder) []record.Entry
	All() iter.Seq[record.Entry]
}

// Queue asks for calls of the controller.
type Queue interface {
	Enqueue(...types.NamespacedName) // Service
	EnqueueConfigure()               // Configure
	EnqueueReport(after time.Duration)
}

// Config of a Controller. Every field is needed, but Class.
type Config struct {
	Class   string // the loadBalancerClass to serve; empty: Services that name none
	Writer  Writer
	Records Records
	Queue   Queue
	Event   func(on client.Object, eventType, reason, action, note string)
	Metrics *Metrics
	Logger  log.Logger
	Now     func() time.Time
}

// Controller joins the ledger to the API server. It implements kube.Allocator.
type Controller struct {
	Config

	reporting chan struct{} // holds one while Report works
	batcher   batcher

	mu       sync.Mutex // guards the rest
	ledger   *ipam.Ledger
	snapshot config.Snapshot
	faults   []config.Fault
	seen     map[types.NamespacedName]time.Time // when a Service that waits for its first address was seen first
	versions map[ipam.Key]version               // the Services that the ledger knows, as last seen
	held     map[ipam.Key]string                // the resourceVersion that a Service had before holdAll committed for it
	others   map[netip.Addr]string              // what the ledger was denied, and why
	office   office
}

// version is a Service at one time.
type version struct {
	record.Holder
	resourceVersion string
	listed          bool // by the API server, and not seen since: what is seen next may be older
}

var _ kube.Allocator = (*Controller)(nil)

// New returns a Controller that knows nothing yet.
func New(c Config) *Controller {
	return &Controller{Config: c, reporting: make(chan struct{}, 1), ledger: ipam.NewLedger(), seen: map[types.NamespacedName]time.Time{}, versions: map[ipam.Key]version{},
		held: map[ipam.Key]string{}, others: map[netip.Addr]string{}, office: office{class: c.Class},
		batcher: batcher{linger: lingers, of: map[types.NamespacedName]*batch{}}}
}

// Configure puts a new configuration in force.
func (c *Controller) Configure(ctx context.Context, objects config.Objects) error {
	if _, err := c.batcher.settleAll(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	snapshot, faults := config.ParseAfter(c.snapshot, objects)
	c.snapshot = snapshot
	changed := c.ledger.Tick(c.Now())
	changed = both(changed, c.ledger.SetPools(snapshot.Pools))
	changed = both(changed, c.ledger.Quarantine(strangers(objects.Pools)))
	c.mu.Unlock()
	c.holdAll(ctx, changed.Services)
	c.follow(changed, types.NamespacedName{})
	if err := c.reserve(ctx, objects); err != nil {
		return err
	}
	c.relearnOthers() // what was reserved by nobody we knew may be now
	return c.judge(ctx, objects, faults)
}

func both(a, b ipam.Changed) ipam.Changed {
	return ipam.Changed{Services: append(a.Services, b.Services...), Reservations: append(a.Reservations, b.Reservations...)}
}

// follow has those called whose decision changed, but the one that is being worked on.
func (c *Controller) follow(changed ipam.Changed, but types.NamespacedName) {
	for _, n := range names(changed.Services) {
		if n != but {
			c.Queue.Enqueue(n)
		}
	}
	if len(changed.Reservations) > 0 {
		c.Queue.EnqueueConfigure()
	}
	c.Queue.EnqueueReport(reportDelay)
}

// Service decides on one Service and writes its status when that says something else.
func (c *Controller) Service(ctx context.Context, name types.NamespacedName, s *corev1.Service) error {
	if err := c.batcher.settle(ctx, name); err != nil {
		return err
	}
	switch {
	case s == nil:
		c.mu.Lock()
		last := c.versions[key(name)]
		c.mu.Unlock()
		if last.listed {
			last.UID = "" // it may be too new for us to see: the API server is asked
		}
		return c.forgetDeleted(ctx, name, last.UID, c.left(serviceHolder(name, last.UID))...)
	case !kube.IsOurs(s, c.Class):
		return c.giveUp(ctx, name, s)
	}
	decision, beside, err := c.decideSettled(ctx, name, s)
	if err != nil {
		return err
	}
	if decision.Foreign {
		_ = level.Debug(c.Logger).Log("msg", "left alone", "service", name, "reason", decision.Reason, "detail", decision.Message)
		return c.leave(ctx, s)
	}
	want := outcome(s, decision, c.Now())
	if err := c.hold(ctx, s, decision, beside); err != nil {
		return err
	}
	if err := c.write(ctx, s, decision, want); err != nil {
		return err
	}
	return c.letGo(ctx, s, decision, want, differs(s, want))
}

// decideSettled is decide, but a decision that is news is made when what is about to be free is.
func (c *Controller) decideSettled(ctx context.Context, name types.NamespacedName, s *corev1.Service) (ipam.Decision, map[netip.Addr][]record.Holder, error) {
	if len(s.Status.LoadBalancer.Ingress) == 0 {
		if _, err := c.batcher.settleAll(ctx); err != nil {
			return ipam.Decision{}, nil, err
		}
	}
	d, beside := c.decide(name, s)
	if d.Foreign || !differs(s, outcome(s, d, c.Now())) {
		return d, beside, nil
	}
	waited, err := c.batcher.settleAll(ctx)
	if waited {
		d, beside = c.decide(name, s)
	}
	return d, beside, err
}

// decide tells the ledger of a Service. beside are, for each address assigned, those who may hold it too.
func (c *Controller) decide(name types.NamespacedName, s *corev1.Service) (ipam.Decision, map[netip.Addr][]record.Holder) {
	now := c.Now()
	r := c.remembered(s)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.versions[r.Service] = version{Holder: holder(s), resourceVersion: s.ResourceVersion}
	if at, held := c.held[r.Service]; held && at != s.ResourceVersion {
		if delete(c.held, r.Service); len(c.held) == 0 {
			c.held = map[ipam.Key]string{} // a map that was large once stays large
		}
	}
	changed := both(c.ledger.Tick(now), c.ledger.Set(r))
	decision, _ := c.ledger.Decision(key(name))
	if len(changed.Services)+len(changed.Reservations) > 0 {
		c.follow(changed, name)
	}
	if _, known := c.seen[name]; !known && len(r.Status) == 0 {
		c.seen[name] = now
	}
	return decision, c.beside(decision)
}

func (c *Controller) beside(d ipam.Decision) map[netip.Addr][]record.Holder {
	beside := map[netip.Addr][]record.Holder{}
	for _, a := range d.Assigned {
		holders := c.ledger.Holders(a.IP)
		for _, k := range holders.Services {
			beside[a.IP] = append(beside[a.IP], record.Holder{Kind: record.Service, Namespace: k.Namespace, Name: k.Name})
		}
		for _, k := range holders.Reservations {
			beside[a.IP] = append(beside[a.IP], record.Holder{Kind: record.Reservation, Namespace: k.Namespace, Name: k.Name})
		}
	}
	return beside
}

func (c *Controller) write(ctx context.Context, s *corev1.Service, d ipam.Decision, want kube.ServiceStatus) error {
	if !differs(s, want) {
		return nil
	}
	if deprives(s, d.IPs()) {
		if err := c.Records.Confirm(ctx); err != nil {
			return err
		}
	}
	if err := c.Writer.WriteServiceStatus(ctx, s, want); err != nil {
		return err
	}
	c.measure(s, d)
	c.tellFled(s, d)
	_ = level.Info(c.Logger).Log("msg", "status written", "service", s.Namespace+"/"+s.Name, "reason", d.Reason, "detail", d.Message)
	eventType := corev1.EventTypeNormal
	if want.Condition.Status != metav1.ConditionTrue || len(d.Missing) > 0 {
		eventType = corev1.EventTypeWarning
	}
	c.Event(s, eventType, string(d.Reason), "AssignAddress", d.Message)
	return nil
}

// deprives reports whether a status that names these addresses alone lacks one that it names now.
func deprives(s *corev1.Service, ips []netip.Addr) bool {
	return slices.ContainsFunc(kube.IngressIPs(s), func(ip netip.Addr) bool { return !slices.Contains(ips, ip) })
}

// mine returns the addresses that a Service holds by our class, as the records say.
func (c *Controller) mine(who record.Holder) []netip.Addr {
	var ips []netip.Addr
	for _, e := range c.Records.HeldBy(who) {
		if e.HeldFor(who, c.Class) {
			ips = append(ips, e.Addr)
		}
	}
	return ips
}

// leave releases what was committed for a Service before somebody else wrote its status, which is left alone: the
// write changes nothing, and shows that the Service was not seen too late.
func (c *Controller) leave(ctx context.Context, s *corev1.Service) error {
	left := c.left(holder(s))
	if len(c.mine(holder(s)))+len(left) > 0 {
		nothing := kube.ServiceStatus{LeaveIngress: true, Remove: true, Condition: metav1.Condition{Type: v1beta1.ConditionIPAssigned}}
		if err := c.Writer.WriteServiceStatus(ctx, s, nothing); err != nil {
			return err
		}
	}
	return c.releaseAll(ctx, holder(s), left...)
}

// giveUp takes back what we wrote on a Service that is not ours (any more), then frees its addresses: in
// this order, so that no address ever stands in two statuses. It may be another Lanyard's: then it is touched
// only if it holds something by us. The write is made even if it changes nothing, for it shows that the Service
// was not seen too late. What is left of a class that has ended goes, too, once the Service is of none.
func (c *Controller) giveUp(ctx context.Context, name types.NamespacedName, s *corev1.Service) error {
	var left []record.Change
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		left = c.left(holder(s))
	}
	held := c.mine(holder(s))
	for _, r := range left {
		held = append(held, r.Addr)
	}
	if len(held) == 0 && (s.Spec.Type == corev1.ServiceTypeLoadBalancer || !kube.HasOurMark(s)) {
		return c.forget(ctx, name, string(s.UID), left...)
	}
	clear := kube.ServiceStatus{Remove: true, Condition: metav1.Condition{Type: v1beta1.ConditionIPAssigned}}
	clear.LeaveIngress = !namesOnly(s, held)
	if !clear.LeaveIngress {
		if err := c.Records.Confirm(ctx); err != nil {
			return err
		}
	}
	if err := c.Writer.WriteServiceStatus(ctx, s, clear); err != nil {
		return err
	}
	if kube.HasOurMark(s) || !clear.LeaveIngress {
		_ = level.Info(c.Logger).Log("msg", "given up", "service", name, "type", s.Spec.Type)
		c.Event(s, corev1.EventTypeNormal, "Released", "ReleaseAddress", "the Service is not for Lanyard any more; its addresses are free")
	}
	return c.forget(ctx, name, string(s.UID), left...)
}

// namesOnly reports whether the load-balancer status of a Service is what we wrote: it names some of these
// addresses and nothing else.
func namesOnly(s *corev1.Service, ips []netip.Addr) bool {
	named := kube.IngressIPs(s)
	return len(named) > 0 && len(named) == len(s.Status.LoadBalancer.Ingress) &&
		!slices.ContainsFunc(named, func(ip netip.Addr) bool { return !slices.Contains(ips, ip) })
}

// forget frees the addresses of a Service that is gone or not ours any more: in the records first, for what
// the ledger calls free may be given away at once. Others of its name that stand in the records, with another
// UID, are released if the API server confirms that they are gone. left goes with them.
func (c *Controller) forget(ctx context.Context, name types.NamespacedName, uid string, left ...record.Change) error {
	if err := c.releaseAll(ctx, serviceHolder(name, uid), left...); err != nil {
		return err
	}
	c.drop(name)
	return nil
}

// drop has the ledger forget Services whose addresses are released.
func (c *Controller) drop(names ...types.NamespacedName) {
	c.mu.Lock()
	changed, known := c.ledger.Tick(c.Now()), false
	for _, name := range names {
		_, was := c.ledger.Decision(key(name))
		known = known || was
		changed = both(changed, c.ledger.Delete(key(name)))
		delete(c.seen, name)
		delete(c.versions, key(name))
		delete(c.held, key(name))
	}
	expiry := c.ledger.Expiry()
	c.mu.Unlock()
	if known || len(changed.Services)+len(changed.Reservations) > 0 {
		c.follow(changed, types.NamespacedName{})
	}
	if !expiry.IsZero() {
		c.Queue.EnqueueReport(time.Until(expiry))
	}
}
