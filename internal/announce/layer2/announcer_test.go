package layer2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"

	"github.com/lanyard-lb/lanyard/internal/announce"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// runs an announcer in the bubble until the test ends.
func runs(t *testing.T, cfg Config) *Announcer {
	t.Helper()
	a := New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() { cancel(); check(t, <-done) })
	synctest.Wait()
	return a
}

func on(ifi placement.Interface, ips ...netip.Addr) announce.Want {
	w := announce.Want{Interfaces: []placement.Interface{ifi}}
	for _, ip := range ips {
		w.Announcements = append(w.Announcements, &placement.Announcement{IP: ip, Interfaces: []string{ifi.Name}})
	}
	return w
}

func TestNeighboursFollowATakeoverAndANewMAC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seg := newSegment(t)
		node := &fakeNode{segments: map[int]*segment{2: seg, 3: seg}, room: 10}
		neighbour := newStation(t, them, "10.77.0.1", "fd77::1", seg.attach(them, nil))
		from, to := runs(t, Config{Network: node}), runs(t, Config{Network: node})
		first, second := suitable("eth0", 2), suitable("eth0", 3)
		expect := func(want string) {
			t.Helper()
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if got := neighbour.String(); got != want {
				t.Errorf("the neighbour believes:\n%swant:\n%s", got, want)
			}
		}
		check(t, from.Set(on(first, vip4, vip6)))
		expect("10.77.0.100 is at 02:00:00:00:00:02\nfd77::a:b00c is at 02:00:00:00:00:02\n")
		check(t, to.Set(on(second, vip4)))
		check(t, from.Set(on(first, vip6)))
		expect("10.77.0.100 is at 02:00:00:00:00:03\nfd77::a:b00c is at 02:00:00:00:00:02\n")
		second.MAC = third
		check(t, to.Set(on(second, vip4)))
		expect("10.77.0.100 is at 02:5e:00:00:00:03\nfd77::a:b00c is at 02:00:00:00:00:02\n")
	})
}

// What is withdrawn in the middle of its burst is told no more, and what comes back is told from the start.
func TestWithdrawalEndsTheBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(t)
		a := runs(t, Config{Network: w.node})
		told := func() int { return len(w.stations["eth0"].unasked(vip6)) }
		other := netip.MustParseAddr("fd77::ffff") // keeps the socket open
		check(t, a.Set(on(w.interfaces[0], vip6, other)))
		time.Sleep(200 * time.Millisecond)
		check(t, a.Set(on(w.interfaces[0], other)))
		time.Sleep(10 * time.Second)
		if told() != 2 {
			t.Errorf("told %d times, want 2", told())
		}
		check(t, a.Set(on(w.interfaces[0], vip6, other)))
		check(t, a.Set(on(w.interfaces[0], other)))
		check(t, a.Set(on(w.interfaces[0], vip6, other)))
		time.Sleep(10 * time.Second)
		// The first of the two may have been told once before it was withdrawn.
		if want := 2 + 1 + len(repeats); told() != want && told() != want+1 {
			t.Errorf("told %d times, want %d or one more", told(), want)
		}
	})
}

// frail fails all reads after the first failure, as the socket of an interface that is gone.
type frail struct {
	*fakeNode
	mu    sync.Mutex
	conns []*frailConn
}

type frailConn struct {
	io.ReadWriteCloser
	fail chan struct{}
}

func (f *frail) Listen(ifi placement.Interface, family Family) (Conn, error) {
	port, err := f.fakeNode.plug(ifi, family)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns = append(f.conns, &frailConn{port, make(chan struct{})})
	return frames{f.conns[len(f.conns)-1], port}, err
}

func (c *frailConn) Read(b []byte) (int, error) {
	select {
	case <-c.fail:
		return 0, syscall.ENETDOWN
	default:
	}
	return c.ReadWriteCloser.Read(b)
}

func TestASocketThatFailedIsLoggedOnceAndReplacedByTheNextSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(t)
		node := &frail{fakeNode: w.node}
		var text bytes.Buffer
		a := runs(t, Config{Network: node, Logger: log.NewLogfmtLogger(log.NewSyncWriter(&text))})
		check(t, a.Set(on(w.interfaces[0], vip4)))
		synctest.Wait() // it reads
		close(node.conns[0].fail)
		if got := w.Answers(vip4); len(got) != 1 { // the read in progress still succeeds
			t.Errorf("answers at %v", got)
		}
		time.Sleep(time.Minute)
		if got := w.Answers(vip4); len(got) != 0 {
			t.Errorf("a dead socket answers at %v", got)
		}
		if n := strings.Count(text.String(), "\n"); n != 1 || !strings.Contains(text.String(), "interface=eth0") {
			t.Errorf("logged:\n%s", text.String())
		}
		before := w.Unasked()
		check(t, a.Set(on(w.interfaces[0], vip4)))
		if got := w.Answers(vip4); len(got) != 1 || w.Unasked() == before {
			t.Errorf("after the next Set: answers at %v, told %d", got, w.Unasked()-before)
		}
	})
}

func TestAnInterfaceThatIsAnotherNowIsServedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(t)
		a := runs(t, Config{Network: w.node})
		ifi := w.interfaces[0]
		check(t, a.Set(on(ifi, vip4)))
		ifi.Index = w.interfaces[1].Index // same name, same MAC address, plugged in elsewhere
		check(t, a.Set(on(ifi, vip4)))
		if got := w.Answers(vip4); len(got) != 1 || got[0] != "eth1" {
			t.Errorf("answers on the segments of %v, want that of eth1", got)
		}
	})
}

func TestWhatCouldNotBeAnnouncedIsToldOnceItCan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(t)
		a := runs(t, Config{Network: w.node})
		w.Break("eth0")
		for range 2 {
			if err := a.Set(on(w.interfaces[0], vip4)); !errors.Is(err, errBroken) {
				t.Errorf("Set: %v, want %v", err, errBroken)
			}
		}
		w.Repair("eth0")
		check(t, a.Set(on(w.interfaces[0], vip4)))
		w.Settle()
		if got, want := w.Unasked(), 2*(1+len(repeats)); got != want {
			t.Errorf("told %d times, want %d", got, want)
		}
	})
}

func TestASecondRunIsRefusedAndALaterOneServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(t)
		a := New(Config{Network: w.node})
		check(t, a.Set(on(w.interfaces[0], vip4)))
		for range 2 {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- a.Run(ctx) }()
			synctest.Wait()
			if err := a.Run(ctx); err == nil {
				t.Error("a second Run at the same time returned no error")
			}
			if got := w.Answers(vip4); len(got) != 1 {
				t.Errorf("answers at %v", got)
			}
			cancel()
			check(t, <-done)
		}
		if got := w.node.segments[2].String(); got != "" {
			t.Errorf("left behind:\n%s", got)
		}
	})
}

// counter counts per kind.
type counter struct {
	mu sync.Mutex
	counts
}

type counts struct{ answered, announced, probed, defended, failed, strangers, peers int }

func (c *counter) now() counts { c.mu.Lock(); defer c.mu.Unlock(); return c.counts }

func (c *counter) count(n *int) { c.mu.Lock(); *n++; c.mu.Unlock() }

func (c *counter) Answered(string, netip.Addr) { c.count(&c.answered) }
func (c *counter) AnsweredInKernel(_ string, _ bool, n uint64) {
	c.mu.Lock()
	c.answered += int(n)
	c.mu.Unlock()
}
func (c *counter) Announced(string, netip.Addr) { c.count(&c.announced) }
func (c *counter) Probed(string, netip.Addr)    { c.count(&c.probed) }
func (c *counter) Defended(string, netip.Addr)  { c.count(&c.defended) }
func (c *counter) Failed(string, netip.Addr)    { c.count(&c.failed) }

func (c *counter) Conflicted(_ string, _ netip.Addr, peer bool) {
	if peer {
		c.count(&c.peers)
	} else {
		c.count(&c.strangers)
	}
}

func TestMetricsCountFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(t)
		var c counter
		a := runs(t, Config{Network: w.node, Metrics: &c})
		check(t, a.Set(on(w.interfaces[0], vip4, vip6)))
		time.Sleep(10 * time.Second)
		w.Answers(vip6)
		bursts := len(repeats) + 1
		got := c.now()
		if got.answered != 1 || got.announced != 3*bursts || got.failed != 0 {
			t.Errorf("counted %d answers, %d announcements, %d failures; want 1, %d, 0", got.answered, got.announced, got.failed, 3*bursts)
		}
	})
}

func TestDiff(t *testing.T) {
	ip := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, n}) }
	at := func(n byte, names ...string) *placement.Announcement {
		return &placement.Announcement{IP: ip(n), Interfaces: names}
	}
	old := byAddress([]*placement.Announcement{at(5, "a"), at(1, "a", "b"), at(3, "a"), at(3, "b")})
	new := byAddress([]*placement.Announcement{at(1, "a", "b"), at(3, "b"), at(4, "a"), at(9, "a")})
	var got []string
	for _, c := range diff(old, new) {
		got = append(got, c.ip.String()+" "+strings.Join(c.old, ",")+">"+strings.Join(c.new, ","))
	}
	want := "10.0.0.3 a>b 10.0.0.4 >a 10.0.0.5 a> 10.0.0.9 >a"
	if strings.Join(got, " ") != want {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// TestStandingsOfChanges: whatever is set and heard, Standings tells how each address stands; the same slice if nothing
// has changed, and else one that leaves alone what was told before.
func TestStandingsOfChanges(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			rng, w := rand.New(rand.NewPCG(seed, 5)), newFakeWorld(t)
			a := runs(t, Config{Network: w.node})
			want := announce.Want{Interfaces: w.interfaces}
			var last []*announce.Standing
			var copied []announce.Standing
			for step := range 60 {
				switch ip := testAddr(rng.IntN(8)); rng.IntN(4) {
				case 0:
					w.Occupy("eth0", ip)
				case 1:
					w.Vacate("eth0", ip)
				default:
					want = edited(rng, want, ip)
					check(t, a.Set(want))
				}
				if rng.IntN(2) == 0 {
					time.Sleep(time.Duration(rng.IntN(500)) * time.Millisecond)
				}
				synctest.Wait()
				if !slices.Equal(values(last), copied) {
					t.Fatalf("seed %d, step %d: what was told before has been changed", seed, step)
				}
				var scratch []announce.Standing
				for _, n := range byAddress(want.Announcements) {
					scratch = append(scratch, a.book.addresses[n.IP].standing())
				}
				now := a.Standings()
				if !slices.Equal(values(now), scratch) {
					t.Fatalf("seed %d, step %d: tells\n%+v, want\n%+v", seed, step, values(now), scratch)
				}
				if !sameSlice(now, a.Standings()) {
					t.Fatalf("seed %d, step %d: tells the same in another slice", seed, step)
				}
				last, copied = now, values(now)
			}
		})
	}
}

func values(list []*announce.Standing) (all []announce.Standing) {
	for _, s := range list {
		all = append(all, *s)
	}
	return all
}

// edited has one address come, go, or be announced otherwise.
func edited(rng *rand.Rand, w announce.Want, ip netip.Addr) announce.Want {
	w.Announcements = slices.Clone(w.Announcements)
	probe := placement.Probe(rng.IntN(3))
	i := slices.IndexFunc(w.Announcements, func(n *placement.Announcement) bool { return n.IP == ip })
	switch {
	case i < 0:
		w.Announcements = append(w.Announcements, &placement.Announcement{IP: ip, Interfaces: []string{"eth0", "eth1"}, Probe: probe})
	case rng.IntN(3) == 0:
		w.Announcements = slices.Delete(w.Announcements, i, i+1)
	case rng.IntN(2) == 0:
		another := *w.Announcements[i]
		another.Round++
		w.Announcements[i] = &another
	default:
		another := *w.Announcements[i]
		another.Probe = probe
		w.Announcements[i] = &another
	}
	return w
}
