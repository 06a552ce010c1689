package controller

import (
	"math/big"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/internal/config"
	"github.com/lanyard-lb/lanyard/internal/ipam"
)

// Metrics of the controller.
type Metrics struct {
	addresses *prometheus.GaugeVec
	decisions *prometheus.CounterVec
	services  *prometheus.GaugeVec
	latency   prometheus.Histogram
	conflicts prometheus.Counter
	faulty    *prometheus.GaugeVec
	leading   prometheus.Gauge
}

// NewMetrics returns metrics that stand in the registry.
func NewMetrics(registry prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		addresses: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "lanyard_pool_addresses",
			Help: "Addresses of a pool by family and state: total, assigned, available, quarantined.",
		}, []string{"pool", "family", "state"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lanyard_allocations_total",
			Help: "Statuses written on Services by result (assigned, partial or pending) and reason.",
		}, []string{"result", "reason"}),
		services: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "lanyard_services",
			Help: "Services that this controller serves by what they have now: result (assigned, partial or pending) and reason.",
		}, []string{"result", "reason"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "lanyard_allocation_duration_seconds",
			Help:    "From a Service first seen without an address to its status written with all it asks for.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 3600},
		}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lanyard_allocation_conflicts_total",
			Help: "Addresses found with two holders: in statuses at start, or in the records against the ledger.",
		}),
		faulty: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "lanyard_config_faulty_objects",
			Help: "Objects that are not in force as they are written, by kind.",
		}, []string{"kind"}),
		leading: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "lanyard_controller_leading",
			Help: "1 while this controller is the one that assigns addresses.",
		}),
	}
	for _, c := range []prometheus.Collector{m.addresses, m.decisions, m.services, m.latency, m.conflicts, m.faulty, m.leading} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) conflict() { m.conflicts.Inc() }

// faults sets how many objects are not in force.
func (m *Metrics) faults(faults []config.Fault) {
	bad := map[string]map[string]bool{config.KindIPAddressPool: {}, config.KindIPReservation: {}, config.KindL2Advertisement: {}}
	for _, f := range faults {
		if !f.Warning {
			bad[f.Kind][f.Name] = true
		}
	}
	for kind, names := range bad {
		m.faulty.WithLabelValues(kind).Set(float64(len(names)))
	}
}

// pools sets the gauges of all pools in force; those of others vanish.
func (m *Metrics) pools(s config.Snapshot, usage map[string]ipam.Usage) {
	m.leading.Set(1)
	m.addresses.Reset()
	for name, totals := range s.Totals {
		for f, total := range totals {
			u := usage[name]
			size, _ := new(big.Float).SetInt(total).Float64()
			taken := float64(u.Assigned[f] + u.Kept[f] + u.Quarantined[f])
			for state, value := range map[string]float64{
				"total": size, "assigned": float64(u.Assigned[f]), "available": size - taken, "quarantined": float64(u.Quarantined[f]),
			} {
				m.addresses.WithLabelValues(name, f.String(), state).Set(value)
			}
		}
	}
}

// result is what a Service has, in one word.
func result(s ipam.Standing) string {
	switch {
	case s.IsMissed && s.Has:
		return "partial"
	case s.IsMissed:
		return "pending"
	}
	return "assigned"
}

// standings sets how many Services there are of each.
func (m *Metrics) standings(count map[ipam.Standing]int) {
	m.services.Reset()
	for s, n := range count {
		m.services.WithLabelValues(result(s), string(s.Reason)).Add(float64(n))
	}
}

// measure counts a status that has been written.
func (c *Controller) measure(s *corev1.Service, d ipam.Decision) {
	result := result(d.Standing())
	c.Metrics.decisions.WithLabelValues(result, string(d.Reason)).Inc()
	name := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
	c.mu.Lock()
	since, waited := c.seen[name]
	if result == "assigned" {
		delete(c.seen, name)
	}
	c.mu.Unlock()
	if waited && result == "assigned" {
		c.Metrics.latency.Observe(c.Now().Sub(since).Seconds())
	}
}
