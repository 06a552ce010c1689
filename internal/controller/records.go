package controller

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/go-kit/log/level"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/internal/ipam"
	"github.com/lanyard-lb/lanyard/internal/kube"
	"github.com/lanyard-lb/lanyard/internal/record"
)

func holder(s *corev1.Service) record.Holder {
	return serviceHolder(types.NamespacedName{Namespace: s.Namespace, Name: s.Name}, string(s.UID))
}

func serviceHolder(name types.NamespacedName, uid string) record.Holder {
	return record.Holder{Kind: record.Service, Namespace: name.Namespace, Name: name.Name, UID: uid}
}

// remembered is the request of a Service, with the addresses that the records say it holds beside those of
// its status: an earlier controller may have got no further than that.
func (c *Controller) remembered(s *corev1.Service) ipam.Request {
	r := request(s)
	if len(r.Status) > 0 && !r.Ours {
		return r // somebody else has written this: what we had in mind did not come to be
	}
	who := holder(s)
	for _, e := range c.Records.HeldBy(who) {
		if e.HeldFor(who, c.Class) && !slices.Contains(r.Status, e.Addr) {
			r.Status, r.Ours = append(r.Status, e.Addr), true
		}
	}
	return r
}

// hold commits to the records what is about to be written to a Service's status. What the status does not name
// yet is committed even if it was before, unless that was after the Service was seen as it is now: it confirms
// that no other controller has taken over meanwhile. When the records know better who has an address, the
// ledger learns it, and the Service is decided on anew.
func (c *Controller) hold(ctx context.Context, s *corev1.Service, d ipam.Decision, beside map[netip.Addr][]record.Holder) error {
	who, named := holder(s), kube.IngressIPs(s)
	c.mu.Lock()
	confirmed := c.held[ipam.Key{Namespace: s.Namespace, Name: s.Name}] == s.ResourceVersion
	c.mu.Unlock()
	var changes []record.Change
	for _, a := range d.Assigned {
		e, known := c.Records.Lookup(a.IP)
		if !known || e.Pool != a.Pool && a.Pool != "" || !e.HeldFor(who, c.Class) || !confirmed && !slices.Contains(named, a.IP) {
			changes = append(changes, record.Hold(a.IP, who, a.Pool, c.Now(), beside[a.IP]...))
		}
	}
	if len(changes) == 0 {
		return nil
	}
	err := c.Records.Commit(ctx, changes...)
	var held *record.HeldError
	if errors.As(err, &held) {
		_ = level.Info(c.Logger).Log("msg", "somebody else holds an address", "service", s.Namespace+"/"+s.Name, "ip", held.Addr, "holder", held.By, "class", held.Class)
		if held.Class == c.Class && !held.By.Same(who) {
			c.Metrics.conflict()
		}
		c.learn(who, held)
	}
	return err
}

// holdAll commits at once what many Services have been given by one change, so that each of them finds it
// done: one write for each block of addresses instead of one for a few of them. What fails is tried again,
// and told, when its Service is worked on.
func (c *Controller) holdAll(ctx context.Context, keys []ipam.Key) {
	if len(keys) < 2 {
		return
	}
	var changes []record.Change
	before := map[ipam.Key]string{}
	c.mu.Lock()
	for _, k := range keys {
		d, _ := c.ledger.Decision(k)
		seen, known := c.versions[k]
		if !known || d.Foreign {
			continue
		}
		beside := c.beside(d)
		for _, a := range d.Assigned {
			changes = append(changes, record.Hold(a.IP, seen.Holder, a.Pool, c.Now(), beside[a.IP]...))
		}
		before[k] = seen.resourceVersion
	}
	c.mu.Unlock()
	if err := c.Records.Commit(ctx, changes...); err != nil {
		_ = level.Debug(c.Logger).Log("msg", "could not commit all of many changes at once", "err", err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(c.held, before)
}

func isHeldBy(e record.Entry, who record.Holder) bool {
	return slices.ContainsFunc(e.Holders, func(h record.Holding) bool { return h.Holder == who })
}

// letGo releases in the records what a Service's status no longer names. An earlier controller may still be
// about to write one of these addresses to the Service as it saw it: so a status must have been written since,
// and if it was not just now, it is, with nothing new in it but the time.
func (c *Controller) letGo(ctx context.Context, s *corev1.Service, d ipam.Decision, want kube.ServiceStatus, written bool) error {
	changes := append(c.releases(holder(s), d.IPs()), c.left(holder(s), d.IPs()...)...)
	if len(changes) == 0 {
		return nil
	}
	if !written {
		if old := meta.FindStatusCondition(s.Status.Conditions, want.Condition.Type); old != nil {
			want.Condition.LastTransitionTime = metav1.NewTime(old.LastTransitionTime.Add(time.Second))
		}
		if err := c.Writer.WriteServiceStatus(ctx, s, want); err != nil {
			return err
		}
	}
	return c.release(ctx, changes)
}

// release commits releases. What the ledger was denied for the sake of who has let go is to be had again, also when others
// of the releases have failed.
func (c *Controller) release(ctx context.Context, changes []record.Change) error {
	err := c.Records.Commit(ctx, changes...)
	var changed ipam.Changed
	c.mu.Lock()
	for _, r := range changes {
		if e, _ := c.Records.Lookup(r.Addr); len(e.Holders) == 0 {
			e.Addr = r.Addr
			changed = both(changed, c.learnOther(e))
		}
	}
	c.mu.Unlock()
	if len(changed.Services)+len(changed.Reservations) > 0 {
		c.follow(changed, types.NamespacedName{})
	}
	return err
}

// releases lets go of what an object holds by our class but for some addresses, and of all that others of its
// name hold, if the API server confirms that they are gone. What those hold by another class is left to that one,
// unless it is not in office.
func (c *Controller) releases(who record.Holder, but []netip.Addr) []record.Change {
	var changes []record.Change
	for _, e := range c.Records.HeldBy(who) {
		for _, h := range e.Holders {
			switch {
			case !h.Same(who), c.leftTo(h):
			case h.UID != who.UID:
				changes = append(changes, record.ReleaseGone(e.Addr, h.Holder, c.Now()))
			case h.Kind == record.Service && h.Class != c.Class: // see left
			case !slices.Contains(but, e.Addr):
				changes = append(changes, record.Release(e.Addr, h.Holder, c.Now()))
			}
		}
	}
	return changes
}

// left lets go of what a Service holds by other classes that have no controller in office, but for some addresses. It
// is for Services that are of none of those any more.
func (c *Controller) left(who record.Holder, but ...netip.Addr) []record.Change {
	var changes []record.Change
	for _, e := range c.Records.HeldBy(who) {
		for _, h := range e.Holders {
			if h.Holder == who && h.Class != c.Class && !c.leftTo(h) && !slices.Contains(but, e.Addr) {
				changes = append(changes, record.ReleaseLeft(e.Addr, who, h.Class, c.Now()))
			}
		}
	}
	return changes
}

// leftTo reports whether it is for the controller of another class to let go of a holding.
func (c *Controller) leftTo(h record.Holding) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return h.Kind == record.Service && h.Class != c.Class && c.office.live[h.Class]
}

// releaseAll releases in the records whatever an object holds by our class, others of its name that are gone, and what
// is left.
func (c *Controller) releaseAll(ctx context.Context, who record.Holder, left ...record.Change) error {
	changes := append(c.releases(who, nil), left...)
	if len(changes) == 0 {
		return nil
	}
	return c.release(ctx, changes)
}

// butHeld returns what failed of a commit beside those changes that were refused because somebody holds an address.
func butHeld(err error) error {
	if joined := (interface{ Unwrap() []error })(nil); errors.As(err, &joined) {
		var rest []error
		for _, e := range joined.Unwrap() {
			rest = append(rest, butHeld(e))
		}
		return errors.Join(rest...)
	}
	if held := (*record.HeldError)(nil); errors.As(err, &held) {
		return nil
	}
	return err
}
