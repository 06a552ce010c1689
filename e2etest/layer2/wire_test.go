package layer2

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// wire is what a port of the switch, or the switch as a whole, has passed, and whose frames they are.
type wire struct {
	*lab.Capture
	c *cluster
}

// flood records what the switch passes to everybody: unsolicited announcements are among it, answers are not.
func (c *cluster) flood(t *testing.T) *wire {
	t.Helper()
	capture, err := c.CaptureSegment(0)
	must(t, err)
	t.Cleanup(capture.Stop)
	return &wire{capture, c}
}

// port records what passes the port of a host's NIC, both ways.
func (c *cluster) port(t *testing.T, host, nic string) *wire {
	t.Helper()
	capture, err := c.Capture(host, nic)
	must(t, err)
	t.Cleanup(capture.Stop)
	return &wire{capture, c}
}

// claims are the claims of an address since a time, by a host or, if that is "", by any.
func (w *wire) claims(ip netip.Addr, since time.Time, host string) []lab.Frame {
	return w.Frames(func(f lab.Frame) bool {
		return f.Time.After(since) && f.Claims(ip) && (host == "" || w.c.HostByMAC(f.Claimant()) == host)
	})
}

// announcements are those of them that go to everybody.
func (w *wire) announcements(ip netip.Addr, since time.Time, host string) []lab.Frame {
	return slices.DeleteFunc(w.claims(ip, since, host), func(f lab.Frame) bool { return f.Dst[0]&1 == 0 })
}

// unclaimed fails if a host has claimed one of the addresses since.
func (w *wire) unclaimed(t *testing.T, host string, since time.Time, ips ...netip.Addr) {
	t.Helper()
	for _, ip := range ips {
		if frames := w.claims(ip, since, host); len(frames) > 0 {
			t.Errorf("%s claimed %s %d times, first %v after: %s", host, ip, len(frames), frames[0].Time.Sub(since).Round(time.Millisecond), frames[0])
		}
	}
}

// onlyFrom fails if somebody else than its owner has claimed one of the addresses since.
func (w *wire) onlyFrom(t *testing.T, owners map[netip.Addr]string, since time.Time) {
	t.Helper()
	for ip, owner := range owners {
		for _, f := range w.claims(ip, since, "") {
			if host := w.c.HostByMAC(f.Claimant()); host != owner {
				t.Errorf("%s of %s was claimed by %s, %v after: %s", ip, owner, host, f.Time.Sub(since).Round(time.Millisecond), f)
			}
		}
	}
}

// quiet waits until nobody has announced one of the addresses for three seconds: an owner announces again and again at
// first, and what is seen later must not be of that.
func (w *wire) quiet(t *testing.T, ips ...netip.Addr) {
	t.Helper()
	const span = 3 * time.Second
	begun := time.Now()
	eventually(t, 30*time.Second, func() error {
		if time.Since(begun) < span {
			return errors.New("too early to tell")
		}
		for _, ip := range ips {
			if frames := w.announcements(ip, time.Now().Add(-span), ""); len(frames) > 0 {
				return fmt.Errorf("still announced: %s", frames[len(frames)-1])
			}
		}
		return nil
	})
}

func lines(frames []lab.Frame) string {
	var b strings.Builder
	for _, f := range frames {
		b.WriteString("\n" + f.String())
	}
	return b.String()
}

// staysPut checks for a while that each address is answered by its owner alone, and that nobody else says a word of it.
func (c *cluster) staysPut(t *testing.T, span time.Duration, owners map[netip.Addr]string) {
	t.Helper()
	w := c.flood(t)
	begun := time.Now()
	throughout(t, span, func() error { return c.ownedAs(owners) })
	w.onlyFrom(t, owners, begun)
}

// vigil has the askers ask for every address without a pause until the function that it returns is called, which fails
// if a question got no answer. Only one question of a client for an address is out at a time: they share their answers.
func (c *cluster) vigil(t *testing.T, ips ...netip.Addr) (end func()) {
	t.Helper()
	ports := map[string]*wire{}
	for _, host := range append(c.Nodes(), c.Askers()...) {
		ports[host] = c.port(t, host, "eth0")
	}
	stop := make(chan struct{})
	var group errgroup.Group
	for _, ip := range ips {
		for _, client := range c.Askers() {
			group.Go(func() error { return c.keepAsking(client, ip, stop) })
		}
	}
	return func() {
		t.Helper()
		close(stop)
		err := group.Wait()
		var silent *silence
		if errors.As(err, &silent) {
			for host, port := range ports {
				t.Logf("of %s passed at the port of %s:%s", silent.ip, host, lines(port.around(silent)))
			}
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// silence is a question without an answer.
type silence struct {
	client string
	ip     netip.Addr
	at     time.Time
}

func (s *silence) Error() string {
	return fmt.Sprintf("%s asked for %s at %s and nobody answered", s.client, s.ip, s.at.Format("15:04:05.000"))
}

// around are the frames about an address before and after nobody answered for it.
func (w *wire) around(s *silence) []lab.Frame {
	return w.Frames(func(f lab.Frame) bool {
		about := f.Sender == s.ip || f.Target == s.ip
		resolves := f.Kind != lab.TCP && f.Kind != lab.UDP
		return about && resolves && f.Time.After(s.at.Add(-time.Second)) && f.Time.Before(s.at.Add(2*time.Second))
	})
}

// lossless uses addresses, each 200 times per second, and asks for them all the while, until the function that it returns is
// called, which fails if a request or a question got no answer.
func (c *cluster) lossless(t *testing.T, what string, ips ...netip.Addr) (end func()) {
	t.Helper()
	flows := map[netip.Addr]*lab.Flow{}
	for _, ip := range ips {
		flows[ip] = c.Flow(t, user, ip)
	}
	asked := c.vigil(t, ips...)
	return func() {
		t.Helper()
		asked()
		for ip, flow := range flows {
			if _, err := flow.WaitAnswer(within(t, outageLimit)); err != nil {
				t.Errorf("%s: %s does not answer: %v", what, ip, err)
			}
			if report := flow.Stop(); report.Lost > 0 || report.Sent < 100 {
				t.Errorf("%s: %s: %v", what, ip, report)
			}
		}
	}
}

// keepAsking asks for an address every 150 ms until stopped, and five times more; the first question without an answer
// is an error.
func (c *cluster) keepAsking(client string, ip netip.Addr, stop <-chan struct{}) error {
	tick := time.NewTicker(150 * time.Millisecond)
	defer tick.Stop()
	for left := 5; left > 0; {
		at := time.Now()
		answered, err := c.Answered(client, ip, time.Second)
		if err == nil && !answered {
			err = &silence{client, ip, at}
		}
		if err != nil {
			return err
		}
		<-tick.C
		select {
		case <-stop:
			left--
		default:
		}
	}
	return nil
}
