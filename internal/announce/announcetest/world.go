package announcetest

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/internal/announce"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// World is where an announcer is tested, and what the world can see of it. It is made for one test.
type World interface {
	// Announcer returns a new announcer on this world's node.
	Announcer() announce.Announcer
	// Interfaces of the node as they are now; at least two, all suitable.
	Interfaces() []placement.Interface
	// Address returns the n-th address that nobody else has, of each family in turn.
	Address(n int) netip.Addr
	// Answers returns the sorted names of the interfaces at which the node answers for ip now.
	Answers(ip netip.Addr) []string
	// Unasked counts what others were told without asking, so far.
	Unasked() int
	// Settle waits until the announcer has no more to tell if nothing changes.
	Settle()
	// Break makes an interface fail those who want to announce there, although Interfaces lists it.
	Break(name string)
	// Occupy has a stranger on the LAN of an interface use ip: it says so at once, and whenever somebody
	// asks. Its MAC address is returned.
	Occupy(name string, ip netip.Addr) placement.MAC
	// Vacate ends that.
	Vacate(name string, ip netip.Addr)
	// Repair ends what Break did. The interface may have another index afterwards.
	Repair(name string)
}

// deadline for what must happen in the end. Nothing waits that long unless it fails.
const deadline = 10 * time.Second

// poll until cond holds; it reports whether it did.
func poll(cond func() bool) bool {
	for end := time.Now().Add(deadline); ; time.Sleep(time.Millisecond) {
		if cond() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// runner is an announcer that runs.
type runner struct {
	announce.Announcer
	cancel context.CancelFunc
	done   chan error
}

// start runs an announcer until the test ends.
func start(t *testing.T, a announce.Announcer) *runner {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &runner{Announcer: a, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- a.Run(ctx) }()
	t.Cleanup(func() { r.stop(t) })
	return r
}

// stop ends Run and waits for it, once.
func (r *runner) stop(t *testing.T) {
	t.Helper()
	if r.done == nil {
		return
	}
	r.cancel()
	select {
	case err := <-r.done:
		if err != nil {
			t.Errorf("Run: %v, want nil after its context ended", err)
		}
	case <-time.After(deadline):
		t.Errorf("Run has not returned %v after its context ended", deadline)
	}
	r.done = nil
}

// scene is a world with an announcer in it.
type scene struct {
	*testing.T
	World
	names []string // of the interfaces
}

func newScene(t *testing.T, w World) *scene {
	s := &scene{T: t, World: w}
	for _, i := range w.Interfaces() {
		s.names = append(s.names, i.Name)
	}
	if slices.Sort(s.names); len(s.names) < 2 {
		t.Fatalf("the world has interfaces %v, want two at least", s.names)
	}
	return s
}

// want of addresses announced everywhere.
func (s *scene) want(ips ...netip.Addr) announce.Want {
	w := announce.Want{Interfaces: s.Interfaces()}
	for _, ip := range ips {
		w.Announcements = append(w.Announcements, &placement.Announcement{IP: ip, Interfaces: s.names})
	}
	return w
}

func (s *scene) set(a announce.Announcer, w announce.Want) {
	s.Helper()
	if err := a.Set(w); err != nil {
		s.Errorf("Set: %v", err)
	}
}

// running returns an announcer that runs and holds w, which names an address at least.
func (s *scene) running(w announce.Want) *runner {
	s.Helper()
	r := start(s.T, s.Announcer())
	s.set(r, w)
	for _, wanted := range w.Announcements {
		s.answered(wanted.IP, wanted.Interfaces...)
	}
	return r
}

// answered fails unless ip is answered at exactly those interfaces, in the end.
func (s *scene) answered(ip netip.Addr, names ...string) {
	s.Helper()
	names = slices.Sorted(slices.Values(names))
	var got []string
	if !poll(func() bool { got = s.Answers(ip); return slices.Equal(got, names) }) {
		s.Errorf("%s is answered at %v, want %v", ip, got, names)
	}
}

// silent fails if ip is answered anywhere now.
func (s *scene) silent(ip netip.Addr) {
	s.Helper()
	if got := s.Answers(ip); len(got) > 0 {
		s.Errorf("%s is answered at %v, want nowhere", ip, got)
	}
}

// probing is want, with a way of probing.
func (s *scene) probing(p placement.Probe, ips ...netip.Addr) announce.Want {
	w := s.want(ips...)
	for i := range w.Announcements {
		w.Announcements[i].Probe = p
	}
	return w
}

// again is another round of w.
func again(w announce.Want) announce.Want {
	w.Announcements = slices.Clone(w.Announcements)
	for i, a := range w.Announcements {
		another := *a
		another.Round++
		w.Announcements[i] = &another
	}
	return w
}

// standing of ip, which must have one.
func (s *scene) standing(a announce.Announcer, ip netip.Addr) announce.Standing {
	s.Helper()
	list := a.Standings()
	i := slices.IndexFunc(list, func(g *announce.Standing) bool { return g.IP == ip })
	if i < 0 {
		s.Fatalf("%s has no standing in %+v", ip, list)
	}
	return *list[i]
}

// stands fails unless ip comes to that phase.
func (s *scene) stands(a announce.Announcer, ip netip.Addr, want placement.Phase) {
	s.Helper()
	if !poll(func() bool { return s.standing(a, ip).Phase == want }) {
		s.Errorf("%s stands as %+v, want %s", ip, s.standing(a, ip), want)
	}
}

// phases fails unless exactly these addresses have a standing now, in this order, all of that phase.
func (s *scene) phases(a announce.Announcer, want placement.Phase, ips ...netip.Addr) {
	s.Helper()
	list := a.Standings()
	same := slices.EqualFunc(list, ips, func(g *announce.Standing, ip netip.Addr) bool { return g.IP == ip && g.Phase == want })
	if !same {
		s.Errorf("standings are %+v, want %s of %v", list, want, ips)
	}
}

// silentUntil fails if ip is answered before it comes to that phase, which it must.
func (s *scene) silentUntil(a announce.Announcer, ip netip.Addr, want placement.Phase) {
	s.Helper()
	if !poll(func() bool {
		got, phase := s.Answers(ip), s.standing(a, ip).Phase
		if len(got) > 0 && phase != want {
			s.Errorf("%s is answered at %v while %s", ip, got, phase)
		}
		return phase == want
	}) {
		s.Errorf("%s stands as %+v, want %s", ip, s.standing(a, ip), want)
	}
}

// changed fails unless a signal comes.
func (s *scene) changed(a announce.Announcer) {
	s.Helper()
	select {
	case <-a.Changed():
	case <-time.After(deadline):
		s.Error("no signal that standings have changed")
	}
}

// waiting takes the signal that is waiting, and reports whether there was one.
func (s *scene) waiting(a announce.Announcer) bool {
	select {
	case <-a.Changed():
		return true
	default:
		return false
	}
}
