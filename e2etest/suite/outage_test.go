package suite

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// withoutAPIServer: the API server goes away, and everything is answered on; a node drops off and comes back; the API server
// comes back, and nothing moves.
func (s *stage) withoutAPIServer(t *testing.T) {
	w := s.watch(t)
	before := s.Owners(t, s.ips...)
	s.stopAPIServer(t)
	throughout(t, 2*time.Second, func() error { return s.ownedAs(before) })
	w.answered(t, "API server away")

	must(t, s.Unplug(s.victim))
	t.Cleanup(func() { _ = s.Plug(s.victim) })
	w.begun = time.Now()
	w.moved(t)
	w.answered(t, "cut off, API server away")
	must(t, s.Plug(s.victim))
	w.settled(t)

	owners := s.Owners(t, s.ips...)
	back := time.Now()
	s.bringBack(t)
	throughout(t, 2*time.Second, func() error { return s.ownedAs(owners) })
	s.Create(t, serviceYAML("after", dualStack)) // once it is answered, the speakers are up to date
	eventually(t, leaseTime, func() error {
		s.revive(t, "controller") // it may find out late that it lost its lease
		return is(s.Service(t, "after"), metav1.ConditionTrue, "Assigned")
	})
	s.Owners(t, s.Assigned(t, "after", 2)...)
	throughout(t, time.Second, func() error { return s.ownedAs(owners) })
	for ip, owner := range owners {
		for _, claim := range w.capture.Claims(ip) {
			if host := s.HostByMAC(claim.Claimant()); claim.Time.After(back) && host != owner {
				t.Errorf("%s of %s was claimed by %s after the API server came back: %s", ip, owner, host, claim)
			}
		}
	}
}

// restartWithoutAPIServer: speakers that start while the API server is away, first one of them, then all at once, serve by
// what they have kept.
func (s *stage) restartWithoutAPIServer(t *testing.T) {
	s.Owners(t, s.ips...)
	s.stopAPIServer(t)
	s.restartSpeakers(t, "n2")
	s.restartSpeakers(t, s.Nodes()...)
	owners := s.Owners(t, s.ips...)
	throughout(t, time.Second, func() error { return s.ownedAs(owners) })
	s.bringBack(t)
	throughout(t, 2*time.Second, func() error { return s.ownedAs(owners) })
}

// stopAPIServer stops the API server until the test ends, at the latest.
func (s *stage) stopAPIServer(t *testing.T) {
	t.Helper()
	t.Cleanup(func() { s.bringBack(t) })
	must(t, s.StopAPIServer())
}

// ownedAs is an error unless each address is answered by its owner alone.
func (s *stage) ownedAs(owners map[netip.Addr]string) error {
	now, err := s.OwnersNow(s.ips...)
	if err == nil && !maps.Equal(now, owners) {
		err = fmt.Errorf("the owners were %v and are %v now", owners, now)
	}
	return err
}

// restartSpeakers kills speakers, starts them again and waits until they serve.
func (s *stage) restartSpeakers(t *testing.T, nodes ...string) {
	t.Helper()
	for _, node := range nodes {
		must(t, s.Process(node, "speaker").Kill())
	}
	begun := time.Now()
	for _, node := range nodes {
		must(t, s.Process(node, "speaker").Restart())
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
	if !s.Process("cp", "kube-apiserver").Alive() {
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
