package membership

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/hashicorp/memberlist"
)

// fakePeers is what a joiner acts on: peers that are alive, or answer, or don't.
type fakePeers struct {
	mu      sync.Mutex
	missing []Peer
	answers map[string]int  // by address: so many joins make the peer alive
	tries   []time.Duration // since the beginning
	busy    int
	maxBusy int
	begin   time.Time
}

func (f *fakePeers) joiner() (*joiner, chan struct{}, chan struct{}, chan struct{}) {
	f.begin = time.Now()
	wanted, gained, lost := make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	j := newJoiner(log.NewNopLogger())
	j.missing = func() []Peer { f.mu.Lock(); defer f.mu.Unlock(); return slices.Clone(f.missing) }
	j.absent = func(p Peer) bool { return slices.Contains(j.missing(), p) }
	j.join = f.join
	j.jitter = func() float64 { return 0.5 } // the pause itself
	j.wanted, j.gained, j.lost = wanted, gained, lost
	return j, wanted, gained, lost
}

func (f *fakePeers) join(addr string) error {
	f.mu.Lock()
	f.tries = append(f.tries, time.Since(f.begin))
	f.busy++
	f.maxBusy = max(f.maxBusy, f.busy)
	f.mu.Unlock()
	<-time.After(time.Millisecond)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy--
	f.answers[addr]--
	if f.answers[addr] < 0 {
		return errors.New("connection refused")
	}
	if f.answers[addr] > 0 {
		return nil
	}
	f.missing = slices.DeleteFunc(f.missing, func(p Peer) bool { return p.Addr.String() == addr })
	return nil
}

func (f *fakePeers) set(missing ...Peer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.missing = missing
}

// answer makes a peer alive after so many joins.
func (f *fakePeers) answer(joins int, p Peer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[p.Addr.String()] = joins
}

func (f *fakePeers) tried(until time.Duration) []time.Duration {
	<-time.After(until - time.Since(f.begin))
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.tries)
}

func runJoiner(t *testing.T, story func(f *fakePeers, wanted, gained, _ chan struct{})) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fakePeers{answers: make(map[string]int)}
		j, wanted, gained, lost := f.joiner()
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		f.set(testPeer(1))
		done.Go(func() { j.run(ctx) })
		story(f, wanted, gained, lost)
		cancel()
		done.Wait()
	})
}

// ms turns milliseconds into durations.
func ms(list ...int) (d []time.Duration) {
	for _, n := range list {
		d = append(d, time.Duration(n)*time.Millisecond)
	}
	return d
}

func TestJoinerPace(t *testing.T) {
	runJoiner(t, func(f *fakePeers, wanted, gained, _ chan struct{}) {
		// Each attempt takes 1 ms, the pauses are 200, 400, 800, 1600, 2000, 2000 ...
		want := ms(0, 201, 602, 1403, 3004, 5005, 7006)
		if got := f.tried(8 * time.Second); !slices.Equal(got, want) {
			t.Errorf("tried at %v, want %v", got, want)
		}
		signal(wanted) // other peers: at once, and from the beginning
		want = append(want, ms(8000, 8201, 8602, 9403)...)
		if got := f.tried(9500 * time.Millisecond); !slices.Equal(got, want) {
			t.Errorf("tried at %v, want %v", got, want)
		}
		signal(gained) // a member appears: soon
		signal(gained)
		want = append(want, ms(9700)...)
		if got := f.tried(9800 * time.Millisecond); !slices.Equal(got, want) {
			t.Errorf("tried at %v, want %v", got, want)
		}
	})
}

func TestJoinerAfterALoss(t *testing.T) {
	runJoiner(t, func(f *fakePeers, _, _, lost chan struct{}) {
		f.tried(10 * time.Millisecond)
		f.set()
		f.tried(10 * time.Second)
		f.set(testPeer(1))
		signal(lost)
		if got := f.tried(10150 * time.Millisecond); len(got) != 1 {
			t.Errorf("tried %v: no pause after the loss", got)
		}
		if got := f.tried(10250 * time.Millisecond); len(got) != 2 {
			t.Errorf("tried %v, want once more after the pause", got)
		}
		// One that flaps, back and lost again every second, is joined more and more slowly.
		for i := range 30 {
			f.set()
			f.tried(time.Duration(11000+i*1000) * time.Millisecond)
			f.set(testPeer(1))
			signal(lost)
		}
		if got := f.tried(41 * time.Second); len(got) > 20 {
			t.Errorf("tried a flapping peer %d times in 31 s", len(got))
		}
	})
}

func TestJoinerBoundsItself(t *testing.T) {
	runJoiner(t, func(f *fakePeers, wanted, _, _ chan struct{}) {
		f.tried(100 * time.Millisecond)
		var many []Peer
		for i := range 40 {
			many = append(many, testPeer(i))
			f.answer(1, testPeer(i))
		}
		f.set(many...)
		signal(wanted)
		f.tried(200 * time.Millisecond)
		if len(f.missing) != 0 || f.maxBusy != joinAtOnce {
			t.Errorf("%d are missing, %d joins were under way at once", len(f.missing), f.maxBusy)
		}
	})
}

// Two that hold each other for dead need two exchanges.
func TestJoinerAsksTwice(t *testing.T) {
	runJoiner(t, func(f *fakePeers, wanted, _, _ chan struct{}) {
		f.tried(100 * time.Millisecond)
		f.answer(2, testPeer(1))
		signal(wanted)
		got := f.tried(time.Second)
		if want := ms(100, 101); !slices.Equal(got[1:], want) || len(f.missing) != 0 {
			t.Errorf("tried at %v, want at first and %v; missing %v", got, want, f.missing)
		}
	})
}

func TestRosterSignals(t *testing.T) {
	r := newRoster(log.NewNopLogger())
	n := &memberlist.Node{Name: "a", Addr: []byte{10, 0, 0, 1}, Port: 7946}
	r.NotifyJoin(n) // not open: a timer of memberlist's
	if len(r.names()) != 0 || len(r.changed) != 0 {
		t.Error("takes events when closed")
	}
	r.open()
	r.NotifyJoin(n)
	if len(r.gained) != 1 || len(r.lost) != 0 || len(r.changed) != 1 {
		t.Fatal("wrong signals for a member that appeared")
	}
	<-r.gained
	r.NotifyLeave(n)
	if len(r.gained) != 0 || len(r.lost) != 1 || len(r.changed) != 1 {
		t.Error("wrong signals for a member that went")
	}
}

func TestConnectingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newTestLAN()
		a, b := testPeer(0).Addr, testPeer(1).Addr
		lan.move(1, b.Addr())
		tr := newTransport(lan.plug(a), time.Second, new(traffic), func(net.Addr) {})
		begin := time.Now()
		if _, err := tr.DialTimeout(b.String(), time.Minute); err == nil || time.Since(begin) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		_ = tr.Shutdown()
		_ = tr.Shutdown()
	})
}

func TestJoinFailureIsTheSameForTheSameTrouble(t *testing.T) {
	for _, tt := range []struct{ a, b string }{
		{"read tcp 10.0.0.1:40001->10.0.0.2:7946: read: connection reset by peer", "write tcp 10.0.0.1:40002->10.0.0.2:7946: write: broken pipe"},
		{"dial tcp 10.0.0.2:7946: i/o timeout", "read tcp 10.0.0.1:40001->10.0.0.2:7946: i/o timeout"},
		{"dial tcp 10.0.0.2:7946: connect: connection refused", "dial tcp 10.0.0.2:7946: connect: connection refused"},
	} {
		if a, b := joinFailure(errors.New(tt.a)), joinFailure(errors.New(tt.b)); a != b || a == "failed" {
			t.Errorf("%q is %q, %q is %q", tt.a, a, tt.b, b)
		}
	}
}

func TestSetPeersIsTheWholeTruth(t *testing.T) {
	g, err := New(Config{Name: "n00"})
	if err != nil {
		t.Fatal(err)
	}
	mapped := netip.AddrPortFrom(netip.MustParseAddr("::ffff:10.0.0.3"), 7946)
	given := []Peer{testPeer(2), testPeer(0), testPeer(1), testPeer(2), {Name: "n02", Addr: mapped}, {Name: "no address"}}
	g.SetPeers(given)
	<-g.wanted
	if got, want := g.missing(), []Peer{testPeer(1), testPeer(2)}; !slices.Equal(got, want) {
		t.Errorf("missing %v, want %v", got, want)
	}
	g.SetPeers([]Peer{testPeer(1), testPeer(2), testPeer(0)})
	if len(g.wanted) != 0 {
		t.Error("the same peers in another order count as other ones")
	}
	g.SetPeers(nil)
	if len(g.wanted) != 1 || len(g.missing()) != 0 {
		t.Error("none are wanted, and they still are")
	}
}
