package suite

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// outageLimit is how long clients may be without an answer before a test fails. The figures to reach are far lower and
// belong to benchmarks; here they are logged.
const outageLimit = 5 * time.Second

// TestFailover breaks nodes and speakers while clients send a request every 5 ms over each family.
func TestFailover(t *testing.T) {
	c := serve(t, lab.Options{Nodes: 3, Clients: 3})
	s := setStage(t, c)
	t.Run("unplugged", func(t *testing.T) { s.cutOff(t, c.Unplug, c.Plug) })
	t.Run("muted", func(t *testing.T) { s.cutOff(t, c.Mute, c.Unmute) })
	t.Run("speaker killed", s.kill)
	t.Run("speaker frozen", s.freeze)
	t.Run("speaker terminated", s.terminate)
	t.Run("API server away", s.withoutAPIServer)
	t.Run("speakers restart while the API server is away", s.restartWithoutAPIServer)
}

// stage is what the failover tests play on: eight Services of two addresses each, one backend, and a node without that
// backend to break. What it owns moves; that the backend goes on serving is no merit of ours.
type stage struct {
	*cluster
	ips      []netip.Addr // all addresses
	victim   string
	ip4, ip6 netip.Addr // two that the victim owns
}

const backendNode = "n3"

func setStage(t *testing.T, c *cluster) *stage {
	t.Helper()
	s := &stage{cluster: c}
	c.RunWeb(t, backendNode, "web-1")
	c.Pool(t, "lan", "[10.77.0.200-10.77.0.209, fd77::200-fd77::209]")
	c.Advertise(t, "lan")
	s.ips = c.Services(t, "web", 8)
	return s
}

// choose takes for a victim a node that owns an address of each family now, and these two. Who owns what after a node was
// away is not for us to say.
func (s *stage) choose(t *testing.T) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		owners := s.Owners(t, s.ips...)
		for _, node := range s.Others(backendNode) {
			owned := map[bool]netip.Addr{}
			for _, ip := range s.ips {
				if owners[ip] == node {
					owned[ip.Is4()] = ip
				}
			}
			if len(owned) == 2 {
				s.victim, s.ip4, s.ip6 = node, owned[true], owned[false]
				return nil
			}
		}
		return fmt.Errorf("no node but %s owns an address of each family: %v", backendNode, owners)
	})
}

// user is the client that uses the addresses, and never asks but by its kernel.
const user = "c3"

// watch is how a move is seen: by clients that use the addresses, and by a look at what the switch floods.
type watch struct {
	*stage
	flows   map[netip.Addr]*lab.Flow
	capture *lab.Capture
	begun   time.Time
}

func (s *stage) watch(t *testing.T) *watch {
	t.Helper()
	s.choose(t)
	w := &watch{stage: s, flows: map[netip.Addr]*lab.Flow{}}
	capture, err := s.CaptureSegment(0)
	must(t, err)
	t.Cleanup(capture.Stop)
	w.capture = capture
	must(t, s.FlushNeighbours(user))
	for _, ip := range []netip.Addr{s.ip4, s.ip6} {
		w.flows[ip] = s.Flow(t, user, ip)
		must(t, s.Resolved(user, ip, s.victim))
	}
	w.begun = time.Now()
	return w
}

// calm waits until nobody has announced one of the two addresses for three seconds: an owner announces again and again at
// first, and what clients learn must not depend on that going on.
func (w *watch) calm(t *testing.T) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		if time.Since(w.begun) < 3*time.Second {
			return errors.New("too early to tell")
		}
		for _, ip := range []netip.Addr{w.ip4, w.ip6} {
			for _, claim := range w.capture.Claims(ip) {
				if age := time.Since(claim.Time); age < 3*time.Second && claim.Dst[0]&1 == 1 {
					return fmt.Errorf("announced %v ago: %s", age, claim)
				}
			}
		}
		return nil
	})
	w.begun = time.Now()
}

// moved waits until others than the victim answer for its addresses and logs when they first said so.
func (w *watch) moved(t *testing.T) {
	t.Helper()
	w.OwnedBy(t, outageLimit, w.Others(w.victim), w.ip4, w.ip6)
	for _, ip := range []netip.Addr{w.ip4, w.ip6} {
		for _, claim := range w.capture.Claims(ip) {
			if claim.Time.After(w.begun) && w.HostByMAC(claim.Claimant()) != w.victim {
				t.Logf("%s: another node announced it after %v", ip, claim.Time.Sub(w.begun).Round(time.Millisecond))
				break
			}
		}
	}
}

// answered waits until answers come on both flows, and logs and judges the gaps.
func (w *watch) answered(t *testing.T, what string) {
	t.Helper()
	for ip, flow := range w.flows {
		if _, err := flow.WaitAnswer(within(t, outageLimit)); err != nil {
			t.Fatalf("%s: %s does not answer: %v; %v", what, ip, err, flow.Report())
		}
		report := flow.Report()
		t.Logf("%s: %s without an answer for %v, lost %d of %d", what, ip, report.Gap.Duration().Round(time.Millisecond), report.Lost, report.Sent)
		if report.Gap.Duration() > outageLimit {
			t.Errorf("%s: %s was without an answer for %v", what, ip, report.Gap.Duration())
		}
		flow.Reset()
	}
}

// settled waits until all speakers are together again and exactly one node answers for each address, and until the
// kernel of the client in use knows which: what it sends must not depend on nodes that gave an address up.
func (w *watch) settled(t *testing.T) {
	t.Helper()
	w.AllTogether(t)
	owners := w.Owners(t, w.ips...)
	eventually(t, 4*time.Second, func() error { // by itself, the kernel would need twice as long to find out
		return errors.Join(w.Resolved(user, w.ip4, owners[w.ip4]), w.Resolved(user, w.ip6, owners[w.ip6]))
	})
}

// cutOff takes the victim off the LAN and gives it back.
func (s *stage) cutOff(t *testing.T, cut, mend func(host string) error) {
	w := s.watch(t)
	w.calm(t)
	t.Cleanup(func() { _ = mend(s.victim) })
	must(t, cut(s.victim))
	w.moved(t)
	w.answered(t, "cut off")
	must(t, mend(s.victim))
	w.settled(t)
	w.answered(t, "back")
	must(t, s.WaitNodeReady(within(t, 30*time.Second), s.victim, true))
}

// kill ends the victim's speaker without warning; its kernel forwards on.
func (s *stage) kill(t *testing.T) {
	w := s.watch(t)
	speaker := s.Process(s.victim, "speaker")
	must(t, speaker.Kill())
	w.moved(t)
	w.answered(t, "killed")
	must(t, speaker.Restart())
	w.settled(t)
	w.answered(t, "back")
}

// freeze stops the victim's speaker in its tracks, sockets open, and lets it go on: it must notice that it was away.
func (s *stage) freeze(t *testing.T) {
	w := s.watch(t)
	speaker := s.Process(s.victim, "speaker")
	t.Cleanup(func() { _ = speaker.Thaw() })
	w.calm(t)
	must(t, speaker.Freeze())
	w.moved(t)
	w.answered(t, "frozen")
	must(t, speaker.Thaw())
	w.settled(t)
	w.answered(t, "back")
}

// terminate stops the victim's speaker as a rollout does: not one request goes without an answer, and no question to the
// LAN either, for the successors come before the leaver goes.
func (s *stage) terminate(t *testing.T) {
	w := s.watch(t)
	speaker := s.Process(s.victim, "speaker")
	vigil := s.vigil(t)
	must(t, speaker.Term())
	exit, err := speaker.Wait(within(t, 10*time.Second))
	must(t, err)
	t.Logf("the speaker ended after %v", time.Since(w.begun).Round(time.Millisecond))
	if exit != nil {
		t.Errorf("the speaker ended with %v:\n%s", exit, speaker.LogTail(5))
	}
	vigil()
	w.moved(t)
	for ip, flow := range w.flows {
		report := flow.Stop()
		t.Logf("terminated: %s: %v", ip, report)
		if report.Lost > 0 {
			t.Errorf("%s: %d of %d requests were lost", ip, report.Lost, report.Sent)
		}
	}
	must(t, speaker.Restart())
	s.AllTogether(t)
	s.Owners(t, s.ips...)
}

// vigil has the askers ask for every address without a pause until the function that it returns is called, which fails
// if a question got no answer. Only one question of a client for an address is out at a time: they share their answers.
func (s *stage) vigil(t *testing.T) (end func()) {
	t.Helper()
	stop := make(chan struct{})
	var group errgroup.Group
	for _, ip := range s.ips {
		for _, client := range s.Askers() {
			group.Go(func() error { return s.keepAsking(client, ip, stop) })
		}
	}
	return func() {
		t.Helper()
		close(stop)
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// keepAsking asks for an address every 150 ms until stopped, and five times more; the first question without an answer
// is an error.
func (s *stage) keepAsking(client string, ip netip.Addr, stop <-chan struct{}) error {
	for left := 5; left > 0; {
		at := time.Now()
		answers, err := s.WhoHas(client, ip, 150*time.Millisecond)
		if err == nil && len(answers) == 0 {
			err = fmt.Errorf("%s asked for %s at %s and nobody answered", client, ip, at.Format("15:04:05.000"))
		}
		if err != nil {
			return err
		}
		select {
		case <-stop:
			left--
		default:
		}
	}
	return nil
}
