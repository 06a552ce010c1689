package announcetest

import (
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lanyard-lb/lanyard/internal/announce"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// Run tests the contract of announce.Announcer, one subtest for each clause. Each subtest calls in, which
// makes a new world and calls test with it, inside a testing/synctest bubble if the world is a fake.
func Run(t *testing.T, in func(t *testing.T, test func(*testing.T, World))) {
	for _, c := range clauses {
		t.Run(strings.ReplaceAll(c.says, " ", "-"), func(t *testing.T) {
			in(t, func(t *testing.T, w World) { c.test(newScene(t, w)) })
		})
	}
}

var clauses = []struct {
	says string
	test func(*scene)
}{
	{"what is set is answered where it says and nothing else", placed},
	{"what was set before Run takes effect as Run starts", setBeforeRun},
	{"setting the same again is silent and new addresses are told unasked", told},
	{"another round tells again and goes on answering", round},
	{"each Set replaces the last", replaced},
	{"unsuitable interfaces are left alone until they are suitable", unsuitable},
	{"a failing interface is reported and does not stop the others", failing},
	{"standings tell of each address that is set", standings},
	{"what changes is signalled and what stays is not", signalled},
	{"who probes first is silent until nobody has answered", probed},
	{"what a stranger has is taken until another round finds it free", taken},
	{"who only probes announces nothing", probedOnly},
	{"a peer who answers takes nothing", peerAnswers},
	{"what needs no probe any more is announced once", unprobed},
	{"a stranger who comes later is told of and not obeyed", rivalled},
	{"when Run has returned nothing is left", over},
	{"sets from several goroutines leave the last one in force", concurrent},
}

func placed(s *scene) {
	nowhere, one, all, never := s.Address(0), s.Address(1), s.Address(2), s.Address(3)
	for _, ip := range []int{0, 1, 2, 3} {
		s.silent(s.Address(ip))
	}
	w := s.want(all)
	w.Announcements = append(w.Announcements,
		&placement.Announcement{IP: nowhere},
		&placement.Announcement{IP: one, Interfaces: s.names[:1]},
	)
	s.running(w)
	s.silent(nowhere)
	s.silent(never)
}

func setBeforeRun(s *scene) {
	v4, v6, replaced := s.Address(0), s.Address(1), s.Address(2)
	a := s.Announcer()
	s.set(a, s.want(replaced))
	s.set(a, s.want(v4, v6))
	s.silent(v4)
	if n := s.Unasked(); n != 0 {
		s.Errorf("%d things told before Run", n)
	}
	start(s.T, a)
	s.answered(v4, s.names...)
	s.answered(v6, s.names...)
	s.silent(replaced)
}

func told(s *scene) {
	w := s.want(s.Address(0), s.Address(1))
	r := s.running(w)
	s.Settle()
	before := s.Unasked()
	other := announce.Want{Interfaces: slices.Clone(w.Interfaces)}
	for _, a := range w.Announcements {
		another := *a
		another.Interfaces = slices.Clone(s.names)
		slices.Reverse(another.Interfaces)
		other.Announcements = append(other.Announcements, &another)
	}
	slices.Reverse(other.Interfaces)
	slices.Reverse(other.Announcements)
	for _, same := range []announce.Want{w, other, w} {
		s.set(r, same)
	}
	s.silent(s.Address(2)) // takes the time in which something would be heard
	if n := s.Unasked() - before; n != 0 {
		s.Errorf("setting the same again told others %d things", n)
	}
	s.set(r, s.want(s.Address(0), s.Address(1), s.Address(2), s.Address(3)))
	if !poll(func() bool { return s.Unasked() >= before+2 }) {
		s.Errorf("nobody was told of %s and %s", s.Address(2), s.Address(3))
	}
}

func round(s *scene) {
	v4, v6 := s.Address(0), s.Address(1)
	r := s.running(s.want(v4, v6))
	s.Settle()
	before := s.Unasked()
	again := s.want(v4, v6)
	for i := range again.Announcements {
		again.Announcements[i].Round = 7
	}
	s.set(r, again)
	s.answered(v4, s.names...)
	s.answered(v6, s.names...)
	if !poll(func() bool { return s.Unasked() >= before+2 }) {
		s.Error("nobody was told again")
	}
	s.set(r, s.want())
	s.silent(v4)
	s.silent(v6)
}

func replaced(s *scene) {
	stays, goes, comes := s.Address(0), s.Address(1), s.Address(2)
	r := s.running(s.want(stays, goes))
	s.set(r, s.want(comes, stays))
	s.silent(goes)
	s.answered(stays, s.names...)
	s.answered(comes, s.names...)

	moved := s.want(stays)
	moved.Announcements[0].Interfaces = s.names[1:]
	s.set(r, moved)
	s.silent(comes)
	s.answered(stays, s.names[1:]...)

	s.set(r, announce.Want{})
	s.silent(stays)
	s.set(r, s.want(goes))
	s.answered(goes, s.names...)
}

func unsuitable(s *scene) {
	v4, v6 := s.Address(0), s.Address(1)
	r := s.running(s.want(v4, v6))
	w := s.want(v4, v6)
	i := slices.IndexFunc(w.Interfaces, func(i placement.Interface) bool { return i.Name == s.names[0] })
	w.Interfaces[i].Carrier = false
	s.set(r, w)
	s.answered(v4, s.names[1:]...)
	s.answered(v6, s.names[1:]...)

	w = s.want(v4, v6)
	w.Interfaces = slices.DeleteFunc(w.Interfaces, func(i placement.Interface) bool { return i.Name == s.names[0] })
	s.set(r, w)
	s.answered(v4, s.names[1:]...)

	before := s.Unasked()
	s.set(r, s.want(v4, v6))
	s.answered(v4, s.names...)
	s.answered(v6, s.names...)
	if !poll(func() bool { return s.Unasked() >= before+2 }) {
		s.Error("nobody was told that the addresses are back")
	}
}

func failing(s *scene) {
	v4, v6 := s.Address(0), s.Address(1)
	broken := s.names[0]
	w := s.want(v4, v6)
	s.Break(broken)
	r := start(s.T, s.Announcer())
	s.set(r, announce.Want{})
	if !poll(func() bool {
		err := r.Set(w) // until Run runs there is nothing to fail
		return err != nil && strings.Contains(err.Error(), broken)
	}) {
		s.Errorf("Set did not say that %s fails", broken)
	}
	s.answered(v4, s.names[1:]...)
	s.answered(v6, s.names[1:]...)
	s.Repair(broken)
	s.set(r, s.want(v4, v6))
	s.answered(v4, s.names...)
	s.answered(v6, s.names...)
}

func standings(s *scene) {
	v4, v6, nowhere := s.Address(0), s.Address(1), s.Address(2)
	w := s.want(v6, v4)
	w.Announcements = append(w.Announcements, &placement.Announcement{IP: nowhere})
	a := s.Announcer()
	s.set(a, w)
	s.phases(a, placement.Pending, v4, nowhere, v6)
	r := start(s.T, a)
	s.stands(r, v4, placement.Announcing)
	s.stands(r, v6, placement.Announcing)
	s.stands(r, nowhere, placement.Pending)

	for i := range w.Interfaces {
		w.Interfaces[i].Carrier = false
	}
	s.set(r, w)
	s.phases(r, placement.Pending, v4, nowhere, v6)
	s.set(r, s.want(v6))
	s.phases(r, placement.Announcing, v6)
	s.set(r, s.want())
	s.phases(r, placement.Announcing)
	s.set(r, s.want(v4))
	r.stop(s.T)
	s.phases(r, placement.Pending, v4)
}

func signalled(s *scene) {
	r := s.running(s.want(s.Address(0)))
	s.waiting(r) // takes the signal of the start
	more := s.want(s.Address(0), s.Address(1))
	s.set(r, more)
	s.changed(r)
	s.set(r, more)
	if s.waiting(r) {
		s.Error("a signal although the same was set again")
	}
	s.set(r, s.want(s.Address(1)))
	s.changed(r)
	s.set(r, s.probing(placement.ProbeOnly, s.Address(1)))
	s.changed(r) // Probing
	if s.stands(r, s.Address(1), placement.Free); !s.waiting(r) {
		s.Error("no signal that the address is free")
	}
}

func probed(s *scene) {
	v4, v6 := s.Address(0), s.Address(1)
	before := s.Unasked()
	r := start(s.T, s.Announcer())
	s.set(r, s.probing(placement.ProbeFirst, v4, v6))
	s.silentUntil(r, v4, placement.Announcing)
	s.silentUntil(r, v6, placement.Announcing)
	s.answered(v4, s.names...)
	s.answered(v6, s.names...)
	if !poll(func() bool { return s.Unasked() >= before+2 }) {
		s.Error("nobody was told that the addresses are there")
	}
}

func taken(s *scene) {
	for _, ip := range []netip.Addr{s.Address(0), s.Address(1)} {
		mac := s.Occupy(s.names[1], ip)
		r := start(s.T, s.Announcer())
		w := s.probing(placement.ProbeFirst, ip)
		told := s.Unasked()
		s.set(r, w)
		s.silentUntil(r, ip, placement.Taken)
		if got := s.standing(r, ip); got.Rival != mac || got.RivalOn != s.names[1] || got.RivalAt.IsZero() {
			s.Errorf("%s stands as %+v, want it taken by %s on %s", ip, got, mac, s.names[1])
		}
		s.silent(ip)
		s.Vacate(s.names[1], ip)
		s.set(r, w)
		s.silent(ip)
		if n := s.Unasked() - told; n != 0 {
			s.Errorf("%d things told of %s, which is taken", n, ip)
		}
		w = again(w)
		s.set(r, w)
		s.stands(r, ip, placement.Announcing)
		s.answered(ip, s.names...)
		if got := s.standing(r, ip); got.Rival != (placement.MAC{}) || !got.RivalAt.IsZero() {
			s.Errorf("%s stands as %+v, want no rival in another round", ip, got)
		}
		r.stop(s.T)
	}
}

func probedOnly(s *scene) {
	v4, v6 := s.Address(0), s.Address(1)
	told := s.Unasked()
	r := start(s.T, s.Announcer())
	s.Occupy(s.names[0], v6)
	s.set(r, s.probing(placement.ProbeOnly, v4, v6))
	s.silentUntil(r, v4, placement.Free)
	s.silentUntil(r, v6, placement.Taken)
	s.silent(v4)
	if n := s.Unasked() - told; n != 0 {
		s.Errorf("%d things told by who only probes", n)
	}
	s.set(r, s.want(v4))
	s.phases(r, placement.Announcing, v4)
	s.answered(v4, s.names...)
	s.set(r, s.probing(placement.ProbeOnly, v4))
	s.silent(v4)
	s.stands(r, v4, placement.Free)
}

func peerAnswers(s *scene) {
	for _, ip := range []netip.Addr{s.Address(0), s.Address(1)} {
		mac := s.Occupy(s.names[0], ip)
		w := s.probing(placement.ProbeFirst, ip)
		w.Peers = map[placement.MAC]bool{mac: true}
		r := start(s.T, s.Announcer())
		s.set(r, w)
		s.stands(r, ip, placement.Announcing)
		got := s.standing(r, ip)
		if got.Peer != mac || got.PeerAt.IsZero() || got.Rival != (placement.MAC{}) {
			s.Errorf("%s stands as %+v, want it claimed by peer %s", ip, got, mac)
		}
		s.Vacate(s.names[0], ip)
		r.stop(s.T)
	}
}

func unprobed(s *scene) {
	early, late := s.Address(0), s.Address(2) // of one family
	r := start(s.T, s.Announcer())
	start := s.Unasked()
	s.set(r, s.probing(placement.ProbeFirst, early))
	s.stands(r, early, placement.Announcing)
	s.Settle()
	once := s.Unasked() - start
	s.set(r, s.probing(placement.ProbeFirst, early, late))
	s.set(r, s.want(early, late)) // in the middle of probing the second
	s.phases(r, placement.Announcing, early, late)
	s.answered(late, s.names...)
	s.Settle()
	if all := s.Unasked() - start; all != 2*once {
		s.Errorf("%d things told of two addresses, want %d: twice as many as of one", all, 2*once)
	}
}

func rivalled(s *scene) {
	for _, ip := range []netip.Addr{s.Address(0), s.Address(1)} {
		w := s.want(ip)
		r := s.running(w)
		s.waiting(r) // takes the signal of the start
		mac := s.Occupy(s.names[1], ip)
		s.changed(r)
		if !poll(func() bool { return s.standing(r, ip).Rival == mac }) {
			s.Errorf("%s stands as %+v, want rival %s", ip, s.standing(r, ip), mac)
		}
		if got := s.standing(r, ip); got.Phase != placement.Announcing || got.RivalOn != s.names[1] {
			s.Errorf("%s stands as %+v, want it announced, with a rival on %s", ip, got, s.names[1])
		}
		s.answered(ip, s.names...)
		s.Vacate(s.names[1], ip)
		w = again(w)
		s.set(r, w)
		if got := s.standing(r, ip); got.Rival != (placement.MAC{}) || got.Phase != placement.Announcing {
			s.Errorf("%s stands as %+v, want no rival in another round", ip, got)
		}
		r.stop(s.T)
	}
}

func over(s *scene) {
	v4, v6 := s.Address(0), s.Address(1)
	before := runtime.NumGoroutine()
	r := start(s.T, s.Announcer())
	s.set(r, s.want(v4, v6))
	s.answered(v4, s.names...)
	s.answered(v6, s.names...)
	r.stop(s.T)
	told := s.Unasked()
	s.silent(v4)
	s.silent(v6)
	if n := s.Unasked() - told; n != 0 {
		s.Errorf("%d things told after Run returned", n)
	}
	if !poll(func() bool { return runtime.NumGoroutine() <= before }) {
		stacks := make([]byte, 1<<16)
		s.Errorf("goroutines are left:\n%s", stacks[:runtime.Stack(stacks, true)])
	}
	s.set(r, s.want(v4)) // harmless
	s.silent(v4)
}

func concurrent(s *scene) {
	const writers, rounds = 4, 25
	r := s.running(s.want(s.Address(0)))
	var wait sync.WaitGroup
	for n := range writers {
		w := s.want(s.Address(n), s.Address(n+1))
		wait.Go(func() {
			for range rounds {
				if err := r.Set(w); err != nil {
					s.Errorf("Set: %v", err)
				}
			}
		})
	}
	wait.Wait()
	s.set(r, s.want(s.Address(1), s.Address(2)))
	s.answered(s.Address(1), s.names...)
	s.answered(s.Address(2), s.names...)
	s.silent(s.Address(0))
	s.silent(s.Address(3))
}
