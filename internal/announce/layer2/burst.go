package layer2

import (
	"container/heap"
	"net/netip"
	"time"
)

// Announcements of an address are sent at these times after the first. RFC 5227 section 2.3 asks for two
// and RFC 4861 section 7.2.6 for up to three; we send more, since a lost one can cut a neighbour off for as
// long as it caches, and spread them over five seconds for switches whose ports take that long to forward.
var repeats = [...]time.Duration{
	100 * time.Millisecond, 300 * time.Millisecond,
	time.Second, 2 * time.Second, 3500 * time.Millisecond, 5 * time.Second,
}

const (
	firstEvery  = 25 * time.Microsecond  // pace of first announcements: 5,000 addresses in an eighth of a second
	repeatEvery = 100 * time.Microsecond // pace of repetitions
	slack       = 5 * time.Millisecond   // how far behind its pace a sender may catch up at once
	breather    = time.Millisecond       // after which a full send queue is tried again
	spacing     = 100 * time.Millisecond // least time between two announcements of an address
)

// burst is the series of announcements of one address on one interface.
type burst struct {
	responder *responder
	ip        netip.Addr
	hold      hold
	step      int       // how many have been sent
	first     time.Time // when the first was
	due       time.Time // when the next is, if one has been sent
}

// queue decides which announcement is next and when. First announcements go before repetitions, in the
// order they were added; repetitions go by due time. Each kind keeps its pace. It is a plain value: time
// comes in as an argument.
type queue struct {
	fresh        []burst
	taken        int // of fresh
	again        byDue
	freshPace    pace
	repeatedPace pace
}

func newQueue() *queue {
	return &queue{freshPace: pace{every: firstEvery}, repeatedPace: pace{every: repeatEvery}}
}

func (q *queue) add(list []burst) {
	if q.waiting() == 0 {
		q.fresh, q.taken = q.fresh[:0], 0
	}
	q.fresh = append(q.fresh, list...)
}

// waiting counts the first announcements that are still to be sent.
func (q *queue) waiting() int { return len(q.fresh) - q.taken }

// next takes the announcement to be sent now, if there is one.
func (q *queue) next(now time.Time) (b burst, ok bool) {
	switch {
	case q.waiting() > 0 && q.freshPace.ready(now):
		q.freshPace.use(now)
		q.taken++
		return q.fresh[q.taken-1], true
	case q.waiting() == 0 && len(q.again) > 0 && !now.Before(q.again[0].due) && q.repeatedPace.ready(now):
		q.repeatedPace.use(now)
		return heap.Pop(&q.again).(burst), true
	}
	return burst{}, false
}

// sent puts a burst back for its next repetition, if it has any left.
func (q *queue) sent(b burst, now time.Time) {
	if b.step == 0 {
		b.first = now
	}
	if b.step == len(repeats) {
		return
	}
	b.due = later(b.first.Add(repeats[b.step]), now.Add(spacing))
	b.step++
	heap.Push(&q.again, b)
}

// postpone puts back a burst that next has just returned but that could not be sent, and lets everything
// wait for the send queue to drain.
func (q *queue) postpone(b burst, now time.Time) {
	if b.step == 0 {
		q.taken--
	} else {
		b.due = now
		heap.Push(&q.again, b)
	}
	q.freshPace.hold(now.Add(breather))
	q.repeatedPace.hold(now.Add(breather))
}

// wait returns how long it is until next has something; ok is false if nothing is queued.
func (q *queue) wait(now time.Time) (d time.Duration, ok bool) {
	switch {
	case q.waiting() > 0:
		return q.freshPace.at.Sub(now), true
	case len(q.again) > 0:
		return later(q.again[0].due, q.repeatedPace.at).Sub(now), true
	}
	return 0, false
}

// pace spaces events evenly, but lets late ones catch up by the slack.
type pace struct {
	every time.Duration
	at    time.Time // the next is allowed from here on
}

func (p *pace) ready(now time.Time) bool { return !now.Before(p.at) }

func (p *pace) use(now time.Time) { p.at = later(p.at, now.Add(-slack)).Add(p.every) }

func (p *pace) hold(until time.Time) { p.at = later(p.at, until) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// byDue is a heap of bursts, the one due first on top; ties go by address.
type byDue []burst

func (h byDue) Len() int { return len(h) }

func (h byDue) Less(i, j int) bool {
	if !h[i].due.Equal(h[j].due) {
		return h[i].due.Before(h[j].due)
	}
	return h[i].ip.Less(h[j].ip)
}

func (h byDue) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h *byDue) Push(x any) { *h = append(*h, x.(burst)) }

func (h *byDue) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
