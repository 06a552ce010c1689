package placement

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// atRest returns the elector of the first of some nodes and the facts it last decided by, with 10,000 addresses
// that have been announced for so long that nothing moves any more.
func atRest(b *testing.B, nodes int) (*Layer2, Facts) {
	f := facts(manyServices(10_000)...)
	f.Cluster = cloned(f.Cluster)
	f.Members, f.Nodes, f.Reports, f.Known = nil, map[string]Node{}, map[string]Report{}, nodes
	f.Advertisements[0].Nodes = map[string]bool{}
	for i := range nodes {
		name := fmt.Sprintf("n%03d", i)
		f.Members = append(f.Members, name)
		f.Nodes[name], f.Advertisements[0].Nodes[name] = Node{}, true
		f.Reports[name] = Report{Interfaces: []Interface{nicOf(i)}}
	}
	f.Self = f.Members[0]
	l, claims := NewLayer2(Options{}), map[string][]*Claim{}
	for _, v := range l.Decide(f).Verdicts {
		claims[v.Owner] = append(claims[v.Owner], &Claim{IP: v.IP, Since: start, Phase: Announcing})
	}
	for n, list := range claims {
		f.Reports[n] = Report{Interfaces: f.Reports[n].Interfaces, Claims: list}
	}
	for _, c := range claims[f.Self] {
		f.Standings = append(f.Standings, &Standing{IP: c.IP, Phase: Announcing})
	}
	for range 3 {
		l.Decide(f)
		f.Now = f.Now.Add(lazyAfter)
	}
	if d := l.Decide(f); !d.Wake.IsZero() || len(d.Claims) != len(claims[f.Self]) || d.Verdicts[0].Reason != Announced {
		b.Fatalf("it is not at rest: wakes at %s, %d claims", d.Wake, len(d.Claims))
	}
	return l, f
}

// BenchmarkDecide is what a decision costs: the first one; one when everything may be another; and one after an
// event that concerns one address.
func BenchmarkDecide(b *testing.B) {
	for _, nodes := range []int{3, 500} {
		l, f := atRest(b, nodes)
		run := func(name string, event func(i int)) {
			b.Run(fmt.Sprintf("%s/%d nodes", name, nodes), func(b *testing.B) {
				b.ReportAllocs()
				l.Decide(f)
				for i := 0; b.Loop(); i++ {
					event(i)
					l.Decide(f)
				}
			})
		}
		b.Run(fmt.Sprintf("placing/%d nodes", nodes), func(b *testing.B) {
			b.ReportAllocs()
			bare := f
			bare.Reports = map[string]Report{}
			for n, r := range f.Reports {
				bare.Reports[n] = Report{Interfaces: r.Interfaces}
			}
			for b.Loop() {
				NewLayer2(Options{}).Decide(bare)
			}
		})
		run("whole", func(int) { f.Cluster = cloned(f.Cluster) })
		run("nothing", func(int) {})
		run("event", func(i int) {
			f.Services = slices.Clone(f.Services)
			f.Services[5000] = wanted(f.Services[5000], "")
			f.Services[5000].Served = i%2 == 0
		})
		run("coming and going", func(i int) {
			if f.Services = slices.Clone(f.Services); i%2 == 0 {
				s := &Service{Name: "ns/new", Served: true, IPs: []netip.Addr{ip("10.0.0.0").Next()}, Advertisements: set("none")}
				s.IPs[0] = ip("10.0.200.1")
				f.Services = append(f.Services, s)
			} else {
				f.Services = f.Services[:10_000]
			}
		})
		other := f.Members[nodes-1]
		claims := f.Reports[other].Claims
		run("claim", func(i int) {
			changed := slices.Clone(claims)
			c := *changed[len(changed)/2]
			c.Since = start.Add(time.Duration(i) * time.Millisecond)
			changed[len(changed)/2] = &c
			f.Reports = maps.Clone(f.Reports)
			f.Reports[other] = Report{Interfaces: f.Reports[other].Interfaces, Claims: changed}
		})
		standings := f.Standings
		run("standing", func(i int) {
			f.Standings = slices.Clone(standings)
			s := *standings[len(standings)/2]
			s.PeerAt = start.Add(time.Duration(i) * time.Millisecond)
			f.Standings[len(f.Standings)/2] = &s
		})
	}
}
