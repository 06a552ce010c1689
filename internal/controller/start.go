package controller

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/go-kit/log/level"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/internal/config"
	"github.com/lanyard-lb/lanyard/internal/ipam"
	"github.com/lanyard-lb/lanyard/internal/kube"
	"github.com/lanyard-lb/lanyard/internal/record"
)

// Start learns every pool, record and Service before anything is decided, so that nobody is given an address
// that a status somewhere already names. The records are taken over before the Services are listed: from then
// on no other controller can add to what the list shows.
func (c *Controller) Start(ctx context.Context, objects config.Objects, list func(context.Context) ([]corev1.Service, error)) error {
	if err := c.Records.Load(ctx); err != nil {
		return err
	}
	if err := c.keepOffice(ctx); err != nil {
		return err
	}
	services, err := list(ctx)
	if err != nil {
		return err
	}
	if err := c.releaseGone(ctx, objects, services); err != nil {
		return err
	}
	var requests []ipam.Request
	versions := map[ipam.Key]version{}
	for i := range services {
		if kube.IsOurs(&services[i], c.Class) {
			r := c.remembered(&services[i])
			requests, versions[r.Service] = append(requests, r), version{holder(&services[i]), services[i].ResourceVersion, true}
		}
	}
	c.mu.Lock()
	snapshot, faults := config.Parse(objects)
	c.snapshot, c.faults, c.ledger = snapshot, faults, ipam.NewLedger()
	c.ledger.Tick(c.Now())
	c.ledger.SetPools(snapshot.Pools)
	c.ledger.Quarantine(strangers(objects.Pools))
	c.versions, c.others = versions, map[netip.Addr]string{}
	c.recall(requests)
	changed := c.ledger.Load(requests, c.asReported(snapshot.Reservations))
	c.mu.Unlock()
	c.learnOthers()
	c.holdAll(ctx, changed.Services)
	_ = level.Info(c.Logger).Log("msg", "serving", "class", c.Class, "pools", len(snapshot.Pools), "services", len(requests))
	c.audit(services)
	c.follow(changed, types.NamespacedName{})
	c.Queue.EnqueueConfigure() // writes statuses, which may have to be tried again: an earlier leader may be writing them, too
	return nil
}

// recall tells the ledger, before it loads the requests, what the records know of addresses beside who holds
// them. What was released is kept for a deleted Service, not for a reservation or a Service that has moved on. What
// Services of other classes hold is theirs, and what a Service holds that is not ours any more is nobody's until it
// has been given up.
func (c *Controller) recall(requests []ipam.Request) {
	served := map[ipam.Key]bool{}
	for _, r := range requests {
		served[r.Service] = len(r.Status) > 0
	}
	serves := func(k ipam.Key) bool { _, ours := served[k]; return ours }
	for e := range c.Records.All() {
		switch {
		case len(e.Holders) > 0:
			c.ledger.CameFrom(e.Addr, e.Pool)
			if o, is := otherThan(e, c.Class, serves, func(ipam.Key) bool { return true }); is {
				c.others[e.Addr] = o.Text
				c.ledger.Deny(e.Addr, o, ipam.Key{}, false)
			}
		case len(e.Previous) > 0:
			last := e.Previous[0]
			k := ipam.Key{Namespace: last.Namespace, Name: last.Name}
			if last.Kind != record.Service || served[k] {
				k = ipam.Key{}
			}
			c.ledger.Remember(e.Addr, k, last.To)
		}
	}
}

// releaseGone releases in the records what is held by objects that went while nobody was looking. What was held by
// a class that has no controller in office any more is among it. Who turns out to live is only too new to be known.
func (c *Controller) releaseGone(ctx context.Context, objects config.Objects, services []corev1.Service) error {
	alive := map[record.Holder]bool{}
	for i := range services {
		alive[holder(&services[i])] = true
	}
	for i := range objects.Reservations {
		alive[reservationHolder(&objects.Reservations[i])] = true
	}
	var changes []record.Change
	for e := range c.Records.All() {
		for _, h := range e.Holders {
			switch {
			case alive[h.Holder], c.leftTo(h):
			case h.Kind == record.Service && h.Class == c.Class: // they were listed after the records were taken over
				changes = append(changes, record.Release(e.Addr, h.Holder, c.Now()))
			default:
				changes = append(changes, record.ReleaseGone(e.Addr, h.Holder, c.Now()))
			}
		}
	}
	if len(changes) == 0 {
		return nil
	}
	return butHeld(c.Records.Commit(ctx, changes...))
}

// audit reports the addresses that stand in the statuses of several Services which may not share them:
// somebody else must have made them. The Services that do not keep theirs are told like any other. Where one is of
// another class, only ours are told.
func (c *Controller) audit(services []corev1.Service) {
	named := map[netip.Addr][]*corev1.Service{}
	for i := range services {
		for _, ip := range kube.IngressIPs(&services[i]) {
			named[ip] = append(named[ip], &services[i])
		}
	}
	for ip, list := range named {
		ours := func(s *corev1.Service) bool { return kube.IsOurs(s, c.Class) }
		loses := func(s *corev1.Service) bool {
			d := c.decision(types.NamespacedName{Namespace: s.Namespace, Name: s.Name})
			return !slices.Contains(d.IPs(), ip)
		}
		if len(list) < 2 || !slices.ContainsFunc(list, ours) || !slices.ContainsFunc(list, loses) {
			continue
		}
		var who []string
		for _, s := range list {
			who = append(who, s.Namespace+"/"+s.Name)
		}
		slices.Sort(who)
		text := fmt.Sprintf("%s stands in the statuses of %s, which may not share it", ip, strings.Join(who, " and "))
		_ = level.Error(c.Logger).Log("msg", "duplicate address", "ip", ip, "services", strings.Join(who, ","))
		c.Metrics.conflict()
		for _, s := range list {
			if !ours(s) {
				continue
			}
			c.Event(s, corev1.EventTypeWarning, "DuplicateAddress", "AuditAddresses", text)
		}
	}
}

func (c *Controller) decision(name types.NamespacedName) ipam.Decision {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, _ := c.ledger.Decision(key(name))
	return d
}
