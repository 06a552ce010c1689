package layer2

import (
	"context"
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/labtest"
)

// away is how long the API server is away, and leaseTime how long a controller may take afterwards to lead again.
const (
	away      = time.Minute
	leaseTime = 40 * time.Second
)

// withoutAPIServer: the API server goes away for a minute, in which everything is answered on; a node drops off and comes
// back; one speaker is killed, one rolled, all of them die at once, and those that start serve by what they have kept.
// The API server comes back, and nothing moves or is even announced again.
func (s *stage) withoutAPIServer(t *testing.T) {
	w := s.watch(t)
	before, gone := s.Owners(t, s.ips...), time.Now()
	s.stopAPIServer(t)
	throughout(t, 2*time.Second, func() error { return s.ownedAs(before) })
	w.answered(t, "API server away")

	must(t, s.Unplug(s.victim))
	t.Cleanup(func() { _ = s.Plug(s.victim) })
	w.begun = time.Now()
	w.moved(t)
	w.answered(t, "unplugged, API server away")
	owners := s.Owners(t, s.ips...)
	must(t, s.Plug(s.victim))
	w.stays(t, owners)

	s.restartSpeakers(t, s.victim)
	w.stays(t, owners)
	s.restartSpeakers(t, s.Nodes()...)
	owners = s.Owners(t, s.ips...)
	throughout(t, away-time.Since(gone), func() error { return s.ownedAs(owners) })
	w.flooded.quiet(t, s.ips...)

	back := time.Now()
	s.bringBack(t)
	s.Create(t, serviceYAML("after", dualStack)) // once it is answered, the speakers are up to date
	eventually(t, leaseTime, func() error {
		s.revive(t, "controller") // it may find out late that it lost its lease
		return labtest.Is(s.Service(t, "after"), metav1.ConditionTrue, "Assigned")
	})
	s.Owners(t, s.Assigned(t, "after", 2)...)
	s.unmoved(t, w, owners, back)
}

// unsteadyAPIServer: the API server goes away and comes back six times in a row, which moves nothing. What is changed
// right after that is heeded within seconds, however often the speakers have found nobody there before.
func (s *stage) unsteadyAPIServer(t *testing.T) {
	s.choose(t)
	owners := s.Owners(t, s.ips...)
	for range 6 {
		s.stopAPIServer(t)
		throughout(t, 2*time.Second, func() error { return s.ownedAs(owners) })
		must(t, s.StartAPIServer(within(t, time.Minute)))
	}
	s.Label(t, s.victim, labtest.ExcludeLabel, "")
	begun := time.Now()
	s.OwnedBy(t, outageLimit, s.Others(s.victim), s.ip4, s.ip6)
	t.Logf("heeded %v after the change", time.Since(begun).Round(time.Millisecond))
}

// unmoved checks that every address is where it was and that nobody has announced one since.
func (s *stage) unmoved(t *testing.T, w *watch, owners map[netip.Addr]string, since time.Time) {
	t.Helper()
	throughout(t, time.Second, func() error { return s.ownedAs(owners) })
	for _, ip := range s.ips {
		if frames := w.flooded.announcements(ip, since, ""); len(frames) > 0 {
			t.Errorf("%s of %s was announced after the API server came back: %s", ip, owners[ip], lines(frames))
		}
	}
}

// stopAPIServer stops the API server until the test ends, at the latest.
func (s *stage) stopAPIServer(t *testing.T) {
	t.Helper()
	t.Cleanup(func() { s.bringBack(t) })
	must(t, s.StopAPIServer())
}

// restartSpeakers kills speakers, starts them again and waits until they serve.
func (s *stage) restartSpeakers(t *testing.T, nodes ...string) {
	t.Helper()
	for _, node := range nodes {
		must(t, s.Speaker(node).Kill())
	}
	begun := time.Now()
	for _, node := range nodes {
		must(t, s.Speaker(node).Restart())
	}
	s.AllTogether(t)
	s.Owners(t, s.ips...)
	t.Logf("speakers of %v: all addresses are answered again %v after the restart", nodes, time.Since(begun).Round(time.Millisecond))
}

// bringBack starts the API server if it does not run, then whatever of ours has ended meanwhile, as a kubelet would, and waits until
// the nodes are well.
func (s *stage) bringBack(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	if !s.APIServer().Alive() {
		if err := s.StartAPIServer(ctx); err != nil {
			t.Errorf("start the API server: %v", err)
			return
		}
	}
	s.revive(t, "controller")
	s.revive(t, "speaker")
	for _, node := range s.Nodes() {
		if err := s.WaitNodeReady(ctx, node, true); err != nil {
			t.Error(err)
		}
	}
}

// revive starts what has ended of a program, on any host.
func (s *stage) revive(t *testing.T, program string) {
	t.Helper()
	for _, p := range s.Processes() {
		if p.Name != program || p.Alive() {
			continue
		}
		t.Logf("%s on %s has ended while the API server was away", p.Name, p.Host.Hostname)
		if err := p.Restart(); err != nil {
			t.Error(err)
		}
	}
}
