package controller

import (
	"runtime"
	"testing"
)

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkMemory is how much heap one Service takes: the object, the record, and what the controller keeps.
func BenchmarkMemory(b *testing.B) {
	const services = 10_000
	var used uint64
	for b.Loop() {
		before := heap()
		w := busy(b, services)
		w.queue, w.events = nil, nil
		used = heap() - before
		runtime.KeepAlive(w)
	}
	b.ReportMetric(float64(used)/services, "B/service")
}
