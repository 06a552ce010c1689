package membership

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

// TestWordOfDeath: who is said to have died is asked, longer where that is doubtful, and is a member while he answers, for
// a second at most.
func TestWordOfDeath(t *testing.T) {
	const glance, ping = 10 * time.Millisecond, 40 * time.Millisecond
	address := func(i byte) *net.UDPAddr {
		return net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, i}), 7946))
	}
	node := func(name string, at *net.UDPAddr) *memberlist.Node {
		return &memberlist.Node{Name: name, Addr: at.IP, Port: uint16(at.Port)}
	}
	heard := func(r *roster) { r.hear(address(1)) }
	tests := []struct {
		name    string
		before  func(*roster)
		answers time.Duration // for so long it does
		lost    int           // but for the first pings
		leaves  time.Duration // when it says so; zero: never
		after   func(*roster) // 15 ms later
		doubt   bool
		gone    time.Duration // negative: never
		watched string
	}{
		{name: "nothing speaks against it", before: func(r *roster) { heard(r); time.Sleep(250 * time.Millisecond) }, gone: glance, watched: "a false"},
		{name: "nothing speaks against it, and it is refuted", answers: time.Hour, after: func(r *roster) { r.NotifyJoin(node("a", address(1))) }, gone: -1},
		{name: "just heard of, and silent", before: heard, doubt: true, gone: ping, watched: "a false"},
		{name: "just heard of, and refuted", before: heard, answers: time.Hour, after: func(r *roster) { r.NotifyJoin(node("a", address(1))) },
			doubt: true, gone: -1},
		{name: "just heard of, and a ping is lost", before: heard, answers: time.Hour, lost: 1,
			after: func(r *roster) { r.NotifyJoin(node("a", address(1))) }, doubt: true, gone: -1},
		{name: "nothing speaks against it, and a ping is lost", answers: time.Hour, lost: 1, gone: glance, watched: "a false"},
		{name: "just heard of, and falls silent", before: heard, answers: 5 * time.Millisecond, doubt: true, gone: 10*time.Millisecond + ping, watched: "a false"},
		{name: "just heard of, and never refuted", before: heard, answers: time.Hour, doubt: true, gone: time.Second, watched: "a false"},
		{name: "another was just heard of", before: func(r *roster) { r.hear(address(2)) }, gone: glance, watched: "a false"},
		{name: "it left", before: heard, answers: time.Hour, leaves: -time.Second, watched: "a false"},
		{name: "it left, and tells so later", before: heard, answers: time.Hour, leaves: 25 * time.Millisecond, doubt: true, gone: 30 * time.Millisecond,
			watched: "a false"},
		{name: "another has died", before: func(r *roster) { r.NotifyLeave(node("b", address(2))); time.Sleep(3 * time.Second) },
			doubt: true, gone: ping, watched: "b false, a false"},
		{name: "another has died, and it is refuted", before: func(r *roster) { r.NotifyLeave(node("b", address(2))); time.Sleep(3 * time.Second) },
			answers: time.Hour, after: func(r *roster) { r.NotifyJoin(node("a", address(1))) }, doubt: true, gone: -1, watched: "b false"},
		{name: "another has died long ago", before: func(r *roster) { r.NotifyLeave(node("b", address(2))); time.Sleep(30 * time.Second) },
			gone: glance, watched: "b false, a false"},
		{name: "it has moved", before: heard, answers: time.Hour, after: func(r *roster) { r.NotifyJoin(node("a", address(3))) },
			doubt: true, gone: -1, watched: "a true"},
		{name: "nobody cares any more", before: heard, answers: time.Hour, after: (*roster).close, doubt: true, gone: 15 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				book := &logBook{}
				r := newRoster(book.logger())
				r.open()
				r.NotifyJoin(node("a", address(1)))
				r.NotifyJoin(node("b", address(2)))
				var begun time.Time
				watched := ""
				r.watch = func(name string, live bool) {
					if watched != "" {
						watched += ", "
					}
					watched += fmt.Sprint(name, " ", live)
				}
				r.deaths.glance, r.deaths.lately, r.deaths.memory, r.deaths.patience = glance, 200*time.Millisecond, 20*time.Second, time.Second
				r.deaths.leaves = func(string) bool { return tt.leaves != 0 && time.Since(begun) >= tt.leaves }
				reminded := false
				r.deaths.remind = func(at netip.AddrPort) { reminded = at == address(1).AddrPort() }
				var pings atomic.Int32
				r.deaths.ping = func(name string, at net.Addr) error {
					if int(pings.Add(1)) <= tt.lost {
						time.Sleep(ping)
						return errors.New("lost")
					}
					if name == "a" && at.String() == address(1).String() && time.Since(begun) < tt.answers {
						return nil
					}
					time.Sleep(ping)
					return errors.New("no answer")
				}
				if tt.before != nil {
					tt.before(r)
				}
				begun = time.Now()
				r.NotifyLeave(node("a", address(1)))
				gone, later := time.Duration(-1), tt.after
				for time.Since(begun) < 3*time.Second {
					synctest.Wait()
					if time.Since(begun) == 15*time.Millisecond && later != nil {
						later(r)
						later = nil
						continue
					}
					if gone < 0 && !slices.Contains(r.names(), "a") {
						gone = time.Since(begun)
					}
					time.Sleep(5 * time.Millisecond)
				}
				if gone != tt.gone || watched != tt.watched {
					t.Errorf("gone after %v, told %q; want %v and %q", gone, watched, tt.gone, tt.watched)
				}
				if want := tt.gone >= 500*time.Millisecond; reminded != want {
					t.Errorf("reminded: %t, want %t", reminded, want)
				}
				if doubt := book.count("doubtful", "member=a") > 0; doubt != tt.doubt {
					t.Errorf("doubted: %t, want %t\n%s", doubt, tt.doubt, book)
				}
			})
		})
	}
}
