package sortedlist

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

type element struct{ key, value int }

func byKey(e *element, key int) int { return cmp.Compare(e.key, key) }

func byElement(a, b *element) int { return cmp.Compare(a.key, b.key) }

// model is a list as a plain slice.
type model []*element

func (m model) edited(edits []Edit[int, *element]) model {
	now := slices.Clone(m)
	for _, e := range edits {
		i, found := slices.BinarySearchFunc(now, e.Key, byKey)
		switch {
		case found && e.Gone:
			now = slices.Delete(now, i, i+1)
		case found:
			now[i] = e.Now
		case !e.Gone:
			now = slices.Insert(now, i, e.Now)
		}
	}
	return now
}

// randomEdits of n keys, some of which close together.
func randomEdits(r *rand.Rand, n, keys int) []Edit[int, *element] {
	at := map[int]Edit[int, *element]{}
	for k := r.IntN(keys); n > 0; n-- {
		at[k] = Edit[int, *element]{Key: k, Now: &element{k, r.Int()}, Gone: r.IntN(3) == 0}
		if k++; r.IntN(4) == 0 || k == keys {
			k = r.IntN(keys)
		}
	}
	var edits []Edit[int, *element]
	for _, e := range at {
		edits = append(edits, e)
	}
	slices.SortFunc(edits, func(a, b Edit[int, *element]) int { return cmp.Compare(a.Key, b.Key) })
	return edits
}

// check fails unless a list is what the model says, and its chunks are as they should be.
func check(t *testing.T, l List[*element], want model) {
	t.Helper()
	if got := slices.Collect(l.All()); !slices.Equal(got, want) || l.Len() != len(want) || !Equal(l, want) {
		t.Fatalf("%d elements by Len, %d by All, not those %d that were to be", l.Len(), len(got), len(want))
	}
	for i, c := range l.chunks {
		if len(c) == 0 || len(c) > 2*chunk || i > 0 && len(c)+len(l.chunks[i-1]) < chunk {
			t.Fatalf("chunk %d has %d elements", i, len(c))
		}
	}
}

func TestEdited(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		keys := 1 + r.IntN(3000)
		var want model
		for k := range keys {
			if r.IntN(2) == 0 {
				want = append(want, &element{k, 0})
			}
		}
		l := Of(want)
		check(t, l, want)
		for range 30 {
			edits := randomEdits(r, r.IntN(2+r.IntN(keys)), keys)
			before, model := l, want
			l, want = Edited(l, edits, byKey), want.edited(edits)
			check(t, l, want)
			check(t, before, model) // which does not change
			checkDifferences(t, before, l, model, want)
		}
	}
}

// checkDifferences fails unless both ways of comparing come to the same.
func checkDifferences(t *testing.T, before, after List[*element], was, now model) {
	t.Helper()
	type difference struct{ was, now *element }
	var got, want []difference
	Differences(before, after, byElement, func(was, now *element) { got = append(got, difference{was, now}) })
	for len(was) > 0 || len(now) > 0 {
		var d difference
		switch {
		case len(now) == 0 || len(was) > 0 && was[0].key < now[0].key:
			d.was, was = was[0], was[1:]
		case len(was) == 0 || now[0].key < was[0].key:
			d.now, now = now[0], now[1:]
		default:
			d, was, now = difference{was[0], now[0]}, was[1:], now[1:]
		}
		if d.was != d.now {
			want = append(want, d)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%d differences, want %d", len(got), len(want))
	}
}

func TestSame(t *testing.T) {
	l := numbered(1000)
	edited := Edited(l, []Edit[int, *element]{{Key: 500, Gone: true}}, byKey)
	for _, tt := range []struct {
		what string
		a, b List[*element]
		want bool
	}{
		{"two empty ones", List[*element]{}, Of([]*element{}), true},
		{"one", l, l, true},
		{"one and itself without edits", l, Edited(l, nil, byKey), true},
		{"one and itself with an edit", l, edited, false},
		{"one and an empty one", l, List[*element]{}, false},
		{"two of the same elements", l, Of(slices.Collect(l.All())), false},
	} {
		if tt.a.Same(tt.b) != tt.want || tt.b.Same(tt.a) != tt.want {
			t.Errorf("%s: Same is not %v", tt.what, tt.want)
		}
	}
}

func TestEqual(t *testing.T) {
	l := numbered(300)
	all := slices.Collect(l.All())
	other := slices.Clone(all)
	other[299] = &element{299, 0}
	if !Equal(l, all) || Equal(l, all[:299]) || Equal(l, other) || Equal(l, append(all, &element{300, 0})) || !Equal(List[*element]{}, nil) {
		t.Error("Equal does not tell what is the same from what is not")
	}
}

// An edit shares all chunks but those that it touches, and comparing looks at no others.
func TestSharing(t *testing.T) {
	l := numbered(10_000)
	now := Edited(l, []Edit[int, *element]{{Key: 2, Gone: true}, {Key: 5000, Now: &element{5000, 1}}}, byKey)
	shared := 0
	for _, c := range now.chunks {
		if slices.ContainsFunc(l.chunks, func(o []*element) bool { return one(c, o) }) {
			shared++
		}
	}
	if shared != len(l.chunks)-2 {
		t.Errorf("%d of %d chunks are shared after an edit of two", shared, len(l.chunks))
	}
	compared := 0
	Differences(l, now, func(a, b *element) int { compared++; return byElement(a, b) }, func(_, _ *element) {})
	if compared > 2*chunk {
		t.Errorf("%d elements compared", compared)
	}
	l.All()(func(*element) bool { return false }) // All ends early
}

func numbered(n int) List[*element] {
	var all []*element
	for k := range n {
		all = append(all, &element{k, 0})
	}
	return Of(all)
}

func BenchmarkEdit(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := numbered(n)
			r := rand.New(rand.NewPCG(1, 1))
			b.ReportAllocs()
			for b.Loop() {
				k := r.IntN(n)
				now := Edited(l, []Edit[int, *element]{{Key: k, Now: &element{k, 1}}}, byKey)
				Differences(l, now, byElement, func(_, _ *element) {})
				l = now
			}
		})
	}
}
