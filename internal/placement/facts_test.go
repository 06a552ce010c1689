package placement

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/internal/iprange"
	"github.com/lanyard-lb/lanyard/internal/sortedlist"
)

var (
	nic   = Interface{Name: "eth0", Index: 2, MAC: MAC{2}, Up: true, Carrier: true, Ether: true, Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.9/8")}}
	start = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func set(names ...string) map[string]bool {
	s := map[string]bool{}
	for _, n := range names {
		s[n] = true
	}
	return s
}

// facts of three nodes, one pool "lan" and an advertisement for it.
func facts(services ...*Service) Facts {
	r, _ := iprange.Parse("10.0.0.0/16")
	nodes := []string{"n1", "n2", "n3"}
	f := Facts{
		Self: "n1", Now: start, Members: nodes, Known: len(nodes), Reports: map[string]Report{},
		Cluster: &Cluster{
			Nodes:          map[string]Node{},
			Pools:          []Pool{{Name: "lan", Ranges: []iprange.Range{r}}},
			Advertisements: []Advertisement{{Name: "ad", Pools: set("lan"), Nodes: set(nodes...)}},
		},
		Services: sortedlist.Of(services),
	}
	for i, n := range nodes {
		f.Nodes[n], f.Reports[n] = Node{}, Report{Interfaces: []Interface{nicOf(i)}}
	}
	return f
}

func manyServices(n int) []*Service {
	services := make([]*Service, n)
	for i := range services {
		services[i] = &Service{Name: fmt.Sprint("ns/", i), Served: true, IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}}
	}
	return services
}

// anew is the same facts in another place, to be changed.
func anew(f Facts) Facts {
	f.Cluster = cloned(f.Cluster)
	all := f.all()
	for i, s := range all {
		copied := *s
		all[i] = &copied
	}
	f.Services = sortedlist.Of(all)
	return f
}

// all Services.
func (f *Facts) all() []*Service { return slices.Collect(f.Services.All()) }

// service is the i-th of all.
func (f *Facts) service(i int) *Service { return f.all()[i] }

// setService has another one in the place of the i-th.
func (f *Facts) setService(i int, s *Service) {
	all := f.all()
	all[i] = s
	f.Services = sortedlist.Of(all)
}

// audited is an elector whose decisions are compared with those of whole passes.
func audited(t testing.TB, o Options) *Layer2 {
	o.Audit = func(difference string) {
		t.Helper()
		t.Fatal(difference)
	}
	return NewLayer2(o)
}

// cloned is the same cluster in another place, whose nodes and advertisements may be changed.
func cloned(c *Cluster) *Cluster {
	copied := *c
	copied.Nodes, copied.Advertisements = maps.Clone(c.Nodes), slices.Clone(c.Advertisements)
	return &copied
}
