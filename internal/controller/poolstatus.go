package controller

import (
	"context"
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
	for _, h := range u.Holdings[:min(len(u.Holdings), listedHolders)] {
		holder := v1beta1.PoolHolder{Address: h.IP.String()}
		if h.IsReservation {
			holder.Reservation = h.Key.String()
		} else {
			holder.Service = h.Key.String()
		}
		status.Holders = append(status.Holders, holder)
	}
	status.MoreHolders = int32(max(0, len(u.Holdings)-listedHolders))
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
	if !equality.Semantic.DeepEqual(status, o.Status) {
		if err := c.Writer.WriteStatus(ctx, o, statusOf(status)); err != nil {
			return err
		}
		was, is := meta.FindStatusCondition(o.Status.Conditions, v1beta1.ConditionReady), meta.FindStatusCondition(status.Conditions, v1beta1.ConditionReady)
		if was == nil || was.Reason != is.Reason || was.Message != is.Message {
			c.tellReadiness(o, *is)
		}
		return nil // the finalizer follows with the event of this write
	}
	has := slices.Contains(o.Finalizers, v1beta1.FinalizerInUse)
	switch {
	case inUse && !has && o.DeletionTimestamp == nil:
		return c.Writer.WriteFinalizers(ctx, o, append(slices.Clone(o.Finalizers), v1beta1.FinalizerInUse))
	case !inUse && has:
		return c.Writer.WriteFinalizers(ctx, o, slices.DeleteFunc(slices.Clone(o.Finalizers), func(f string) bool { return f == v1beta1.FinalizerInUse }))
	}
	return nil
}
