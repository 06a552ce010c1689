package ipam

import (
	"container/heap"
	"slices"
	"unique"
)

// queue are those that wait, in lines of the same wish, so that all that are refused together are passed over at once.
// It is a heap: the line whose first one is served first.
type queue []*line

type line struct {
	alike bool // all go by the same
	list  []*entry
}

// queueUp returns a queue of all that wait now. Who begins to wait later is not in it.
func (l *Ledger) queueUp() queue {
	var q queue
	for wish, group := range l.waiting {
		q = append(q, &line{alike: wish != unique.Handle[string]{}, list: slices.Clone(group)})
	}
	heap.Init(&q)
	return q
}

// next passes over the one that is served first.
func (q *queue) next() {
	first := (*q)[0]
	if first.list = first.list[1:]; len(first.list) == 0 {
		heap.Pop(q)
		return
	}
	heap.Fix(q, 0)
}

// refuse is next for one that there is nothing for, and for all that are like it. It returns them.
func (q *queue) refuse() []*entry {
	list := (*q)[0].list
	if !(*q)[0].alike {
		q.next()
		return list[:1]
	}
	heap.Pop(q)
	return list
}

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].list[0].compare(q[j].list[0]) < 0 }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(*line)) }

func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
