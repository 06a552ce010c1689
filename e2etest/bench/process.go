package bench

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// processorTime is the processor time of all threads of a process since it began, ended threads too, to the nanosecond.
func processorTime(pid int) (time.Duration, error) {
	// CPUCLOCK_SCHED of a process; see clock_getcpuclockid(3).
	clock := int32(^pid)<<3 | 2
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("read the processor time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// memory is what the kernel says of a process, in bytes.
type memory struct {
	resident int64 // at present
	peak     int64 // at most
}

func memoryOf(pid int) (memory, error) {
	path := fmt.Sprintf("/proc/%d/status", pid)
	raw, err := os.ReadFile(path)
	if err != nil {
		return memory{}, fmt.Errorf("read the memory of a process: %w", err)
	}
	m := parseStatus(string(raw))
	if m.resident == 0 || m.peak == 0 {
		return m, fmt.Errorf("%s tells no memory", path)
	}
	return m, nil
}

// parseStatus reads /proc/PID/status.
func parseStatus(text string) (m memory) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kilobytes, _ := strconv.ParseInt(fields[1], 10, 64)
		switch fields[0] {
		case "VmRSS:":
			m.resident = kilobytes << 10
		case "VmHWM:":
			m.peak = kilobytes << 10
		}
	}
	return m
}

// usage is the processor time of some processes at one time.
type usage struct {
	at   time.Time
	used []time.Duration
}

func usageOf(processes []*lab.Process) (u usage, err error) {
	u.used = make([]time.Duration, len(processes))
	u.at = time.Now()
	for i, p := range processes {
		if u.used[i], err = processorTime(p.PID()); err != nil {
			return u, fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	return u, nil
}

// rates are the processors that each process used from one time to another.
func rates(from, to usage) []float64 {
	all := make([]float64, len(from.used))
	for i := range all {
		all[i] = (to.used[i] - from.used[i]).Seconds() / to.at.Sub(from.at).Seconds()
	}
	return all
}

const (
	// window is how long processes are looked at to see whether they rest.
	window = 2 * time.Second
	// resting is the part of a processor that a resting process uses at most.
	resting = 0.02
	// restsWithin is how long that may take. What is not urgent may be paced: a speaker's reports, say.
	restsWithin = 90 * time.Second
)

// settle waits until the processes rest, at most for restsWithin.
func settle(ctx context.Context, processes []*lab.Process) error {
	_, err := settleWithin(ctx, processes, restsWithin)
	return err
}

// settleWithin waits until the processes rest, at most for so long, and returns what they used in the last window.
func settleWithin(ctx context.Context, processes []*lab.Process, limit time.Duration) (rest []float64, _ error) {
	for begun := time.Now(); ; {
		from, err := usageOf(processes)
		if err != nil {
			return nil, err
		}
		if err := pass(ctx, window); err != nil {
			return nil, err
		}
		to, err := usageOf(processes)
		if err != nil {
			return nil, err
		}
		rest = rates(from, to)
		busy := false
		for _, r := range rest {
			busy = busy || r > resting
		}
		if !busy || time.Since(begun) > limit {
			return rest, nil
		}
	}
}

// average is what the processes use over a time in which nothing is done.
func average(ctx context.Context, processes []*lab.Process, d time.Duration) ([]float64, error) {
	from, err := usageOf(processes)
	if err != nil {
		return nil, err
	}
	if err := pass(ctx, d); err != nil {
		return nil, err
	}
	to, err := usageOf(processes)
	return rates(from, to), err
}

// pass lets time pass: it is what is measured, not a wait for something.
func pass(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
