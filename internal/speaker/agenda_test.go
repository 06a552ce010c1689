package speaker

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestAgenda: what comes next is what a search of all entries finds.
func TestAgenda(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var a agenda
	held, now := map[*entry]bool{}, epoch
	var entries []*entry
	for i := range 40 {
		s := assigned(fmt.Sprint("svc", i), "10.0.0.1")
		entries = append(entries, &entry{name: s.Name, service: &s})
	}
	for step := range 5000 {
		e := entries[rng.IntN(len(entries))]
		if rng.IntN(3) == 0 {
			a.remove(e)
			delete(held, e)
		} else {
			e.after = now.Add(time.Duration(rng.IntN(5)-1) * time.Second)
			e.want.condition.Status = []metav1.ConditionStatus{metav1.ConditionFalse, metav1.ConditionTrue}[rng.IntN(2)]
			e.failures = max(0, rng.IntN(6)-3)
			a.put(e)
			held[e] = true
		}
		now = now.Add(time.Duration(rng.IntN(300)) * time.Millisecond)
		var want *entry
		var at time.Time
		for h := range held {
			switch {
			case h.due().After(now):
				at = sooner(at, h.due())
			case want == nil || cmp.Or(cmp.Compare(h.failures, want.failures), cmp.Compare(h.urgency(), want.urgency()), cmp.Compare(h.name, want.name)) < 0:
				want = h
			}
		}
		got, when := a.next(now)
		if got != want || want == nil && !when.Equal(at) {
			t.Fatalf("step %d: next is %+v at %v, want %+v at %v", step, got, when, want, at)
		}
	}
}
