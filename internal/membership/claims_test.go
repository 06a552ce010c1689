package membership

import (
	"context"
	"flag"
	"io"
	stdlog "log"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/hashicorp/memberlist"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// claimOf is the i-th claim, begun at ms.
func claimOf(i int, ms int64) *placement.Claim {
	return &placement.Claim{
		IP:    netip.AddrFrom4([4]byte{198, 18, byte(i / 256), byte(i)}),
		Since: time.UnixMilli(ms).UTC(), Phase: placement.Announcing,
	}
}

// reportOf has an interface and n claims begun at ms.
func reportOf(n int, ms int64) placement.Report {
	r := placement.Report{Interfaces: []placement.Interface{{
		Name: "eth0", Index: 2, MAC: placement.MAC{2, 0, 0, 0, 0, 1}, Up: true, Carrier: true, Ether: true,
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/16"), netip.MustParsePrefix("fd00::1/64")},
	}}}
	for i := range n {
		r.Claims = append(r.Claims, claimOf(i, ms))
	}
	return r
}

// awaitReports waits until every given member has exactly these reports.
func (w *world) awaitReports(within time.Duration, want map[string]placement.Report, nodes ...*node) time.Duration {
	w.tb.Helper()
	begin := time.Now()
	for _, n := range nodes {
		awaitThat(w.tb, n, within-time.Since(begin), "the reports", func() bool {
			return reflect.DeepEqual(n.Reports(), want)
		})
	}
	return time.Since(begin)
}

func TestReportsReachAll(t *testing.T) {
	for _, size := range []int{3, 30} { // with 30, most hear of it by gossip only
		inBubble(t, func(t *testing.T, w *world) {
			w.key = []byte("secret")
			if size == 3 {
				w.label = strings.Repeat("x", 255) // the longest, which every packet bears
			}
			want := map[string]placement.Report{}
			for i := range size {
				w.peers = append(w.peers, testPeer(i))
			}
			for i, p := range w.peers {
				n := w.run(p, nil)
				w.nodes = append(w.nodes, n)
				want[p.Name] = reportOf(i, 5)
				n.Publish(want[p.Name])
				n.SetPeers(w.peers)
			}
			w.await(time.Minute, w.nodes...)
			t.Logf("%d members, from scratch: %v", size, w.awaitReports(2*time.Second, want, w.nodes...))
			<-time.After(2 * time.Second)

			want["n01"] = reportOf(1000, 7)
			w.nodes[1].Publish(want["n01"])
			t.Logf("1000 claims: %v", w.awaitReports(2*time.Second, want, w.nodes...))

			want["n01"] = placement.Report{Claims: []*placement.Claim{claimOf(3, 8)}, Leaving: true}
			w.nodes[1].Publish(want["n01"])
			t.Logf("down to one: %v", w.awaitReports(2*time.Second, want, w.nodes...))

			w.nodes[1].end()
			delete(want, "n01")
			w.awaitReports(time.Second, want, slices.Delete(slices.Clone(w.nodes), 1, 2)...)
			if n := w.lan.largestPacket(); n > packetSize {
				t.Errorf("a packet of %d bytes", n)
			}
			if got := w.nodes[1].Reports(); len(got) != 0 {
				t.Errorf("after Run there are %v", got)
			}
		})
	}
}

// storm troubles a network from a seed.
func storm(rng *rand.Rand) func() []time.Duration {
	return func() []time.Duration {
		var at []time.Duration
		for range 2 {
			if rng.IntN(10) < 4 {
				continue
			}
			at = append(at, time.Duration(rng.IntN(3)*rng.IntN(30))*time.Millisecond)
		}
		return at
	}
}

// Other chances than those tested each time: go test -run TestReportsConverge ./internal/membership -seed 1000.
var firstSeed = flag.Uint64("seed", 1, "what chance goes by")

// Whatever is lost, doubled, late and out of order, whoever restarts, however the network is cut: in the
// end all know what each has published last.
func TestReportsConverge(t *testing.T) {
	t.Parallel()
	seed := *firstSeed
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	for i := range rounds {
		converge(t, seed+uint64(i))
	}
}

func converge(t *testing.T, seed uint64) {
	inBubble(t, func(t *testing.T, w *world) {
		rng := rand.New(rand.NewPCG(seed, 0))
		s := &stormStory{w: w, rng: rng, want: map[string]placement.Report{}}
		size := 3 + rng.IntN(6)
		w.start(size)
		for i := range size {
			s.publish(i)
		}
		w.lan.disturb(storm(rand.New(rand.NewPCG(seed, 1))))
		for range 60 {
			s.step()
			<-time.After(time.Duration(rng.IntN(300)) * time.Millisecond)
		}
		w.lan.disturb(nil)
		w.lan.heal()
		defer func() {
			if t.Failed() {
				t.Logf("seed %d", seed)
			}
		}()
		w.await(20*time.Second, w.nodes...)
		w.awaitReports(3*time.Second, s.want, w.nodes...)
		for _, n := range w.nodes {
			if n.log.count("later life") != 0 {
				t.Errorf("%s began another life", n.peer.Name)
			}
			n.store.mu.Lock()
			for name, m := range n.store.members {
				if len(m.gone) > 0 && m.out.empty() {
					t.Errorf("%s remembers %d items that %s took out", n.peer.Name, len(m.gone), name)
				}
			}
			n.store.mu.Unlock()
		}
	})
}

// stormStory does things at random.
type stormStory struct {
	w    *world
	rng  *rand.Rand
	want map[string]placement.Report
}

func (s *stormStory) publish(i int) {
	n := s.w.nodes[i]
	claims := map[int]bool{}
	for range s.rng.IntN(40) {
		claims[s.rng.IntN(60)] = true
	}
	r := placement.Report{Interfaces: reportOf(0, 0).Interfaces, Leaving: s.rng.IntN(5) == 0}
	for _, c := range slices.Sorted(maps.Keys(claims)) {
		claim := claimOf(c, int64(s.rng.IntN(3)))
		claim.Weak = s.rng.IntN(2) == 0
		claim.After = []string{"", "", "m1", "m2"}[s.rng.IntN(4)]
		claim.Successor = []string{"", "n00", "n01"}[s.rng.IntN(3)]
		r.Claims = append(r.Claims, claim)
	}
	r.Interfaces[0].Carrier = s.rng.IntN(2) == 0
	n.Publish(r)
	s.want[n.peer.Name] = r
}

func (s *stormStory) step() {
	i := s.rng.IntN(len(s.w.nodes))
	n := s.w.nodes[i]
	switch k := s.rng.IntN(20); {
	case k < 14:
		s.publish(i)
	case k < 16:
		s.w.lan.move(1, n.peer.Addr.Addr())
	case k < 18:
		s.w.lan.heal()
	case k < 19:
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_ = n.Resync(ctx) // it may fail
		cancel()
	default:
		n.end()
		again := s.w.run(n.peer, nil)
		again.SetPeers(s.w.peers)
		s.w.nodes[i] = again
		s.publish(i)
	}
}

func TestResync(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		idle, err := New(Config{Name: testPeer(2).Name, Transport: w.lan.plug(testPeer(2).Addr)})
		if err != nil {
			t.Fatal(err)
		}
		if err := idle.Resync(t.Context()); err == nil {
			t.Error("an exchange before Run")
		}
		a := w.run(testPeer(0), nil)
		w.await(time.Second, a)
		if err := a.Resync(t.Context()); err != nil {
			t.Errorf("nobody else: %v", err)
		}
		b := w.run(testPeer(1), nil)
		w.await(time.Second, b)
		b.Publish(reportOf(3, 1))
		w.lan.move(1, testPeer(1).Addr.Addr())
		a.SetPeers([]Peer{testPeer(1)})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := a.Resync(ctx); err == nil {
			t.Error("an exchange across a cut")
		}
		if err := a.Resync(t.Context()); err == nil { // ends by itself
			t.Error("an exchange across a cut")
		}
		w.lan.heal()
		if err := a.Resync(t.Context()); err != nil {
			t.Errorf("Resync: %v", err)
		}
		if got := a.Reports()["n01"]; !reflect.DeepEqual(got, reportOf(3, 1)) {
			t.Errorf("after Resync n01 reports %v", got)
		}
	})
}

// stranger is the delegate of a member that tells nothing that we can read.
type stranger []byte

func (s stranger) NodeMeta(int) []byte             { return nil }
func (s stranger) NotifyMsg([]byte)                {}
func (s stranger) GetBroadcasts(int, int) [][]byte { return nil }
func (s stranger) LocalState(bool) []byte          { return s }
func (s stranger) MergeRemoteState([]byte, bool)   {}

// A peer whose reports can't be read has not told what we missed.
func TestResyncWithoutReports(t *testing.T) {
	for _, tells := range []stranger{nil, {wireVersion + 1, byte(stateMsg)}} {
		inBubble(t, func(t *testing.T, w *world) {
			a := w.run(testPeer(0), nil)
			w.await(time.Second, a)
			c := fastConfig()
			common(c)
			c.Name, c.Transport, c.Delegate = "n01", w.lan.plug(testPeer(1).Addr), tells
			c.Logger = stdlog.New(io.Discard, "", 0)
			b, err := memberlist.Create(c)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = b.Shutdown() }()
			a.SetPeers([]Peer{testPeer(1)})
			awaitMembers(t, a, time.Second, []string{"n00", "n01"})
			if err := a.Resync(t.Context()); err == nil {
				t.Error("an exchange that brought nothing went through")
			}
		})
	}
}

func TestReportsAreSnapshots(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.start(2)
		for i, n := range w.nodes {
			n.Publish(reportOf(10, int64(i)))
		}
		both := map[string]placement.Report{"n00": reportOf(10, 0), "n01": reportOf(10, 1)}
		w.awaitReports(time.Second, both, w.nodes...)
		before := w.nodes[0].Reports()
		w.nodes[1].Publish(placement.Report{})
		after := map[string]placement.Report{"n00": reportOf(10, 0), "n01": {}}
		w.awaitReports(time.Second, after, w.nodes...)
		if !reflect.DeepEqual(before, both) {
			t.Errorf("what was handed out became %v", before)
		}
		now := w.nodes[0].Reports()
		if &now["n00"].Claims[0] != &before["n00"].Claims[0] {
			t.Error("a change of one node's report copied another's")
		}
	})
}

// A member that was cut off for a moment may have changed its report meanwhile.
func TestFalseAlarm(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.start(4)
		want := map[string]placement.Report{}
		for i, n := range w.nodes {
			want[n.peer.Name] = reportOf(i, 1)
			n.Publish(want[n.peer.Name])
		}
		w.awaitReports(time.Second, want, w.nodes...)
		w.lan.move(1, testPeer(0).Addr.Addr())
		w.await(5*time.Second, w.nodes[1:]...)
		rest := maps.Clone(want)
		delete(rest, "n00")
		w.awaitReports(0, rest, w.nodes[1:]...)
		want["n00"] = reportOf(50, 2)
		w.nodes[0].Publish(want["n00"])
		<-time.After(2 * time.Second)
		w.lan.heal()
		w.await(5*time.Second, w.nodes...)
		t.Logf("all know after %v", w.awaitReports(500*time.Millisecond, want, w.nodes...))
	})
}

// Whoever comes back, in the same life or in another, is not credited with claims that it has given up.
func TestOldClaimsDontComeBack(t *testing.T) {
	for _, restart := range []bool{false, true} {
		inBubble(t, func(t *testing.T, w *world) {
			w.start(5)
			<-time.After(3 * time.Second)
			old := w.nodes[0]
			old.Publish(reportOf(5, 1))
			w.awaitReports(time.Second, map[string]placement.Report{"n00": reportOf(5, 1)}, w.nodes...)
			w.lan.move(1, old.peer.Addr.Addr())
			w.await(5*time.Second, w.nodes[1:]...)
			if restart {
				old.end()
				w.lan.heal()
				w.nodes[0] = w.run(old.peer, nil)
				w.nodes[0].SetPeers(w.peers)
			} else {
				old.Publish(placement.Report{})
				<-time.After(time.Second)
				w.lan.heal()
			}
			within := time.Now().Add(2 * time.Second)
			for time.Now().Before(within) {
				for _, n := range w.nodes[1:] {
					if c := n.Reports()["n00"].Claims; len(c) > 0 {
						t.Fatalf("restart %v: %s credits n00 with %d claims", restart, n.peer.Name, len(c))
					}
				}
				<-time.After(5 * time.Millisecond)
			}
		})
	}
}

// When every packet of a change is lost, the digests in the answers to probes tell.
func TestGapHealsSoon(t *testing.T) {
	for _, size := range []int{2, 10} {
		inBubble(t, func(t *testing.T, w *world) {
			w.start(size)
			<-time.After(3 * time.Second)
			w.nodes[0].Publish(reportOf(5, 1))
			m := w.nodes[0].store
			m.mu.Lock() // as if all had been sent, and lost
			clear(m.fresh)
			m.own.out.clear()
			m.mu.Unlock()
			want := map[string]placement.Report{"n00": reportOf(5, 1)}
			t.Logf("%d members: all know after %v", size, w.awaitReports(time.Second, want, w.nodes...))
		})
	}
}

func TestClockGoesBack(t *testing.T) {
	inBubble(t, func(_ *testing.T, w *world) {
		w.start(3)
		old := w.nodes[0]
		old.store.mu.Lock()
		old.store.own.restart(uint64(time.Now().Add(time.Hour).UnixNano())) // the clock was an hour ahead
		old.store.mu.Unlock()
		old.Publish(reportOf(5, 1))
		want := map[string]placement.Report{"n00": reportOf(5, 1)}
		w.awaitReports(2*time.Second, want, w.nodes...)
		old.end()
		again := w.run(testPeer(0), nil)
		w.nodes[0] = again
		again.SetPeers(w.peers)
		again.Publish(reportOf(2, 2))
		w.await(2*time.Second, w.nodes...)
		want["n00"] = reportOf(2, 2)
		w.awaitReports(2*time.Second, want, w.nodes...)
	})
}

// BenchmarkPublish measures, in real time and in one process, how long it takes until 49 others know that
// a member took over 5,000 addresses at once. Run it with -benchtime 10x.
func BenchmarkPublish(b *testing.B) {
	w := benchWorld(b, 50)
	var took []time.Duration
	ms := int64(0)
	for b.Loop() {
		ms++
		r := reportOf(5000, ms)
		begin := time.Now()
		w.nodes[0].Publish(r)
		for _, n := range w.nodes {
			awaitThat(b, n, time.Minute, "all claims", func() bool {
				got := n.Reports()["n00"].Claims
				return len(got) == 5000 && !slices.ContainsFunc(got, func(c *placement.Claim) bool { return c.Since.UnixMilli() != ms })
			})
		}
		took = append(took, time.Since(begin))
		pass(time.Second)
	}
	report(b, took)
	if alarms := losses(w.nodes); alarms > 0 {
		b.Logf("%d false alarms: %d members in one process are a heavy load", alarms, len(w.nodes))
	}
}

// BenchmarkMerge measures what a member spends on learning that another took over 5,000 addresses.
func BenchmarkMerge(b *testing.B) {
	ours := newStore("ours", packetRoom(""), log.NewNopLogger(), make(chan struct{}, 1))
	theirs := newStore("theirs", packetRoom(""), log.NewNopLogger(), make(chan struct{}, 1))
	ours.open(1)
	theirs.open(1)
	for _, s := range []*store{ours, theirs} {
		s.setLive("theirs", true)
	}
	b.ReportAllocs()
	ms := int64(0)
	for b.Loop() {
		b.StopTimer()
		ms++
		theirs.publish(reportOf(5000, ms))
		state := theirs.state()
		b.StartTimer()
		msg, err := decode(state, ours.knows)
		if err != nil {
			b.Fatal(err)
		}
		ours.merge(msg)
		if n := len(ours.reports()["theirs"].Claims); n != 5000 {
			b.Fatalf("%d claims", n)
		}
	}
	b.ReportMetric(float64(len(theirs.state())), "bytes")
}
