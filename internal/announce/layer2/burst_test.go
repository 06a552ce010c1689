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
