package kube

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/workqueue"
)

// TestQueueMetrics: a queue with this provider measures what waits, what is at work and what is tried again.
func TestQueueMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	m, err := NewQueueMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[string](time.Millisecond, time.Millisecond)
	q := workqueue.NewTypedRateLimitingQueueWithConfig(limiter, workqueue.TypedRateLimitingQueueConfig[string]{Name: "test", MetricsProvider: queueProvider{m}})
	defer q.ShutDown()
	q.Add("a")
	q.Add("b")
	if n := read(t, registry, "lanyard_queue_depth"); n != 2 {
		t.Errorf("two wait, but the depth is %v", n)
	}
	item, _ := q.Get()
	q.AddRateLimited(item)
	q.Done(item)
	if n := read(t, registry, "lanyard_queue_retries_total"); n != 1 {
		t.Errorf("one is tried again, but the count is %v", n)
	}
	for _, name := range []string{"lanyard_queue_wait_seconds", "lanyard_queue_work_seconds"} {
		if n := read(t, registry, name); n != 1 {
			t.Errorf("one has been worked on, but %s has %v", name, n)
		}
	}
	_, _ = q.Get()
	deadline := time.Now().Add(10 * time.Second)
	for read(t, registry, "lanyard_queue_longest_running_seconds") == 0 {
		if time.Now().After(deadline) {
			t.Fatal("one is being worked on, but the longest time is 0")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// read is the value of a metric; of a histogram, how many were observed.
func read(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}
