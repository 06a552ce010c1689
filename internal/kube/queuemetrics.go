package kube

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/workqueue"
)

// QueueMetrics measure an AllocationQueue.
type QueueMetrics struct {
	depth, longest prometheus.Gauge
	retries        prometheus.Counter
	wait, work     prometheus.Histogram
}

// NewQueueMetrics returns metrics that stand in the registry.
func NewQueueMetrics(registry prometheus.Registerer) (*QueueMetrics, error) {
	buckets := []float64{.0005, .001, .005, .01, .05, .1, .5, 1, 5, 10, 30, 60}
	m := &QueueMetrics{
		depth: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "lanyard_queue_depth",
			Help: "Changes that wait for the controller to carry them out.",
		}),
		longest: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "lanyard_queue_longest_running_seconds",
			Help: "How long the controller has been at the change that it is at for the longest; 0: at none.",
		}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lanyard_queue_retries_total",
			Help: "Changes that could not be carried out and are to be tried again.",
		}),
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "lanyard_queue_wait_seconds",
			Help: "How long changes waited until the controller began with them.", Buckets: buckets,
		}),
		work: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "lanyard_queue_work_seconds",
			Help: "How long it took the controller to carry changes out, the API server's answers included.", Buckets: buckets,
		}),
	}
	for _, c := range []prometheus.Collector{m.depth, m.longest, m.retries, m.wait, m.work} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// queueProvider is what a workqueue asks for the metrics that it counts by. There is one queue, whatever its name.
type queueProvider struct{ *QueueMetrics }

func (m queueProvider) NewDepthMetric(string) workqueue.GaugeMetric { return m.depth }

// NewAddsMetric counts nothing: the histograms have counts.
func (m queueProvider) NewAddsMetric(string) workqueue.CounterMetric { return nowhere{} }

func (m queueProvider) NewLatencyMetric(string) workqueue.HistogramMetric { return m.wait }

func (m queueProvider) NewWorkDurationMetric(string) workqueue.HistogramMetric { return m.work }

// NewUnfinishedWorkSecondsMetric sets nothing: the longest time tells more than the sum.
func (m queueProvider) NewUnfinishedWorkSecondsMetric(string) workqueue.SettableGaugeMetric {
	return nowhere{}
}

func (m queueProvider) NewLongestRunningProcessorSecondsMetric(string) workqueue.SettableGaugeMetric {
	return m.longest
}

func (m queueProvider) NewRetriesMetric(string) workqueue.CounterMetric { return m.retries }

// nowhere takes measurements that nobody wants.
type nowhere struct{}

func (nowhere) Inc()        {}
func (nowhere) Set(float64) {}
