package controller

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// series reads the gauges of a vector, by their labels.
func series(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := ""
			for _, l := range m.GetLabel() {
				labels += " " + l.GetName() + "=" + l.GetValue()
			}
			got[f.GetName()+labels] = m.GetGauge().GetValue()
		}
	}
	return got
}

// TestServicesByReason: the gauge says what Services have now, not what was written of them.
func TestServicesByReason(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1-10.0.0.2")
	for _, name := range []string{"a", "b", "c"} {
		w.apply(name)
	}
	w.start("")
	want := func(all map[string]float64) {
		t.Helper()
		if got := series(t, w.controller.Metrics.services); fmt.Sprint(got) != fmt.Sprint(all) {
			t.Errorf("have %v, want %v", got, all)
		}
	}
	want(map[string]float64{"lanyard_services reason=Assigned result=assigned": 2, "lanyard_services reason=PoolExhausted result=pending": 1})
	w.delete("a")
	w.settle()
	want(map[string]float64{"lanyard_services reason=Assigned result=assigned": 2})
	w.delete("b")
	w.delete("c")
	w.settle()
	want(map[string]float64{})
}
