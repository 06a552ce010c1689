package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-kit/log/level"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/config"
)

// reportDelay gathers the changes that the status of a pool tells together, as long as the queue (internal/kube) does for those
// that others have written.
const reportDelay = 500 * time.Millisecond

// judge writes on each advertisement whether it is in force and, if not, why not; Report tells the pools and
// reservations. One write that fails does not stop the others.
func (c *Controller) judge(ctx context.Context, objects config.Objects, faults []config.Fault) error {
	c.mu.Lock()
	c.faults = faults
	c.mu.Unlock()
	c.Metrics.faults(faults)
	failed := []error{c.keepOffice(ctx)}
	for i := range objects.L2Advertisements {
		if !c.reports() {
			break
		}
		o := &objects.L2Advertisements[i]
		failed = append(failed, c.judgeOne(ctx, o, o.Status.Conditions, faultsOf(faults, config.KindL2Advertisement, o.Name)))
	}
	failed = append(failed, c.Report(ctx, objects))
	return errors.Join(failed...)
}

func faultsOf(faults []config.Fault, kind, name string) []config.Fault {
	var own []config.Fault
	for _, f := range faults {
		if f.Kind == kind && f.Name == name {
			own = append(own, f)
		}
	}
	return own
}

func inForce(faults []config.Fault) bool {
	for _, f := range faults {
		if !f.Warning {
			return false
		}
	}
	return true
}

func (c *Controller) judgeOne(ctx context.Context, o client.Object, have []metav1.Condition, faults []config.Fault) error {
	want := condition(have, readiness(o.GetGeneration(), faults), c.Now())
	if old := meta.FindStatusCondition(have, want.Type); old != nil && *old == want {
		return nil
	}
	conditions := append([]metav1.Condition{}, have...)
	meta.SetStatusCondition(&conditions, want)
	if err := c.Writer.WriteStatus(ctx, o, map[string]any{"conditions": conditions}); err != nil {
		return err
	}
	c.tellReadiness(o, want)
	return nil
}

// tellReadiness logs a changed verdict on an object, and records an event when it is a bad one.
func (c *Controller) tellReadiness(o client.Object, ready metav1.Condition) {
	kind := strings.TrimPrefix(fmt.Sprintf("%T", o), "*v1beta1.")
	_ = level.Info(c.Logger).Log("msg", "judged", "kind", kind, "name", o.GetName(), "ready", ready.Status, "reason", ready.Reason, "detail", ready.Message)
	if ready.Reason != string(config.InForce) {
		c.Event(o, corev1.EventTypeWarning, ready.Reason, "Configure", ready.Message)
	}
}

// readiness sums the faults of one object up: warnings alone leave it in force, under the warning's reason. The message
// tells the first 20, those that are no warnings before the others, and how many there are beyond.
func readiness(generation int64, faults []config.Fault) metav1.Condition {
	ready := metav1.Condition{
		Type: v1beta1.ConditionReady, Status: metav1.ConditionTrue, ObservedGeneration: generation,
		Reason: string(config.InForce), Message: "in force",
	}
	const most = 20
	var grave, slight []string
	for _, f := range faults {
		text := f.Field + ": " + f.Message
		if f.Warning {
			slight = append(slight, text)
		} else {
			grave = append(grave, text)
		}
		if ready.Reason == string(config.InForce) || !f.Warning && ready.Status == metav1.ConditionTrue {
			ready.Reason = string(f.Reason)
		}
		if !f.Warning {
			ready.Status = metav1.ConditionFalse
		}
	}
	messages := append(grave, slight...)
	if more := len(messages) - most; more > 0 {
		messages = append(messages[:most], fmt.Sprintf("and %d more", more))
	}
	if len(messages) > 0 {
		ready.Message = strings.Join(messages, "; ")
	}
	return ready
}

// Report writes what the statuses of pools and reservations say, keeps the pools in use from vanishing, and frees what has been
// kept for long enough. Of several controllers with different classes one writes; all keep pools from vanishing.
//
// There is one at a time: when two take the last finalizer off a pool at the same time, the API server deletes by name,
// twice, and the second may be a pool that was made since.
func (c *Controller) Report(ctx context.Context, objects config.Objects) error {
	select {
	case c.reporting <- struct{}{}:
		defer func() { <-c.reporting }()
	case <-ctx.Done():
		return fmt.Errorf("report: %w", ctx.Err())
	}
	defer c.Queue.EnqueueReport(renewEvery)
	if err := errors.Join(c.keepOffice(ctx), c.refresh(ctx)); err != nil {
		return err
	}
	c.mu.Lock()
	changed := c.ledger.Tick(c.Now())
	usage, snapshot, faults, expiry := c.ledger.Usage(listedHolders), c.snapshot, c.faults, c.ledger.Expiry()
	standings := c.ledger.Standings()
	c.mu.Unlock()
	if len(changed.Services)+len(changed.Reservations) > 0 {
		c.follow(changed, types.NamespacedName{})
	}
	if !expiry.IsZero() {
		c.Queue.EnqueueReport(expiry.Sub(c.Now()))
	}
	c.Metrics.pools(snapshot, usage)
	c.Metrics.standings(standings)
	if !c.reports() {
		return c.keepPools(ctx, objects, usage)
	}
	var failed []error
	for i := range objects.Reservations {
		o := &objects.Reservations[i]
		failed = append(failed, c.carryOut(ctx, o, faultsOf(faults, config.KindIPReservation, o.Namespace+"/"+o.Name)))
	}
	for i := range objects.Pools {
		o := &objects.Pools[i]
		status := poolStatus(o, snapshot, usage[o.Name], faultsOf(faults, config.KindIPAddressPool, o.Name), c.Now())
		failed = append(failed, c.writePool(ctx, o, status, usage[o.Name].Holdings > 0))
	}
	return errors.Join(failed...)
}

// statusOf turns a status into one that says "null" for what it lacks, so that a merge takes that away. It says
// nothing of what the speakers write.
func statusOf(status any) map[string]any {
	data, err := json.Marshal(status)
	fields := map[string]any{"conditions": nil, "ipv4": nil, "ipv6": nil, "holders": nil, "moreHolders": nil, "held": nil, "addresses": nil}
	if err == nil {
		err = json.Unmarshal(data, &fields)
	}
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", status, err)) // a type of ours that cannot be JSON
	}
	delete(fields, "quarantined")
	return fields
}
