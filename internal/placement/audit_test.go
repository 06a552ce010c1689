package placement

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/internal/iprange"
	"github.com/lanyard-lb/lanyard/internal/sortedlist"
)

// world is the facts of one node, n0, which change at random, likely or not.
type world struct {
	chance *rand.Rand
	facts  Facts
	strays bool                  // there may be addresses that no subnet contains
	rounds map[netip.Addr]uint64 // that the announcer has seen
}

var worldNodes = []string{"n0", "n1", "n2", "n3", "n4", "n5"}

func newWorld(seed uint64) *world {
	w := &world{chance: rand.New(rand.NewPCG(seed, 3)), rounds: map[netip.Addr]uint64{}}
	w.facts = Facts{Cluster: &Cluster{Nodes: map[string]Node{}}, Self: "n0", Now: start, Members: worldNodes, Known: len(worldNodes), Reports: map[string]Report{}}
	for i, n := range worldNodes {
		w.facts.Nodes[n] = Node{}
		w.facts.Reports[n] = Report{Interfaces: []Interface{w.nic(i, "eth0")}}
	}
	w.strays = w.likely(3)
	w.configure()
	for range 12 {
		w.service()
	}
	if w.likely(3) {
		w.quarantine()
	}
	return w
}

// likely is true in one of n cases.
func (w *world) likely(n int) bool { return w.chance.IntN(n) == 0 }

// some of the nodes: most of them, or few.
func (w *world) some() map[string]bool {
	nodes, rare := map[string]bool{}, w.likely(2)
	for _, n := range worldNodes {
		if w.likely(3) == rare {
			nodes[n] = true
		}
	}
	return nodes
}

func one[T any](w *world, list ...T) T { return list[w.chance.IntN(len(list))] }

func (w *world) ip() netip.Addr {
	if w.likely(30) {
		return ip("10.9.0.2") // as a pod has it
	}
	if w.likely(6) {
		return netip.MustParseAddr(fmt.Sprintf("fd00::%d", w.chance.IntN(6)))
	}
	third := 2
	if w.strays {
		third = 3
	}
	return netip.AddrFrom4([4]byte{10, byte(w.chance.IntN(third)), 0, byte(w.chance.IntN(8))})
}

func (w *world) nic(node int, name string) Interface {
	i := nicOf(node)
	i.Name, i.MAC[1], i.Up, i.Carrier = name, name[len(name)-1], !w.likely(8), !w.likely(8)
	i.Subnets = nil
	for _, s := range []string{"10.0.0.9/16", "10.0.0.9/24", "10.1.0.9/16", "10.0.0.3/32", "fd00::9/64", "fe80::1/64"} {
		if w.likely(2) {
			i.Subnets = append(i.Subnets, netip.MustParsePrefix(s))
		}
	}
	return i
}

// configure makes up pools, which may overlap, and advertisements.
func (w *world) configure() {
	c := cloned(w.facts.Cluster)
	c.Pools, c.Advertisements = nil, nil
	for i, text := range []string{"10.0.0.0-10.0.0.5", "10.0.0.4/30", "10.1.0.0/16", "fd00::/64"} {
		if r, err := iprange.Parse(text); err == nil && !w.likely(4) {
			c.Pools = append(c.Pools, Pool{Name: fmt.Sprint("pool", i), Ranges: []iprange.Range{r}})
		}
	}
	for i := range 1 + w.chance.IntN(3) {
		ad := Advertisement{Name: fmt.Sprint("ad", i), Pools: map[string]bool{}, Nodes: w.some(), IgnoreSubnets: w.strays && w.likely(6), Withdraw: w.likely(4)}
		for _, p := range c.Pools {
			ad.Pools[p.Name] = !w.likely(4)
		}
		if w.likely(8) {
			ad.Interfaces = []string{one(w, "eth*", "eth0", "veth*")}
		}
		for w.likely(3) {
			ad.Preferred = append(ad.Preferred, Preference{1 + w.chance.IntN(3), w.some()})
		}
		c.Advertisements = append(c.Advertisements, ad)
	}
	w.facts.Cluster = c
}

// service has a Service come, go or change.
func (w *world) service() {
	f := &w.facts
	all := f.all()
	defer func() { f.Services = sortedlist.Of(all) }()
	if len(all) > 8 && w.likely(3) {
		i := w.chance.IntN(len(all))
		all = slices.Delete(all, i, i+1)
		return
	}
	s := &Service{Name: fmt.Sprint("ns/", w.chance.IntN(25)), Served: !w.likely(5), Local: w.likely(3), EndpointAnywhere: w.likely(8)}
	i, known := slices.BinarySearchFunc(all, s.Name, func(s *Service, name string) int { return cmp.Compare(s.Name, name) })
	if known && !w.likely(3) {
		s.IPs, s.Advertisements = all[i].IPs, all[i].Advertisements
	} else {
		for range 1 + w.chance.IntN(2) {
			if ip := w.ip(); !slices.Contains(s.IPs, ip) {
				s.IPs = append(s.IPs, ip)
			}
		}
		if w.likely(4) {
			s.Advertisements = map[string]bool{fmt.Sprint("ad", w.chance.IntN(3)): true}
		}
	}
	if w.likely(6) {
		s.MoveTo = one(w, worldNodes...)
	}
	if s.Local {
		s.EndpointNodes, s.FadingNodes = w.some(), map[string]bool{}
		for _, n := range worldNodes {
			if s.EndpointNodes[n] && w.likely(3) {
				s.FadingNodes[n] = true
			}
		}
	}
	if known {
		all[i] = s
	} else {
		all = slices.Insert(all, i, s)
	}
}

// tell has another node claim something else.
func (w *world) tell() {
	node := one(w, worldNodes[1:]...)
	r, told := w.facts.Reports[node]
	if !told {
		return
	}
	r.Claims = slices.Clone(r.Claims)
	ip := w.ip()
	if w.likely(2) && w.facts.Services.Len() > 0 {
		ip = one(w, w.facts.all()...).IPs[0]
	}
	i, has := slices.BinarySearchFunc(r.Claims, ip, func(c *Claim, ip netip.Addr) int { return c.IP.Compare(ip) })
	switch {
	case has && w.likely(3):
		r.Claims = slices.Delete(r.Claims, i, i+1)
	case has:
		r.Claims[i] = w.claim(ip)
	case w.likely(20): // it is not as it should be
		r.Claims = append(r.Claims, w.claim(ip))
	default:
		r.Claims = slices.Insert(r.Claims, i, w.claim(ip))
	}
	w.report(node, r)
}

func (w *world) report(node string, r Report) {
	w.facts.Reports = maps.Clone(w.facts.Reports)
	w.facts.Reports[node] = r
}

func (w *world) claim(ip netip.Addr) *Claim {
	c := &Claim{IP: ip, Since: start.Add(time.Duration(w.chance.IntN(100)) * time.Second), Phase: one(w, Pending, Probing, Announcing, Announcing, Announcing, Taken), Weak: w.likely(8)}
	if w.likely(8) {
		c.Rival = MAC{9}
	}
	if w.likely(5) {
		c.Successor = one(w, worldNodes...)
	}
	if w.likely(8) {
		c.After = one(w, worldNodes...)
	}
	return c
}

// settle has the other nodes claim what they ought to, as n0 sees it.
func (w *world) settle(d Decision) {
	for _, node := range worldNodes[1:] {
		r, told := w.facts.Reports[node]
		if !told {
			continue
		}
		var claims []*Claim
		for v := range d.Verdicts.All() {
			if v.Owner == node {
				c := v.Claim
				if c.IP = v.IP; c.Since.IsZero() || c.Successor != "" {
					c.Since, c.Successor = w.facts.Now.UTC().Truncate(time.Millisecond), ""
				}
				c.Phase, c.Rival, c.Weak = Announcing, MAC{}, false
				claims = append(claims, &c)
			}
		}
		if !sameClaims(claims, r.Claims) {
			r.Claims = claims
			w.report(node, r)
		}
	}
}

func sameClaims(a, b []*Claim) bool {
	return slices.EqualFunc(a, b, func(x, y *Claim) bool { return *x == *y })
}

// announce is the announcer of n0: what it is told to announce stands well, or in any way.
func (w *world) announce(d Decision, well bool) {
	var list []*Standing
	for _, a := range d.Announcements {
		i, had := slices.BinarySearchFunc(w.facts.Standings, a.IP, func(s *Standing, ip netip.Addr) int { return s.IP.Compare(ip) })
		s := Standing{IP: a.IP, Phase: Probing}
		if had && w.rounds[a.IP] == a.Round {
			s = *w.facts.Standings[i]
		}
		w.rounds[a.IP] = a.Round
		switch {
		case a.Probe == ProbeOnly:
			if well || w.likely(2) {
				s.Phase = one(w, Probing, Free, Free, Taken)
			}
		case well || w.likely(2):
			s.Phase = Announcing
		case w.likely(8):
			s.Phase = one(w, Pending, Probing, Taken)
		}
		if !well && w.likely(16) || s.Phase == Taken && s.Rival == (MAC{}) {
			s.Rival, s.RivalOn, s.RivalAt = one(w, MAC{9}, w.mac()), "eth0", w.facts.Now
		}
		if w.likely(10) {
			s.Peer, s.PeerAt = w.mac(), w.facts.Now
		}
		list = append(list, &s)
	}
	if !slices.EqualFunc(list, w.facts.Standings, func(a, b *Standing) bool { return *a == *b }) {
		w.facts.Standings = list
	}
}

// mac of some node.
func (w *world) mac() MAC {
	for _, n := range worldNodes {
		if r := w.facts.Reports[n]; len(r.Interfaces) > 0 && w.likely(3) {
			return r.Interfaces[0].MAC
		}
	}
	return MAC{8}
}

func (w *world) quarantine() {
	w.facts.Cluster = cloned(w.facts.Cluster)
	w.facts.Quarantined = nil
	for w.likely(2) {
		w.facts.Quarantined = append(w.facts.Quarantined, w.ip())
	}
}

// upheaval changes something that concerns all addresses.
func (w *world) upheaval() {
	f := &w.facts
	switch w.chance.IntN(7) {
	case 0:
		w.configure()
	case 1:
		f.Cluster = cloned(f.Cluster)
		f.Nodes[one(w, worldNodes...)] = one(w, Node{}, Node{}, Node{Excluded: "x"}, Node{Cordoned: true}, Node{NotReadySince: f.Now.Add(-30 * time.Second)})
	case 2, 3:
		node := w.chance.IntN(len(worldNodes))
		if r, told := f.Reports[worldNodes[node]]; told {
			r.Interfaces = []Interface{w.nic(node, "eth0")}
			if w.likely(2) {
				r.Interfaces = append(r.Interfaces, w.nic(node, "eth1"))
			}
			r.Leaving = w.likely(8)
			w.report(worldNodes[node], r)
		}
	case 4:
		node := w.chance.IntN(len(worldNodes)-1) + 1
		name := worldNodes[node]
		if f.Members = slices.Clone(f.Members); slices.Contains(f.Members, name) {
			f.Members = slices.DeleteFunc(f.Members, func(m string) bool { return m == name })
			f.Reports = maps.Clone(f.Reports)
			delete(f.Reports, name)
		} else {
			f.Members = append(f.Members, name)
			slices.Sort(f.Members)
			if !w.likely(3) {
				w.report(name, Report{Interfaces: []Interface{w.nic(node, "eth0")}})
			}
		}
	case 5:
		w.quarantine()
	case 6:
		f.Leaving = w.likely(8)
	}
}

// pods has interfaces of pods come and go on a node.
func (w *world) pods() {
	node := w.chance.IntN(len(worldNodes))
	r, told := w.facts.Reports[worldNodes[node]]
	if !told {
		return
	}
	r.Interfaces = slices.DeleteFunc(slices.Clone(r.Interfaces), func(i Interface) bool { return i.Name[0] == 'v' && w.likely(2) })
	if w.likely(2) {
		i := w.nic(node, fmt.Sprint("veth", w.chance.IntN(3)))
		if i.Subnets = []netip.Prefix{netip.MustParsePrefix("fe80::1/64")}; w.likely(2) {
			i.Subnets = append(i.Subnets, netip.PrefixFrom(one(w, ip("10.9.0.1"), ip("10.9.0.2"), ip("10.0.0.6")), 32), netip.MustParsePrefix("10.9.0.0/30"))
		}
		if !slices.ContainsFunc(r.Interfaces, func(o Interface) bool { return o.Name == i.Name }) {
			r.Interfaces = append(r.Interfaces, i)
		}
	}
	slices.SortFunc(r.Interfaces, func(a, b Interface) int { return cmp.Compare(a.Name, b.Name) })
	w.report(worldNodes[node], r)
}

// TestWholePassesAgree: whatever happens, a decision is the one that comes of looking at everything anew. Mostly,
// little happens, so that there is something at rest.
func TestWholePassesAgree(t *testing.T) {
	t.Parallel()
	partial, rested := 0, 0
	for seed := *firstSeed; seed < *firstSeed+5**seeds; seed++ {
		w := newWorld(seed)
		what := fmt.Sprint("seed ", seed)
		o := Options{Rebalance: Rebalance(w.chance.IntN(3)), NotReadyAfter: one(w, 0, time.Minute), Recheck: one(w, 0, 30*time.Second)}
		o.Audit = func(difference string) { t.Fatalf("%s: %s", what, difference) }
		l := NewLayer2(o)
		var d Decision
		for step := range 150 {
			what = fmt.Sprintf("seed %d, step %d", seed, step)
			w.facts.Now = w.facts.Now.Add(one(w, time.Millisecond, 100*time.Millisecond, 500*time.Millisecond, time.Second, 10*time.Second, time.Minute))
			if w.likely(40) {
				w.facts.Now = w.facts.Now.Add(one(w, 6*time.Minute, 50*time.Minute, 2*time.Hour))
			} else if !d.Wake.IsZero() && w.likely(3) {
				w.facts.Now = d.Wake
			}
			calm := step/25%2 == 1 // all is well, and goes its way
			switch {
			case calm && w.likely(3), !calm && w.likely(8):
				w.settle(d)
			case w.likely(3):
				w.service()
			case calm:
			case w.likely(20):
				w.upheaval()
			case w.likely(2):
				w.tell()
			}
			if w.likely(6) {
				w.pods()
			}
			if w.likely(10) {
				w.facts.Unheard = !w.facts.Unheard
			}
			w.facts.Stood = w.likely(100)
			w.announce(d, calm)
			before := d
			d = l.Decide(w.facts)
			if seen := l.turn; seen > 0 && len(l.work) < len(l.addresses) {
				partial++
			}
			if len(l.addresses) > 0 && len(l.active) == 0 {
				rested++
			}
			checkSharing(t, before, d)
		}
	}
	t.Logf("%d passes looked at some addresses, %d left all at rest", partial, rested)
	if partial < 20*int(*seeds) || rested < 20*int(*seeds) {
		t.Errorf("only %d passes looked at some addresses, and %d left all at rest", partial, rested)
	}
}

// verdict is the i-th of a decision.
func verdict(d Decision, i int) *Verdict { return slices.Collect(d.Verdicts.All())[i] }

// checkSharing checks that what is the same in two decisions is the same slice, and the same pointer.
func checkSharing(t *testing.T, before, now Decision) {
	t.Helper()
	old := map[netip.Addr]*Verdict{}
	for v := range before.Verdicts.All() {
		old[v.IP] = v
	}
	equal := before.Verdicts.Len() == now.Verdicts.Len()
	for v := range now.Verdicts.All() {
		was := old[v.IP]
		equal = equal && v == was
		if was != nil && was != v && was.same(v) {
			t.Fatalf("another pointer for the same verdict %+v", v)
		}
	}
	if equal && !before.Verdicts.Same(now.Verdicts) {
		t.Fatal("another slice for the same verdicts")
	}
	if sameClaims(before.Claims, now.Claims) && !same(before.Claims, now.Claims) {
		t.Fatal("another slice for the same claims")
	}
	if slices.EqualFunc(before.Announcements, now.Announcements, (*Announcement).same) && !same(before.Announcements, now.Announcements) {
		t.Fatal("another slice for the same announcements")
	}
}

// TestPartialPassesWakeForLateNodes: that a node will be late soon is not forgotten over an event, and concerns what was at rest.
func TestPartialPassesWakeForLateNodes(t *testing.T) {
	f, l := facts(manyServices(3)...), audited(t, Options{Rebalance: RebalanceOff, NotReadyAfter: time.Minute})
	f.Nodes["n2"] = Node{NotReadySince: start}
	f.Reports["n2"] = Report{Interfaces: f.Reports["n2"].Interfaces, Claims: []*Claim{
		{IP: f.service(0).IPs[0], Since: start, Phase: Announcing}, {IP: f.service(1).IPs[0], Since: start, Phase: Announcing}, {IP: f.service(2).IPs[0], Since: start, Phase: Announcing}}}
	l.Decide(f)
	f.Now = f.Now.Add(30 * time.Second)
	l.Decide(f)
	f.setService(0, wanted(f.service(0), ""))
	if d := l.Decide(f); !d.Wake.Equal(start.Add(time.Minute)) || len(l.work) != 1 {
		t.Errorf("looks at %d addresses and wakes at %s; want one, and when n2 has not been ready for a minute", len(l.work), d.Wake)
	}
	f.Now = start.Add(time.Minute)
	if d := l.Decide(f); d.Wake.IsZero() || verdict(d, 1).Owner != "n2" || l.addresses[1].memory.stranded.IsZero() {
		t.Errorf("the owner of %s is late, and nobody minds", verdict(d, 1).IP)
	}
}

// TestSharedGroups: addresses that the same nodes may own are counted together, also if one was narrowed down to
// these nodes before.
func TestSharedGroups(t *testing.T) {
	f, l := facts(manyServices(2)...), audited(t, Options{})
	f.Nodes["n3"] = Node{Cordoned: true}
	local := *f.service(0)
	local.Local, local.EndpointNodes = true, set("n1", "n2")
	plain := f.service(0)
	f.setService(0, &local)
	l.Decide(f)
	f.setService(0, plain)
	l.Decide(f)
	if a, b := l.addresses[0], l.addresses[1]; a.group != b.group || len(a.group.nodes) != 2 {
		t.Errorf("%s and %s are not counted together", a.ip, b.ip)
	}
}

// TestOneEventLooksAtOneAddress: whatever concerns one address of many has only this one looked at.
func TestOneEventLooksAtOneAddress(t *testing.T) {
	f := facts(manyServices(100)...)
	l := audited(t, Options{Rebalance: RebalanceOff})
	claims := map[string][]*Claim{}
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
		f.Now = f.Now.Add(time.Second)
	}
	for _, tc := range []struct {
		what   string
		same   bool // the verdicts are
		change func()
	}{
		{"a Service", false, func() {
			f.setService(50, &Service{Name: f.service(50).Name, IPs: f.service(50).IPs})
		}},
		{"a Service that goes", false, func() { f.Services = sortedlist.Of(slices.Delete(f.all(), 20, 21)) }},
		{"a claim", false, func() {
			list := slices.Clone(f.Reports["n2"].Claims)
			c := *list[7]
			c.Rival, list[7] = MAC{7}, &c
			f.Reports["n2"] = Report{Interfaces: f.Reports["n2"].Interfaces, Claims: list}
		}},
		{"a standing", true, func() {
			f.Standings = slices.Clone(f.Standings)
			s := *f.Standings[3]
			s.Peer, s.PeerAt, f.Standings[3] = MAC{9}, f.Now, &s
		}},
		{"nothing, in new slices and maps", true, func() {
			f.Services, f.Standings, f.Reports = sortedlist.Of(f.all()), slices.Clone(f.Standings), maps.Clone(f.Reports)
			for n, r := range f.Reports {
				r.Interfaces, r.Claims = slices.Clone(r.Interfaces), slices.Clone(r.Claims)
				f.Reports[n] = r
			}
		}},
		{"a pod that comes", true, func() {
			r := f.Reports["n3"]
			r.Interfaces = append(slices.Clone(r.Interfaces), Interface{Name: "veth0", MAC: MAC{5}, Up: true, Carrier: true, Ether: true,
				Subnets: []netip.Prefix{netip.MustParsePrefix("10.244.0.1/32"), netip.MustParsePrefix("fe80::1/64")}})
			f.Reports["n3"] = r
		}},
	} {
		tc.change()
		before := l.told
		d := l.Decide(f)
		if len(l.work) > 1 {
			t.Errorf("%s: %d addresses are looked at", tc.what, len(l.work))
		}
		if got := before.verdicts.Same(d.Verdicts); got != tc.same {
			t.Errorf("%s: the same verdicts: %v, want %v", tc.what, got, tc.same)
		}
		f.Now = f.Now.Add(time.Second)
		l.Decide(f)
	}
}
