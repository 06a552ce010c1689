package membership

import (
	"context"
	"flag"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// inBubble runs a story of members on a testLAN in virtual time. The bubble fails if any goroutine,
// memberlist's included, is left when Run has returned and the longest probe is over.
func inBubble(t *testing.T, story func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer func() {
			w.close()
			<-time.After(time.Second) // probes being waited for: 100 ms, four times in poor health
		}()
		story(t, w)
	})
}

func TestThreeSeeEachOther(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.start(3)
		if got, want := w.nodes[0].Members(), []string{"n00", "n01", "n02"}; !slices.Equal(got, want) {
			t.Errorf("members %v, want %v", got, want)
		}
		w.nodes[0].end()
		if got := w.nodes[0].Members(); len(got) != 0 {
			t.Errorf("members after Run: %v, want none", got)
		}
	})
}

func TestDeadMemberIsNoticed(t *testing.T) {
	for _, n := range []int{2, 3, 10} {
		inBubble(t, func(t *testing.T, w *world) {
			w.start(n)
			<-time.After(3 * time.Second)
			victim := w.nodes[0]
			w.lan.move(1, victim.peer.Addr.Addr())
			// Virtual time: probes by each other member every 100 ms, each member in turn, and 200 ms as a suspect.
			took := w.await(5*time.Second, w.nodes[1:]...)
			t.Logf("%d members: %v", n, took)
			if took < 100*time.Millisecond {
				t.Errorf("gone after %v: that is no suspicion", took)
			}
		})
	}
}

// A node that was cut off held the others for dead, and its kernel may deliver what it said of that when it is back: nobody
// believes it of a member that answers.
func TestStaleWordOfDeath(t *testing.T) {
	for _, n := range []int{3, 10} {
		for _, outage := range []time.Duration{250, 300, 400, 500, 700, 1000, 1500, 2000, 4000, 8000, 15000} {
			outage *= time.Millisecond
			inBubble(t, func(t *testing.T, w *world) {
				w.start(n)
				w.lan.keeps = true
				<-time.After(3 * time.Second)
				victim, rest := w.nodes[0], w.nodes[1:]
				w.lan.move(1, victim.peer.Addr.Addr())
				<-time.After(outage)
				w.lan.heal()
				<-time.After(5 * time.Second)
				w.await(0, w.nodes...)
				for _, n := range rest {
					if wrong := n.log.count("member is gone") - n.log.count("member is gone", victim.peer.Name); wrong > 0 {
						t.Errorf("%d members, %v cut off: %s lost members that were there\n%s", len(w.nodes), outage, n.peer.Name, n.log)
					}
				}
			})
		}
	}
}

// Larger clusters take minutes under the race detector: go test -run Detection ./internal/membership -members 100.
var most = flag.Int("members", 50, "how many members the largest cluster has in which a death is to be detected")

// However many claims change meanwhile, a dead member is noticed as soon, and nobody else is suspected.
func TestClaimsDontSlowDetection(t *testing.T) {
	t.Parallel()
	sizes := []int{3, 10, *most}
	if testing.Short() {
		sizes = sizes[:2]
	}
	for _, n := range sizes {
		inBubble(t, func(t *testing.T, w *world) {
			w.start(n)
			defer w.keepChanging()()
			<-time.After(3 * time.Second)
			before := losses(w.nodes)
			w.lan.move(1, testPeer(0).Addr.Addr())
			took := w.await(5*time.Second, w.nodes[1:]...)
			t.Logf("%d members: %v", n, took)
			if limit := 1500 * time.Millisecond; took > limit {
				t.Errorf("%d members noticed after %v, want at most %v", n, took, limit)
			}
			if alarms := losses(w.nodes[1:]) - before - (n - 1); alarms > 0 {
				t.Errorf("%d members: %d false alarms", n, alarms)
			}
		})
	}
}

func TestLeaveIsSeenAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.start(5)
		leaver, rest := w.nodes[0], w.nodes[1:]
		begin := time.Now()
		if err := leaver.Leave(t.Context()); err != nil {
			t.Fatalf("Leave: %v", err)
		}
		w.await(200*time.Millisecond, rest...) // a probe and a suspicion take 300 ms
		t.Logf("all know after %v", time.Since(begin))
		if err := leaver.Leave(t.Context()); err != nil {
			t.Errorf("second Leave: %v", err)
		}
		leaver.SetPeers(append(slices.Clone(w.peers), testPeer(99))) // whom it won't try
		// It stays, as a listener, and the others' attempts to join it (it is still a peer) don't bring it back.
		<-time.After(3 * time.Second)
		if got, want := leaver.Members(), namesOf(rest); !slices.Equal(got, want) {
			t.Errorf("the leaver sees %v, want %v", got, want)
		}
		w.await(0, rest...)
		for _, n := range w.nodes {
			if n.log.count("Suspect") != 0 || n.log.count("can't join") != 0 {
				t.Errorf("log of %s:\n%s", n.peer.Name, n.log)
			}
		}
		leaver.end()
		if err := leaver.Leave(t.Context()); err != nil {
			t.Errorf("Leave after Run: %v", err)
		}
	})
}

func TestRunLeavesInGoodOrder(t *testing.T) {
	for _, p := range []Profile{Fast, LAN, WAN} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			defer func() {
				w.close()
				<-time.After(time.Minute) // a WAN probe takes 5 s, eight times that in poor health
			}()
			for i := range 3 {
				w.peers = append(w.peers, testPeer(i))
				w.nodes = append(w.nodes, w.run(testPeer(i), func(c *Config) { c.Profile = p }))
				w.nodes[i].SetPeers(w.peers)
			}
			w.await(time.Minute, w.nodes...)
			begin := time.Now()
			w.nodes[0].end()
			if took := time.Since(begin); took > p.limits().leave {
				t.Errorf("%v: Run went on for %v", p, took)
			}
			w.await(0, w.nodes[1:]...)
			if log := w.nodes[0].log; log.count("without being sure") != 0 {
				t.Errorf("%v: %s", p, log)
			}
		})
	}
}

func TestQuietAfterRun(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.start(2)
		w.lan.move(1, w.nodes[1].peer.Addr.Addr())
		<-time.After(250 * time.Millisecond) // now it is a suspect, with a timer
		w.nodes[0].end()
		before := w.nodes[0].log.String()
		<-time.After(5 * time.Second)
		if after := w.nodes[0].log.String(); after != before {
			t.Errorf("logged after Run:\n%s", after[len(before):])
		}
	})
}

func TestLeaveKeepsToTheDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.start(3)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		begin := time.Now()
		_ = w.nodes[0].Leave(ctx)
		if took := time.Since(begin); took > time.Millisecond {
			t.Errorf("Leave took %v", took)
		}
		w.await(200*time.Millisecond, w.nodes[1:]...) // the message goes out all the same
	})
}

func TestPartitionHeals(t *testing.T) {
	for _, lasted := range []time.Duration{3 * time.Second, 32 * time.Second, 5 * time.Minute} {
		inBubble(t, func(t *testing.T, w *world) {
			w.start(5)
			<-time.After(3 * time.Second) // the refutations of a start are over
			three, two := w.nodes[:3], w.nodes[3:]
			w.lan.move(1, two[0].peer.Addr.Addr(), two[1].peer.Addr.Addr())
			w.await(10*time.Second, three...)
			w.await(10*time.Second, two...)
			<-time.After(lasted)
			if got := three[0].log.count("can't join peer", "n03"); got != 1 {
				t.Errorf("%d warnings about n03, want 1:\n%s", got, three[0].log)
			}
			w.lan.heal()
			took := w.await(4*time.Second, w.nodes...)
			t.Logf("after %v of partition: all joined in %v", lasted, took)
			<-time.After(5 * time.Second)
			w.await(0, w.nodes...)
		})
	}
}

// At this size gossip alone leaves pairs that don't know of each other; joining must find them.
func TestLargePartitionHeals(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("50 members take a while under -race")
	}
	inBubble(t, func(t *testing.T, w *world) {
		w.start(50)
		right := w.nodes[30:]
		for _, n := range right {
			w.lan.move(1, n.peer.Addr.Addr())
		}
		w.await(10*time.Second, w.nodes[:30]...)
		w.await(10*time.Second, right...)
		<-time.After(20 * time.Second)
		w.lan.heal()
		took := w.await(5*time.Second, w.nodes...)
		t.Logf("all joined in %v", took)
	})
}

func TestRestartReturns(t *testing.T) {
	other := testPeer(77)
	for _, tt := range []struct {
		name   string
		reason string
		leave  bool
		down   time.Duration
		peer   Peer
		within time.Duration
	}{
		{"left, same address", "a refutation outbids the departure", true, 0, testPeer(0), time.Second},
		{"left, other address", "a departure frees the name", true, 0, Peer{"n00", other.Addr}, time.Second},
		{"died, same address", "a refutation outbids the death", false, 3 * time.Second, testPeer(0), time.Second},
		{"died, other address", "a death frees the name", false, 3 * time.Second, Peer{"n00", other.Addr}, time.Second},
		{"not yet known dead, same address", "it never went", false, 50 * time.Millisecond, testPeer(0), time.Second},
		{"not yet known dead, other address", "freed when known dead", false, 50 * time.Millisecond, Peer{"n00", other.Addr}, 3 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.start(3)
				old := w.nodes[0]
				if !tt.leave { // its farewell isn't heard
					w.lan.move(1, old.peer.Addr.Addr())
					<-time.After(tt.down)
				}
				old.end()
				w.lan.heal()
				again := w.run(tt.peer, nil)
				w.nodes = append(w.nodes[1:], again)
				peers := append(slices.Clone(w.peers[1:]), tt.peer)
				for _, n := range w.nodes {
					n.SetPeers(peers)
				}
				begin := time.Now()
				w.await(tt.within, w.nodes...)
				for _, n := range w.nodes {
					awaitThat(t, n, tt.within-time.Since(begin), "n00 at "+tt.peer.Addr.String(), func() bool {
						return n.roster.has(Peer{Addr: tt.peer.Addr})
					})
				}
				t.Logf("%s: back after %v", tt.reason, time.Since(begin))
				<-time.After(5 * time.Second) // and stays
				w.await(0, w.nodes...)
			})
		})
	}
}

func TestPacketsLostButConnectionsWork(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		filtered := testPeer(0).Addr.String()
		w.lan.mute = func(to string) bool { return to == filtered }
		w.start(3)
		<-time.After(20 * time.Second)
		w.await(0, w.nodes...)
		if n := w.nodes[1].log.count("member is gone"); n != 0 {
			t.Errorf("flapped %d times:\n%s", n, w.nodes[1].log)
		}
		if n := w.nodes[1].log.count("over TCP but UDP probes failed"); n != 1 {
			t.Errorf("%d warnings about filtered UDP, want 1:\n%s", n, w.nodes[1].log)
		}
	})
}

func TestPeersBeforeRunAndWithoutName(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		peers := []Peer{{Addr: testPeer(0).Addr}, {Addr: testPeer(1).Addr}}
		a := w.run(testPeer(0), nil)
		synctest.Wait()
		b, err := New(Config{Name: "n01", Transport: w.lan.plug(testPeer(1).Addr)})
		if err != nil {
			t.Fatal(err)
		}
		b.SetPeers(peers) // itself among them
		ctx, cancel := context.WithCancel(t.Context())
		n := &node{Gossip: b, peer: testPeer(1), log: &logBook{}, stop: cancel, done: make(chan struct{})}
		go func() { defer close(n.done); _ = b.Run(ctx) }()
		w.all = append(w.all, n)
		w.await(time.Second, a, n)
		if b.Run(ctx) == nil {
			t.Error("a second Run went through")
		}
	})
}

func TestOtherKeyNeverJoins(t *testing.T) {
	const ours, theirs = "correct horse", "battery staple"
	for _, tt := range []struct {
		name      string
		key       []byte
		ours, its string // what either side's log says
	}{
		{"another key", []byte(theirs), "the peer has another gossip key", "the peer has another gossip key"},
		{"no key", nil, "this node has a gossip key and the peer has none", "the peer has a gossip key and this node has none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.key = []byte(ours)
				w.start(3)
				odd := w.run(testPeer(3), func(c *Config) { c.Key = tt.key })
				all := append(slices.Clone(w.peers), testPeer(3))
				for _, n := range append(slices.Clone(w.nodes), odd) {
					n.SetPeers(all)
				}
				<-time.After(30 * time.Second)
				w.await(0, w.nodes...)
				w.await(0, odd)
				if n := w.nodes[0].log.count("can't join peer", "n03", "10.0.0.4:7946", "wrong key?", tt.ours); n != 1 {
					t.Errorf("%d such warnings, want 1:\n%s", n, w.nodes[0].log)
				}
				if n := odd.log.count("can't join peer", "n00", "10.0.0.1:7946", "wrong key?", tt.its); n != 1 {
					t.Errorf("%d such warnings, want 1:\n%s", n, odd.log)
				}
			})
		})
	}
}

func TestSameKeyInOtherWhiteSpace(t *testing.T) {
	inBubble(t, func(_ *testing.T, w *world) {
		a := w.run(testPeer(0), func(c *Config) { c.Key = []byte("secret\n") })
		b := w.run(testPeer(1), func(c *Config) { c.Key = []byte(" secret") })
		w.nodes = []*node{a, b}
		a.SetPeers([]Peer{testPeer(1)})
		w.await(time.Second, a, b)
	})
}

func TestLabelsKeepApart(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := w.run(testPeer(0), func(c *Config) { c.Label = "one" })
		b := w.run(testPeer(1), func(c *Config) { c.Label = "two" })
		c := w.run(testPeer(2), func(c *Config) { c.Label = "two" })
		w.nodes = []*node{a, b, c}
		for _, n := range w.nodes {
			n.SetPeers([]Peer{testPeer(0), testPeer(1), testPeer(2)})
		}
		<-time.After(10 * time.Second)
		w.await(0, a)
		w.await(0, b, c)
		if n := a.log.count("can't join peer", "n01", "gossip label"); n != 1 {
			t.Errorf("%d warnings about the label, want 1:\n%s", n, a.log)
		}
	})
}
