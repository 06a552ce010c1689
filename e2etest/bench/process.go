package bench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
	// resting is the part of a processor that a resting process uses at most: a speaker's gossip takes 0.02, and 0.03 was seen
	// while the machine was slow.
	resting = 0.04
	// restingWrites is how many objects a second are written at most in a cluster at rest: leases, but no reports, which take a
	// daemon that paces them less of a processor than that.
	restingWrites = 6
	// inARow is how many looks in a row must find rest: what is paced, or tried again, pauses.
	inARow = 3
	// restsWithin is how long it may take after some events.
	restsWithin = 90 * time.Second
)

// reportedWithin is how long it may take until n Services that come at once are reported: speakers may pace that, ours to 20 a
// second.
func reportedWithin(n int) time.Duration { return time.Duration(n)*time.Second/20 + time.Minute }

// look is what was seen in a window.
type look struct {
	names  []string
	used   []float64 // processors that each of the processes used
	writes float64   // objects that anybody wrote, per second
}

func (l look) rests() bool { return slices.Max(l.used) <= resting && l.writes <= restingWrites }

func (l look) String() string {
	var all []string
	for i, u := range l.used {
		all = append(all, fmt.Sprintf("%s %.0f ms of CPU per second", l.names[i], u*1000))
	}
	return fmt.Sprintf("%s; %.0f writes per second", strings.Join(all, ", "), l.writes)
}

// restlessError says that there was no rest in time.
type restlessError struct {
	look
	limit time.Duration
}

func (e *restlessError) Error() string {
	return fmt.Sprintf("not at rest after %v: %s", e.limit, e.look)
}

// settle waits until the processes rest, and nobody writes to the API server what may concern them. Without rest within the
// limit it returns a restlessError. The look is the last.
func (s *Site) settle(ctx context.Context, processes []*lab.Process, limit time.Duration) (look, error) {
	return untilRest(limit, func() (look, error) { return s.look(ctx, processes) })
}

func untilRest(limit time.Duration, next func() (look, error)) (look, error) {
	begun, found := time.Now(), 0
	for {
		l, err := next()
		if err != nil {
			return l, err
		}
		if !l.rests() {
			found = 0
		} else if found++; found == inARow {
			return l, nil
		}
		if time.Since(begun) >= limit {
			return l, &restlessError{l, limit}
		}
	}
}

func (s *Site) look(ctx context.Context, processes []*lab.Process) (l look, _ error) {
	for _, p := range processes {
		l.names = append(l.names, p.Name)
	}
	written, err := s.revision(ctx)
	if err != nil {
		return l, err
	}
	from, err := usageOf(processes)
	if err != nil {
		return l, err
	}
	if err := pass(ctx, window); err != nil {
		return l, err
	}
	to, err := usageOf(processes)
	if err != nil {
		return l, err
	}
	writtenSince, err := s.revision(ctx)
	if err != nil {
		return l, err
	}
	l.used, l.writes = rates(from, to), float64(writtenSince-written)/to.at.Sub(from.at).Seconds()
	return l, nil
}

// revision counts what has been written to the API server so far, whatever its kind: etcd counts its writes, and lists tell.
func (s *Site) revision(ctx context.Context) (int64, error) {
	list, err := s.Client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return 0, fmt.Errorf("count what is written: %w", err)
	}
	n, err := strconv.ParseInt(list.ResourceVersion, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("count what is written: %w", err)
	}
	return n, nil
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
