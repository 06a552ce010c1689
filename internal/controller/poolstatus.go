package controller

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/config"
	"github.com/lanyard-lb/lanyard/internal/ipam"
)

// listedHolders is how many holders a pool's status lists.
const listedHolders = 50

// poolStatus is what the status of a pool should say.
func poolStatus(o *v1beta1.IPAddressPool, s config.Snapshot, u ipam.Usage, faults []config.Fault, now time.Time) v1beta1.IPAddressPoolStatus {
	status := v1beta1.IPAddressPoolStatus{
		Conditions: slices.Clone(o.Status.Conditions),
		IPv4:       counts(s.Totals[o.Name][ipam.IPv4], u, ipam.IPv4),
		IPv6:       counts(s.Totals[o.Name][ipam.IPv6], u, ipam.IPv6),
		// The speakers' field: kept here so that it makes no difference, and left out of what is written.
		Quarantined: o.Status.Quarantined,
	}
	for _, h := range u.First {
		holder := v1beta1.PoolHolder{Address: h.IP.String()}
		if h.IsReservation {
			holder.Reservation = h.Key.String()
		} else {
			holder.Service = h.Key.String()
		}
		status.Holders = append(status.Holders, holder)
	}
	status.MoreHolders = int32(u.Holdings - len(u.First))
	for _, want := range []metav1.Condition{
		readiness(o.Generation, faults),
		leftOut(o.Generation, s.LeftOut[o.Name]),
		conflict(o.Generation, s.Conflicts[o.Name]),
	} {
		meta.SetStatusCondition(&status.Conditions, condition(o.Status.Conditions, want, now))
	}
	return status
}

func counts(total *big.Int, u ipam.Usage, f ipam.Family) *v1beta1.AddressCounts {
	if total == nil {
		return nil
	}
	available := new(big.Int).Sub(total, big.NewInt(int64(u.Assigned[f]+u.Kept[f]+u.Quarantined[f])))
	return &v1beta1.AddressCounts{
		Total:       v1beta1.Count(total.String()),
		Assigned:    v1beta1.Count(fmt.Sprint(u.Assigned[f])),
		Available:   v1beta1.Count(available.String()),
		Quarantined: v1beta1.Count(fmt.Sprint(u.Quarantined[f])),
	}
}

func leftOut(generation int64, list []config.LeftOut) metav1.Condition {
	c := metav1.Condition{Type: v1beta1.ConditionAddressesLeftOut, Status: metav1.ConditionFalse,
		ObservedGeneration: generation, Reason: "None", Message: "every address of the pool can be handed out"}
	if len(list) > 0 {
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, "InUseOtherwise", "never handed out: "+config.Describe(list)
	}
	return c
}

func conflict(generation int64, list []config.Conflict) metav1.Condition {
	c := metav1.Condition{Type: v1beta1.ConditionConflict, Status: metav1.ConditionFalse,
		ObservedGeneration: generation, Reason: "None", Message: "no other pool has an address of this one"}
	if len(list) > 0 {
		var messages []string
		for _, l := range list[:min(len(list), 10)] {
			messages = append(messages, l.Message)
		}
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, string(config.Overlap), strings.Join(messages, "; ")
	}
	return c
}

// writePool writes status and finalizer of a pool where they differ. A pool is kept while addresses of it
// are held.
func (c *Controller) writePool(ctx context.Context, o *v1beta1.IPAddressPool, status v1beta1.IPAddressPoolStatus, inUse bool) error {
	if inUse && !isKept(o) { // first: while Services come and go, the status may never be at rest
		return c.keepPool(ctx, o)
	}
	if !equality.Semantic.DeepEqual(status, o.Status) {
		was, is := meta.FindStatusCondition(o.Status.Conditions, v1beta1.ConditionReady), meta.FindStatusCondition(status.Conditions, v1beta1.ConditionReady)
		changed := was == nil || was.Reason != is.Reason || was.Message != is.Message
		if err := c.Writer.WriteStatus(ctx, o, statusOf(status)); err != nil {
			return err
		}
		if changed {
			c.tellReadiness(o, *is)
		}
		return nil // the finalizer may go after the event of this write
	}
	if inUse {
		return nil
	}
	return c.letPoolGo(ctx, o)
}

// keepPools keeps the pools that are in use from vanishing; the rest is for another controller to write.
func (c *Controller) keepPools(ctx context.Context, objects config.Objects, usage map[string]ipam.Usage) error {
	var failed []error
	for i := range objects.Pools {
		if o := &objects.Pools[i]; usage[o.Name].Holdings > 0 {
			failed = append(failed, c.keepPool(ctx, o))
		}
	}
	return errors.Join(failed...)
}

// isKept reports whether a pool cannot vanish, or is about to and cannot be kept from it any more.
func isKept(o *v1beta1.IPAddressPool) bool {
	return o.DeletionTimestamp != nil || slices.Contains(o.Finalizers, v1beta1.FinalizerInUse)
}

func (c *Controller) keepPool(ctx context.Context, o *v1beta1.IPAddressPool) error {
	if isKept(o) {
		return nil
	}
	return c.Writer.WriteFinalizers(ctx, o, append(slices.Clone(o.Finalizers), v1beta1.FinalizerInUse))
}

// letPoolGo lets a pool vanish that nobody uses. Where other classes may, it is asked whether they do: should it be
// so, the next Report is not for long.
func (c *Controller) letPoolGo(ctx context.Context, o *v1beta1.IPAddressPool) error {
	if !slices.Contains(o.Finalizers, v1beta1.FinalizerInUse) {
		return nil
	}
	if used, err := c.usedByOthers(ctx, o.Name); used || err != nil {
		return err
	}
	return c.Writer.WriteFinalizers(ctx, o, slices.DeleteFunc(slices.Clone(o.Finalizers), func(f string) bool { return f == v1beta1.FinalizerInUse }))
}

// usedByOthers asks the API server whether other classes hold addresses of a pool.
func (c *Controller) usedByOthers(ctx context.Context, pool string) (bool, error) {
	c.mu.Lock()
	alone := len(c.office.live) == 0
	c.mu.Unlock()
	if alone {
		return false, nil
	}
	if err := c.Records.Refresh(ctx); err != nil {
		return false, err
	}
	c.learnOthers()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ledger.Held(pool) > 0, nil
}
