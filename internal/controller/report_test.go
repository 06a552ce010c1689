package controller

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/internal/config"
)

// slowWriter holds up each write of finalizers until it is let go on.
type slowWriter struct {
	Writer
	begun, goOn chan struct{}
}

func (s slowWriter) WriteFinalizers(context.Context, client.Object, []string) error {
	s.begun <- struct{}{}
	<-s.goOn
	return nil
}

// TestOneReportAtATime: two that take the last finalizer off a pool at the same time would have the API server delete
// twice.
func TestOneReportAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.pools("lan: 10.0.0.1-10.0.0.2")
		w.start("")
		now := metav1.NewTime(w.now())
		w.pool("lan").DeletionTimestamp, w.pool("lan").Finalizers = &now, []string{"lanyard.dev/in-use"}
		slow := slowWriter{Writer: w, begun: make(chan struct{}, 2), goOn: make(chan struct{})}
		w.controller.Writer = slow
		done := make(chan error, 2)
		for range 2 {
			go func() { done <- w.controller.Report(context.Background(), w.objects) }()
		}
		synctest.Wait()
		if len(slow.begun) != 1 {
			t.Errorf("%d writes of the finalizers at the same time, want one", len(slow.begun))
		}
		close(slow.goOn)
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestReadinessIsBounded: what is wrong with an object fits into its status, however much it is, with what keeps it out
// of force among it.
func TestReadinessIsBounded(t *testing.T) {
	var faults []config.Fault
	for i := range 500 {
		faults = append(faults, config.Fault{Field: fmt.Sprintf("spec.addresses[%d]", i), Reason: config.Overlap, Warning: i < 400, Message: strings.Repeat("x", 100)})
	}
	r := readiness(1, faults)
	if len(r.Message) > 32768 || !strings.HasPrefix(r.Message, "spec.addresses[400]: xxx") || !strings.HasSuffix(r.Message, "x; and 480 more") {
		t.Errorf("%d bytes: %s", len(r.Message), r.Message)
	}
	if r := readiness(1, faults[:20]); strings.Contains(r.Message, "more") || strings.Count(r.Message, "; ") != 19 {
		t.Errorf("all of 20 are told: %s", r.Message)
	}
}
