package ipam

import (
	"fmt"
	"testing"

	"github.com/lanyard-lb/lanyard/internal/iprange"
)

// pairs is a ledger with many Services, each of which shares its address with one other.
func pairs(t *testing.T, n int) (*Ledger, Request) {
	t.Helper()
	r, err := iprange.Parse("10.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	l := NewLedger()
	l.SetPools([]Pool{{Name: "lan", Ranges: []iprange.Range{r}, AutoAssign: true}})
	var first Request
	for i := range n {
		r := Request{Service: Key{"default", fmt.Sprintf("s%05d", i)}, Families: []Family{IPv4}, Ours: true,
			Sharing: Sharing{Key: fmt.Sprint("k", i/2), Ports: []Port{{"TCP", uint16(80 + i%2)}}}}
		l.Set(r)
		if i == 0 {
			first = r
		}
	}
	return l, first
}

// TestSharingLooksOnlyAtThoseConcerned: what a change of a Service that shares costs does not grow with the number of
// those that share other addresses. Work is counted in allocations, which do not depend on the machine.
func TestSharingLooksOnlyAtThoseConcerned(t *testing.T) {
	cost := func(n int) float64 {
		l, r := pairs(t, n)
		port := uint16(1000)
		return testing.AllocsPerRun(50, func() {
			port++
			r.Sharing.Ports = []Port{{"TCP", port}}
			if changed := l.Set(r); len(changed.Services) > 0 {
				t.Fatalf("other ports change what is decided on %v", changed.Services)
			}
		})
	}
	few, many := cost(20), cost(5000)
	if many > 2*few {
		t.Errorf("a change costs %v allocations among 20 Services, and %v among 5000", few, many)
	}
}
