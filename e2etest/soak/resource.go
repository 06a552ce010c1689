package soak

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Sample is what one process uses at a moment.
type Sample struct {
	At  time.Time
	Age time.Duration // of the process
	// By name: see Measures. What could not be read is absent.
	Values map[string]float64
}

// Measure is a kind of resource, and how much more of it at the end than at the beginning is no growth.
type Measure struct {
	Name    string
	Unit    string
	Divisor float64
	Factor  float64 // the median of the last third may be this many times that of the first,
	Margin  float64 // and so much more
}

// Measures are what is sampled, with what is tolerated. Memory follows what the cluster holds at the time and the
// collector's rhythm; a leak of one goroutine or descriptor per event would be thousands in an hour.
var Measures = []Measure{
	{"rss", "MB", 1 << 20, 1.2, 8 << 20},
	{"heap", "MB", 1 << 20, 1.3, 6 << 20},
	{"goroutines", "", 1, 1.15, 12},
	{"descriptors", "", 1, 1.15, 6},
	{"sockets", "", 1, 1.15, 6},
}

// Trend of one measure of one program.
type Trend struct {
	Program           string
	Measure           Measure
	First, Last, Most float64 // medians of the first and the last third, and the most ever
	Samples           int
}

// warm is how old a process must be for its samples to count: before, it fills its caches.
const warm = 30 * time.Second

// TrendOf compares the first with the last third of samples of one program, the same process or several after each
// other. It is false if there are too few.
func TrendOf(program string, m Measure, samples []Sample) (Trend, bool) {
	t := Trend{Program: program, Measure: m}
	var values []float64
	for _, s := range samples {
		if v, is := s.Values[m.Name]; is && s.Age >= warm {
			values = append(values, v)
			t.Most = max(t.Most, v)
		}
	}
	third := len(values) / 3
	t.Samples = len(values)
	if third < 3 {
		return t, false
	}
	t.First, t.Last = median(values[:third]), median(values[len(values)-third:])
	return t, true
}

// Grows tells whether the program uses more than is tolerated.
func (t Trend) Grows() bool { return t.Last > t.First*t.Measure.Factor+t.Measure.Margin }

func (t Trend) String() string {
	d := t.Measure.Divisor
	return fmt.Sprintf("%-26s %-11s %8.1f  %8.1f  %8.1f  %8.1f %-2s %5d", t.Program, t.Measure.Name, t.First/d, t.Last/d, t.Most/d,
		(t.First*t.Measure.Factor+t.Measure.Margin)/d, t.Measure.Unit, t.Samples)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// useOf reads what /proc says of a process, and how many of its descriptors are sockets.
func useOf(pid int) (map[string]float64, error) {
	values := map[string]float64{}
	folder := filepath.Join("/proc", strconv.Itoa(pid))
	status, err := os.ReadFile(filepath.Join(folder, "status"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(status)) {
		if text, is := strings.CutPrefix(line, "VmRSS:"); is {
			kilobytes, err := strconv.ParseFloat(strings.Fields(text)[0], 64)
			if err != nil {
				return nil, err
			}
			values["rss"] = kilobytes * 1024
		}
	}
	open, err := os.ReadDir(filepath.Join(folder, "fd"))
	if err != nil {
		return nil, err
	}
	for _, fd := range open {
		if to, err := os.Readlink(filepath.Join(folder, "fd", fd.Name())); err == nil && strings.HasPrefix(to, "socket:") {
			values["sockets"]++
		}
	}
	values["descriptors"] = float64(len(open))
	return values, nil
}

// metricsOf reads from a program's metrics what they say of its memory and goroutines, and whether it leads.
func metricsOf(text string, into map[string]float64) {
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		as := map[string]string{"go_goroutines": "goroutines", "go_memstats_heap_alloc_bytes": "heap", "lanyard_controller_leading": "leading"}[name]
		if number, err := strconv.ParseFloat(value, 64); as != "" && err == nil {
			into[as] = number
		}
	}
}
