package speaker

import (
	"cmp"
	"container/heap"
	"time"
)

// agenda holds entries that are to be written: those whose time is still to come, by that, and the others by urgency.
// What failed comes after what did not, however urgent: what cannot be written keeps nothing else from it.
// Its zero value is empty.
type agenda struct{ waiting, ready places }

// place is where an entry is in the agenda. What it goes by is what it was when it was put there.
type place struct {
	*entry
	in       *places
	at       int // index
	due      time.Time
	failures int
	urgency  int
}

// put adds an entry, or puts it where it belongs now.
func (a *agenda) put(e *entry) {
	a.remove(e)
	e.place = &place{entry: e, in: &a.waiting, due: e.due(), failures: e.failures, urgency: e.urgency()}
	heap.Push(&a.waiting, e.place)
}

// remove takes an entry out, if it is there.
func (a *agenda) remove(e *entry) {
	if e.place != nil {
		heap.Remove(e.place.in, e.place.at)
		e.place = nil
	}
}

// next is the most urgent of the entries whose time has come, or nil and when that of the first one comes; zero: never.
func (a *agenda) next(now time.Time) (most *entry, at time.Time) {
	a.ready.urgent = true
	for a.waiting.Len() > 0 && !a.waiting.list[0].due.After(now) {
		p := heap.Pop(&a.waiting).(*place)
		p.in = &a.ready
		heap.Push(&a.ready, p)
	}
	switch {
	case a.ready.Len() > 0:
		return a.ready.list[0].entry, time.Time{}
	case a.waiting.Len() > 0:
		return nil, a.waiting.list[0].due
	}
	return nil, time.Time{}
}

// places is a heap.
type places struct {
	list   []*place
	urgent bool // ordered by failures and urgency, not by due time
}

func (h *places) Len() int { return len(h.list) }

func (h *places) Less(i, j int) bool {
	a, b := h.list[i], h.list[j]
	if h.urgent {
		return cmp.Or(cmp.Compare(a.failures, b.failures), cmp.Compare(a.urgency, b.urgency), cmp.Compare(a.name, b.name)) < 0
	}
	return a.due.Before(b.due)
}

func (h *places) Swap(i, j int) {
	h.list[i], h.list[j] = h.list[j], h.list[i]
	h.list[i].at, h.list[j].at = i, j
}

// Push implements heap.Interface.
func (h *places) Push(x any) {
	p := x.(*place)
	p.at = len(h.list)
	h.list = append(h.list, p)
}

// Pop implements heap.Interface.
func (h *places) Pop() any {
	last := h.list[len(h.list)-1]
	h.list[len(h.list)-1] = nil
	h.list = h.list[:len(h.list)-1]
	return last
}
