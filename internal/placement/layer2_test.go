package placement

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/lanyard-lb/lanyard/internal/iprange"
)

var nic = Interface{Name: "eth0", Index: 2, MAC: MAC{2}, Up: true, Carrier: true, Ether: true}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func set(names ...string) map[string]bool {
	s := map[string]bool{}
	for _, n := range names {
		s[n] = true
	}
	return s
}

// facts of three nodes, one pool "lan" and an advertisement for it.
func facts(services ...Service) Facts {
	r, _ := iprange.Parse("10.0.0.0/16")
	return Facts{
		Self:           "n1",
		Interfaces:     []Interface{nic},
		Members:        []string{"n1", "n2", "n3"},
		Nodes:          map[string]Node{"n1": {}, "n2": {}, "n3": {}},
		Pools:          []Pool{{Name: "lan", Ranges: []iprange.Range{r}}},
		Advertisements: []Advertisement{{Name: "ad", Pools: set("lan"), Nodes: set("n1", "n2", "n3")}},
		Services:       services,
	}
}

func TestVerdicts(t *testing.T) {
	web := Service{Name: "default/web", IPs: []netip.Addr{ip("10.0.0.1")}}
	local := Service{Name: "default/local", IPs: web.IPs, Local: true}
	on := func(s Service, nodes ...string) Service { s.EndpointNodes = set(nodes...); return s }
	for _, tc := range []struct {
		name       string
		services   []Service
		change     func(*Facts)
		owner      string
		reason     Reason
		interfaces []string
	}{
		{name: "any of the three", services: []Service{web}, owner: "any", reason: Announced},
		{name: "the only member", services: []Service{web}, change: func(f *Facts) { f.Members = []string{"n1"} },
			owner: "n1", reason: Announced, interfaces: []string{"eth0"}},
		{name: "no advertisement at all", services: []Service{web}, change: func(f *Facts) { f.Advertisements = nil },
			reason: NoAdvertisement},
		{name: "an advertisement of another pool", services: []Service{web},
			change: func(f *Facts) { f.Advertisements[0].Pools = set("other") }, reason: NoAdvertisement},
		{name: "an address that no pool contains stays announced", services: []Service{{Name: "a/b", IPs: []netip.Addr{ip("192.168.7.7")}}},
			owner: "any", reason: Announced},
		{name: "only nodes of the advertisement", services: []Service{web},
			change: func(f *Facts) { f.Advertisements[0].Nodes = set("n3") }, owner: "n3", reason: Announced},
		{name: "dead nodes do not announce", services: []Service{web},
			change: func(f *Facts) { f.Advertisements[0].Nodes, f.Members = set("n3"), []string{"n1"} }, reason: NoEligibleNode},
		{name: "nor nodes that the API server does not know", services: []Service{web},
			change: func(f *Facts) { f.Nodes = map[string]Node{"n2": {}} }, owner: "n2", reason: Announced},
		{name: "nor excluded ones", services: []Service{web},
			change: func(f *Facts) { f.Nodes["n1"], f.Nodes["n2"] = Node{Excluded: "label"}, Node{Excluded: "label"} }, owner: "n3", reason: Announced},
		{name: "Local goes where an endpoint is", services: []Service{on(local, "n2")}, owner: "n2", reason: Announced},
		{name: "every sharer must be served", services: []Service{on(local, "n1", "n2"), on(Service{Name: "a/c", IPs: web.IPs, Local: true}, "n2", "n3")},
			owner: "n2", reason: Announced},
		{name: "an endpoint without a node counts anywhere", services: []Service{{Name: "a/b", IPs: web.IPs, Local: true, EndpointAnywhere: true}},
			owner: "any", reason: Announced},
		{name: "Local without endpoints is announced all the same", services: []Service{local}, owner: "any", reason: NoEndpoint},
		{name: "patterns of interfaces", services: []Service{web}, change: func(f *Facts) {
			f.Members = []string{"n1"}
			f.Interfaces = append(f.Interfaces, Interface{Name: "eth1", MAC: MAC{2}, Up: true, Carrier: true, Ether: true},
				Interface{Name: "wlan0", MAC: MAC{2}, Up: true, Carrier: true, Ether: true})
			f.Advertisements[0].Interfaces = []string{"eth*"}
		}, owner: "n1", reason: Announced, interfaces: []string{"eth0", "eth1"}},
		{name: "no carrier, no interface", services: []Service{web}, change: func(f *Facts) {
			f.Members = []string{"n1"}
			f.Interfaces[0].Carrier = false
		}, owner: "n1", reason: NoInterface},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := facts(tc.services...)
			if tc.change != nil {
				tc.change(&f)
			}
			v := Layer2(f)[0]
			if v.Reason != tc.reason || tc.owner != "any" && v.Owner != tc.owner || tc.owner == "any" && !slices.Contains(f.Members, v.Owner) {
				t.Errorf("owner %q (%s), want %q (%s)", v.Owner, v.Reason, tc.owner, tc.reason)
			}
			if tc.owner != "any" && !slices.Equal(v.Interfaces, tc.interfaces) {
				t.Errorf("interfaces %v, want %v", v.Interfaces, tc.interfaces)
			}
		})
	}
}

func manyServices(n int) []Service {
	services := make([]Service, n)
	for i := range services {
		services[i] = Service{Name: fmt.Sprint("ns/", i), IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}}
	}
	return services
}

func owners(f Facts) map[netip.Addr]string {
	o := map[netip.Addr]string{}
	for _, v := range Layer2(f) {
		o[v.IP] = v.Owner
	}
	return o
}

// TestOwnersProperties: every node names the same owner, whatever the order of what it knows; a node that
// leaves moves only what it owned; one that joins takes only for itself.
func TestOwnersProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := facts(manyServices(rapid.IntRange(1, 60).Draw(t, "services"))...)
		names := rapid.SliceOfNDistinct(rapid.StringMatching("[a-z]{1,4}"), 2, 8, rapid.ID[string]).Draw(t, "nodes")
		f.Members, f.Nodes, f.Advertisements[0].Nodes = names, map[string]Node{}, set(names...)
		for _, n := range names {
			f.Nodes[n] = Node{}
		}
		before := owners(f)

		other := f
		other.Self = names[1]
		other.Members = rapid.Permutation(names).Draw(t, "order")
		other.Services = rapid.Permutation(f.Services).Draw(t, "service order")
		for at, owner := range owners(other) {
			if owner != before[at] {
				t.Fatalf("%s: %s says %s, %s says %s", at, f.Self, before[at], other.Self, owner)
			}
		}

		gone := f
		gone.Members = names[1:]
		for at, owner := range owners(gone) {
			if before[at] != names[0] && owner != before[at] {
				t.Fatalf("%s moved from %s to %s when %s left", at, before[at], owner, names[0])
			}
		}
	})
}

func TestOwnersAreSpread(t *testing.T) {
	count := map[string]int{}
	for _, owner := range owners(facts(manyServices(3000)...)) {
		count[owner]++
	}
	for _, n := range []string{"n1", "n2", "n3"} {
		if count[n] < 900 || count[n] > 1100 {
			t.Errorf("%s owns %d of 3000 addresses, want about 1000: %v", n, count[n], count)
		}
	}
}

func BenchmarkLayer2(b *testing.B) {
	f := facts(manyServices(10_000)...)
	f.Members, f.Nodes, f.Advertisements[0].Nodes = nil, map[string]Node{}, map[string]bool{}
	for i := range 500 {
		name := fmt.Sprint("node-", i)
		f.Members, f.Nodes[name], f.Advertisements[0].Nodes[name] = append(f.Members, name), Node{}, true
	}
	for b.Loop() {
		Layer2(f)
	}
}
