package placement

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/internal/sortedlist"
)

// replaceService puts a Service in the place of the one of its name.
func replaceService(f *Facts, s *Service) {
	f.Services = sortedlist.Edited(f.Services, []sortedlist.Edit[string, *Service]{{Key: s.Name, Now: s}},
		func(s *Service, name string) int { return cmp.Compare(s.Name, name) })
}

// atRest returns the elector of the first of some nodes and the facts it last decided by, with 10,000 addresses
// that have been announced for so long that nothing moves any more. If local, three nodes serve each of them.
func atRest(b *testing.B, nodes int, local bool) (*Layer2, Facts) {
	f := facts(slices.SortedFunc(slices.Values(manyServices(10_000)), byServiceName)...)
	f.Cluster = cloned(f.Cluster)
	f.Members, f.Nodes, f.Reports, f.Known = nil, map[string]Node{}, map[string]Report{}, nodes
	f.Advertisements[0].Nodes = map[string]bool{}
	for i := range nodes {
		name := fmt.Sprintf("n%03d", i)
		f.Members = append(f.Members, name)
		f.Nodes[name], f.Advertisements[0].Nodes[name] = Node{}, true
		f.Reports[name] = Report{Interfaces: []Interface{nicOf(i)}}
	}
	for i, s := range f.all() {
		if s.Local = local; local {
			s.EndpointNodes = set(f.Members[i%nodes], f.Members[(i+1)%nodes], f.Members[(i+7)%nodes])
		}
	}
	f.Self = f.Members[0]
	l, claims := NewLayer2(Options{}), map[string][]*Claim{}
	for v := range l.Decide(f).Verdicts.All() {
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
	if d := l.Decide(f); !d.Wake.IsZero() || len(d.Claims) != len(claims[f.Self]) || verdict(d, 0).Reason != Announced {
		b.Fatalf("it is not at rest: wakes at %s, %d claims", d.Wake, len(d.Claims))
	}
	return l, f
}

// BenchmarkDecide is what a decision costs: the first one; one when everything may be another; and one after an
// event that concerns one address, or none.
func BenchmarkDecide(b *testing.B) {
	for _, on := range []struct {
		nodes int
		local bool
	}{{3, false}, {500, false}, {500, true}} {
		l, f := atRest(b, on.nodes, on.local)
		where := fmt.Sprintf("/%d nodes", on.nodes)
		if on.local {
			where += ", local"
		}
		b.Run("placing"+where, func(b *testing.B) {
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
		for _, event := range []struct {
			name   string
			change func(*Facts)
		}{
			{"whole", func(f *Facts) { f.Cluster = cloned(f.Cluster) }},
			{"nothing", func(*Facts) {}},
			{"service", func(f *Facts) {
				s := wanted(f.service(5000), "")
				s.Served = false
				replaceService(f, s)
			}},
			{"service comes or goes", func(f *Facts) {
				replaceService(f, &Service{Name: "ns/new", Served: true, IPs: []netip.Addr{ip("10.0.200.1")}})
			}},
			{"claim", func(f *Facts) {
				other := f.Members[on.nodes-1]
				claims := slices.Clone(f.Reports[other].Claims)
				c := *claims[len(claims)/2]
				c.Since, claims[len(claims)/2] = start.Add(time.Millisecond), &c
				f.Reports = maps.Clone(f.Reports)
				f.Reports[other] = Report{Interfaces: f.Reports[other].Interfaces, Claims: claims}
			}},
			{"standing", func(f *Facts) {
				f.Standings = slices.Clone(f.Standings)
				s := *f.Standings[len(f.Standings)/2]
				s.PeerAt, f.Standings[len(f.Standings)/2] = start, &s
			}},
			{"pod", func(f *Facts) {
				f.Reports = maps.Clone(f.Reports)
				r := f.Reports[f.Members[1]]
				r.Interfaces = append(slices.Clone(r.Interfaces), Interface{Name: "veth", Up: true, Carrier: true, Ether: true, MAC: MAC{4},
					Subnets: []netip.Prefix{netip.MustParsePrefix("fe80::1/64")}})
				f.Reports[f.Members[1]] = r
			}},
		} {
			b.Run(event.name+where, func(b *testing.B) {
				b.ReportAllocs()
				states := [2]Facts{f, f} // before and after; then it is undone
				event.change(&states[1])
				for i := 0; b.Loop(); i++ {
					l.Decide(states[i%2])
				}
			})
		}
	}
}
