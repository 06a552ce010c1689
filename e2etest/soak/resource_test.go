package soak

import (
	"os"
	"testing"
	"time"
)

func grown(first, perSample float64, name string) (list []Sample) {
	for i := range 90 {
		noise := float64(i%7) / 50 * first
		list = append(list, Sample{Age: time.Duration(i) * 10 * time.Second, Values: map[string]float64{name: first + noise + perSample*float64(i)}})
	}
	return list
}

// TestTrends: what wavers is no growth, what leaks is, whatever it is.
func TestTrends(t *testing.T) {
	for _, m := range Measures {
		size := map[string]float64{"rss": 40 << 20, "heap": 12 << 20}[m.Name]
		if size == 0 {
			size = 30
		}
		flat, is := TrendOf("x", m, grown(size, 0, m.Name))
		if !is || flat.Grows() {
			t.Errorf("%s that wavers grows: %v", m.Name, flat)
		}
		leak, is := TrendOf("x", m, grown(size, size/60, m.Name))
		if !is || !leak.Grows() {
			t.Errorf("%s that leaks does not grow: %v", m.Name, leak)
		}
	}
	young := grown(30, 100, "sockets")[:3]
	if trend, is := TrendOf("x", Measures[4], young); is {
		t.Errorf("three samples make a trend: %v", trend)
	}
	for i := range young {
		young[i].Age = 0
	}
}

// TestUse reads what this very process uses.
func TestUse(t *testing.T) {
	before, err := useOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	after, err := useOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if before["rss"] < 1<<20 || after["descriptors"] != before["descriptors"]+1 {
		t.Errorf("before %v, after opening a file %v", before, after)
	}
	metricsOf("# HELP go_goroutines Number\ngo_goroutines 42\ngo_memstats_heap_alloc_bytes 1.5e+06\n", after)
	if after["goroutines"] != 42 || after["heap"] != 1.5e6 {
		t.Errorf("read %v", after)
	}
}
