package layer2

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// outageLimit is how long clients may be without an answer before a test fails. The figures to reach are far lower and
// belong to benchmarks (make bench-failover); here they are logged.
const outageLimit = 5 * time.Second

// TestFailover breaks nodes and speakers while clients send a request every 5 ms over each family. What moved stays where
// it went, also when the one that had it is back: rows T12 and T24.
func TestFailover(t *testing.T) {
	c := serve(t, lab.Options{Nodes: 3, Clients: 3})
	s := setStage(t, c)
	t.Run("unplugged", s.unplug)
	t.Run("muted", s.mute)
	t.Run("speaker killed", s.kill)
	t.Run("speaker frozen", s.freeze)
	t.Run("speaker terminated", s.terminate)
	t.Run("rolling restart", s.rollingRestart)
	t.Run("API server away for a minute", s.withoutAPIServer)
	t.Run("API server comes and goes", s.unsteadyAPIServer)
}

// TestFailoverInKernel does what matters to it where the kernel answers for the speakers: nothing answers for one that stands
// still or is gone.
func TestFailoverInKernel(t *testing.T) {
	if os.Getenv("LANYARD_GROUND") == string(lab.OnKind) {
		t.Skip("nodes of kind may not give away the capabilities that it takes")
	}
	if major, minor := kernelVersion(t); major < 6 || major == 6 && minor < 6 {
		t.Skipf("this takes Linux 6.6, and here is %d.%d", major, minor)
	}
	c := serve(t, lab.Options{Nodes: 3, Clients: 3, InKernel: true})
	s := setStage(t, c)
	s.inKernel = true
	t.Run("unplugged", s.unplug)
	t.Run("speaker killed", s.kill)
	t.Run("speaker frozen", s.freeze)
	t.Run("speaker terminated", s.terminate)
	t.Run("rolling restart", s.rollingRestart)
}

func kernelVersion(t *testing.T) (major, minor int) {
	t.Helper()
	var name unix.Utsname
	must(t, unix.Uname(&name))
	_, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor)
	must(t, err)
	return major, minor
}

// answersInKernel waits until the kernel tells that the node's speaker has it answer for both families.
func (c *cluster) answersInKernel(t *testing.T, node string) {
	t.Helper()
	eventually(t, patience, func() error {
		programs, err := c.Speaker(node).TCXPrograms()
		must(t, err)
		if programs < 2 {
			return fmt.Errorf("the speaker of %s has %d programs on its interfaces, want 2", node, programs)
		}
		return nil
	})
}

// stage is what the failover tests play on: six Services of two addresses each that two of the nodes may own, and one
// backend, on the third. What an owner had moves to the other; that the backend goes on serving is no merit of ours.
type stage struct {
	*cluster
	ips      []netip.Addr // all addresses
	victim   string
	ip4, ip6 netip.Addr // two that the victim owns
	inKernel bool       // the speakers have the kernel answer
}

// backendNode is where the backend runs.
func (s *stage) backendNode() string { return s.Node(3) }

func setStage(t *testing.T, c *cluster) *stage {
	t.Helper()
	s := &stage{cluster: c}
	c.RunWeb(t, s.backendNode(), "web-1")
	for _, node := range c.Others(s.backendNode()) {
		c.Label(t, node, "stage", "yes")
	}
	c.Pool(t, "lan", "[10.77.0.200-10.77.0.206, fd77::200-fd77::206]")
	c.Advertise(t, "lan", "nodeSelectors: [{matchLabels: {stage: 'yes'}}]")
	s.ips = c.Services(t, "web", 6)
	return s
}

// choose takes for a victim a node that owns an address of each family now, and these two.
func (s *stage) choose(t *testing.T) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		owners := s.Owners(t, s.ips...)
		for _, node := range s.Others(s.backendNode()) {
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
		return fmt.Errorf("no node but %s owns an address of each family: %v", s.backendNode(), owners)
	})
}

// user is the client that uses the addresses, and never asks but by its kernel.
const user = "c3"

// watch is how a move is seen: by clients that use the addresses, and by a look at what the switch floods and at what the
// victim says.
type watch struct {
	*stage
	flows         map[netip.Addr]*lab.Flow
	flooded, said *wire
	begun         time.Time
}

func (s *stage) watch(t *testing.T) *watch {
	t.Helper()
	s.choose(t)
	if s.inKernel {
		s.answersInKernel(t, s.victim)
	}
	w := &watch{stage: s, flows: map[netip.Addr]*lab.Flow{}, flooded: s.flood(t), said: s.port(t, s.victim, "eth0")}
	must(t, s.FlushNeighbours(user))
	for _, ip := range []netip.Addr{s.ip4, s.ip6} {
		w.flows[ip] = s.Flow(t, user, ip)
		must(t, s.Resolved(user, ip, s.victim))
	}
	w.begun = time.Now()
	return w
}

// calm waits until the two addresses are no longer announced: what clients learn must not depend on that going on.
func (w *watch) calm(t *testing.T) {
	t.Helper()
	w.flooded.quiet(t, w.ip4, w.ip6)
	w.begun = time.Now()
}

// moved waits until others than the victim answer for all addresses and logs when they first said so.
func (w *watch) moved(t *testing.T) {
	t.Helper()
	w.OwnedBy(t, outageLimit, w.Others(w.victim), w.ips...)
	for _, ip := range []netip.Addr{w.ip4, w.ip6} {
		for _, claim := range w.flooded.announcements(ip, w.begun, "") {
			if w.HostByMAC(claim.Claimant()) != w.victim {
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

// stays waits until all speakers are together again, and checks that everything is where it went, and that the kernel of
// the client in use knows: what it sends must not depend on nodes that gave an address up.
func (w *watch) stays(t *testing.T, owners map[netip.Addr]string) {
	t.Helper()
	w.AllTogether(t)
	w.staysPut(t, 3*time.Second, owners)
	eventually(t, 4*time.Second, func() error { // by itself, the kernel would need twice as long to find out
		for _, ip := range []netip.Addr{w.ip4, w.ip6} {
			if err := w.Resolved(user, ip, owners[ip]); err != nil {
				return err
			}
		}
		return nil
	})
}

// unplug pulls the victim's cable. It knows that it is off the LAN, and says nothing of the addresses when it is back.
func (s *stage) unplug(t *testing.T) {
	w := s.watch(t)
	w.calm(t)
	t.Cleanup(func() { _ = s.Plug(s.victim) })
	must(t, s.Unplug(s.victim))
	w.moved(t)
	w.answered(t, "unplugged")
	owners, back := s.Owners(t, s.ips...), time.Now()
	must(t, s.Plug(s.victim))
	w.stays(t, owners)
	w.said.unclaimed(t, s.victim, back, s.ips...)
	w.answered(t, "back")
	must(t, s.WaitNodeReady(within(t, 30*time.Second), s.victim, true))
}

// mute has the switch drop all of the victim's frames: it cannot know. Once it hears the others again, it gives way.
func (s *stage) mute(t *testing.T) {
	w := s.watch(t)
	w.calm(t)
	t.Cleanup(func() { _ = s.Unmute(s.victim) })
	must(t, s.Mute(s.victim))
	w.moved(t)
	w.answered(t, "muted")
	owners := s.Owners(t, s.ips...)
	must(t, s.Unmute(s.victim))
	s.settle(t, 5*time.Second, s.ips...)
	w.stays(t, owners)
	w.answered(t, "back")
	must(t, s.WaitNodeReady(within(t, 30*time.Second), s.victim, true))
}

// kill ends the victim's speaker without warning; its kernel forwards on. The next speaker finds its place taken.
func (s *stage) kill(t *testing.T) {
	w := s.watch(t)
	must(t, s.Speaker(s.victim).Kill())
	w.moved(t)
	w.answered(t, "killed")
	owners, back := s.Owners(t, s.ips...), time.Now()
	must(t, s.Speaker(s.victim).Restart())
	w.stays(t, owners)
	w.said.unclaimed(t, s.victim, back, s.ips...)
	w.answered(t, "back")
}

// freeze stops the victim's speaker in its tracks, sockets open, and lets it go on when its addresses are elsewhere and
// questions for them wait in its sockets. It must not answer a single one, and nor must its kernel for it.
func (s *stage) freeze(t *testing.T) {
	w := s.watch(t)
	speaker := s.Speaker(s.victim)
	t.Cleanup(func() { _ = speaker.Thaw() })
	w.calm(t)
	must(t, speaker.Freeze())
	w.moved(t)
	w.answered(t, "frozen")
	owners, gone := s.Owners(t, s.ips...), time.Now()
	defer func() { w.said.unclaimed(t, s.victim, gone, s.ips...) }() // whatever else is wrong
	s.pester(t, w.said)
	thawed := time.Now()
	must(t, speaker.Thaw())
	w.stays(t, owners)
	if _, err := w.said.Wait(within(t, 5*time.Second), func(f lab.Frame) bool {
		return !f.Outgoing && f.Time.After(thawed) && f.Kind == lab.UDP && f.SrcPort == lab.GossipPort
	}); err != nil {
		t.Errorf("the thawed speaker has not been heard at all: the test is blind: %v", err)
	}
	w.answered(t, "thawed")
}

// pester puts questions for every address to the victim alone, and checks that they, and those to everybody, have reached it.
func (s *stage) pester(t *testing.T, port *wire) {
	t.Helper()
	mac, err := s.Host(s.victim).NIC("eth0").MAC()
	must(t, err)
	for _, ip := range s.ips {
		must(t, s.AskUnicast("c1", ip, mac))
		_, err := port.Wait(within(t, 5*time.Second), func(f lab.Frame) bool { return f.Outgoing && f.Target == ip && f.Dst.String() == mac.String() })
		must(t, err)
		_, err = port.Wait(within(t, 5*time.Second), func(f lab.Frame) bool { return f.Outgoing && f.Target == ip && f.Dst[0]&1 == 1 })
		must(t, err)
	}
}

// terminate stops the victim's speaker as a rollout does: not one request goes without an answer, and no question to the
// LAN either, for the successors come before the leaver goes.
func (s *stage) terminate(t *testing.T) {
	w := s.watch(t)
	end := s.vigil(t, s.ips...)
	w.begun = time.Now()
	s.stop(t, s.victim)
	gone := time.Now()
	t.Logf("the speaker ended after %v", gone.Sub(w.begun).Round(time.Millisecond))
	w.moved(t)
	end()
	for _, ip := range []netip.Addr{s.ip4, s.ip6} {
		w.madeBeforeBroken(t, ip, gone)
	}
	w.noneLost(t, "terminated")
	owners, back := s.Owners(t, s.ips...), time.Now()
	must(t, s.Speaker(s.victim).Restart())
	w.stays(t, owners)
	w.said.unclaimed(t, s.victim, back, s.ips...)
}

// stop ends a speaker in good order.
func (c *cluster) stop(t *testing.T, node string) {
	t.Helper()
	speaker := c.Speaker(node)
	must(t, speaker.Term())
	exit, err := speaker.Wait(within(t, 10*time.Second))
	must(t, err)
	if exit != nil {
		t.Errorf("the speaker of %s ended with %v:\n%s", node, exit, speaker.LogTail(5))
	}
}

// madeBeforeBroken checks that the successor of the victim had announced an address before the victim was gone.
func (w *watch) madeBeforeBroken(t *testing.T, ip netip.Addr, gone time.Time) {
	t.Helper()
	for _, f := range w.flooded.announcements(ip, w.begun, "") {
		if w.HostByMAC(f.Claimant()) == w.victim {
			continue
		}
		if f.Time.After(gone) {
			t.Errorf("%s was announced only %v after the speaker of %s was gone: %s", ip, f.Time.Sub(gone), w.victim, f)
		}
		return
	}
	t.Errorf("no successor has announced %s", ip)
}

// noneLost checks that every request since the last look was answered.
func (w *watch) noneLost(t *testing.T, what string) {
	t.Helper()
	for ip, flow := range w.flows {
		if _, err := flow.WaitAnswer(within(t, outageLimit)); err != nil {
			t.Fatalf("%s: %s does not answer: %v; %v", what, ip, err, flow.Report())
		}
		report := flow.Report()
		t.Logf("%s: %s: sent %d, lost %d, longest gap %v from %s", what, ip, report.Sent, report.Lost,
			report.Gap.Duration().Round(time.Millisecond), report.Gap.From.Format("15:04:05.000"))
		if report.Lost > 0 || report.Sent < 100 {
			t.Errorf("%s: %s: %d of %d requests were lost", what, ip, report.Lost, report.Sent)
		}
		flow.Reset()
	}
}

// rollingRestart restarts the speakers one after the other, as a DaemonSet's rollout does, under 200 requests per second to
// an address of each family: none fails, and no question to the LAN goes without an answer.
func (s *stage) rollingRestart(t *testing.T) {
	w := s.watch(t)
	for _, flow := range w.flows {
		flow.Reset()
	}
	end := s.vigil(t, s.ips...)
	for _, node := range s.Nodes() {
		s.stop(t, node)
		must(t, s.Speaker(node).Restart())
		s.AllTogether(t)
	}
	end()
	w.noneLost(t, "rolling restart")
	s.Owners(t, s.ips...)
}

// settle waits until exactly one node answers for each address.
func (c *cluster) settle(t *testing.T, limit time.Duration, ips ...netip.Addr) map[netip.Addr]string {
	t.Helper()
	var owners map[netip.Addr]string
	eventually(t, limit, func() (err error) {
		owners, err = c.OwnersNow(ips...)
		return err
	})
	return owners
}

// ownedAs is an error unless each address is answered by its owner alone.
func (c *cluster) ownedAs(owners map[netip.Addr]string) error {
	ips := make([]netip.Addr, 0, len(owners))
	for ip := range owners {
		ips = append(ips, ip)
	}
	now, err := c.OwnersNow(ips...)
	if err == nil && !maps.Equal(now, owners) {
		err = fmt.Errorf("the owners were %v and are %v now", owners, now)
	}
	return err
}
