package sortedlist

import (
	"iter"
	"slices"
)

// chunk is how many elements lie together, about: no chunk has more than twice that, and no two that follow each other
// have fewer than that together, but for lists that are shorter.
const chunk = 128

// List is a sorted list. The zero value is empty. Copies are cheap, and safe to use by several goroutines.
type List[T any] struct {
	chunks [][]T // none is empty
	count  int
}

// Of returns a list of elements, which are sorted.
func Of[T any](elements []T) List[T] {
	l := List[T]{count: len(elements)}
	for c := range slices.Chunk(elements, chunk) {
		l.chunks = append(l.chunks, slices.Clone(c))
	}
	return l
}

// Len returns how many elements there are.
func (l List[T]) Len() int { return l.count }

// All yields all elements in their order.
func (l List[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, c := range l.chunks {
			for _, e := range c {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// Same reports whether two lists are one version, or both empty.
func (l List[T]) Same(o List[T]) bool {
	return l.count == o.count && slices.EqualFunc(l.chunks, o.chunks, one)
}

// one reports whether two chunks are the same memory.
func one[T any](a, b []T) bool { return len(a) == len(b) && &a[0] == &b[0] }

// Equal reports whether a list has just these elements.
func Equal[T comparable](l List[T], elements []T) bool {
	if l.count != len(elements) {
		return false
	}
	for _, c := range l.chunks {
		if !slices.Equal(c, elements[:len(c)]) {
			return false
		}
		elements = elements[len(c):]
	}
	return true
}

// Edit says what is to be at one key.
type Edit[K, T any] struct {
	Key  K
	Now  T
	Gone bool // nothing is
}

// Edited returns a list with edits made. They are sorted, each key once. Without any, it is the same version.
func Edited[K, T any](l List[T], edits []Edit[K, T], compare func(T, K) int) List[T] {
	if len(edits) == 0 {
		return l
	}
	now := List[T]{chunks: make([][]T, 0, len(l.chunks)+1)}
	for i := range max(len(l.chunks), 1) {
		var c []T
		n := len(edits)
		if i < len(l.chunks) {
			c = l.chunks[i]
		}
		if i+1 < len(l.chunks) { // what is less than the next chunk is for this one
			n, _ = slices.BinarySearchFunc(edits, l.chunks[i+1][0], func(e Edit[K, T], first T) int { return -compare(first, e.Key) })
		}
		if n > 0 {
			c = merge(c, edits[:n], compare)
			edits = edits[n:]
		}
		now.put(c)
	}
	return now
}

// merge returns a chunk with edits made.
func merge[K, T any](c []T, edits []Edit[K, T], compare func(T, K) int) []T {
	merged := make([]T, 0, len(c)+len(edits))
	for _, e := range edits {
		i, found := slices.BinarySearchFunc(c, e.Key, compare)
		merged = append(merged, c[:i]...)
		if !e.Gone {
			merged = append(merged, e.Now)
		}
		if found {
			i++
		}
		c = c[i:]
	}
	return append(merged, c...)
}

// put appends elements: as a chunk, with the last one if both are small, or as several chunks.
func (l *List[T]) put(c []T) {
	l.count += len(c)
	if last := len(l.chunks) - 1; last >= 0 && len(c) > 0 && len(l.chunks[last])+len(c) < chunk {
		c = slices.Concat(l.chunks[last], c)
		l.chunks = l.chunks[:last]
	}
	switch {
	case len(c) == 0:
	case len(c) <= 2*chunk:
		l.chunks = append(l.chunks, c)
	default:
		for part := range slices.Chunk(c, chunk) {
			l.chunks = append(l.chunks, slices.Clone(part))
		}
	}
}

// Differences yields what differs between two lists: what has come (was is nil), what has gone (now is nil), and what is
// another pointer. It does not look at what both share.
func Differences[T any](before, after List[*T], compare func(a, b *T) int, yield func(was, now *T)) {
	b, a := before.chunks, after.chunks
	var was, now []*T // what is left of a chunk of each
	for {
		if len(was) == 0 && len(now) == 0 {
			for len(b) > 0 && len(a) > 0 && one(b[0], a[0]) {
				b, a = b[1:], a[1:]
			}
		}
		if len(was) == 0 && len(b) > 0 {
			was, b = b[0], b[1:]
		}
		if len(now) == 0 && len(a) > 0 {
			now, a = a[0], a[1:]
		}
		if len(was) == 0 && len(now) == 0 {
			return
		}
		if len(was) > 0 && len(now) > 0 && was[0] == now[0] {
			was, now = was[1:], now[1:]
			continue
		}
		order := 0
		switch {
		case len(was) == 0:
			order = 1
		case len(now) == 0:
			order = -1
		default:
			order = compare(was[0], now[0])
		}
		var old, new *T
		if order <= 0 {
			old, was = was[0], was[1:]
		}
		if order >= 0 {
			new, now = now[0], now[1:]
		}
		yield(old, new)
	}
}
