package ipam

import (
	"net/netip"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/internal/iprange"
)

// TestPassedOverTogether: who waits is passed over with one that waits for longer only when neither can be served.
func TestPassedOverTogether(t *testing.T) {
	pool := func(name, text string, change ...func(*Pool)) Pool {
		r, err := iprange.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		p := Pool{Name: name, Ranges: []iprange.Range{r}, AutoAssign: true}
		for _, c := range change {
			c(&p)
		}
		return p
	}
	lan := pool("lan", "10.0.0.0-10.0.0.1")
	four := []Family{IPv4}
	both := []Family{IPv4, IPv6}
	holder, other := Request{Service: Key{"red", "holder"}, Families: four}, Request{Service: Key{"green", "other"}, Families: four}
	release := func(l *Ledger) Changed { return l.Delete(other.Service) }
	red, blue := Key{"red", "first"}, Key{"blue", "second"}
	for name, tc := range map[string]struct {
		pools         []Pool
		reservations  []Reservation
		first, second Request // wait, in this order; what happens then is something for the second
		before        func(*Ledger)
		happens       func(*Ledger) Changed
	}{
		"another namespace has a quota left": {
			pools: []Pool{pool("lan", "10.0.0.0-10.0.0.1", func(p *Pool) { p.PerNamespace = 1 })},
			first: Request{Service: red, Families: four}, second: Request{Service: blue, Families: four},
		},
		"another pool": {
			pools: []Pool{pool("lan", "10.0.0.0"), pool("wan", "10.0.1.0")},
			first: Request{Service: red, Families: four, Pools: []string{"lan"}}, second: Request{Service: blue, Families: four, Pools: []string{"wan"}},
		},
		"a pool that serves another namespace": {
			pools: []Pool{pool("lan", "10.0.0.0-10.0.0.1", func(p *Pool) {
				p.Audience.Namespaces = map[string]bool{"red": true, "green": true, "blue": true}
			}), pool("own", "10.0.1.0", func(p *Pool) { p.Audience.Namespaces = map[string]bool{"blue": true} })},
			first: Request{Service: red, Families: four}, second: Request{Service: blue, Families: four},
			before:  func(l *Ledger) { l.Deny(netip.MustParseAddr("10.0.1.0"), Other{Text: "others"}, Key{}, false) },
			happens: func(l *Ledger) Changed { return l.Allow(netip.MustParseAddr("10.0.1.0")) },
		},
		"another family": {
			pools: []Pool{lan, pool("six", "fd00::/126", func(p *Pool) { p.Paused = true })},
			first: Request{Service: red, Families: []Family{IPv6}}, second: Request{Service: blue, Families: four},
		},
		"one of two families will do": {
			pools: []Pool{lan},
			first: Request{Service: red, Families: both, AllOrNothing: true}, second: Request{Service: blue, Families: both},
		},
		"any address will do": {
			pools: []Pool{lan},
			first: Request{Service: red, Families: four, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.0")}}, second: Request{Service: blue, Families: four},
		},
		"no sharing": {
			pools:  []Pool{lan},
			first:  Request{Service: red, Families: four, Sharing: Sharing{Key: "k", Ports: []Port{{"TCP", 80}}}},
			second: Request{Service: blue, Families: four},
		},
		"no reservation": {
			pools: []Pool{lan}, reservations: []Reservation{{Key: Key{"red", "r"}}},
			first: Request{Service: red, Families: four, Reservation: "r"}, second: Request{Service: blue, Families: four},
		},
		"not invalid": {
			pools: []Pool{lan},
			first: Request{Service: red, Families: four, Invalid: "faulty"}, second: Request{Service: blue, Families: four},
		},
		"it is kept for the second": {
			pools: []Pool{pool("lan", "10.0.0.0-10.0.0.1", func(p *Pool) { p.Retain = time.Hour })},
			first: Request{Service: red, Families: four}, second: Request{Service: other.Service, Families: four},
			happens: func(l *Ledger) Changed {
				bad := map[netip.Addr]Stranger{netip.MustParseAddr("10.0.0.1"): {Held: true}}
				l.Quarantine(bad)
				l.Delete(other.Service)
				l.Set(Request{Service: other.Service, Created: time.Unix(2, 0), Families: four})
				return l.Quarantine(nil)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := NewLedger()
			l.SetPools(tc.pools)
			for _, r := range tc.reservations {
				l.SetReservation(r)
			}
			if tc.before != nil {
				tc.before(l)
			}
			h := holder
			if tc.first.Sharing.Key != "" {
				h.Sharing = tc.first.Sharing // on the same port: they do not go together
			}
			l.Set(h)
			l.Set(other)
			for i, r := range []Request{tc.first, tc.second} {
				r.Created = time.Unix(int64(i+1), 0)
				if r.Service == other.Service {
					continue
				}
				l.Set(r)
				if d, _ := l.Decision(r.Service); len(d.Assigned) > 0 {
					t.Fatalf("%s does not wait: %s", r.Service, d.Message)
				}
			}
			happens := tc.happens
			if happens == nil {
				happens = release
			}
			changed := happens(l)
			if d, _ := l.Decision(tc.second.Service); len(d.Assigned) != 1 {
				t.Errorf("%v changed; the second has %v: %s", changed, d.IPs(), d.Message)
			}
			if d, _ := l.Decision(tc.first.Service); len(d.Assigned) != 0 {
				t.Errorf("the first has %v", d.IPs())
			}
		})
	}
}
