package iprange

import (
	"math/big"
	"net/netip"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		in, want, err string
		size          string
	}{
		{in: "10.0.0.0/24", want: "10.0.0.0/24", size: "256"},
		{in: "10.0.0.7/24", want: "10.0.0.0/24", size: "256"},
		{in: "10.0.0.7", want: "10.0.0.7", size: "1"},
		{in: "10.0.0.7/32", want: "10.0.0.7", size: "1"},
		{in: "10.0.0.1-10.0.0.9", want: "10.0.0.1-10.0.0.9", size: "9"},
		{in: " 10.0.0.0 - 10.0.0.255 ", want: "10.0.0.0/24", size: "256"},
		{in: "0.0.0.0/0", want: "0.0.0.0/0", size: "4294967296"},
		{in: "fd00::/64", want: "fd00::/64", size: "18446744073709551616"},
		{in: "::/0", want: "::/0", size: "340282366920938463463374607431768211456"},
		{in: "fd00::1-fd00::ff", want: "fd00::1-fd00::ff", size: "255"},
		{in: "10.0.0.300/24", err: `CIDR "10.0.0.300/24"`},
		{in: "10.0.0.0/33", err: `CIDR "10.0.0.0/33"`},
		{in: "10.0.0.9-10.0.0.1", err: "must not be above"},
		{in: "10.0.0.1-fd00::1", err: "different families"},
		{in: "10.0.0.1-5", err: "last end"},
		{in: "-10.0.0.1", err: "first end"},
		{in: "fe80::1%eth0", err: "zone"},
		{in: "::ffff:10.0.0.0/120", err: "neither"},
		{in: "", err: "address"},
		{in: "lan", err: `address "lan"`},
	} {
		r, err := Parse(tc.in)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("Parse(%q) = %v, %v, want an error with %q", tc.in, r, err, tc.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("Parse(%q): %v", tc.in, err)
			continue
		}
		if got := r.String(); got != tc.want {
			t.Errorf("Parse(%q) = %s, want %s", tc.in, got, tc.want)
		}
		if want, _ := new(big.Int).SetString(tc.size, 10); r.Size().Cmp(want) != 0 {
			t.Errorf("Parse(%q).Size() = %s, want %s", tc.in, r.Size(), want)
		}
	}
}

func TestZeroRangeIsEmpty(t *testing.T) {
	var zero Range
	all, _ := Parse("0.0.0.0/0")
	if zero.Contains(netip.Addr{}) || zero.Overlaps(all) || all.Overlaps(zero) || zero.Size().Sign() != 0 {
		t.Error("the zero Range must hold nothing")
	}
}

func TestOverlapsAgreesWithContains(t *testing.T) {
	// Over a small universe the obvious twin is cheap: two ranges overlap when some address is in both.
	base := netip.MustParseAddr("10.0.0.0").As4()
	at := func(i int) netip.Addr { b := base; b[3] = byte(i); return netip.AddrFrom4(b) }
	const n = 7
	var ranges []Range
	for i := range n {
		for j := i; j < n; j++ {
			r, err := New(at(i), at(j))
			if err != nil {
				t.Fatal(err)
			}
			ranges = append(ranges, r)
		}
	}
	for _, a := range ranges {
		for _, b := range ranges {
			common := false
			for i := range n {
				common = common || a.Contains(at(i)) && b.Contains(at(i))
			}
			if a.Overlaps(b) != common {
				t.Errorf("%s.Overlaps(%s) = %v, want %v", a, b, !common, common)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"10.0.0.0/24", "10.0.0.1-10.0.0.9", "fd00::/64", "::1-::2", "1.2.3.4", "1-2-3", "/", "-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		if err != nil {
			return
		}
		if r.Last().Less(r.First()) || r.First().Is4() != r.Last().Is4() || r.Size().Sign() <= 0 {
			t.Fatalf("Parse(%q) = %v: out of order", s, r)
		}
		if !r.Contains(r.First()) || !r.Contains(r.Last()) {
			t.Fatalf("%v does not contain its ends", r)
		}
		again, err := Parse(r.String())
		if err != nil || again != r {
			t.Fatalf("Parse(%q) = %v, %v: does not survive a round trip", r.String(), again, err)
		}
	})
}
