package layer2

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lanyard-lb/lanyard/internal/announce"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// probing is on, with the addresses probed first.
func probing(ifi placement.Interface, ips ...netip.Addr) announce.Want {
	w := on(ifi, ips...)
	for i := range w.Announcements {
		w.Announcements[i].Probe = placement.ProbeFirst
	}
	return w
}

// wantStanding compares how the only address stands, but for times.
func wantStanding(t *testing.T, a *Announcer, want announce.Standing) {
	t.Helper()
	list := a.Standings()
	if len(list) != 1 {
		t.Fatalf("standings: %+v", list)
	}
	got := *list[0]
	if got.RivalAt.IsZero() != (got.Rival == placement.MAC{}) || got.PeerAt.IsZero() != (got.Peer == placement.MAC{}) {
		t.Errorf("%+v has a claimant without a time, or a time without", got)
	}
	got.RivalAt, got.PeerAt = time.Time{}, time.Time{}
	if got != want {
		t.Errorf("stands as %+v\nwant %+v", got, want)
	}
}

// near tells times that differ by no more than a few timers of the sender.
func near(got, want []time.Duration) bool {
	return slices.EqualFunc(got, want, func(a, b time.Duration) bool { return (a - b).Abs() <= 5*breather })
}

// What a neighbour hears of an address that is probed, defended and withdrawn: these frames, at these times,
// and no others.
func TestTheWholeStoryOfAProbedAddressOnTheWire(t *testing.T) {
	for _, ip := range []netip.Addr{vip4, vip6} {
		synctest.Test(t, func(t *testing.T) {
			w := newFakeWorld(t)
			ifi, neighbour := w.interfaces[0], w.stations["eth0"]
			a := runs(t, Config{Network: w.node})
			start := time.Now()
			check(t, a.Set(probing(ifi, ip)))
			time.Sleep(20 * time.Second)
			neighbour.send(t, neighbour.claim(t, ip))
			time.Sleep(20 * time.Second)

			var burst []time.Duration
			for _, d := range append([]time.Duration{0}, repeats[:]...) {
				burst = append(burst, probes*probeEvery+d)
			}
			defended := append(slices.Clone(burst), 20*time.Second)
			probed := []time.Duration{0, probeEvery, 2 * probeEvery}
			expect := func(name string, frame []byte, want []time.Duration) int {
				got := neighbour.seen(frame, start)
				if !near(got, want) {
					t.Errorf("%s: %s at %v, want %v", ip, name, got, want)
				}
				return len(got)
			}
			sum := 0
			if ip.Is4() {
				sum += expect("probe", arpProbe(nil, ifi.MAC, ip), probed)
				sum += expect("announcement", arpAnnouncement(nil, ifi.MAC, ip), defended)
				sum += expect("gratuitous reply", arpGratuitousReply(nil, ifi.MAC, ip), burst)
			} else {
				sum += expect("probe", ndpProbe(nil, ifi.MAC, ip), probed)
				sum += expect("announcement", ndpUnsolicited(nil, ifi.MAC, ip), defended)
			}
			synctest.Wait()
			if all := len(neighbour.raw); all != sum {
				t.Errorf("%d frames, want %d", all, sum)
			}
		})
	}
}

func TestWhoClaimsAnAddressThatIsProbed(t *testing.T) {
	ours := suitable("eth0", 2)
	reply := patched(arpFrame(t, them, ours.MAC, vip4, netip.IPv4Unspecified()), 20, 0, 2)
	second := suitable("eth1", 3).MAC
	for _, c := range []struct {
		name  string
		frame []byte
		peer  bool // the sender is one
		taken bool
	}{
		{"ARP reply", reply, false, true},
		{"ARP announcement", arpAnnouncement(nil, them, vip4), false, true},
		{"ARP request for another", arpFrame(t, them, placement.MAC{}, vip4, host4), false, true},
		{"ARP probe", arpProbe(nil, them, vip4), false, true},
		{"advertisement", ndpUnsolicited(nil, them, vip6), false, true},
		{"duplicate address detection", ndpProbe(nil, them, vip6), false, true},
		{"ARP reply of a peer", reply, true, false},
		{"ARP probe of a peer", arpProbe(nil, them, vip4), true, false},
		{"advertisement of a peer", ndpUnsolicited(nil, them, vip6), true, false},
		{"duplicate address detection of a peer", ndpProbe(nil, them, vip6), true, false},
		{"ARP request", arpFrame(t, them, placement.MAC{}, host4, vip4), false, false},
		{"solicitation", ndpFrame(t, them, placement.MAC{}, host6, vip6), false, false},
		{"our own probe, heard on another interface", arpProbe(nil, second, vip4), false, false},
		{"our own announcement, heard on another interface", ndpUnsolicited(nil, second, vip6), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFakeWorld(t)
				ip, neighbour := vip4, w.stations["eth0"]
				if c.frame[12] == typeIPv6>>8 {
					ip = vip6
				}
				var n counter
				a := runs(t, Config{Network: w.node, Metrics: &n})
				want := probing(ours, ip)
				want.Interfaces = append(want.Interfaces, suitable("eth1", 3))
				if c.peer {
					want.Peers = map[placement.MAC]bool{them: true}
				}
				check(t, a.Set(want))
				time.Sleep(150 * time.Millisecond)
				sender := w.node.segments[2].attach(placement.MAC(c.frame[6:]), nil)
				_, err := sender.Write(c.frame)
				check(t, err)
				check(t, sender.Close())
				time.Sleep(10 * time.Second)

				stands := announce.Standing{IP: ip, Phase: placement.Announcing}
				switch {
				case c.taken:
					stands = announce.Standing{IP: ip, Phase: placement.Taken, Rival: them, RivalOn: "eth0"}
				case c.peer:
					stands.Peer = them
				}
				wantStanding(t, a, stands)
				told := slices.ContainsFunc(neighbour.unasked(ip), func(f frame) bool { return f.mac == ours.MAC })
				if told == c.taken {
					t.Errorf("told: %v", told)
				}
				sums := n.now()
				if got := fmt.Sprint(sums.strangers, sums.peers, sums.defended); got != fmt.Sprint(count(c.taken), count(c.peer), 0) {
					t.Errorf("counted strangers, peers, defences: %s", got)
				}
				if c.taken && sums.probed != 2 {
					t.Errorf("%d probes, want 2 before it was taken", sums.probed)
				}
			})
		})
	}
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

func TestWhoClaimsAnAddressThatIsAnnounced(t *testing.T) {
	for _, c := range []struct {
		name     string
		frame    []byte
		peer     bool // the sender is one
		conflict bool
	}{
		{"ARP announcement", arpAnnouncement(nil, them, vip4), false, true},
		{"gratuitous reply", arpGratuitousReply(nil, them, vip4), false, true},
		{"ARP request for another", arpFrame(t, them, placement.MAC{}, vip4, host4), false, true},
		{"advertisement", ndpUnsolicited(nil, them, vip6), false, true},
		{"ARP announcement of a peer", arpAnnouncement(nil, them, vip4), true, true},
		{"advertisement of a peer", ndpUnsolicited(nil, them, vip6), true, true},
		{"ARP probe, which is answered", arpProbe(nil, them, vip4), false, false},
		{"duplicate address detection, which is answered", ndpProbe(nil, them, vip6), false, false},
		{"ARP request, which is answered", arpFrame(t, them, placement.MAC{}, host4, vip4), false, false},
		{"ARP reply about another", arpGratuitousReply(nil, them, host4), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFakeWorld(t)
				ip, from := vip4, w.node.segments[2].attach(them, nil)
				if c.frame[12] == typeIPv6>>8 {
					ip = vip6
				}
				var n counter
				a := runs(t, Config{Network: w.node, Metrics: &n})
				want := on(w.interfaces[0], ip)
				want.Peers = map[placement.MAC]bool{them: c.peer}
				check(t, a.Set(want))
				w.Settle()
				<-a.Changed()
				_, err := from.Write(c.frame)
				check(t, err)
				synctest.Wait()

				stands := announce.Standing{IP: ip, Phase: placement.Announcing}
				stranger, peer := c.conflict && !c.peer, c.conflict && c.peer
				if stranger {
					stands.Rival, stands.RivalOn = them, "eth0"
				}
				if peer {
					stands.Peer = them
				}
				wantStanding(t, a, stands)
				if signals := len(a.Changed()); signals != count(c.conflict) {
					t.Errorf("%d signals", signals)
				}
				sums := n.now()
				if got := fmt.Sprint(sums.strangers, sums.peers, sums.defended); got != fmt.Sprint(count(stranger), count(peer), count(stranger)) {
					t.Errorf("counted strangers, peers, defences: %s", got)
				}
				if sums.answered != count(strings.HasSuffix(c.name, "answered")) {
					t.Errorf("%d answers", sums.answered)
				}
			})
		})
	}
}

// A storm of claims is defended against every ten seconds, and told of once a second.
func TestAStormOfClaims(t *testing.T) {
	for _, ip := range []netip.Addr{vip4, vip6} {
		synctest.Test(t, func(t *testing.T) {
			const storm = 35 * time.Second
			w := newFakeWorld(t)
			var n counter
			a := runs(t, Config{Network: w.node, Metrics: &n})
			check(t, a.Set(on(w.interfaces[0], ip)))
			w.Settle()
			<-a.Changed()
			neighbour, start, signals, frames := w.stations["eth0"], time.Now(), 0, 0
			before := len(neighbour.unasked(ip))
			for ; time.Since(start) < storm; time.Sleep(10 * time.Millisecond) {
				neighbour.send(t, neighbour.claim(t, ip))
				frames++
				synctest.Wait()
				select {
				case <-a.Changed():
					signals++
				default:
				}
			}
			sums := n.now()
			if told := len(neighbour.unasked(ip)) - before; told != 4 || sums.defended != 4 || sums.strangers != frames {
				t.Errorf("%s: %d frames unasked, %d defences, want 4; %d conflicts, want %d", ip, told, sums.defended, sums.strangers, frames)
			}
			if want := int(storm / tellEvery); signals != want {
				t.Errorf("%s: %d signals, want %d", ip, signals, want)
			}
			if at := a.Standings()[0].RivalAt; time.Since(at) > 100*time.Millisecond {
				t.Errorf("last heard at %v, want the last of the storm", at.Sub(start))
			}
		})
	}
}

func TestAFreeAddressThatAStrangerTakesIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(t)
		a := runs(t, Config{Network: w.node})
		want := probing(w.interfaces[0], vip6)
		want.Announcements[0].Probe = placement.ProbeOnly
		check(t, a.Set(want))
		time.Sleep(time.Second)
		wantStanding(t, a, announce.Standing{IP: vip6, Phase: placement.Free})
		neighbour := w.stations["eth0"]
		neighbour.send(t, ndpProbe(nil, neighbour.mac, vip6)) // we do not want it ourselves now
		synctest.Wait()
		wantStanding(t, a, announce.Standing{IP: vip6, Phase: placement.Free})
		neighbour.send(t, neighbour.claim(t, vip6))
		synctest.Wait()
		wantStanding(t, a, announce.Standing{IP: vip6, Phase: placement.Taken, Rival: neighbour.mac, RivalOn: "eth0"})
	})
}

func TestInterfacesThatComeAndGoWhileProbing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(t)
		a := runs(t, Config{Network: w.node})
		eth0, eth1 := w.interfaces[0], w.interfaces[1]
		at := func(ifis ...placement.Interface) announce.Want {
			want := probing(eth0, vip4)
			want.Interfaces = ifis
			want.Announcements[0].Interfaces = []string{"eth0", "eth1"}
			return want
		}
		stands := func(phase placement.Phase) {
			t.Helper()
			synctest.Wait()
			wantStanding(t, a, announce.Standing{IP: vip4, Phase: phase})
		}
		probed := func(name string) int {
			return len(w.stations[name].seen(arpProbe(nil, w.interfaces[w.index(name)-2].MAC, vip4), time.Now()))
		}
		told := func(name string) int { return len(w.stations[name].unasked(vip4)) }

		check(t, a.Set(at()))
		stands(placement.Pending)
		check(t, a.Set(at(eth0)))
		time.Sleep(200 * time.Millisecond)
		stands(placement.Probing)
		check(t, a.Set(at(eth0, eth1))) // comes late: the address waits for it
		time.Sleep(200 * time.Millisecond)
		stands(placement.Probing)
		check(t, a.Set(at(eth0))) // and is done when it has gone
		stands(placement.Announcing)
		if probed("eth0") != 3 || probed("eth1") != 3 && probed("eth1") != 2 || told("eth0") == 0 || told("eth1") > 0 {
			t.Errorf("probed %d and %d times, told %d and %d", probed("eth0"), probed("eth1"), told("eth0"), told("eth1"))
		}
		check(t, a.Set(at()))
		stands(placement.Pending)
		before := probed("eth1")
		check(t, a.Set(at(eth0, eth1))) // in the same round
		stands(placement.Announcing)
		w.Settle()
		if probed("eth1") != before || told("eth1") != 2*(1+len(repeats)) {
			t.Errorf("%d more probes, %d told where it came late", probed("eth1")-before, told("eth1"))
		}
	})
}

// One change has one burst, however often it is said.
func TestOneBurstForEachChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(t)
		a := runs(t, Config{Network: w.node})
		ifi := w.interfaces[0]
		one := 1 + len(repeats)
		for i, step := range []struct {
			want announce.Want
			more int // bursts
		}{
			{on(ifi, vip6), 1},
			{on(ifi, vip6), 0},
			{on(ifi, vip6, vip4), 0}, // not of this one
			{func() announce.Want { w := on(ifi, vip6); w.Announcements[0].Round = 1; return w }(), 1},
			{func() announce.Want { w := probing(ifi, vip6); w.Announcements[0].Round = 1; return w }(), 0},
			{func() announce.Want { w := probing(ifi, vip6); w.Announcements[0].Round = 2; return w }(), 1},
			{func() announce.Want { w := on(ifi, vip6); w.Announcements[0].Round = 2; return w }(), 0},
		} {
			before := len(w.stations["eth0"].unasked(vip6))
			for range 5 {
				check(t, a.Set(step.want))
				synctest.Wait()
			}
			w.Settle()
			time.Sleep(time.Second)
			if told := len(w.stations["eth0"].unasked(vip6)) - before; told != step.more*one {
				t.Errorf("step %d: told %d times, want %d", i, told, step.more*one)
			}
		}
	})
}

func TestWhileNotAwakeNothingLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(t)
		var awake atomic.Bool
		var n counter
		a := runs(t, Config{Network: w.node, Metrics: &n, Awake: awake.Load, Refresh: time.Minute})
		neighbour, ifi := w.stations["eth0"], w.interfaces[0]
		want := on(ifi, vip4)
		want.Announcements = append(want.Announcements, probing(ifi, vip6).Announcements...)
		frames := func() int { neighbour.mu.Lock(); defer neighbour.mu.Unlock(); return len(neighbour.raw) }
		silent := func() {
			t.Helper()
			before := frames()
			neighbour.send(t, neighbour.request(t, vip4, placement.MAC{}))
			neighbour.send(t, neighbour.claim(t, vip4))
			time.Sleep(2 * time.Minute)
			if sent := frames() - before; sent > 0 {
				t.Errorf("%d frames sent while not awake", sent)
			}
		}
		check(t, a.Set(want))
		silent()
		if n.now().strangers != 1 {
			t.Errorf("%d conflicts heard, want 1", n.now().strangers)
		}
		awake.Store(true)
		time.Sleep(probes*probeEvery + 20*time.Millisecond)
		if n.now().probed != probes || len(neighbour.unasked(vip4)) == 0 || len(neighbour.unasked(vip6)) == 0 {
			t.Errorf("%d probes; told %d and %d times", n.now().probed, len(neighbour.unasked(vip4)), len(neighbour.unasked(vip6)))
		}
		awake.Store(false) // in the middle of the bursts
		silent()
		awake.Store(true)
		time.Sleep(2 * time.Minute)
		if got, want := len(neighbour.unasked(vip6)), 1+len(repeats)+2; got != want && got != want-1 {
			t.Errorf("told %d times in the end, want %d", got, want)
		}
		awake.Store(false)
		silent()
	})
}

// Who stood still while it probed decides nothing before it has read what was answered.
func TestAProbeIsNotDecidedWhileNotAwake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(t)
		var awake atomic.Bool
		awake.Store(true)
		a := runs(t, Config{Network: w.node, Awake: awake.Load})
		check(t, a.Set(probing(w.interfaces[0], vip4)))
		time.Sleep(250 * time.Millisecond)
		awake.Store(false)
		time.Sleep(time.Minute)
		w.Occupy("eth0", vip4)
		awake.Store(true)
		time.Sleep(time.Second)
		if got := a.Standings()[0].Phase; got != placement.Taken {
			t.Errorf("the address is %s, want it taken", got)
		}
	})
}

func TestRefreshingGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(t)
		a := runs(t, Config{Network: w.node, Refresh: time.Minute})
		check(t, a.Set(on(w.interfaces[0], vip4, vip6)))
		w.Settle()
		time.Sleep(10 * time.Minute)
		for _, frame := range [][]byte{arpAnnouncement(nil, w.interfaces[0].MAC, vip4), ndpUnsolicited(nil, w.interfaces[0].MAC, vip6)} {
			if got, want := len(w.stations["eth0"].seen(frame, time.Now())), 1+len(repeats)+10; got < want || got > want+1 {
				t.Errorf("told %d times, want %d or one more", got, want)
			}
		}
		check(t, a.Set(on(w.interfaces[0], vip6)))
		before := len(w.stations["eth0"].unasked(vip4))
		time.Sleep(10 * time.Minute)
		if n := len(w.stations["eth0"].unasked(vip4)) - before; n > 0 {
			t.Errorf("told %d times after it was withdrawn", n)
		}
	})
}

// slow takes its time to open sockets for multicast groups.
type slow struct{ *fakeNode }

func (s slow) Member(ifi placement.Interface) (Member, error) {
	time.Sleep(time.Second)
	return s.fakeNode.Member(ifi)
}

// However long it takes to set up one interface, none is forgotten.
func TestAllInterfacesListenBeforeAnyIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(t)
		a := runs(t, Config{Network: slow{w.node}})
		mac := w.Occupy("eth1", vip4)
		want := probing(w.interfaces[0], vip4, vip6)
		want.Interfaces = w.Interfaces()
		for i := range want.Announcements {
			want.Announcements[i].Interfaces = []string{"eth0", "eth1"}
		}
		check(t, a.Set(want))
		time.Sleep(10 * time.Second)
		got := a.Standings()
		if got[0].Phase != placement.Taken || got[0].Rival != mac || got[1].Phase != placement.Announcing {
			t.Errorf("standings are %+v", got)
		}
		if n := len(w.stations["eth0"].unasked(vip4)); n > 0 {
			t.Errorf("told %d times of an address that is taken elsewhere", n)
		}
	})
}

func TestAnotherRoundIsNoNewRightToDefend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(t)
		var n counter
		a := runs(t, Config{Network: w.node, Metrics: &n})
		for round := range 15 {
			want := on(w.interfaces[0], vip4)
			want.Announcements[0].Round = uint64(round)
			check(t, a.Set(want))
			w.Occupy("eth0", vip4)
			time.Sleep(time.Second)
		}
		if got := n.now(); got.defended != 2 || got.strangers < 15 {
			t.Errorf("counted %+v, want 2 defences", got)
		}
	})
}

// faulty cannot send while down.
type faulty struct {
	*fakeNode
	down atomic.Bool
}

type faultyConn struct {
	io.ReadWriteCloser
	down *atomic.Bool
}

func (f *faulty) Listen(ifi placement.Interface, family Family) (Conn, error) {
	port, err := f.fakeNode.plug(ifi, family)
	return frames{faultyConn{port, &f.down}, port}, err
}

func (c faultyConn) Write(b []byte) (int, error) {
	if c.down.Load() {
		return 0, syscall.ENETDOWN
	}
	return c.ReadWriteCloser.Write(b)
}

func TestWhoCannotAskDoesNotBelieveTheSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(t)
		node := &faulty{fakeNode: w.node}
		node.down.Store(true)
		a := runs(t, Config{Network: node})
		check(t, a.Set(probing(w.interfaces[0], vip4)))
		time.Sleep(time.Minute)
		wantStanding(t, a, announce.Standing{IP: vip4, Phase: placement.Probing})
		node.down.Store(false)
		time.Sleep(time.Second)
		wantStanding(t, a, announce.Standing{IP: vip4, Phase: placement.Announcing})
	})
}

// Sets, probes and claims at the same time, for the race detector. Whatever happens, the last set stands.
func TestProbesAndClaimsAndSetsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(t)
		a := runs(t, Config{Network: w.node, Refresh: 20 * time.Millisecond})
		neighbour, stop := w.stations["eth0"], make(chan struct{})
		claims := [][]byte{neighbour.claim(t, vip4), neighbour.claim(t, vip6), ndpProbe(nil, neighbour.mac, vip6)}
		var wait sync.WaitGroup
		wait.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(13 * time.Millisecond):
					neighbour.send(t, claims[i/30%len(claims)])
					a.Standings()
				}
			}
		})
		for i := range 300 {
			want := probing(w.interfaces[i/5%2], vip4, vip6)
			for n := range want.Announcements {
				want.Announcements[n].Probe = placement.Probe(i / 2 % 3)
				want.Announcements[n].Round = uint64(i / 7)
			}
			check(t, a.Set(want))
			time.Sleep(time.Duration(i%5*i%7) * 26 * time.Millisecond)
		}
		close(stop)
		wait.Wait()
		last := on(w.interfaces[0], vip4)
		last.Announcements[0].Round = 99
		check(t, a.Set(last))
		wantStanding(t, a, announce.Standing{IP: vip4, Phase: placement.Announcing})
	})
}
