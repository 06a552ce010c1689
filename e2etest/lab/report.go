package lab

import (
	"fmt"
	"slices"
	"time"
)

// Report is the account of a Flow.
type Report struct {
	Samples []Sample
	// Sent counts all requests; Pending those whose time is not yet over.
	Sent, Answered, Lost, Pending int
	// Gap is the longest time without an answer.
	Gap Gap
	// Pods counts the answers by pod, Nodes by the pod's node.
	Pods, Nodes map[string]int
	// Err is the first failure.
	Err error
}

// Gap is a time without an answer: from one answer to the next, or to the end of the flow.
type Gap struct{ From, To time.Time }

// Duration is the length of the gap.
func (g Gap) Duration() time.Duration { return g.To.Sub(g.From) }

// String is one line for a test's log.
func (r Report) String() string {
	s := fmt.Sprintf("sent %d, answered %d, lost %d, pending %d, longest gap %v, by pod %v", r.Sent, r.Answered, r.Lost, r.Pending,
		r.Gap.Duration().Round(time.Millisecond), r.Pods)
	if r.Err != nil {
		s += fmt.Sprintf(", first failure: %v", r.Err)
	}
	return s
}

// Report is the account since the beginning or the last Reset.
func (f *Flow) Report() Report {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expire(time.Now())
	first := slices.IndexFunc(f.samples, func(s Sample) bool { return s.Sent.After(f.since) })
	if first < 0 {
		first = len(f.samples)
	}
	end := f.stopped
	if end.IsZero() {
		end = time.Now()
	}
	return account(slices.Clone(f.samples[first:]), f.since, end)
}

// Gap is the longest time without an answer so far.
func (f *Flow) Gap() time.Duration { return f.Report().Gap.Duration() }

// account adds up samples. The time from the last answer to the end counts as a gap, and so does that from begin to the
// first answer, if begin is not zero.
func account(samples []Sample, begin, end time.Time) Report {
	r := Report{Samples: samples, Sent: len(samples), Pods: map[string]int{}, Nodes: map[string]int{}}
	var answers []time.Time
	if !begin.IsZero() {
		answers = append(answers, begin)
	}
	for _, s := range samples {
		switch {
		case !s.Answered.IsZero():
			r.Answered++
			r.Pods[s.Reply.Pod]++
			r.Nodes[s.Reply.Node]++
			answers = append(answers, s.Answered)
		case s.Err != nil:
			r.Lost++
			if r.Err == nil {
				r.Err = s.Err
			}
		default:
			r.Pending++
		}
	}
	slices.SortFunc(answers, time.Time.Compare)
	if len(answers) > 0 && end.After(answers[len(answers)-1]) {
		answers = append(answers, end)
	}
	for i := 1; i < len(answers); i++ {
		if gap := (Gap{answers[i-1], answers[i]}); gap.Duration() > r.Gap.Duration() {
			r.Gap = gap
		}
	}
	return r
}
