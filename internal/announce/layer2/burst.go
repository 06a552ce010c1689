package layer2

import (
	"container/heap"
	"slices"
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
	turn    uint64    // of a first announcement among those
	first   time.Time // when the first was
	due     time.Time // when the next is, if one has been sent
}

// over reports whether the probes have been sent and the time for answers has passed.
func (b burst) over() bool { return b.probe && b.step == probes }

// before reports whether it goes first of two of a kind: by due time, then by turn, then by address.
func (b *burst) before(other *burst) bool {
	switch {
	case !b.due.Equal(other.due):
		return b.due.Before(other.due)
	case b.turn != other.turn:
		return b.turn < other.turn
	}
	return b.holding.ip.Less(other.holding.ip)
}

// queue decides which frame is next and when. First announcements go before all else, in the order they were
// added; probes and repetitions go by due time, probes first. Probes keep a common pace with the first
// announcements, repetitions one of their own. An interface whose send queue is full is passed over for a
// breather: its bursts keep their order, and those of others go on. It is a plain value: time comes in as an
// argument.
//
// A burst that next has returned is in the queue no more, and whatever is added meanwhile, sent, retry,
// postpone or full can put it back.
type queue struct {
	lines        []*line
	turns        uint64 // how many first announcements have been added
	limit        int    // of bursts, beyond which those of no use are looked for
	freshPace    pace
	repeatedPace pace
	refresh      time.Duration // zero: never
	refreshed    uint32        // how many addresses have been given a time in the period
}

// line is what is queued for one responder.
type line struct {
	responder *responder
	full      time.Time // passed over until then
	fresh     byDue     // first announcements, which are due at once
	probing   byDue
	again     byDue
}

func newQueue(refresh time.Duration) *queue {
	return &queue{freshPace: pace{every: firstEvery}, repeatedPace: pace{every: repeatEvery}, refresh: refresh}
}

func (q *queue) add(list []burst) {
	if q.size()+len(list) > q.limit {
		q.sweep()
		q.limit = 2 * (q.size() + len(list))
	}
	for _, b := range list {
		l := q.line(b)
		if b.probe {
			heap.Push(&l.probing, b)
			continue
		}
		q.turns++
		b.turn = q.turns
		heap.Push(&l.fresh, b)
	}
}

// line returns the one of a burst. A new one takes the place of those that have become empty.
func (q *queue) line(b burst) *line {
	for _, l := range q.lines {
		if l.responder == b.holding.responder {
			return l
		}
	}
	q.lines = slices.DeleteFunc(q.lines, func(l *line) bool { return l.size() == 0 })
	l := &line{responder: b.holding.responder}
	q.lines = append(q.lines, l)
	return l
}

// size counts the bursts queued.
func (q *queue) size() (n int) {
	for _, l := range q.lines {
		n += l.size()
	}
	return n
}

// sweep drops the bursts of holdings that are gone, which would stay for as long as nothing can be sent.
func (q *queue) sweep() {
	for _, l := range q.lines {
		l.fresh.sweep()
		l.probing.sweep()
		l.again.sweep()
	}
}

func (l *line) size() int { return len(l.fresh) + len(l.probing) + len(l.again) }

// next takes what is to be sent, or decided, now, if there is anything.
func (q *queue) next(now time.Time) (b burst, ok bool) {
	var verdicts, fresh, probing, again *byDue
	for _, l := range q.lines {
		decided := len(l.probing) > 0 && l.probing[0].over()
		if decided {
			verdicts = sooner(verdicts, &l.probing)
		}
		if now.Before(l.full) {
			continue
		}
		if !decided {
			probing = sooner(probing, &l.probing)
		}
		fresh = sooner(fresh, &l.fresh)
		again = sooner(again, &l.again)
	}
	switch {
	case verdicts.ready(now):
		return heap.Pop(verdicts).(burst), true
	case fresh != nil:
		return fresh.take(&q.freshPace, now)
	case probing.ready(now) && q.freshPace.ready(now):
		return probing.take(&q.freshPace, now)
	case again.ready(now):
		return again.take(&q.repeatedPace, now)
	}
	return burst{}, false
}

// sent puts a burst back for its next frame, if it has any left.
func (q *queue) sent(b burst, now time.Time) {
	switch {
	case b.probe:
		b.step++
		b.due = now.Add(probeEvery)
		heap.Push(&q.line(b).probing, b)
		return
	case b.step == 0:
		b.first, b.turn = now, 0
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
	heap.Push(&q.line(b).again, b)
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
	heap.Push(&q.line(b).probing, b)
}

// postpone puts back a burst that may not be sent yet, and lets everything wait.
func (q *queue) postpone(b burst, now time.Time) {
	if b.over() { // answers may still wait to be read: ask once more
		b.step--
	}
	q.back(b)
	q.freshPace.hold(now.Add(nap))
	q.repeatedPace.hold(now.Add(nap))
}

// full puts back a burst that the send queue of its interface has no room for, and lets that interface wait.
// The frame does not count for the pace of the others.
func (q *queue) full(b burst, now time.Time) {
	q.back(b).full = now.Add(breather)
	if b.probe || b.step == 0 {
		q.freshPace.forget()
		return
	}
	q.repeatedPace.forget()
}

// back puts a burst where it was in its line.
func (q *queue) back(b burst) *line {
	l := q.line(b)
	switch {
	case b.probe:
		heap.Push(&l.probing, b)
	case b.step == 0:
		heap.Push(&l.fresh, b)
	default:
		heap.Push(&l.again, b)
	}
	return l
}

// wait returns how long it is until next has something; ok is false if nothing is queued.
func (q *queue) wait(now time.Time) (d time.Duration, ok bool) {
	var at time.Time
	consider := func(t time.Time) {
		if !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	waiting := slices.ContainsFunc(q.lines, func(l *line) bool { return len(l.fresh) > 0 && !now.Before(l.full) })
	for _, l := range q.lines {
		if len(l.fresh) > 0 {
			consider(later(l.full, q.freshPace.at))
		}
		switch {
		case len(l.probing) == 0:
		case l.probing[0].over():
			consider(l.probing[0].due)
		default:
			consider(later(l.full, later(l.probing[0].due, q.freshPace.at)))
		}
		if len(l.again) > 0 && !waiting {
			consider(later(l.full, later(l.again[0].due, q.repeatedPace.at)))
		}
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

// forget takes back the last use.
func (p *pace) forget() { p.at = p.at.Add(-p.every) }

func (p *pace) hold(until time.Time) { p.at = later(p.at, until) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// byDue is a heap of bursts, the one that goes first on top.
type byDue []burst

// ready reports whether there is a first and it is due.
func (h *byDue) ready(now time.Time) bool { return h != nil && !now.Before((*h)[0].due) }

// take takes the first if the pace allows it.
func (h *byDue) take(p *pace, now time.Time) (b burst, ok bool) {
	if !p.ready(now) {
		return burst{}, false
	}
	p.use(now)
	return heap.Pop(h).(burst), true
}

// sweep drops those whose holding is gone.
func (h *byDue) sweep() {
	*h = slices.DeleteFunc(*h, func(b burst) bool { return b.holding.gone.Load() })
	heap.Init(h)
}

// sooner returns the heap whose first goes first. The other may be empty, and first nil.
func sooner(first, other *byDue) *byDue {
	if len(*other) > 0 && (first == nil || (*other)[0].before(&(*first)[0])) {
		return other
	}
	return first
}

func (h byDue) Len() int { return len(h) }

func (h byDue) Less(i, j int) bool { return h[i].before(&h[j]) }

func (h byDue) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h *byDue) Push(x any) { *h = append(*h, x.(burst)) }

func (h *byDue) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
