package layer2

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
)

func v4(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func TestANeighbourhoodCoversWhatItShould(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		var n neighbourhood
		var all []netip.Addr
		for range random.IntN(300) {
			// Of clusters at both ends and in the middle.
			ip := v4([]uint32{0, 1 << 31, 0xffffffff - 5000}[random.IntN(3)] + random.Uint32N(5000)<<random.IntN(1+int(seed%3)))
			n.cover(ip)
			all = append(all, ip)
		}
		for _, ip := range all {
			if !n.covers(ip) {
				t.Fatalf("seed %d: %s is not in %v", seed, ip, n)
			}
		}
		if len(n) > mostSpans {
			t.Errorf("seed %d: %d spans", seed, len(n))
		}
		for i, s := range n {
			if s.Low > s.High || i > 0 && (s.Low <= n[i-1].High || s.Low-n[i-1].High == 1) {
				t.Errorf("seed %d: spans %v", seed, n)
			}
		}
	}
}

func TestANeighbourhoodIsNoLargerThanItMustBe(t *testing.T) {
	count := func(n neighbourhood) (sum int) {
		for _, s := range n {
			sum += int(s.High-s.Low) + 1
		}
		return sum
	}
	of := func(list ...uint32) (n neighbourhood) {
		for _, a := range list {
			n.cover(v4(a))
		}
		return n
	}
	row := make([]uint32, 10000)
	for i := range row {
		row[i] = 0x0a4d0000 + uint32(i)
	}
	shuffled := slices.Clone(row)
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(row), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	var pools []uint32 // of 50 addresses, of which every third is held here
	for pool := range uint32(mostSpans) {
		for i := range uint32(17) {
			pools = append(pools, 0xc0a80000+pool*1<<16+200+3*i)
		}
	}
	for _, c := range []struct {
		name        string
		list        []uint32
		spans, most int
	}{
		{"one", []uint32{0xc0a80ac8}, 1, block},
		{"the last of all", []uint32{0xffffffff}, 1, block},
		{"a row", row, 1, len(row)},
		{"in any order", shuffled, 1, len(row)},
		{"a third of each pool", pools, mostSpans, mostSpans * 56},
	} {
		if n := of(c.list...); len(n) != c.spans || count(n) > c.most {
			t.Errorf("%s: %d spans of %d addresses, want %d of %d: %v", c.name, len(n), count(n), c.spans, c.most, n)
		}
	}
}

// Whatever comes and goes, the socket lets in what is about addresses that are held, and soon little else.
func TestTheSocketIsToldWhatToHear(t *testing.T) {
	for _, f := range families {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(f), 1))
			node := &fakeNode{segments: map[int]*segment{2: newSegment(t)}, room: 1}
			ifi := suitable("eth0", 2)
			a := runs(t, Config{Network: node})
			for step := range 60 {
				size := min(step, 60-step)
				var ips []netip.Addr
				for range size * size / 3 {
					ips = append(ips, numbered(f, random.IntN(1<<16)))
				}
				check(t, a.Set(on(ifi, ips...)))
				for _, p := range node.segments[2].ports {
					for _, ip := range ips {
						if !slices.ContainsFunc(p.near, func(s Span) bool { return s.Low <= tail(ip) && tail(ip) <= s.High }) {
							t.Fatalf("%s: %s is held, and %v let in", f, ip, p.near)
						}
					}
				}
			}
			check(t, a.Set(on(ifi, numbered(f, 0))))
			if p := node.segments[2].ports[0]; len(p.near) != 1 || p.near[0].High-p.near[0].Low >= block {
				t.Errorf("%s: one address is held, and %v let in", f, p.near)
			}
		})
	}
}
