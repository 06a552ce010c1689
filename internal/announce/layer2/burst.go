package layer2

import (
	"container/heap"
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
	firstEvery  = 25 * time.Microsecond  // pace of first announcements and of probes: 5,000 addresses in an eighth of a second
	repeatEvery = 100 * time.Microsecond // pace of repetitions
	slack       = 5 * time.Millisecond   // how far behind its pace a sender may catch up at once
	breather    = time.Millisecond       // after which a full send queue is tried again
	nap         = 10 * time.Millisecond  // after which a sender that may not send asks again
	spacing     = 100 * time.Millisecond // least time between two announcements of an address
)

// An address is probed so many times, and answered for once nobody has claimed it in the time that one more
// would take. RFC 5227 section 2.1.1 has three probes too, but one to two seconds apart, after a random
// delay of up to one and with two of silence at the end; RFC 4862 section 5.1 has one and one second. Those
// times suit networks that wake up together with the host. Ours works already, a Service waits, and who
// answers later is still met as a conflict.
const (
	probes     = 3
	probeEvery = 100 * time.Millisecond
)

// burst is a series of frames for one address on one interface: announcements, or probes and then a verdict.
type burst struct {
	holding *holding
	probe   bool
	step    int       // how many have been sent
	first   time.Time // when the first was
	due     time.Time // when the next is, if one has been sent
}

// over reports whether the probes have been sent and the time for answers has passed.
func (b burst) over() bool { return b.probe && b.step == probes }

// queue decides which frame is next and when. First announcements go before all else, in the order they were
// added; probes and repetitions go by due time, probes first. Probes keep a common pace with the first
// announcements, repetitions one of their own. It is a plain value: time comes in as an argument.
type queue struct {
	fresh        []burst
	taken        int // of fresh
	probing      byDue
	again        byDue
	freshPace    pace
	repeatedPace pace
	refresh      time.Duration // zero: never
	refreshed    uint32        // how many addresses have been given a time in the period
}

func newQueue(refresh time.Duration) *queue {
	return &queue{freshPace: pace{every: firstEvery}, repeatedPace: pace{every: repeatEvery}, refresh: refresh}
}

func (q *queue) add(list []burst) {
	if q.waiting() == 0 {
		q.fresh, q.taken = q.fresh[:0], 0
	}
	for _, b := range list {
		if b.probe {
			heap.Push(&q.probing, b)
			continue
		}
		q.fresh = append(q.fresh, b)
	}
}

// waiting counts the first announcements that are still to be sent.
func (q *queue) waiting() int { return len(q.fresh) - q.taken }

// next takes what is to be sent, or decided, now, if there is anything.
func (q *queue) next(now time.Time) (b burst, ok bool) {
	switch {
	case q.probing.ready(now) && q.probing[0].over():
		return heap.Pop(&q.probing).(burst), true
	case q.waiting() > 0 && q.freshPace.ready(now):
		q.freshPace.use(now)
		q.taken++
		return q.fresh[q.taken-1], true
	case q.waiting() == 0 && q.probing.ready(now) && q.freshPace.ready(now):
		q.freshPace.use(now)
		return heap.Pop(&q.probing).(burst), true
	case q.waiting() == 0 && q.again.ready(now) && q.repeatedPace.ready(now):
		q.repeatedPace.use(now)
		return heap.Pop(&q.again).(burst), true
	}
	return burst{}, false
}

// sent puts a burst back for its next frame, if it has any left.
func (q *queue) sent(b burst, now time.Time) {
	switch {
	case b.probe:
		b.step++
		b.due = now.Add(probeEvery)
		heap.Push(&q.probing, b)
		return
	case b.step == 0:
		b.first = now
	}
	switch {
	case b.step < len(repeats):
		b.due = later(b.first.Add(repeats[b.step]), now.Add(spacing))
	case q.refresh == 0:
		return
	case b.step == len(repeats):
		b.due = later(now.Add(q.share()), now.Add(spacing))
	default:
		b.due = now.Add(q.refresh)
	}
	b.step = min(b.step+1, len(repeats)+1)
	heap.Push(&q.again, b)
}

// share is the part of the refresh period after which the next address is first refreshed. Multiples of the
// golden ratio, less their whole part, are spread evenly however many there are.
func (q *queue) share() time.Duration {
	const golden = 0x9e3779b9 // its fraction, in 32 bits
	q.refreshed++
	part := q.refreshed * golden
	return time.Duration(float64(q.refresh) * float64(part) / (1 << 32))
}

// retry puts back a burst whose frame was not sent, for a while that may be long.
func (q *queue) retry(b burst, now time.Time) {
	b.due = now.Add(probeEvery)
	heap.Push(&q.probing, b)
}

// postpone puts back a burst that next has just returned but that could not be sent, and lets everything
// wait: for the send queue to drain, or for leave to send.
func (q *queue) postpone(b burst, now time.Time, wait time.Duration) {
	switch {
	case b.probe:
		b.due = now.Add(wait)
		heap.Push(&q.probing, b)
	case b.step == 0:
		q.taken--
	default:
		b.due = now
		heap.Push(&q.again, b)
	}
	q.freshPace.hold(now.Add(wait))
	q.repeatedPace.hold(now.Add(wait))
}

// wait returns how long it is until next has something; ok is false if nothing is queued.
func (q *queue) wait(now time.Time) (d time.Duration, ok bool) {
	var at time.Time
	consider := func(t time.Time) {
		if !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	if q.waiting() > 0 {
		consider(q.freshPace.at)
	}
	if len(q.probing) > 0 {
		consider(q.probing.at(q.freshPace))
	}
	if len(q.again) > 0 && q.waiting() == 0 {
		consider(q.again.at(q.repeatedPace))
	}
	return at.Sub(now), ok
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

// ready reports whether the first is due.
func (h byDue) ready(now time.Time) bool { return len(h) > 0 && !now.Before(h[0].due) }

// at is when the first can be had, at that pace.
func (h byDue) at(p pace) time.Time {
	if h[0].over() {
		return h[0].due
	}
	return later(h[0].due, p.at)
}

func (h byDue) Len() int { return len(h) }

func (h byDue) Less(i, j int) bool {
	if !h[i].due.Equal(h[j].due) {
		return h[i].due.Before(h[j].due)
	}
	return h[i].holding.ip.Less(h[j].holding.ip)
}

func (h byDue) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h *byDue) Push(x any) { *h = append(*h, x.(burst)) }

func (h *byDue) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
