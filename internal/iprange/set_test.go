package iprange

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// universe is small enough for the slow twin, and holds both families and the ends of both.
func universe() []netip.Addr {
	var all []netip.Addr
	for _, block := range []string{"0.0.0.0/28", "10.0.0.248/29", "10.0.1.0/29", "255.255.255.240/28", "::/124", "fd00::/124",
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0/124"} {
		p := netip.MustParsePrefix(block)
		for a := p.Addr(); p.Contains(a); a = a.Next() {
			all = append(all, a)
		}
	}
	return all
}

func drawRanges(t *rapid.T, label string) []Range {
	all := universe()
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Range {
		a := rapid.SampledFrom(all).Draw(t, "a")
		b := rapid.SampledFrom(all).Draw(t, "b")
		if b.Less(a) {
			a, b = b, a
		}
		r, err := New(a, b)
		if err != nil {
			r, _ = New(a, a) // of two families
		}
		return r
	}), 0, 8).Draw(t, label)
}

func anyContains(ranges []Range, a netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(r Range) bool { return r.Contains(a) })
}

func checkNormal(t *rapid.T, ranges []Range) {
	for i, r := range ranges {
		if r.Last().Less(r.First()) {
			t.Fatalf("%v is upside down", r)
		}
		if i > 0 && !ranges[i-1].Last().Less(r.First()) || i > 0 && ranges[i-1].Last().Next() == r.First() {
			t.Fatalf("%v and %v touch or are out of order", ranges[i-1], r)
		}
	}
}

func TestSetsAgreeWithTheSlowTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ranges, holes := drawRanges(t, "ranges"), drawRanges(t, "holes")
		before := slices.Clone(ranges)
		union, left := Union(ranges), Subtract(ranges, holes)
		checkNormal(t, union)
		checkNormal(t, left)
		for _, a := range universe() {
			in := anyContains(ranges, a)
			if got := anyContains(union, a); got != in {
				t.Fatalf("%s in the union %v: %v", a, union, got)
			}
			if got := anyContains(left, a); got != (in && !anyContains(holes, a)) {
				t.Fatalf("%s in the difference %v: %v", a, left, got)
			}
			i, found := Search(union, a)
			if found != in || found && !union[i].Contains(a) || !found && i < len(union) && union[i].First().Less(a) {
				t.Fatalf("Search(%v, %s) = %d, %v", union, a, i, found)
			}
		}
		if !slices.Equal(before, ranges) {
			t.Fatal("the argument was changed")
		}
	})
}

func TestIntersection(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pair := append(drawRanges(t, "a"), Range{}, Range{})
		a, b := pair[0], append(drawRanges(t, "b"), Range{})[0]
		both := a.Intersection(b)
		for _, x := range universe() {
			if both.Contains(x) != (a.Contains(x) && b.Contains(x)) {
				t.Fatalf("%v ∩ %v = %v is wrong about %s", a, b, both, x)
			}
		}
	})
}

func TestSubtractManyHoles(t *testing.T) {
	// With 100,000 holes anything quadratic takes minutes.
	var holes []Range
	a := netip.MustParseAddr("10.0.0.1")
	for range 100_000 {
		r, _ := New(a, a)
		holes = append(holes, r)
		a = a.Next().Next()
	}
	all, _ := Parse("10.0.0.0/8")
	if got := len(Subtract([]Range{all}, holes)); got != 100_001 {
		t.Errorf("%d ranges are left, want 100001", got)
	}
}

func TestReserved(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8": "", "1.0.0.0-126.255.255.255": "", "240.0.0.0-255.255.255.254": "", "fd00::/8": "", "::2-2001:db8::1": "", "fec0::/10": "",
		"0.0.0.0/0": "unspecified", "0.1.0.0": "unspecified", "127.0.0.1": "loopback", "120.0.0.0-130.0.0.0": "loopback", "169.254.1.0/24": "link-local",
		"169.0.0.0/8": "link-local", "239.255.255.255": "multicast", "255.255.255.0/24": "broadcast", "::": "unspecified", "::/0": "unspecified",
		"::1": "loopback", "fe80::1": "link-local", "fe00::-ff00::": "link-local", "fec0::-ff00::": "multicast", "ff02::1": "multicast",
	} {
		r, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Reserved(); want == "" && got != "" || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
