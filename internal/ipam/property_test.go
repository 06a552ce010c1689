package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lanyard-lb/lanyard/internal/iprange"
)

// world is a cluster in small: the ledger, and every Service's status as somebody writes it sooner or later.
type world struct {
	ledger   *Ledger
	pools    []Pool
	requests map[Key]Request
	statuses map[Key][]netip.Addr
}

var someRanges = []string{"10.0.0.0/30", "10.0.0.4/31", "10.0.0.8-10.0.0.10", "fd00::/126", "fd00::8", "10.0.0.6"}

func drawPools(t *rapid.T) []Pool {
	var pools []Pool
	for i, s := range someRanges {
		owner := rapid.IntRange(0, 3).Draw(t, "owner of "+s)
		if owner == 0 {
			continue
		}
		r, err := iprange.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprint("pool", owner)
		at := slices.IndexFunc(pools, func(p Pool) bool { return p.Name == name })
		if at < 0 {
			pools = append(pools, Pool{Name: name, AutoAssign: i%5 != 4})
			at = len(pools) - 1
		}
		pools[at].Ranges = append(pools[at].Ranges, r)
	}
	return pools
}

func drawRequest(t *rapid.T) Request {
	families := rapid.SampledFrom([][]Family{{IPv4}, {IPv6}, {IPv4, IPv6}, {IPv6, IPv4}}).Draw(t, "families")
	return Request{
		Service:      Key{"ns", fmt.Sprint("svc", rapid.IntRange(0, 11).Draw(t, "service"))},
		Created:      time.Unix(int64(rapid.IntRange(0, 3).Draw(t, "created")), 0),
		Families:     families,
		AllOrNothing: len(families) == 2 && rapid.Bool().Draw(t, "require"),
	}
}

func (w *world) tell(r Request) {
	r.Status = slices.Clone(w.statuses[r.Service])
	r.Ours = len(r.Status) > 0
	w.requests[r.Service] = r
	w.ledger.Set(r)
}

func (w *world) write(k Key) {
	d, _ := w.ledger.Decision(k)
	w.statuses[k] = d.IPs()
	w.tell(w.requests[k])
}

func (w *world) restart() {
	all := make([]Request, 0, len(w.requests))
	for _, r := range w.requests {
		r.Status = w.statuses[r.Service]
		r.Ours = len(r.Status) > 0
		all = append(all, r)
	}
	w.ledger = NewLedger()
	w.ledger.SetPools(w.pools)
	w.ledger.Load(all)
}

// check is the slow, obvious twin of the ledger: it looks at every Service and every address.
func (w *world) check(t *rapid.T) {
	assigned, named := map[netip.Addr]Key{}, map[netip.Addr]Key{}
	for k := range w.requests {
		d, _ := w.ledger.Decision(k)
		for _, a := range d.Assigned {
			if other, twice := assigned[a.IP]; twice {
				t.Fatalf("%s is assigned to %s and to %s", a.IP, other, k)
			}
			assigned[a.IP] = k
		}
		for _, ip := range w.statuses[k] {
			if other, twice := named[ip]; twice {
				t.Fatalf("%s stands in the statuses of %s and of %s", ip, other, k)
			}
			named[ip] = k
		}
	}
	for ip, k := range named {
		if other, ok := assigned[ip]; ok && other != k {
			t.Fatalf("%s was given to %s while it stands in the status of %s", ip, other, k)
		}
	}
	for k, r := range w.requests {
		d, _ := w.ledger.Decision(k)
		if len(d.Assigned)+len(d.Missing) != len(r.Families) {
			t.Fatalf("%s wants %v, has %v and misses %v", k, r.Families, d.Assigned, d.Missing)
		}
		if free := w.freeFor(d.Missing, assigned, named); len(d.Missing) > 0 && !r.AllOrNothing && free > 0 || r.AllOrNothing && free > 0 && free == len(d.Missing) {
			t.Fatalf("%s misses %v although addresses are free: %s", k, d.Missing, d.Message)
		}
	}
}

// freeFor counts the families of which some pool that may serve has a free address.
func (w *world) freeFor(families []Family, assigned, named map[netip.Addr]Key) int {
	count := 0
	for _, f := range families {
		if slices.ContainsFunc(w.pools, func(p Pool) bool {
			return p.AutoAssign && slices.ContainsFunc(p.Ranges, func(r iprange.Range) bool {
				for ip := r.First(); r.Contains(ip); ip = ip.Next() {
					_, taken := assigned[ip]
					_, seen := named[ip]
					if FamilyOf(ip) == f && !taken && !seen {
						return true
					}
				}
				return false
			})
		}) {
			count++
		}
	}
	return count
}

// TestLedgerProperties: whatever comes in whatever order, no address has two holders nor stands in two
// statuses, nobody waits for what is free, and nobody loses what it has to anybody else's change.
func TestLedgerProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{ledger: NewLedger(), requests: map[Key]Request{}, statuses: map[Key][]netip.Addr{}}
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				r := drawRequest(t)
				w.undisturbed(t, r.Service, func() { w.tell(r) })
			},
			"delete": func(t *rapid.T) {
				k := drawRequest(t).Service
				delete(w.requests, k)
				delete(w.statuses, k)
				w.undisturbed(t, k, func() { w.ledger.Delete(k) })
			},
			"write": func(t *rapid.T) {
				k := drawRequest(t).Service
				if _, known := w.requests[k]; known {
					w.undisturbed(t, k, func() { w.write(k) })
				}
			},
			"pools": func(t *rapid.T) {
				w.pools = drawPools(t)
				w.undisturbed(t, Key{}, func() { w.ledger.SetPools(w.pools) })
			},
			"restart": func(t *rapid.T) {
				for k := range w.requests {
					w.write(k)
				}
				w.undisturbed(t, Key{}, w.restart)
			},
			"": w.check,
		})
	})
}

// undisturbed checks that a change of one Service takes nothing from the others.
func (w *world) undisturbed(t *rapid.T, except Key, change func()) {
	before := map[Key][]netip.Addr{}
	for k := range w.requests {
		d, _ := w.ledger.Decision(k)
		before[k] = d.IPs()
	}
	change()
	for k, ips := range before {
		d, known := w.ledger.Decision(k)
		for _, ip := range ips {
			if k != except && known && !slices.Contains(d.IPs(), ip) {
				t.Fatalf("%s lost %s", k, ip)
			}
		}
	}
}

func BenchmarkAssignIntoSlash8With100kHeld(b *testing.B) {
	l := NewLedger()
	r, _ := iprange.Parse("10.0.0.0/8")
	l.SetPools([]Pool{{Name: "lan", Ranges: []iprange.Range{r}, AutoAssign: true}})
	request := func(i int) Request {
		return Request{Service: Key{"ns", fmt.Sprint(i)}, Families: []Family{IPv4}}
	}
	for i := range 100_000 {
		l.Set(request(i))
	}
	b.ReportAllocs()
	for b.Loop() {
		l.Set(request(-1))
		l.Delete(Key{"ns", "-1"})
	}
}
