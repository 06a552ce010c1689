package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	start = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	one   = netip.MustParseAddr("10.0.0.1")
)

func service(name string) Holder {
	return Holder{Kind: Service, Namespace: "default", Name: name, UID: name + "-1"}
}

func minute(n int) time.Time { return start.Add(time.Duration(n) * time.Minute) }

// show prints an entry: holders, then history.
func show(e Entry) string {
	var words []string
	for _, h := range e.Holders {
		words = append(words, h.UID+"@"+h.Since.Format("04"))
	}
	words = append(words, "|")
	for _, p := range e.Previous {
		words = append(words, fmt.Sprintf("%s@%s-%s", p.Name, p.From.Format("04"), p.To.Format("04")))
	}
	if !e.Released.IsZero() {
		words = append(words, "released@"+e.Released.Format("04"))
	}
	return strings.Join(words, " ")
}

func TestApply(t *testing.T) {
	a, b, c := service("a"), service("b"), service("c")
	young := Holder{Kind: Service, Namespace: "default", Name: "a", UID: "a-2"}
	takeover := Hold(one, young, "lan", minute(3))
	takeover.Replaces = "a-1"
	for _, tc := range []struct {
		name    string
		changes []Change
		want    string
		refused string // the UID of the holder that made the last change fail
	}{
		{"free", []Change{Hold(one, a, "lan", minute(1))}, "a-1@01 |", ""},
		{"again", []Change{Hold(one, a, "lan", minute(1)), Hold(one, a, "lan", minute(2))}, "a-1@01 |", ""},
		{"held", []Change{Hold(one, a, "lan", minute(1)), Hold(one, b, "lan", minute(2))}, "a-1@01 |", "a-1"},
		{"released", []Change{Hold(one, a, "lan", minute(1)), Release(one, a, minute(2))}, "| a@01-02 released@02", ""},
		{"after release", []Change{Hold(one, a, "lan", minute(1)), Release(one, a, minute(2)), Hold(one, b, "lan", minute(3))}, "b-1@03 | a@01-02", ""},
		{"release by another", []Change{Hold(one, a, "lan", minute(1)), Release(one, b, minute(2))}, "a-1@01 |", ""},
		{"release by another of the name", []Change{Hold(one, a, "lan", minute(1)), Release(one, young, minute(2))}, "a-1@01 |", ""},
		{"created again, unknown what became of the first", []Change{Hold(one, a, "lan", minute(1)), Hold(one, young, "lan", minute(3))}, "a-1@01 |", "a-1"},
		{"created again, the first is gone", []Change{Hold(one, a, "lan", minute(1)), takeover}, "a-2@03 | a@01-03", ""},
		{"shared, either order", []Change{Hold(one, b, "lan", minute(1), a), Hold(one, a, "lan", minute(2), b)}, "b-1@01 a-1@02 |", ""},
		{"shared, with one not known of", []Change{Hold(one, a, "lan", minute(1)), Hold(one, b, "lan", minute(2), a), Hold(one, c, "lan", minute(3), a)}, "a-1@01 b-1@02 |", "b-1"},
		{"one of two sharers goes", []Change{Hold(one, a, "lan", minute(1)), Hold(one, b, "lan", minute(2), a), Release(one, a, minute(4))}, "b-1@02 | a@01-04", ""},
		{"clocks that differ", []Change{Hold(one, a, "lan", minute(5)), Release(one, a, minute(2))}, "| a@05-05 released@05", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			block, err := New(BlockOf(one)), error(nil)
			for i, c := range tc.changes {
				if err != nil {
					t.Fatalf("change %d: %v", i-1, err)
				}
				_, err = block.Apply(c)
			}
			held := &HeldError{By: Holder{}}
			if err != nil && !errors.As(err, &held) || held.By.UID != tc.refused {
				t.Errorf("the last change gives %v, want refused by %q", err, tc.refused)
			}
			if e, _ := block.Lookup(one); show(e) != tc.want {
				t.Errorf("got  %s\nwant %s", show(e), tc.want)
			}
		})
	}
}

// TestDoubt: while it is not known whether changes were made, who holds the address before or after them does.
func TestDoubt(t *testing.T) {
	a, b := service("a"), service("b")
	young := Holder{Kind: Service, Namespace: "default", Name: "a", UID: "a-2"}
	takeover := Hold(one, young, "lan", minute(3))
	takeover.Replaces = "a-1"
	for _, tc := range []struct {
		name           string
		before, change []Change
		want           string
	}{
		{"a hold", nil, []Change{Hold(one, a, "lan", minute(1))}, "a-1@01 |"},
		{"a release", []Change{Hold(one, a, "lan", minute(1))}, []Change{Release(one, a, minute(2))}, "a-1@01 | a@01-02"},
		{"of one of two", []Change{Hold(one, a, "lan", minute(1)), Hold(one, b, "lan", minute(2), a)}, []Change{Release(one, a, minute(3))},
			"b-1@02 a-1@01 | a@01-03"},
		{"another instead", []Change{Hold(one, a, "lan", minute(1))}, []Change{Release(one, a, minute(2)), Hold(one, b, "lan", minute(2))},
			"b-1@02 a-1@01 | a@01-02"},
		{"a later one of its name", []Change{Hold(one, a, "lan", minute(1))}, []Change{takeover}, "a-2@03 | a@01-03"},
		{"nothing", []Change{Hold(one, a, "lan", minute(1))}, nil, "a-1@01 |"},
	} {
		before := New(BlockOf(one))
		for _, c := range tc.before {
			if _, err := before.Apply(c); err != nil {
				t.Fatal(err)
			}
		}
		was, _ := before.Lookup(one)
		next := before.Clone()
		for _, c := range tc.change {
			if _, err := next.Apply(c); err != nil {
				t.Fatal(err)
			}
		}
		e, _ := before.Doubt(next).Lookup(one)
		if got := show(e); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
		if now, _ := before.Lookup(one); !reflect.DeepEqual(now, was) {
			t.Errorf("%s: the block has changed", tc.name)
		}
	}
}

// TestClasses: a Service holds an address by one class, whose controller alone lets it go. A reservation is of
// no class.
func TestClasses(t *testing.T) {
	x := func(c Change) Change { c.Class = "x"; return c }
	a, r := service("a"), Holder{Kind: Reservation, Namespace: "default", Name: "r", UID: "r-1"}
	for _, tc := range []struct {
		name    string
		changes []Change
		class   string
		want    string
		refused string
	}{
		{"held by another class", []Change{x(Hold(one, a, "lan", minute(1))), Hold(one, service("b"), "lan", minute(2))}, "x", "a-1@01 |", "x"},
		{"let go by another class", []Change{x(Hold(one, a, "lan", minute(1))), Release(one, a, minute(2))}, "x", "a-1@01 |", ""},
		{"let go by another class, for one that has ended", []Change{x(Hold(one, a, "lan", minute(1))), ReleaseLeft(one, a, "x", minute(2))}, "", "| a@01-02 released@02", ""},
		{"let go for one that has ended, by none of it", []Change{x(Hold(one, a, "lan", minute(1))), ReleaseLeft(one, a, "y", minute(2))}, "x", "a-1@01 |", ""},
		{"let go", []Change{x(Hold(one, a, "lan", minute(1))), x(Release(one, a, minute(2)))}, "", "| a@01-02 released@02", ""},
		{"held by itself, by another class", []Change{x(Hold(one, a, "lan", minute(1))), Hold(one, a, "lan", minute(2))}, "x", "a-1@01 |", "x"},
		{"of another class now", []Change{Hold(one, a, "lan", minute(1)), Release(one, a, minute(2)), x(Hold(one, a, "lan", minute(3)))}, "x", "a-1@03 | a@01-02", ""},
		{"a reservation", []Change{x(Hold(one, r, "lan", minute(1))), Hold(one, r, "lan", minute(2))}, "", "r-1@01 |", ""},
		{"a reservation is let go", []Change{x(Hold(one, r, "lan", minute(1))), Release(one, r, minute(2))}, "", "| r@01-02 released@02", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			block, err := New(BlockOf(one)), error(nil)
			for _, c := range tc.changes {
				_, err = block.Apply(c)
			}
			held := &HeldError{}
			if err != nil && !errors.As(err, &held) || held.Class != tc.refused {
				t.Errorf("the last change gives %v, want refused by class %q", err, tc.refused)
			}
			e, _ := block.Lookup(one)
			if show(e) != tc.want || len(e.Holders) > 0 && e.Holders[0].Class != tc.class {
				t.Errorf("got  %s %+v\nwant %s by class %q", show(e), e.Holders, tc.want, tc.class)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	block := New(BlockOf(one))
	for i := range 20 {
		s := service(fmt.Sprint("s", i))
		apply(t, block, Hold(one, s, "lan", minute(2*i)))
		apply(t, block, Release(one, s, minute(2*i+1)))
	}
	e, _ := block.Lookup(one)
	if want := "| s19@38-39 s18@36-37 s17@34-35 s16@32-33 s15@30-31 released@39"; show(e) != want {
		t.Errorf("got %s, want %s", show(e), want)
	}
	var all []Holder
	for i := range MaxHolders + 1 {
		all = append(all, service(fmt.Sprint("s", i)))
	}
	for _, s := range all[:MaxHolders] {
		apply(t, block, Hold(one, s, "lan", start, all...))
	}
	var full *FullError
	if _, err := block.Apply(Hold(one, all[MaxHolders], "lan", start, all...)); !errors.As(err, &full) {
		t.Errorf("one holder too many gives %v", err)
	}
	if _, err := block.Apply(Hold(netip.MustParseAddr("10.0.0.64"), all[0], "lan", start)); err == nil {
		t.Error("an address of another block is taken")
	}
}

// TestSize: a block where every address has a holder and all the history that it can is no large object.
func TestSize(t *testing.T) {
	block := New(BlockOf(one))
	for at := block.Prefix.Addr(); block.Prefix.Contains(at); at = at.Next() {
		for i := range MaxPrevious + 1 {
			s := service(fmt.Sprint("a-service-with-a-name-as-they-are-", i))
			s.UID = "0b3c6e0e-5d0c-4f3e-9a57-6d1a35f1a1b5"
			apply(t, block, Hold(at, s, "a-pool", minute(2*i)))
			if i < MaxPrevious {
				apply(t, block, Release(at, s, minute(2*i+1)))
			}
		}
	}
	text, err := json.Marshal(block.Encode())
	if err != nil || len(text) > 100_000 {
		t.Errorf("%d bytes (%v), want at most 100 kB of the 1.5 MB that an object may have", len(text), err)
	}
	t.Log(len(text), "bytes")
}

func apply(t *testing.T, b Block, c Change) {
	t.Helper()
	if _, err := b.Apply(c); err != nil {
		t.Fatal(err)
	}
}

func drawChange(t *rapid.T, step int) Change {
	addr := one
	for range rapid.IntRange(0, 2).Draw(t, "address") {
		addr = addr.Next()
	}
	h := service(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name"))
	h.UID = h.Name + rapid.SampledFrom([]string{"-1", "-2"}).Draw(t, "uid")
	class := rapid.SampledFrom([]string{"", "", "x"}).Draw(t, "class")
	if rapid.Bool().Draw(t, "release") {
		c := Release(addr, h, minute(step))
		c.Class = class
		return c
	}
	c := Hold(addr, h, rapid.SampledFrom([]string{"", "lan", "wan"}).Draw(t, "pool"), minute(step))
	for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), func(s string) string { return s }).Draw(t, "beside") {
		c.Beside = append(c.Beside, service(name))
	}
	c.Replaces = rapid.SampledFrom([]string{"", "a-1", "a-2"}).Draw(t, "replaces")
	c.Class = class
	return c
}

// TestProperties holds the block against a plain list of who holds what, and every state against its own
// encoding.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		block, twin := New(BlockOf(one)), map[netip.Addr][]classed{}
		for step := range rapid.IntRange(1, 40).Draw(t, "steps") {
			c := drawChange(t, step)
			before := block.Clone()
			changed, err := block.Apply(c)
			if wantErr := advance(twin, c); (err != nil) != wantErr {
				t.Fatalf("%+v gives %v, the twin says %v", c, err, wantErr)
			}
			if changed == reflect.DeepEqual(before, block) {
				t.Fatalf("%+v reports changed=%v", c, changed)
			}
			if changed && reflect.DeepEqual(before.Encode(), block.Encode()) {
				t.Fatalf("%+v is not told by the encoding", c)
			}
			check(t, block, twin)
			again, _ := Decode(block.Prefix, block.Encode())
			for _, old := range []Block{before, again, New(block.Prefix), {}} {
				checkSince(t, block, old)
			}
		}
	})
}

// checkSince: an old state and what has changed since make the new one.
func checkSince(t *rapid.T, b, old Block) {
	all := map[netip.Addr]Entry{}
	for e := range old.All() {
		all[e.Addr] = e
	}
	for before, after := range b.Since(old) {
		if before.Addr.IsValid() {
			if !reflect.DeepEqual(all[before.Addr], before) {
				t.Fatalf("%s was %s, and is said to have been %s", before.Addr, show(all[before.Addr]), show(before))
			}
			delete(all, before.Addr)
		}
		if after.Addr.IsValid() {
			all[after.Addr] = after
		}
	}
	n := 0
	for e := range b.All() {
		n++
		if !reflect.DeepEqual(all[e.Addr], e) {
			t.Fatalf("%s is %s, and what has changed since makes it %s", e.Addr, show(e), show(all[e.Addr]))
		}
	}
	if n != len(all) || n != b.Len() {
		t.Fatalf("%d entries, %d by what has changed since; Len says %d", n, len(all), b.Len())
	}
}

// classed is a holder and the class it holds by.
type classed struct {
	Holder
	class string
}

// advance makes the change in the twin and reports whether it must fail.
func advance(twin map[netip.Addr][]classed, c Change) bool {
	var rest []classed
	had := false
	for _, o := range twin[c.Addr] {
		sharer := slices.ContainsFunc(c.Beside, func(b Holder) bool { return b.Name == o.Name })
		dead := o.Name == c.Holder.Name && o.UID == c.Replaces && o.UID != c.Holder.UID
		switch {
		case o == classed{c.Holder, c.Class} && c.Let:
		case o == classed{c.Holder, c.Class}:
			had = true
			rest = append(rest, o)
		case c.Let || !dead && o.Name != c.Holder.Name && sharer:
			rest = append(rest, o)
		case !dead:
			return true
		}
	}
	if !c.Let && !had {
		rest = append(rest, classed{c.Holder, c.Class})
	}
	twin[c.Addr] = rest
	return false
}

func check(t *rapid.T, b Block, twin map[netip.Addr][]classed) {
	for addr, want := range twin {
		e, _ := b.Lookup(addr)
		var got []classed
		for _, h := range e.Holders {
			got = append(got, classed{h.Holder, h.Class})
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s is held by %v, want %v", addr, got, want)
		}
		if len(e.Previous) > MaxPrevious || !e.Released.IsZero() && len(want) > 0 {
			t.Fatalf("odd entry: %s", show(e))
		}
	}
	again, err := Decode(b.Prefix, b.Encode())
	if err != nil || !reflect.DeepEqual(again, b) {
		t.Fatalf("encoded and decoded: %v %+v\nwas %+v", err, again, b)
	}
}
