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
func (f fenced) Confirm(context.Context) error                  { return errFenced }

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

// TestLeaderOfBeforeTakesNothing: nor may it take away what it has not given.
func TestLeaderOfBeforeTakesNothing(t *testing.T) {
	for name, change := range map[string]func(*corev1.Service){
		"an address more":   func(*corev1.Service) {},
		"not ours any more": ofClass("example.com/other"),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.pools("lan: 10.0.0.1-10.0.0.9")
			w.start("")
			w.apply("a", families(corev1.IPFamilyPolicyPreferDualStack, corev1.IPv4Protocol, corev1.IPv6Protocol))
			w.expect("a", "10.0.0.1 True FamilyUnavailable")
			w.controller.Records = fenced{w.records}
			s := w.services[types.NamespacedName{Namespace: "default", Name: "a"}]
			if name == "an address more" {
				s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: "fd00::1"})
			}
			change(s)
			want := w.show("a")
			err := w.controller.Service(context.Background(), types.NamespacedName{Namespace: "default", Name: "a"}, s.DeepCopy())
			if !errors.Is(err, errFenced) {
				t.Errorf("the leader of before works on: %v", err)
			}
			w.expect("a", want)
		})
	}
}
