package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/record"
)

// counted are records that count the releases of each Commit, and let them wait, or fail, if they are to.
type counted struct {
	*records
	mu       sync.Mutex
	releases []int
	holds    []string
	fails    bool
	late     bool          // fails when the changes are made: some of them are
	slow     chan struct{} // not nil: releases wait until it is closed
}

var errBroken = errors.New("broken")

func (r *counted) Commit(ctx context.Context, changes ...record.Change) error {
	lets := len(slices.DeleteFunc(slices.Clone(changes), func(c record.Change) bool { return !c.Let }))
	r.mu.Lock()
	slow := r.slow
	r.mu.Unlock()
	if lets > 0 && slow != nil {
		<-slow
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range changes {
		if !c.Let {
			r.holds = append(r.holds, c.Holder.Name+" "+c.Addr.String())
		}
	}
	if lets > 0 {
		r.releases = append(r.releases, lets)
		if r.fails {
			return errBroken
		}
	}
	err := r.records.Commit(ctx, changes...)
	if r.late {
		err = errors.Join(err, errBroken)
	}
	return err
}

// bubble is a world in a bubble where deleted Services linger.
type bubble struct {
	*world
	counted *counted
	wait    sync.WaitGroup
}

// inBubble runs f in a world with n Services s0, s1, ... that have all the addresses.
func inBubble(t *testing.T, n int, f func(t *testing.T, p *bubble), change ...func(*corev1.Service)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.pools(fmt.Sprintf("lan: 10.0.0.0-10.0.0.%d fd00::-fd00::%x", n-1, n-1))
		for i := range n {
			w.apply(fmt.Sprintf("s%d", i), change...)
		}
		w.start("")
		p := &bubble{world: w, counted: &counted{records: w.records.of("")}}
		p.linger()
		w.queue = nil
		f(t, p)
		p.wait.Wait()
	})
}

// linger has the controller let those linger that are deleted.
func (p *bubble) linger() { p.controller.Records, p.controller.batcher.linger = p.counted, lingers }

func (p *bubble) named(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "default", Name: name}
}

// gone tells the controller that a Service is gone, as one of its callers that do so at the same time.
func (p *bubble) gone(name string, want error) {
	delete(p.services, p.named(name))
	p.wait.Go(func() {
		if err := p.controller.Service(context.Background(), p.named(name), nil); !errors.Is(err, want) {
			p.t.Errorf("%s is gone: %v, want %v", name, err, want)
		}
	})
	synctest.Wait()
}

func (p *bubble) expectReleases(want ...int) {
	p.t.Helper()
	p.counted.mu.Lock()
	defer p.counted.mu.Unlock()
	if !slices.Equal(p.counted.releases, want) {
		p.t.Errorf("released by writes of %v, want %v", p.counted.releases, want)
	}
}

func TestDeletedTogether(t *testing.T) {
	dual := func(s *corev1.Service) {
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	}
	inBubble(t, 64, func(_ *testing.T, p *bubble) {
		for i := range 60 {
			p.gone(fmt.Sprintf("s%d", i), nil)
		}
		p.expectReleases()
		time.Sleep(lingers)
		synctest.Wait()
		p.expectReleases(120)
		if _, known := p.controller.ledger.Decision(key(p.named("s59"))); known {
			t.Error("the ledger knows a Service that is gone")
		}
		for _, ip := range []string{"10.0.0.0", "fd00::", "10.0.0.59", "fd00::3b"} {
			if who := p.records.holdersOf(ip); who != "" {
				t.Errorf("%s is held by %s", ip, who)
			}
		}
		p.gone("s60", nil)
		time.Sleep(lingers)
		synctest.Wait()
		p.expectReleases(120, 2)
		if d := &p.controller.batcher; len(d.of)+len(d.underWay) > 0 {
			t.Errorf("remembered: %v, %v", d.of, d.underWay)
		}
	}, dual)
}

// Who may be too new to be seen is asked about, by itself: somebody else's release is not to fail with it.
func TestListedIsReleasedAlone(t *testing.T) {
	inBubble(t, 4, func(_ *testing.T, p *bubble) {
		p.controller = p.launch("")
		p.linger()
		p.queue = nil
		p.gone("s1", nil)
		p.expectReleases(1)
	})
}

// Nobody is decided on while any release is under way, however many there are.
func TestDecidesAfterAllReleases(t *testing.T) {
	inBubble(t, 4, func(t *testing.T, p *bubble) {
		slow := make(chan struct{})
		p.counted.slow = slow
		p.gone("s0", nil)
		time.Sleep(lingers)
		synctest.Wait()
		p.counted.mu.Lock()
		p.counted.slow = nil
		p.counted.mu.Unlock()
		p.gone("s1", nil)
		time.Sleep(lingers)
		synctest.Wait()
		p.expectReleases(1)
		late := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "late", UID: "late"}}
		late.Spec.Type, late.Spec.IPFamilies = corev1.ServiceTypeLoadBalancer, []corev1.IPFamily{corev1.IPv4Protocol}
		p.services[p.named("late")] = late
		p.wait.Go(func() {
			if err := p.controller.Service(t.Context(), p.named("late"), late.DeepCopy()); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		p.expect("late", "")
		close(slow)
		p.wait.Wait()
		p.expect("late", "10.0.0.0 True Assigned")
	})
}

// A release that hangs does not keep others from what is free.
func TestReleaseHangs(t *testing.T) {
	inBubble(t, 4, func(t *testing.T, p *bubble) {
		slow := make(chan struct{})
		p.counted.slow = slow
		p.gone("s0", nil)
		time.Sleep(lingers)
		synctest.Wait()
		p.pools("lan: 10.0.0.0-10.0.0.4 fd00::-fd00::4")
		began := time.Now()
		p.apply("late")
		if waited := time.Since(began); waited > 0 { // Configure has waited long enough
			t.Errorf("it waited %v", waited)
		}
		p.expect("late", "10.0.0.4 True Assigned")
		close(slow)
	})
}

// A Service whose name is still being released is not decided on, and keeps nobody waiting.
func TestReleaseOfTheNameHangs(t *testing.T) {
	inBubble(t, 4, func(t *testing.T, p *bubble) {
		slow := make(chan struct{})
		p.counted.slow = slow
		p.gone("s0", nil)
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s0", UID: "another"}}
		began := time.Now()
		if err := p.controller.Service(t.Context(), p.named("s0"), s); err == nil {
			t.Error("no error")
		}
		if waited := time.Since(began); waited != hangs {
			t.Errorf("it waited %v", waited)
		}
		if who := p.controller.versions[key(p.named("s0"))].UID; who != "s0" {
			t.Errorf("%s was decided on", who)
		}
		close(slow)
	})
}

// A Service of the same name is not decided on before the last one is released.
func TestDeletedAndCreated(t *testing.T) {
	inBubble(t, 4, func(t *testing.T, p *bubble) {
		p.gone("s1", nil)
		p.gone("s2", nil)
		began := time.Now()
		p.apply("s2")
		if waited := time.Since(began); waited > 0 {
			t.Errorf("a new Service waited %v", waited)
		}
		p.expectReleases(2)
		p.expect("s2", "10.0.0.1 True Assigned")
	})
}

// An address that lingers is not refused to whom it suits.
func TestLingeringIsHadAtOnce(t *testing.T) {
	inBubble(t, 4, func(t *testing.T, p *bubble) {
		p.events = nil
		p.gone("s3", nil)
		began := time.Now()
		p.apply("late")
		if waited := time.Since(began); waited > 0 {
			t.Errorf("the new Service waited %v", waited)
		}
		p.expect("late", "10.0.0.3 True Assigned")
		if want := []string{"Normal Assigned"}; !slices.Equal(p.events, want) {
			t.Errorf("events %q, want %q", p.events, want)
		}
	})
}

// Nor to whom has another one and comes to ask for it.
func TestLingeringIsHadByAskingForIt(t *testing.T) {
	inBubble(t, 4, func(t *testing.T, p *bubble) {
		p.events = nil
		p.gone("s3", nil)
		p.apply("s1", annotated(v1beta1.AnnotationAddresses, "10.0.0.3"))
		p.expect("s1", "10.0.0.3 True Assigned")
		if want := []string{"Normal Assigned"}; !slices.Equal(p.events, want) {
			t.Errorf("events %q, want %q", p.events, want)
		}
	})
}

// A new configuration finds free what lingers.
func TestConfigureEndsLingering(t *testing.T) {
	inBubble(t, 4, func(t *testing.T, p *bubble) {
		p.gone("s3", nil)
		if err := p.controller.Configure(t.Context(), p.objects); err != nil {
			t.Error(err)
		}
		p.expectReleases(1)
	})
}

// When releasing fails, each is asked for again, and released by itself.
func TestReleasingFails(t *testing.T) {
	inBubble(t, 4, func(_ *testing.T, p *bubble) {
		p.counted.fails = true
		p.gone("s0", errBroken)
		p.gone("s1", nil)
		p.gone("s2", nil)
		time.Sleep(lingers)
		synctest.Wait()
		if want := []types.NamespacedName{p.named("s1"), p.named("s2")}; !slices.Equal(p.queue, want) {
			p.t.Errorf("asked for again: %v, want %v", p.queue, want)
		}
		p.queue = nil
		time.Sleep(alone - 1)
		p.gone("s1", errBroken)
		time.Sleep(alone - 1)
		p.counted.fails = false
		p.gone("s0", nil)
		p.gone("s1", nil)
		p.gone("s2", nil)
		p.expectReleases(3, 1, 1, 1, 1)
		time.Sleep(alone)
		p.gone("s3", nil)
		p.expectReleases(3, 1, 1, 1, 1)
	})
}

func TestLingeringEndsWithItsContext(t *testing.T) {
	inBubble(t, 4, func(t *testing.T, p *bubble) {
		ctx, cancel := context.WithCancel(context.Background())
		p.counted.fails = true // as it is with a context that has ended
		p.wait.Go(func() { _ = p.controller.Service(ctx, p.named("s0"), nil) })
		synctest.Wait()
		began := time.Now()
		cancel()
		p.wait.Wait()
		if waited := time.Since(began); waited > 0 {
			t.Errorf("it waited %v", waited)
		}
	})
}

// A reservation's status is written after its address has been committed, though the records say so already: that may be in
// doubt.
func TestReservationIsConfirmed(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.0-10.0.0.3")
	w.start("")
	r := &counted{records: w.records.of("")}
	w.controller.Records = r
	who := record.Holder{Kind: record.Reservation, Namespace: "default", Name: "r", UID: "r-r"}
	if err := w.records.Commit(t.Context(), record.Hold(addr("10.0.0.2"), who, "lan", w.now())); err != nil {
		t.Fatal(err)
	}
	w.reservation("r", v1beta1.IPReservationSpec{Addresses: []string{"10.0.0.2"}})
	if want := []string{"r 10.0.0.2"}; !slices.Equal(r.holds, want) {
		t.Errorf("committed %q, want %q", r.holds, want)
	}
}

// What has been released is to be had, though another release of the same call has failed.
func TestSomeReleasesFail(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.0")
	w.start("")
	z := serviceHolder(types.NamespacedName{Namespace: "default", Name: "z"}, "z")
	if err := w.records.Commit(t.Context(), record.Hold(addr("10.0.0.0"), z, "lan", w.now())); err != nil {
		t.Fatal(err)
	}
	c := w.controller
	e, _ := w.records.Lookup(addr("10.0.0.0"))
	c.mu.Lock()
	c.learnOther(e)
	c.mu.Unlock()
	w.apply("a")
	w.expect("a", "False PoolExhausted")
	c.Records = &counted{records: w.records.of(""), late: true}
	if err := c.release(t.Context(), []record.Change{record.Release(addr("10.0.0.0"), z, w.now())}); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
	c.Records = w.records.of("")
	w.settle()
	w.expect("a", "10.0.0.0 True Assigned")
}
