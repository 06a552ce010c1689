package membership

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// openStore is a store that runs and has live members of these names.
func openStore(self string, live ...string) *store {
	s := newStore(self, packetRoom(""), log.NewNopLogger(), make(chan struct{}, 1))
	s.open(1)
	s.setLive(self, true)
	for _, name := range live {
		s.setLive(name, true)
	}
	return s
}

// hear has a store take in a message.
func (s *store) hear(t testing.TB, b []byte) {
	t.Helper()
	m, err := decode(b, s.knows)
	if err != nil {
		t.Fatal(err)
	}
	s.merge(m)
}

// gossip returns all that a store has to gossip once, packet by packet.
func (s *store) gossip() (packets [][]byte) {
	for range 1000 {
		b := s.broadcasts(3, 1400)
		if len(b) == 0 {
			break
		}
		packets = append(packets, b...)
	}
	return packets
}

func TestLatePacketsBringNothingBack(t *testing.T) {
	a, b := openStore("a", "b"), openStore("b", "a")
	a.publish(reportOf(3, 1))
	early := a.gossip()
	a.publish(reportOf(1, 2))
	late := a.gossip()
	for _, p := range late {
		b.hear(t, p)
	}
	// The first interface came with the early ones only, so the report is not whole.
	if _, ok := b.reports()["a"]; ok {
		t.Error("a report without a base counts as known")
	}
	b.hear(t, a.state())
	for range 2 {
		for _, p := range append(early, late...) {
			b.hear(t, p)
		}
	}
	if got := b.reports()["a"]; !reflect.DeepEqual(got, reportOf(1, 2)) {
		t.Errorf("it reports %v", got)
	}
	if n := len(b.members["a"].gone); n != 0 {
		t.Errorf("%d items taken out are remembered", n)
	}
}

// TestBackWithAnOldReport: what is remembered of a member that was gone does not count until it is known to be
// true still.
func TestBackWithAnOldReport(t *testing.T) {
	a, b := openStore("a", "b", "c"), openStore("b", "a", "c")
	a.publish(reportOf(3, 1))
	b.hear(t, a.state())
	c := openStore("c", "a", "b")
	c.hear(t, a.state())
	for name, verify := range map[string]func(){
		"itself":             func() { b.hear(t, a.state()) },
		"who heard a change": func() { a.publish(reportOf(4, 1)); c.hear(t, a.state()); b.hear(t, c.state()) },
	} {
		b.setLive("a", false)
		b.setLive("a", true)
		if r, ok := b.reports()["a"]; ok {
			t.Errorf("%s: back, and reports %v at once", name, r)
		}
		b.hear(t, c.state())
		if _, ok := b.reports()["a"]; ok {
			t.Errorf("%s: one who knows no more has it count", name)
		}
		if verify(); len(b.reports()["a"].Claims) == 0 {
			t.Errorf("%s: it does not count", name)
		}
	}
}

// TestAsksSomebodyElse: where a member does not answer, another is asked for its report.
func TestAsksSomebodyElse(t *testing.T) {
	for _, tc := range []struct {
		live []string
		want []string // whom to ask for the report of b, one after the other
	}{
		{[]string{"b"}, []string{"b", "b", "b"}},
		{[]string{"b", "c"}, []string{"b", "c", "b", "c"}},
		{[]string{"b", "c", "d"}, []string{"b", "c", "b", "c"}},
	} {
		s := openStore("a", tc.live...)
		for _, name := range tc.live[1:] {
			s.hear(t, openStore(name, "a").state())
		}
		first := func(names []string) []string { return names }
		for i, want := range tc.want {
			letters, _ := s.asks(time.Now().Add(time.Duration(i+1)*askSlowly), first)
			if len(letters) != 1 || letters[0].to != want {
				t.Errorf("among %v, question %d: %v, want one to %s", tc.live, i, letters, want)
			}
		}
	}
}

func TestDeltasAloneMakeAReport(t *testing.T) {
	a, b := openStore("a", "b"), openStore("b", "a")
	a.publish(reportOf(300, 1))
	packets := a.gossip()
	rand.Shuffle(len(packets), func(i, j int) { packets[i], packets[j] = packets[j], packets[i] })
	for i, p := range packets {
		if _, ok := b.reports()["a"]; ok && i == 0 {
			t.Error("known before anything came")
		}
		b.hear(t, p)
	}
	if got := b.reports()["a"]; !reflect.DeepEqual(got, reportOf(300, 1)) {
		t.Errorf("it reports %d claims", len(got.Claims))
	}
	if !b.members["a"].complete() || b.digest() == 0 {
		t.Error("it is not complete")
	}
}

// A node of an earlier life is forgotten, and so is what others still tell of it.
func TestNewLife(t *testing.T) {
	a, b := openStore("a", "b"), openStore("b", "a")
	a.publish(reportOf(3, 1))
	old := a.state()
	b.hear(t, old)
	again := newStore("a", packetRoom(""), log.NewNopLogger(), make(chan struct{}, 1))
	again.open(2)
	again.setLive("a", true)
	b.hear(t, again.state())
	if got, ok := b.reports()["a"]; ok {
		t.Errorf("it has published nothing in this life, and reports %v", got)
	}
	b.hear(t, old)
	again.hear(t, old) // somebody tells it of itself
	again.publish(reportOf(1, 5))
	b.hear(t, again.state())
	if got := b.reports()["a"]; !reflect.DeepEqual(got, reportOf(1, 5)) {
		t.Errorf("it reports %v", got)
	}
	if again.own.inc != 2 {
		t.Errorf("an earlier life made it begin life %d", again.own.inc)
	}
}

// A claim that changes while it waits to be gossiped goes out once, as it is then.
func TestNewerReplacesQueued(t *testing.T) {
	a := openStore("a", "b")
	a.gossip()
	for ms := range int64(50) {
		a.publish(reportOf(1, ms))
	}
	packets := a.gossip()
	if len(packets) > gossipMult {
		t.Errorf("%d packets for one claim", len(packets))
	}
	for _, p := range packets {
		m, err := decode(p, none)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range m.records[0].items {
			if i.claim != nil && i.claim.Since.UnixMilli() != 49 {
				t.Errorf("an old claim went out: %v", i.claim)
			}
		}
	}
}

func TestPacketsAreFull(t *testing.T) {
	a := openStore("a", "b")
	a.publish(reportOf(5000, 1))
	parcels := a.parcels(func(s []string) []string { return s })
	if len(parcels) > 60 {
		t.Errorf("%d packets for 5000 claims", len(parcels))
	}
	for _, p := range parcels {
		if len(p.packet) > packetRoom("") {
			t.Errorf("a packet of %d bytes", len(p.packet))
		}
	}
	for _, limit := range []int{0, 30, 80, 200, 1400} {
		a.publish(reportOf(100, int64(limit)))
		sum := 0
		for _, b := range a.broadcasts(3, limit) {
			sum += 3 + len(b)
		}
		if sum > limit {
			t.Errorf("%d bytes where %d fit", sum, limit)
		}
	}
}

// What fits no packet, such as an interface with the address of every Service, is fetched.
func TestHugeInterface(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.start(3)
		r := reportOf(2, 1)
		for i := range 500 {
			r.Interfaces[0].Subnets = append(r.Interfaces[0].Subnets, netip.PrefixFrom(claimOf(i, 0).IP, 32))
		}
		w.nodes[0].Publish(r)
		t.Logf("after %v", w.awaitReports(time.Second, map[string]placement.Report{"n00": r}, w.nodes...))
	})
}

// However many members there are, a successor hears at once that it is one.
func TestSuccessorHearsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.start(40)
		w.nodes[3].Publish(reportOf(37, 1))
		<-time.After(3 * time.Second)
		r := reportOf(37, 1)
		for i := range r.Claims {
			r.Claims[i].Successor = fmt.Sprintf("n%02d", i)
		}
		w.nodes[3].Publish(r)
		synctest.Wait() // no time passes
		for i, n := range w.nodes[:37] {
			if i != 3 && n.Reports()["n03"].Claims[i].Successor != n.peer.Name {
				t.Errorf("%s does not know that it is a successor", n.peer.Name)
			}
		}
		w.awaitReports(time.Second, map[string]placement.Report{"n03": r}, w.nodes...)
	})
}

// However many names are made up, few are remembered, and real ones go on to be.
func TestMadeUpNames(t *testing.T) {
	a, b := openStore("a", "b"), openStore("b", "a")
	b.hear(t, a.state())
	var lie []byte
	for i := range 100_000 {
		lie = appendRecord(lie, record{name: fmt.Sprint("x", i), inc: 1, head: version{1, 1}})
	}
	begin := time.Now()
	b.hear(t, append(appendMessage(nil, stateMsg, "a"), lie...))
	if n := len(b.members); n > rememberedMost+10 {
		t.Errorf("%d names are remembered", n)
	}
	t.Logf("%v", time.Since(begin))
	c := openStore("c", "b")
	c.publish(reportOf(1, 1))
	b.setLive("c", true)
	b.hear(t, c.state())
	if _, ok := b.reports()["c"]; !ok {
		t.Error("a live member is not heard")
	}
}

// A probe is answered while a large report is taken in.
func TestDigestDoesntWait(t *testing.T) {
	a := openStore("a", "b")
	before := a.digest()
	a.publish(reportOf(1, 1))
	a.mu.Lock()
	defer a.mu.Unlock()
	if after := a.digest(); after == before || after != a.digestAll() {
		t.Errorf("the digest is %x and was %x", after, before)
	}
}

// Memberlist may still be at telling of somebody when it has ended.
func TestNobodyIsLiveAfterRun(t *testing.T) {
	a, b := openStore("a", "b"), openStore("b", "a")
	b.publish(reportOf(1, 1))
	a.hear(t, b.state())
	a.close()
	a.setLive("b", true)
	a.hear(t, b.state())
	if got := a.reports(); len(got) != 0 {
		t.Errorf("there are %v", got)
	}
}

// Two nodes of one name outbid each other; the log says so once in a while.
func TestTwoOfOneName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := &logBook{}
		a := newStore("a", packetRoom(""), book.logger(), make(chan struct{}, 1))
		a.open(1)
		for range 100 {
			a.hear(t, appendRecord(appendMessage(nil, stateMsg, "b"), record{name: "a", inc: a.own.inc + 5, head: version{1, 1}}))
		}
		if n := book.count("later life"); n != 1 {
			t.Errorf("%d warnings, want 1", n)
		}
		before := a.own.inc
		a.hear(t, appendRecord(appendMessage(nil, stateMsg, "b"), record{name: "a", inc: math.MaxUint64, head: version{1, 1}}))
		if a.own.inc != before {
			t.Errorf("outbid by a life that nothing is later than, it began life %d", a.own.inc)
		}
	})
}

// TestPublishedAsIs: whatever a report and the one before have in common, the node and whoever hears of it have it
// as it was published, and sort it.
func TestPublishedAsIs(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 7))
		a, b := openStore("a", "b"), openStore("b", "a")
		r := reportOf(rng.IntN(30), 1)
		for step := range 40 {
			r = edited(rng, r)
			a.publish(r)
			for _, p := range a.gossip() {
				b.hear(t, p)
			}
			want := placement.Report{Leaving: r.Leaving}
			byKey := map[itemKey]item{}
			for _, i := range itemsOf(r, keyState{}) {
				byKey[i.key] = i
			}
			for _, i := range slices.SortedFunc(maps.Values(byKey), func(x, y item) int { return x.key.compare(y.key) }) {
				switch {
				case i.claim != nil:
					want.Claims = append(want.Claims, i.claim)
				case i.iface != nil:
					want.Interfaces = append(want.Interfaces, *i.iface)
				}
			}
			for name, s := range map[string]*store{"itself": a, "the other": b} {
				if got := s.reports()["a"]; !reflect.DeepEqual(got, want) {
					t.Fatalf("seed %d, step %d: %s has\n%+v, want\n%+v", seed, step, name, got, want)
				}
			}
		}
	}
}

// edited is another report that shares much with one.
func edited(rng *rand.Rand, r placement.Report) placement.Report {
	claims := slices.Clone(r.Claims)
	for range rng.IntN(4) {
		c := claimOf(rng.IntN(60), rng.Int64N(5))
		i, held := slices.BinarySearchFunc(claims, c, func(x, y *placement.Claim) int { return x.IP.Compare(y.IP) })
		switch {
		case !held:
			claims = slices.Insert(claims, i, c)
		case rng.IntN(2) == 0:
			claims[i] = c
		default:
			claims = slices.Delete(claims, i, i+1)
		}
	}
	if rng.IntN(10) == 0 {
		claims = nil
	}
	if r.Claims = claims; rng.IntN(10) == 0 {
		r.Leaving = !r.Leaving
	}
	if rng.IntN(10) == 0 {
		r.Interfaces = slices.Clone(reportOf(0, 0).Interfaces)
		r.Interfaces[0].Up = rng.IntN(2) == 0
		if rng.IntN(2) == 0 {
			r.Interfaces = append(r.Interfaces, placement.Interface{Name: "eth1"})
		}
	}
	if rng.IntN(10) == 0 { // somebody who does not sort
		rng.Shuffle(len(claims), func(i, j int) { claims[i], claims[j] = claims[j], claims[i] })
	} else {
		slices.SortFunc(claims, func(x, y *placement.Claim) int { return x.IP.Compare(y.IP) })
	}
	return r
}

// BenchmarkOneClaim is what it costs that one claim of many is another one: to tell it, and to have the report of
// one who told it.
func BenchmarkOneClaim(b *testing.B) {
	for _, claims := range []int{100, 3333, 10000} {
		b.Run(fmt.Sprint("own/of=", claims), func(b *testing.B) {
			s := openStore("a", "b", "c")
			r := reportOf(claims, 1)
			s.publish(r)
			b.ReportAllocs()
			for n := int64(2); b.Loop(); n++ {
				r.Claims = slices.Clone(r.Claims)
				r.Claims[claims/2] = claimOf(claims/2, n)
				s.publish(r)
				s.reports()
				for s.broadcasts(0, 1400) != nil {
				}
			}
		})
		b.Run(fmt.Sprint("same/of=", claims), func(b *testing.B) {
			s := openStore("a", "b", "c")
			r := reportOf(claims, 1)
			s.publish(r)
			b.ReportAllocs()
			for b.Loop() {
				s.publish(r)
				s.reports()
			}
		})
		b.Run(fmt.Sprint("heard/of=", claims), func(b *testing.B) {
			s, other := openStore("a", "b", "c"), openStore("b", "a", "c")
			r := reportOf(claims, 1)
			other.publish(r)
			other.gossip()
			s.hear(b, other.state())
			b.ReportAllocs()
			for n := int64(2); b.Loop(); n++ {
				r.Claims = slices.Clone(r.Claims)
				r.Claims[claims/2] = claimOf(claims/2, n)
				b.StopTimer()
				other.publish(r)
				packets := other.gossip()
				b.StartTimer()
				for _, p := range packets {
					s.hear(b, p)
				}
				if got := s.reports()["b"].Claims; got[claims/2].Since.UnixMilli() != n {
					b.Fatal(got[claims/2])
				}
				for s.broadcasts(0, 1400) != nil {
				}
			}
		})
	}
}

// BenchmarkOneClaimOf500 is what it costs to hear of one claim in a cluster of 500 nodes.
func BenchmarkOneClaimOf500(b *testing.B) {
	names := make([]string, 500)
	for i := range names {
		names[i] = fmt.Sprintf("node-%03d", i)
	}
	s := openStore("us", names...)
	var other *store
	r := reportOf(20, 1)
	for _, name := range names {
		other = openStore(name, "us")
		other.publish(r)
		other.gossip()
		s.hear(b, other.state())
	}
	b.ReportAllocs()
	for n := int64(2); b.Loop(); n++ {
		r.Claims = slices.Clone(r.Claims)
		r.Claims[7] = claimOf(7, n)
		b.StopTimer()
		other.publish(r)
		packets := other.gossip()
		b.StartTimer()
		for _, p := range packets {
			s.hear(b, p)
		}
		if got := s.reports(); len(got) != 500 || got["node-499"].Claims[7].Since.UnixMilli() != n {
			b.Fatal(len(got))
		}
	}
}
