package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-kit/log/level"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/config"
)

// report writes on each object of the configuration whether it is in force and, if not, every reason why not.
// One write that fails does not stop the others.
func (c *Controller) report(ctx context.Context, objects config.Objects, faults []config.Fault) error {
	type id struct{ kind, name string }
	byObject := map[id][]config.Fault{}
	for _, f := range faults {
		byObject[id{f.Kind, f.Name}] = append(byObject[id{f.Kind, f.Name}], f)
	}
	var failed []error
	for i := range objects.Pools {
		o := &objects.Pools[i]
		failed = append(failed, c.reportOn(ctx, o, o.Status.Conditions, byObject[id{config.KindIPAddressPool, o.Name}]))
	}
	for i := range objects.L2Advertisements {
		o := &objects.L2Advertisements[i]
		failed = append(failed, c.reportOn(ctx, o, o.Status.Conditions, byObject[id{config.KindL2Advertisement, o.Name}]))
	}
	return errors.Join(failed...)
}

func (c *Controller) reportOn(ctx context.Context, o client.Object, have []metav1.Condition, faults []config.Fault) error {
	want := condition(have, readiness(o.GetGeneration(), faults), c.Now())
	if old := meta.FindStatusCondition(have, want.Type); old != nil && *old == want {
		return nil
	}
	conditions := append([]metav1.Condition{}, have...)
	meta.SetStatusCondition(&conditions, want)
	if err := c.Writer.WriteConditions(ctx, o, conditions); err != nil {
		return err
	}
	_ = level.Info(c.Logger).Log("msg", "judged", "kind", fmt.Sprintf("%T", o), "name", o.GetName(), "ready", want.Status, "reason", want.Reason, "detail", want.Message)
	if len(faults) > 0 {
		c.Event(o, corev1.EventTypeWarning, want.Reason, "Configure", want.Message)
	}
	return nil
}

// readiness sums the faults of one object up: warnings alone leave it in force, under the warning's reason.
func readiness(generation int64, faults []config.Fault) metav1.Condition {
	ready := metav1.Condition{
		Type: v1beta1.ConditionReady, Status: metav1.ConditionTrue, ObservedGeneration: generation,
		Reason: string(config.InForce), Message: "in force",
	}
	var messages []string
	for _, f := range faults {
		messages = append(messages, f.Field+": "+f.Message)
		if ready.Reason == string(config.InForce) || !f.Warning && ready.Status == metav1.ConditionTrue {
			ready.Reason = string(f.Reason)
		}
		if !f.Warning {
			ready.Status = metav1.ConditionFalse
		}
	}
	if len(messages) > 0 {
		ready.Message = strings.Join(messages, "; ")
	}
	return ready
}
