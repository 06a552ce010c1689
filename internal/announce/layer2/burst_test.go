package layer2

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// sentAt is one announcement that a sender made.
type sentAt struct {
	ip netip.Addr
	at time.Duration
}

// record runs a sender in the bubble until it has nothing to send any more. The send function may refuse.
func record(t *testing.T, send func(b burst) (bool, error), story func(s *sender)) (log []sentAt) {
	t.Helper()
	start := time.Now()
	s := newSender(0)
	s.send = func(b burst, _ []byte) (bool, error) {
		held, err := send(b)
		if held && err == nil {
			log = append(log, sentAt{b.holding.ip, time.Since(start)})
		}
		return held, err
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.run(ctx) }()
	story(s)
	time.Sleep(time.Minute)
	cancel()
	<-done
	return log
}

func sends(burst) (bool, error) { return true, nil }

// of is the burst of one address.
func of(ip netip.Addr) burst { return burst{holding: &holding{address: &address{ip: ip}}} }

func many(n int) (list []burst) {
	for i := range n {
		list = append(list, of(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})))
	}
	return list
}

func TestAnAddressIsToldAtOnceAndForFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := record(t, sends, func(s *sender) { s.add(many(1)) })
		var times []time.Duration
		for _, l := range log {
			times = append(times, l.at)
		}
		want := append([]time.Duration{0}, repeats[:]...)
		if fmt.Sprint(times) != fmt.Sprint(want) {
			t.Errorf("sent at %v, want %v", times, want)
		}
	})
}

func TestThousandsAreToldSoonButNotInAFlood(t *testing.T) {
	const count = 5000
	synctest.Test(t, func(t *testing.T) {
		log := record(t, sends, func(s *sender) { s.add(many(count)) })
		seen, perMilli := make(map[netip.Addr]int), make(map[time.Duration]int)
		for i, l := range log {
			if seen[l.ip]++; seen[l.ip] == 1 && l.at > 200*time.Millisecond {
				t.Fatalf("%s is first told after %v", l.ip, l.at)
			}
			if i < count && seen[l.ip] > 1 {
				t.Fatalf("%s is told again before everybody was told once", l.ip)
			}
			perMilli[l.at.Truncate(10*time.Millisecond)]++
		}
		for at, n := range perMilli {
			limit := int((10*time.Millisecond + slack + breather) / firstEvery)
			if at > 300*time.Millisecond {
				limit = int((10*time.Millisecond + slack + breather) / repeatEvery)
			}
			if n > limit {
				t.Errorf("%d in the 10 ms from %v, want %d at most", n, at, limit)
			}
		}
		for ip, n := range seen {
			if n != len(repeats)+1 {
				t.Errorf("%s told %d times", ip, n)
			}
		}
		if last := log[len(log)-1].at; last > 7*time.Second || len(seen) != count {
			t.Errorf("%d addresses told, the last at %v", len(seen), last)
		}
	})
}

func TestNewAddressesGoBeforeRepetitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := of(netip.MustParseAddr("10.2.0.1"))
		var added time.Duration
		start := time.Now()
		log := record(t, sends, func(s *sender) {
			s.add(many(5000))
			time.Sleep(400 * time.Millisecond) // repetitions are in full swing
			added = time.Since(start)
			s.add([]burst{late})
		})
		for _, l := range log {
			if l.ip == late.holding.ip {
				if l.at > added+2*time.Millisecond {
					t.Errorf("told %v after it was added", l.at-added)
				}
				return
			}
		}
		t.Error("never told")
	})
}

func TestWithdrawnAddressesAreToldNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var withdrawn atomic.Bool
		log := record(t, func(burst) (bool, error) { return !withdrawn.Load(), nil }, func(s *sender) {
			s.add(many(1))
			time.Sleep(500 * time.Millisecond)
			withdrawn.Store(true)
		})
		if len(log) != 3 {
			t.Errorf("told %d times, want 3: %v", len(log), log)
		}
	})
}

func TestAFullSendQueueDelaysButLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		log := record(t, func(burst) (bool, error) {
			if tries++; tries%3 != 0 {
				return true, syscall.ENOBUFS
			}
			return true, nil
		}, func(s *sender) { s.add(many(10)) })
		seen := make(map[netip.Addr]int)
		for i, l := range log {
			seen[l.ip]++
			if want := many(10)[i%10].holding.ip; i < 10 && l.ip != want {
				t.Errorf("announcement %d is of %s, want %s", i, l.ip, want)
			}
		}
		for _, b := range many(10) {
			if seen[b.holding.ip] != len(repeats)+1 {
				t.Errorf("%s told %d times", b.holding.ip, seen[b.holding.ip])
			}
		}
	})
}

func TestOtherErrorsAreNotHeldAgainstTheNextAnnouncement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Bool
		log := record(t, func(burst) (bool, error) {
			if !up.Load() {
				return true, syscall.ENETDOWN
			}
			return true, nil
		}, func(s *sender) {
			s.add(many(1))
			time.Sleep(200 * time.Millisecond)
			up.Store(true)
		})
		if len(log) != len(repeats)-1 || log[0].at != repeats[1] {
			t.Errorf("told at %v", log)
		}
	})
}

func probesOf(list []burst) []burst {
	for i := range list {
		list[i].probe = true
	}
	return list
}

func TestAnAddressIsProbedThriceAndThenDecided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var verdict time.Duration
		start := time.Now()
		log := record(t, func(b burst) (bool, error) {
			if b.over() {
				verdict = time.Since(start)
				return false, nil
			}
			return true, nil
		}, func(s *sender) { s.add(probesOf(many(1))) })
		var times []time.Duration
		for _, l := range log {
			times = append(times, l.at)
		}
		if want := []time.Duration{0, probeEvery, 2 * probeEvery}; fmt.Sprint(times) != fmt.Sprint(want) || verdict != 3*probeEvery {
			t.Errorf("probed at %v, decided at %v, want %v and %v", times, verdict, want, 3*probeEvery)
		}
	})
}

func TestThousandsAreProbedSoonButNotInAFlood(t *testing.T) {
	const count = 5000
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		last, decided, perMilli := make(map[netip.Addr]time.Duration), 0, make(map[time.Duration]int)
		log := record(t, func(b burst) (bool, error) {
			if !b.over() {
				return true, nil
			}
			decided++
			if quiet := time.Since(start) - last[b.holding.ip]; quiet < probeEvery {
				t.Errorf("decided %v after the last probe", quiet)
			}
			return false, nil
		}, func(s *sender) {
			send := s.send
			s.send = func(b burst, out []byte) (bool, error) {
				if !b.over() {
					last[b.holding.ip] = time.Since(start)
				}
				return send(b, out)
			}
			s.add(probesOf(many(count)))
		})
		for _, l := range log {
			perMilli[l.at.Truncate(10*time.Millisecond)]++
		}
		for at, n := range perMilli {
			if limit := int((10*time.Millisecond + slack + breather) / firstEvery); n > limit {
				t.Errorf("%d in the 10 ms from %v, want %d at most", n, at, limit)
			}
		}
		if end := log[len(log)-1].at; len(log) != probes*count || decided != count || end > 450*time.Millisecond {
			t.Errorf("%d probes, the last at %v, and %d verdicts", len(log), end, decided)
		}
	})
}

func TestAnnouncementsGoBeforeProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := of(netip.MustParseAddr("10.2.0.1"))
		var added time.Duration
		start := time.Now()
		log := record(t, func(b burst) (bool, error) { return !b.over(), nil }, func(s *sender) {
			s.add(probesOf(many(5000)))
			time.Sleep(50 * time.Millisecond)
			added = time.Since(start)
			s.add([]burst{late})
		})
		i := slices.IndexFunc(log, func(l sentAt) bool { return l.ip == late.holding.ip })
		if i < 0 || log[i].at > added+2*time.Millisecond {
			t.Errorf("announced as number %d of %d", i, len(log))
		}
	})
}

// A probe that did not leave proves nothing, whatever kept it.
func TestProbesThatCannotBeSentAreSentAgain(t *testing.T) {
	for _, reason := range []error{syscall.ENETDOWN, syscall.ENOBUFS, errAsleep} {
		synctest.Test(t, func(t *testing.T) {
			var up atomic.Bool
			var decided bool
			log := record(t, func(b burst) (bool, error) {
				switch {
				case !up.Load():
					return true, reason
				case b.over():
					decided = true
					return false, nil
				}
				return true, nil
			}, func(s *sender) {
				s.add(probesOf(many(1)))
				time.Sleep(time.Second)
				up.Store(true)
			})
			if len(log) != probes || log[0].at < time.Second || !decided {
				t.Errorf("%v: probed at %v, decided: %v", reason, log, decided)
			}
		})
	}
}

func TestRefreshingIsSpreadEvenly(t *testing.T) {
	const count, period = 600, 60 * time.Second
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		start, last := time.Now(), make(map[netip.Addr]time.Duration)
		perSecond := make(map[time.Duration]int)
		s := newSender(period)
		s.send = func(b burst, _ []byte) (bool, error) {
			now := time.Since(start)
			if now < 6*time.Second { // the burst
				last[b.holding.ip] = now
				return true, nil
			}
			if gap := now - last[b.holding.ip]; gap > period+time.Second {
				t.Errorf("%s is refreshed after %v", b.holding.ip, gap)
			}
			last[b.holding.ip] = now
			perSecond[now.Truncate(time.Second)]++
			return true, nil
		}
		done := make(chan struct{})
		go func() { defer close(done); s.run(ctx) }()
		s.add(many(count))
		time.Sleep(5*period + 10*time.Second)
		cancel()
		<-done
		for at := 6 * time.Second; at < 5*period; at += time.Second {
			if n := perSecond[at]; n < 8 || n > 12 {
				t.Errorf("%d in the second from %v, want about 10", n, at)
			}
		}
	})
}
