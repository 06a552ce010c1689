package bench

import (
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// TestProcessorTime: another way to ask for our own says the same.
func TestProcessorTime(t *testing.T) {
	for begun := time.Now(); time.Since(begun) < 20*time.Millisecond; { // work
	}
	var before, after unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &before); err != nil {
		t.Fatal(err)
	}
	have, err := processorTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Getrusage(unix.RUSAGE_SELF, &after); err != nil {
		t.Fatal(err)
	}
	used := func(r unix.Rusage) time.Duration { return time.Duration(r.Utime.Nano() + r.Stime.Nano()) }
	const tick = 10 * time.Millisecond // rusage may be that coarse
	if have < used(before)-tick || have > used(after)+tick || have == 0 {
		t.Errorf("%v, want from %v to %v", have, used(before), used(after))
	}
	if _, err := processorTime(1 << 22); err == nil { // the kernel gives no such number
		t.Error("a process that is not there has a processor time")
	}
}

func TestMemory(t *testing.T) {
	have := parseStatus("Name:\tspeaker\nVmPeak:\t 1295584 kB\nVmHWM:\t   61000 kB\nVmRSS:\t   50000 kB\nThreads:\t9\n")
	if want := (memory{resident: 50000 << 10, peak: 61000 << 10}); have != want {
		t.Errorf("%+v, want %+v", have, want)
	}
	own, err := memoryOf(os.Getpid())
	if err != nil || own.resident < 1<<20 || own.peak < own.resident {
		t.Errorf("%v, our own %+v", err, own)
	}
}

func TestRates(t *testing.T) {
	now := time.Now()
	have := rates(usage{now, []time.Duration{time.Second, 0}}, usage{now.Add(2 * time.Second), []time.Duration{2 * time.Second, time.Second / 2}})
	if len(have) != 2 || have[0] != 0.5 || have[1] != 0.25 {
		t.Errorf("%v processors, want 0.5 and 0.25", have)
	}
}

// TestUntilRest: one that pauses does not rest, nor who reports little by little, and no rest is an error.
func TestUntilRest(t *testing.T) {
	calm, busy, reporting := look{names: []string{"speaker"}, used: []float64{0.001}, writes: 1}, look{names: []string{"speaker"}, used: []float64{0.06}, writes: 1},
		look{names: []string{"speaker"}, used: []float64{0.015}, writes: 20}
	for _, tc := range []struct {
		name  string
		looks []look // the last goes on
		after int    // looks; 0: never
	}{
		{"at once", []look{calm}, inARow},
		{"later", []look{busy, busy, calm}, 2 + inARow},
		{"it pauses", []look{calm, calm, busy, calm}, 3 + inARow},
		{"busy", []look{busy}, 0},
		{"it reports, at little cost", []look{reporting}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				last, err := untilRest(restsWithin, func() (look, error) {
					time.Sleep(window)
					n++
					return tc.looks[min(n, len(tc.looks))-1], nil
				})
				var restless *restlessError
				if tc.after == 0 {
					if !errors.As(err, &restless) || last.rests() || n != int(restsWithin/window) {
						t.Errorf("%v after %d looks, the last %s", err, n, last)
					}
				} else if err != nil || n != tc.after || !last.rests() {
					t.Errorf("%v after %d looks, the last %s; want %d looks", err, n, last, tc.after)
				}
			})
		})
	}
	if have := reportedWithin(10000); have < 500*time.Second {
		t.Errorf("%v are too little for 10,000 reports at 20 a second", have)
	}
}
