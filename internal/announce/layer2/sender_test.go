package layer2

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lanyard-lb/lanyard/internal/announce"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// allTold checks that all were first told in that order, and each as often as it should be.
func allTold(t *testing.T, log []sentAt, list []burst) {
	t.Helper()
	seen := make(map[netip.Addr]int)
	for i, l := range log {
		seen[l.ip]++
		if i < len(list) && l.ip != list[i].holding.ip {
			t.Fatalf("announcement %d is of %s, want %s", i, l.ip, list[i].holding.ip)
		}
	}
	for _, b := range list {
		if seen[b.holding.ip] != len(repeats)+1 {
			t.Errorf("%s told %d times", b.holding.ip, seen[b.holding.ip])
		}
	}
}

// What is added while the sender is at a frame does not come between that frame and its next try.
func TestAFrameThatCannotBeSentWhileOthersAreAddedIsSentLater(t *testing.T) {
	late := of(netip.MustParseAddr("10.2.0.1"))
	for _, reason := range []error{syscall.ENOBUFS, syscall.EAGAIN, errAsleep} {
		for _, before := range []int{1, 2} {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				log := record(t, sends, func(s *sender) {
					send := s.send
					s.send = func(b burst, out []byte) (bool, error) {
						if tries++; tries == 1 {
							s.add([]burst{late})
							return true, reason
						}
						return send(b, out)
					}
					s.add(many(before))
				})
				allTold(t, log, append(many(before), late))
			})
		}
	}
}

// tightConn is a sinkConn that has no room while it is full.
type tightConn struct {
	sinkConn
	full *atomic.Bool
	sent *atomic.Int64
}

func (c tightConn) Write(b []byte) (int, error) {
	if c.full.Load() {
		return 0, syscall.ENOBUFS
	}
	c.sent.Add(1)
	return len(b), nil
}

func TestAFrameThatFoundNoRoomIsNotSentForAnAddressThatIsGone(t *testing.T) {
	series := (len(repeats) + 1) * len(arp.unsolicited)
	for name, c := range map[string]struct {
		change func(r *responder) []burst
		want   int
	}{
		"removed": {func(r *responder) []burst { r.remove(vip4); return nil }, 0},
		"announced again": {func(r *responder) []burst {
			r.fresh = nil
			r.add(vip4)
			list, _ := r.book.attach(r.fresh)
			return list
		}, series},
		"kept": {func(*responder) []burst { return nil }, series},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var full atomic.Bool
				var sent atomic.Int64
				full.Store(true)
				a := New(Config{Network: sink{}})
				r := newResponder(suitable("eth0", 2), IPv4, a.cfg, a.book, nil)
				a.book.change(change{ip: vip4})
				r.conn = tightConn{make(sinkConn), &full, &sent}
				r.add(vip4)
				list, _ := r.book.attach(r.fresh)
				s := newSender(0)
				send := s.send
				s.send = func(b burst, out []byte) (bool, error) {
					held, err := send(b, out)
					if full.CompareAndSwap(true, false) { // the sender does not know yet that it failed
						s.add(c.change(r))
					}
					return held, err
				}
				s.add(list)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				s.run(ctx)
				if n := int(sent.Load()); n != c.want {
					t.Errorf("%d frames, want %d", n, c.want)
				}
			})
		})
	}
}

// at makes the bursts be of one interface.
func at(r *responder, list []burst) []burst {
	for i := range list {
		list[i].holding.responder = r
	}
	return list
}

// However much waits for an interface whose send queue stays full, others are served as if it were not there,
// and it goes on in order once there is room.
func TestAFullSendQueueDoesNotHoldUpOtherInterfaces(t *testing.T) {
	const count, stays = 1000, 10 * time.Second
	tight, roomy := &responder{}, &responder{}
	for name, c := range map[string]struct {
		probe, last bool          // the interface comes after the other
		after       time.Duration // its send queue is full from then on
	}{
		"first announcements": {},
		"repetitions":         {last: true, after: 60 * time.Millisecond},
		"probes":              {probe: true},
	} {
		t.Run(name, func(t *testing.T) {
			waits, others := at(tight, many(count)), at(roomy, many(2 * count)[count:])
			if c.probe {
				probesOf(waits)
				probesOf(others)
			}
			tries := 0
			told := func(t *testing.T, lists ...[]burst) (log map[*responder][]sentAt) {
				start := time.Now()
				log = make(map[*responder][]sentAt)
				record(t, func(b burst) (bool, error) {
					r, now := b.holding.responder, time.Since(start)
					switch {
					case b.over():
						return false, nil
					case r == tight && now >= c.after && now < c.after+stays:
						tries++
						return true, syscall.ENOBUFS
					}
					log[r] = append(log[r], sentAt{b.holding.ip, now})
					return true, nil
				}, func(s *sender) {
					for _, list := range lists {
						s.add(list)
					}
				})
				return log
			}
			var alone, beside map[*responder][]sentAt
			synctest.Test(t, func(t *testing.T) { alone = told(t, others) })
			synctest.Test(t, func(t *testing.T) {
				if c.last {
					beside = told(t, others, waits)
				} else {
					beside = told(t, waits, others)
				}
			})
			if len(alone[roomy]) != len(beside[roomy]) {
				t.Fatalf("%d frames, want %d", len(beside[roomy]), len(alone[roomy]))
			}
			for i, l := range beside[roomy] {
				if want := alone[roomy][i]; l.ip != want.ip || (l.at-want.at).Abs() > 2*breather {
					t.Fatalf("frame %d is of %s at %v, want %s at %v", i, l.ip, l.at, want.ip, want.at)
				}
			}
			if most := int(stays/breather) + 1; tries < most/2 || tries > most {
				t.Errorf("%d tries, want at most %d", tries, most)
			}
			switch {
			case !c.probe:
				allTold(t, beside[tight], waits)
			case len(beside[tight]) != probes*count:
				t.Errorf("%d probes, want %d", len(beside[tight]), probes*count)
			}
		})
	}
}

// Whatever comes and goes on an interface whose send queue stays full, or while nothing may be sent, the queue
// holds little more than what is wanted.
func TestWhatWaitsDoesNotPileUp(t *testing.T) {
	const rounds, addresses = 1000, 5
	for name, c := range map[string]struct {
		asleep bool
		change func(w *announce.Want, round int)
	}{
		"announced again": {false, func(w *announce.Want, round int) {
			for _, a := range w.Announcements {
				a.Round = uint64(round)
			}
		}},
		"other addresses": {false, func(w *announce.Want, round int) {
			for i, a := range w.Announcements {
				a.IP = numbered(IPv4, addresses*round+i)
			}
		}},
		"another interface": {false, func(w *announce.Want, round int) { w.Interfaces[0].MAC[5] = byte(round) }},
		"asleep": {true, func(w *announce.Want, round int) {
			for _, a := range w.Announcements {
				a.Round = uint64(round)
			}
		}},
	} {
		for _, probe := range []placement.Probe{placement.NoProbe, placement.ProbeFirst} {
			t.Run(fmt.Sprint(name, " ", probe), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					a := runs(t, Config{Network: tight{}, Awake: func() bool { return !c.asleep }, Refresh: time.Hour})
					for round := range rounds {
						w := announce.Want{Interfaces: []placement.Interface{suitable("eth0", 2)}}
						for i := range addresses {
							w.Announcements = append(w.Announcements, &placement.Announcement{
								IP: numbered(IPv4, i), Interfaces: []string{"eth0"}, Probe: probe,
							})
						}
						c.change(&w, round)
						check(t, a.Set(w))
						time.Sleep(100 * time.Microsecond)
					}
					a.sender.mu.Lock()
					defer a.sender.mu.Unlock()
					if n := a.sender.queue.size(); n < addresses || n > 10*addresses {
						t.Errorf("%d bursts wait for %d addresses", n, addresses)
					}
					if n := len(a.sender.queue.lines); n > 2 {
						t.Errorf("they are of %d interfaces, want 1", n)
					}
				})
			})
		}
	}
}

// tight is a Network whose send queues stay full.
type tight struct{ sink }

func (tight) Listen(placement.Interface, Family) (Conn, error) {
	full := new(atomic.Bool)
	full.Store(true)
	return tightConn{make(sinkConn), full, new(atomic.Int64)}, nil
}

func TestInterfacesThatComeAndGoLeaveNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := runs(t, Config{Network: sink{}})
		for round := range 100 {
			ifi := suitable("eth0", 2)
			ifi.MAC[5] = byte(round)
			check(t, a.Set(on(ifi, vip4)))
			time.Sleep(10 * time.Second)
		}
		a.sender.mu.Lock()
		defer a.sender.mu.Unlock()
		if n := len(a.sender.queue.lines); n > 1 {
			t.Errorf("%d lines for one interface", n)
		}
	})
}
