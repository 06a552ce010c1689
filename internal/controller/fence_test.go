package controller

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/internal/record"
)

// fenced are records that another controller has taken over: what this process knows of them is old, and it
// can commit nothing.
type fenced struct{ *records }

var errFenced = errors.New("another controller has taken over")

func (f fenced) Commit(context.Context, ...record.Change) error { return errFenced }

// TestLeaderOfBeforeGivesNothing: a controller that was frozen while another one took over sees the newest
// Services before it learns that its time is over. It may not give back what it once gave.
func TestLeaderOfBeforeGivesNothing(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1-10.0.0.9")
	w.start("")
	w.apply("a")
	w.expect("a", "10.0.0.1 True Assigned")
	w.controller.Records = fenced{w.records}
	name := types.NamespacedName{Namespace: "default", Name: "a"}
	w.services[name].Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "10.0.0.2"}}
	if err := w.controller.Service(context.Background(), name, w.services[name].DeepCopy()); !errors.Is(err, errFenced) {
		t.Errorf("the leader of before works on: %v", err)
	}
	w.expect("a", "10.0.0.2 True Assigned")
}
