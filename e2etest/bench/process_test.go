package bench

import (
	"os"
	"testing"
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
