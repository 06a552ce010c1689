package controller

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/go-kit/log/level"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/config"
	"github.com/lanyard-lb/lanyard/internal/ipam"
	"github.com/lanyard-lb/lanyard/internal/record"
)

func reservationHolder(r *v1beta1.IPReservation) record.Holder {
	return record.Holder{Kind: record.Reservation, Namespace: r.Namespace, Name: r.Name, UID: string(r.UID)}
}

// reserve tells the ledger of all reservations; Report carries out what it decides. One that fails does not
// stop the others.
func (c *Controller) reserve(ctx context.Context, objects config.Objects) error {
	var failed []error
	exists := map[ipam.Key]bool{}
	for i := range objects.Reservations {
		exists[ipam.Key{Namespace: objects.Reservations[i].Namespace, Name: objects.Reservations[i].Name}] = true
	}
	for _, k := range c.goneReservations(exists) {
		who := record.Holder{Kind: record.Reservation, Namespace: k.Namespace, Name: k.Name}
		if err := c.releaseAll(ctx, who); err != nil {
			failed = append(failed, err)
			continue
		}
		c.mu.Lock()
		changed := c.ledger.DeleteReservation(k)
		c.mu.Unlock()
		c.follow(changed, types.NamespacedName{})
		failed = append(failed, c.releaseAll(ctx, who)) // what carryOut has committed since
	}
	for _, r := range c.reservations() {
		c.mu.Lock()
		changed := c.ledger.SetReservation(r)
		c.mu.Unlock()
		changed.Reservations = slices.DeleteFunc(changed.Reservations, func(k ipam.Key) bool { return k == r.Key })
		if len(changed.Services)+len(changed.Reservations) > 0 {
			c.follow(changed, types.NamespacedName{})
		}
	}
	return errors.Join(failed...)
}

func (c *Controller) reservations() []ipam.Reservation {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asReported(c.snapshot.Reservations)
}

// asReported returns the reservations as they are to be decided on. For a controller that does not report on them
// they hold what their statuses say, for another one decides. mu is held.
func (c *Controller) asReported(all []ipam.Reservation) []ipam.Reservation {
	if c.office.reports(c.Now()) {
		return all
	}
	var fixed []ipam.Reservation
	for _, r := range all {
		fixed = append(fixed, ipam.Reservation{Key: r.Key, Created: r.Created, Addresses: r.Status, Status: r.Status})
	}
	return fixed
}

func (c *Controller) goneReservations(exists map[ipam.Key]bool) []ipam.Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(c.ledger.Reservations(), func(k ipam.Key) bool { return exists[k] })
}

// carryOut commits what a reservation holds, writes its status and releases what it no longer holds.
func (c *Controller) carryOut(ctx context.Context, r *v1beta1.IPReservation, faults []config.Fault) error {
	c.mu.Lock()
	decision, known := c.ledger.ReservationDecision(ipam.Key{Namespace: r.Namespace, Name: r.Name})
	beside, users := c.beside(decision), c.users(decision)
	c.mu.Unlock()
	if !known {
		return c.judgeOne(ctx, r, r.Status.Conditions, faults)
	}
	who := reservationHolder(r)
	var changes []record.Change
	for _, a := range decision.Assigned {
		if e, _ := c.Records.Lookup(a.IP); !isHeldBy(e, who) || !slices.Contains(r.Status.Held, a.IP.String()) {
			changes = append(changes, record.Hold(a.IP, who, a.Pool, c.Now(), beside[a.IP]...))
		}
	}
	if len(changes) > 0 {
		err := c.Records.Commit(ctx, changes...)
		var held *record.HeldError
		if errors.As(err, &held) {
			c.learn(who, held)
		}
		if err != nil {
			return err
		}
		c.mu.Lock()
		_, known = c.ledger.ReservationDecision(ipam.Key{Namespace: r.Namespace, Name: r.Name})
		c.mu.Unlock()
		if !known { // it went meanwhile, and who released what it held did not see this
			return c.releaseAll(ctx, who.Named())
		}
	}
	ready := reservationReadiness(r.Generation, decision)
	if !inForce(faults) {
		ready = readiness(r.Generation, faults)
	}
	if err := c.writeReservation(ctx, r, decision, users, ready); err != nil {
		return err
	}
	changes = c.releases(who, decision.IPs())
	if len(changes) == 0 {
		return nil
	}
	return c.release(ctx, changes)
}

// users names the Service that uses each address, the first by name.
func (c *Controller) users(d ipam.Decision) map[netip.Addr]string {
	users := map[netip.Addr]string{}
	for _, a := range d.Assigned {
		for _, k := range c.ledger.Holders(a.IP).Services {
			if users[a.IP] == "" || k.Name < users[a.IP] {
				users[a.IP] = k.Name
			}
		}
	}
	return users
}

func reservationReadiness(generation int64, d ipam.Decision) metav1.Condition {
	ready := metav1.Condition{Type: v1beta1.ConditionReady, Status: metav1.ConditionTrue,
		ObservedGeneration: generation, Reason: string(d.Reason), Message: d.Message}
	if len(d.Missing) > 0 {
		ready.Status = metav1.ConditionFalse
	}
	return ready
}

// reported is the order of a reservation's status: what is asked for by name, as it is asked for; then by address.
func reported(assigned []ipam.Assignment, names []string) []ipam.Assignment {
	place := func(a ipam.Assignment) int {
		at := slices.IndexFunc(names, func(text string) bool {
			ip, err := netip.ParseAddr(text)
			return err == nil && ip.Unmap() == a.IP
		})
		if at < 0 {
			return len(names)
		}
		return at
	}
	return slices.SortedStableFunc(slices.Values(assigned), func(a, b ipam.Assignment) int {
		return cmp.Or(place(a)-place(b), a.IP.Compare(b.IP))
	})
}

func (c *Controller) writeReservation(ctx context.Context, r *v1beta1.IPReservation, d ipam.Decision, users map[netip.Addr]string, ready metav1.Condition) error {
	status := v1beta1.IPReservationStatus{Conditions: slices.Clone(r.Status.Conditions)}
	meta.SetStatusCondition(&status.Conditions, condition(r.Status.Conditions, ready, c.Now()))
	for _, a := range reported(d.Assigned, r.Spec.Addresses) {
		status.Held = append(status.Held, a.IP.String())
		status.Addresses = append(status.Addresses, v1beta1.ReservedAddress{Address: a.IP.String(), Pool: a.Pool, Service: users[a.IP]})
	}
	if equality.Semantic.DeepEqual(status, r.Status) {
		return nil
	}
	if err := c.Writer.WriteStatus(ctx, r, statusOf(status)); err != nil {
		return err
	}
	old := meta.FindStatusCondition(r.Status.Conditions, v1beta1.ConditionReady)
	if old == nil || old.Reason != ready.Reason || old.Status != ready.Status {
		_ = level.Info(c.Logger).Log("msg", "reservation written", "reservation", r.Namespace+"/"+r.Name, "reason", ready.Reason, "detail", ready.Message)
		eventType := corev1.EventTypeNormal
		if ready.Status != metav1.ConditionTrue {
			eventType = corev1.EventTypeWarning
		}
		c.Event(r, eventType, ready.Reason, "ReserveAddress", ready.Message)
	}
	return nil
}
