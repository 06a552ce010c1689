package kube

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"pgregory.net/rapid"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/record"
)

var noon = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// holder is a Service in its first life.
func holder(name string) record.Holder {
	return record.Holder{Kind: record.Service, Namespace: "default", Name: name, UID: name + "-1"}
}

func loaded(t *testing.T, s *server, writer string) *Records {
	t.Helper()
	return loadedFor(t, s, "", writer)
}

func loadedFor(t *testing.T, s *server, class, writer string) *Records {
	t.Helper()
	r := newRecords(s, class, writer, log.NewNopLogger())
	if err := r.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func commit(t *testing.T, r *Records, changes ...record.Change) {
	t.Helper()
	if err := r.Commit(t.Context(), changes...); err != nil {
		t.Fatal(err)
	}
}

// show prints who holds what: "address name name".
func show(r *Records) string {
	var lines []string
	for e := range r.All() {
		words := []string{e.Addr.String()}
		for _, h := range e.Holders {
			words = append(words, h.UID)
		}
		lines = append(lines, strings.Join(words, " "))
	}
	return strings.Join(lines, ", ")
}

func refusedBy(err error) string {
	var held *record.HeldError
	if !errors.As(err, &held) {
		return fmt.Sprint(err)
	}
	return held.By.UID
}

func TestRecordsSurviveARestart(t *testing.T) {
	s := newServer()
	r := loaded(t, s, "first")
	commit(t, r,
		record.Hold(ip("10.0.0.1"), holder("a"), "lan", noon),
		record.Hold(ip("10.0.0.70"), holder("a"), "lan", noon),
		record.Hold(ip("fd00::1"), holder("b"), "six", noon),
		record.Hold(ip("10.0.0.2"), holder("c"), "lan", noon))
	commit(t, r, record.Release(ip("10.0.0.2"), holder("c"), noon.Add(time.Minute)))
	if got := r.HeldBy(holder("c")); len(got) != 0 {
		t.Errorf("c still holds %v", got)
	}
	again := loaded(t, s, "second")
	want := "10.0.0.1 a-1, 10.0.0.2, 10.0.0.70 a-1, fd00::1 b-1"
	if show(r) != want || show(again) != want {
		t.Errorf("has %q, after a restart %q, want %q", show(r), show(again), want)
	}
	if e, _ := again.Lookup(ip("10.0.0.2")); !e.LastReleased().Equal(noon.Add(time.Minute)) {
		t.Errorf("last released %s", e.LastReleased())
	}
	var of []string
	for _, e := range again.HeldBy(holder("a")) {
		of = append(of, e.Addr.String())
	}
	if !slices.Equal(of, []string{"10.0.0.1", "10.0.0.70"}) {
		t.Errorf("a holds %v", of)
	}
}

func TestCommitNeedsLoad(t *testing.T) {
	if err := newRecords(newServer(), "", "w", log.NewNopLogger()).Commit(t.Context()); err == nil {
		t.Error("records that are not loaded take changes")
	}
}

// TestSecondControllerFencesTheFirst: what the first believes is of no use any more, not even what stands.
func TestSecondControllerFencesTheFirst(t *testing.T) {
	a, b := holder("a"), holder("b")
	for name, change := range map[string]record.Change{
		"hold what it had":       record.Hold(ip("10.0.0.1"), a, "lan", noon),
		"hold what it still has": record.Hold(ip("10.0.0.2"), a, "lan", noon),
		"hold another":           record.Hold(ip("10.0.0.3"), a, "lan", noon),
		"release":                record.Release(ip("10.0.0.2"), a, noon),
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer()
			old := loaded(t, s, "old")
			commit(t, old, record.Hold(ip("10.0.0.1"), a, "lan", noon), record.Hold(ip("10.0.0.2"), a, "lan", noon))
			young := loaded(t, s, "young")
			commit(t, young, record.Release(ip("10.0.0.1"), a, noon), record.Hold(ip("10.0.0.1"), b, "lan", noon))
			var fenced *FencedError
			for _, c := range []record.Change{change, record.Hold(ip("10.0.0.99"), a, "lan", noon)} {
				if err := old.Commit(t.Context(), c); !errors.As(err, &fenced) || fenced.By != "young" {
					t.Errorf("%v, want fenced by young", err)
				}
			}
			if show(young) != "10.0.0.1 b-1, 10.0.0.2 a-1" {
				t.Errorf("young has %s", show(young))
			}
		})
	}
}

// TestNewBlocksOfTheFenced: a block that did not exist when the second controller loaded is not fenced
// yet, but what stands there counts.
func TestNewBlocksOfTheFenced(t *testing.T) {
	s := newServer()
	old, young := loaded(t, s, "old"), newRecords(s, "", "young", log.NewNopLogger())
	commit(t, old, record.Hold(ip("10.0.0.1"), holder("a"), "lan", noon))
	if err := young.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit(t, old, record.Hold(ip("10.0.0.99"), holder("a"), "lan", noon))
	err := young.Commit(t.Context(), record.Hold(ip("10.0.0.99"), holder("b"), "lan", noon), record.Hold(ip("10.0.0.100"), holder("b"), "lan", noon))
	if refusedBy(err) != "a-1" || show(young) != "10.0.0.1 a-1, 10.0.0.99 a-1, 10.0.0.100 b-1" {
		t.Errorf("refused by %s; %s", refusedBy(err), show(young))
	}
	var fenced *FencedError
	if err := old.Commit(t.Context(), record.Release(ip("10.0.0.99"), holder("a"), noon)); !errors.As(err, &fenced) {
		t.Errorf("old releases: %v", err)
	}
}

func TestCreatedAgain(t *testing.T) {
	s := newServer()
	r := loaded(t, s, "w")
	first, second := holder("a"), holder("a")
	second.UID = "a-2"
	commit(t, r, record.Hold(ip("10.0.0.1"), first, "lan", noon))
	s.services["default/a"] = "a-1"
	if err := r.Commit(t.Context(), record.Hold(ip("10.0.0.1"), second, "lan", noon)); refusedBy(err) != "a-1" {
		t.Errorf("taken over from the living: %v", err)
	}
	s.services["default/a"] = "a-2"
	commit(t, r, record.Hold(ip("10.0.0.1"), second, "lan", noon))
	if err := r.Commit(t.Context(), record.Hold(ip("10.0.0.1"), first, "lan", noon)); refusedBy(err) != "a-2" {
		t.Errorf("taken back by the dead: %v", err)
	}
	commit(t, r, record.Release(ip("10.0.0.1"), first, noon), record.ReleaseGone(ip("10.0.0.1"), first, noon))
	if err := r.Commit(t.Context(), record.ReleaseGone(ip("10.0.0.1"), second, noon)); refusedBy(err) != "a-2" {
		t.Errorf("taken from the living: %v", err)
	}
	if show(r) != "10.0.0.1 a-2" {
		t.Errorf("has %s", show(r))
	}
	delete(s.services, "default/a")
	commit(t, r, record.ReleaseGone(ip("10.0.0.1"), second, noon))
	if show(r) != "10.0.0.1" {
		t.Errorf("has %s", show(r))
	}
}

// TestFailedWrites: whether or not the write was made, the next one finds out.
func TestFailedWrites(t *testing.T) {
	for _, late := range []bool{false, true} {
		for _, existing := range []bool{false, true} {
			t.Run(fmt.Sprint("late=", late, " existing=", existing), func(t *testing.T) {
				s := newServer()
				r := loaded(t, s, "w")
				if existing {
					commit(t, r, record.Hold(ip("10.0.0.9"), holder("z"), "lan", noon))
				}
				broken := errors.New("the connection broke")
				s.fault = func() (error, bool) { return broken, late }
				if err := r.Commit(t.Context(), record.Hold(ip("10.0.0.1"), holder("a"), "lan", noon)); !errors.Is(err, broken) {
					t.Errorf("got %v", err)
				}
				if len(r.HeldBy(holder("a"))) != 1 {
					t.Error("what may be held must count as held")
				}
				s.fault = nil
				err := r.Commit(t.Context(), record.Hold(ip("10.0.0.1"), holder("b"), "lan", noon))
				if late && refusedBy(err) != "a-1" || !late && err != nil {
					t.Errorf("the next gets %v", err)
				}
				if again := loaded(t, s, "again"); show(again) != show(r) {
					t.Errorf("knows %s, the server has %s", show(r), show(again))
				}
			})
		}
	}
}

// TestFailedRelease: what may not have been released counts as held, and its release, made again, does what it says.
func TestFailedRelease(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprint("late=", late), func(t *testing.T) {
			s := newServer()
			r := loaded(t, s, "w")
			commit(t, r, record.Hold(ip("10.0.0.1"), holder("a"), "lan", noon), record.Hold(ip("10.0.0.2"), holder("b"), "lan", noon))
			s.fault = func() (error, bool) { return errors.New("the connection broke"), late }
			both := []record.Change{record.Release(ip("10.0.0.1"), holder("a"), noon), record.Release(ip("10.0.0.2"), holder("b"), noon)}
			if r.Commit(t.Context(), both...) == nil {
				t.Error("no error")
			}
			for _, who := range []string{"a", "b"} {
				if held := r.HeldBy(holder(who)); len(held) != 1 || len(held[0].Holders) != 1 || !held[0].Released.IsZero() {
					t.Errorf("%s holds %v", who, held)
				}
			}
			s.fault = nil
			commit(t, r, both...)
			if len(r.HeldBy(holder("a")))+len(r.HeldBy(holder("b"))) > 0 {
				t.Errorf("after the release: %s", show(r))
			}
			commit(t, r, record.Hold(ip("10.0.0.1"), holder("c"), "lan", noon))
			if again := loaded(t, s, "again"); show(again) != show(r) {
				t.Errorf("knows %s, the server has %s", show(r), show(again))
			}
		})
	}
}

// TestPeople: a record that is edited or deleted by hand.
func TestPeople(t *testing.T) {
	s := newServer()
	r := loaded(t, s, "w")
	commit(t, r, record.Hold(ip("10.0.0.1"), holder("a"), "lan", noon), record.Hold(ip("10.0.0.2"), holder("b"), "lan", noon))
	s.edit("10-0-0-0", func(o *v1beta1.IPAllocationRecord) {
		o.Allocations[0].Holders = nil
		o.Labels = map[string]string{"mine": "yes"}
	})
	commit(t, r, record.Hold(ip("10.0.0.1"), holder("c"), "lan", noon))
	if s.records["10-0-0-0"].Labels["mine"] != "yes" {
		t.Error("a label is lost")
	}
	s.mu.Lock()
	delete(s.records, "10-0-0-0")
	s.mu.Unlock()
	commit(t, r, record.Hold(ip("10.0.0.2"), holder("b"), "lan", noon))
	if again := loaded(t, s, "again"); show(again) != "10.0.0.1 c-1, 10.0.0.2 b-1" {
		t.Errorf("after deletion: %s", show(again))
	}
}

func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		r := loaded(t, s, "w")
		s.latency = 5 * time.Millisecond
		const callers, blocks = 500, 4
		var group sync.WaitGroup
		for i := range callers {
			group.Go(func() {
				addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(i % (64 * blocks))})
				name := holder(fmt.Sprint("s", i%(64*blocks)))
				if err := r.Commit(t.Context(), record.Hold(addr, name, "lan", noon)); err != nil {
					t.Error(err)
				}
			})
		}
		begin := time.Now()
		group.Wait()
		if s.writes > 3*blocks {
			t.Errorf("%d commits took %d writes to %d blocks", callers, s.writes, blocks)
		}
		if took := time.Since(begin); took > 4*s.latency {
			t.Errorf("took %s, a request takes %s", took, s.latency)
		}
		if got := len(strings.Split(show(r), ",")); got != 64*blocks {
			t.Errorf("%d addresses are held", got)
		}
	})
}

// TestOneCallerLeaves: the others of its batch do not suffer, wherever its time is up.
func TestOneCallerLeaves(t *testing.T) {
	for leaver := range 3 { // 0 has the first turn; the other two wait for the second write, 1 has its turn
		for _, at := range []time.Duration{5 * time.Millisecond, 10 * time.Millisecond, 15 * time.Millisecond} {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				r := loaded(t, s, "w")
				s.latency = 10 * time.Millisecond
				var errs [3]error
				var group sync.WaitGroup
				for i := range errs {
					ctx, cancel := context.WithCancel(t.Context())
					if i == leaver {
						time.AfterFunc(at, cancel)
					}
					group.Go(func() {
						defer cancel()
						errs[i] = r.Commit(ctx, record.Hold(ip("10.0.0.1").Next(), holder("x"), "lan", noon, holder("x")),
							record.Hold(netip.AddrFrom4([4]byte{10, 0, 0, byte(10 + i)}), holder(fmt.Sprint("s", i)), "lan", noon))
					})
					synctest.Wait()
				}
				group.Wait()
				for i, err := range errs {
					if i != leaver && err != nil {
						t.Errorf("%d leaves after %s: %d gets %v", leaver, at, i, err)
					}
				}
				if leaver > 0 && !errors.Is(errs[leaver], context.Canceled) {
					t.Errorf("%d leaves after %s and gets %v", leaver, at, errs[leaver])
				}
				s.latency = 0
				commit(t, r, record.Release(ip("10.0.0.9"), holder("y"), noon), record.Hold(ip("10.0.0.9"), holder("y"), "lan", noon))
			})
		}
	}
}

// TestCallersWithoutTime: whoever has no time to begin with does not keep the turn.
func TestCallersWithoutTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := loaded(t, newServer(), "w")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		hold := record.Hold(ip("10.0.0.1"), holder("a"), "lan", noon)
		for range 50 {
			if err := r.Commit(ctx, hold); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			commit(t, r, record.Hold(ip("10.0.0.2"), holder("b"), "lan", noon))
		}
	})
}

func TestFewRequests(t *testing.T) {
	s := newServer()
	r := loaded(t, s, "w")
	hold := record.Hold(ip("10.0.0.1"), holder("a"), "lan", noon)
	for _, tc := range []struct {
		name          string
		change        record.Change
		reads, writes int
	}{
		{"hold", hold, 0, 1},
		{"hold again, confirmed", hold, 1, 0},
		{"hold what is held", record.Hold(ip("10.0.0.1"), holder("b"), "lan", noon), 1, 0},
		{"release what is not", record.Release(ip("10.0.0.1"), holder("b"), noon), 0, 0},
		{"release", record.Release(ip("10.0.0.1"), holder("a"), noon), 0, 1},
	} {
		s.reads, s.writes = 0, 0
		_ = r.Commit(t.Context(), tc.change)
		if s.reads != tc.reads || s.writes != tc.writes {
			t.Errorf("%s: %d reads and %d writes, want %d and %d", tc.name, s.reads, s.writes, tc.reads, tc.writes)
		}
	}
}

// TestHeldByIsWhatAllSays: who holds what is the same by name and by address, whatever is committed and learnt.
func TestHeldByIsWhatAllSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx, api := context.Background(), newServer()
		r := newRecords(api, "", "writer", log.NewNopLogger())
		if err := r.Load(ctx); err != nil {
			t.Fatal(err)
		}
		names := []string{"a", "b", "c"}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			ip := netip.AddrFrom4([4]byte{10, 0, 0, rapid.SampledFrom([]byte{1, 2, 3, 70, 71}).Draw(t, "address")})
			h := holder(rapid.SampledFrom(names).Draw(t, "name"))
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1, 2:
				_ = r.Commit(ctx, record.Hold(ip, h, "lan", time.Unix(1, 0), holder("a"), holder("b"), holder("c")))
			case 3, 4:
				_ = r.Commit(ctx, record.Release(ip, h, time.Unix(2, 0)))
			case 5:
				if err := r.Load(ctx); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range names {
				var want, got []netip.Addr
				for e := range r.All() {
					if slices.ContainsFunc(e.Holders, func(h record.Holding) bool { return h.Same(holder(name)) }) {
						want = append(want, e.Addr)
					}
				}
				for _, e := range r.HeldBy(holder(name)) {
					got = append(got, e.Addr)
				}
				_, known := r.current().byName[holder(name).Named()]
				if !slices.Equal(got, want) || known != (len(want) > 0) {
					t.Fatalf("%s holds %v (it is known: %v), by all there is %v", name, got, known, want)
				}
			}
		}
	})
}
