package announcetest

import (
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
		placement.Announcement{IP: nowhere},
		placement.Announcement{IP: one, Interfaces: s.names[:1]},
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
	other := announce.Want{
		Interfaces:    slices.Clone(w.Interfaces),
		Announcements: slices.Clone(w.Announcements),
	}
	slices.Reverse(other.Interfaces)
	slices.Reverse(other.Announcements)
	for i := range other.Announcements {
		other.Announcements[i].Interfaces = slices.Clone(s.names)
		slices.Reverse(other.Announcements[i].Interfaces)
	}
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
