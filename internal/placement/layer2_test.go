package placement

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/internal/sortedlist"
)

// settled asks the electors of all members in turn, until what they claim does not change any more, and
// returns what the first one says then.
func settled(t *testing.T, f Facts, o Options) Decision {
	t.Helper()
	electors := map[string]*Layer2{}
	var first Decision
	for range 10 {
		changed := false
		for _, n := range slices.Backward(f.Members) {
			if electors[n] == nil {
				electors[n] = audited(t, o)
			}
			f.Self, f.Standings = n, nil
			for _, c := range f.Reports[n].Claims {
				f.Standings = append(f.Standings, &Standing{IP: c.IP, Phase: Announcing})
			}
			first = electors[n].Decide(f)
			r := f.Reports[n]
			changed = changed || !sameClaims(r.Claims, first.Claims)
			r.Claims = nil
			for _, c := range first.Claims {
				announced := *c
				announced.Phase = Announcing
				r.Claims = append(r.Claims, &announced)
			}
			f.Reports[n] = r
		}
		f.Now = f.Now.Add(time.Second)
		if !changed {
			break
		}
	}
	return first
}

func TestVerdicts(t *testing.T) {
	web := &Service{Name: "default/web", IPs: []netip.Addr{ip("10.0.0.1")}, Served: true}
	local := &Service{Name: "default/local", IPs: web.IPs, Local: true, Served: true}
	on := func(s *Service, nodes ...string) *Service { c := *s; c.EndpointNodes = set(nodes...); return &c }
	fading := func(s *Service, nodes ...string) *Service { c := *s; c.FadingNodes = set(nodes...); return &c }
	only := func(f *Facts, nodes ...string) {
		f.Members = nodes
	}
	addNIC := func(f *Facts, node string, i Interface) {
		r := f.Reports[node]
		r.Interfaces = append(slices.Clone(r.Interfaces), i)
		f.Reports[node] = r
	}
	changeNIC := func(f *Facts, node string, change func(*Interface)) {
		r := f.Reports[node]
		r.Interfaces = slices.Clone(r.Interfaces)
		change(&r.Interfaces[0])
		f.Reports[node] = r
	}
	for _, tc := range []struct {
		name       string
		services   []*Service
		change     func(*Facts)
		owner      string
		reason     Reason
		interfaces []string
	}{
		{name: "any of the three", services: []*Service{web}, owner: "any", reason: Announced},
		{name: "the only member", services: []*Service{web}, change: func(f *Facts) { only(f, "n1") },
			owner: "n1", reason: Announced, interfaces: []string{"eth0"}},
		{name: "no advertisement at all", services: []*Service{web}, change: func(f *Facts) { f.Advertisements = nil },
			reason: NoAdvertisement},
		{name: "an advertisement of another pool", services: []*Service{web},
			change: func(f *Facts) { f.Advertisements[0].Pools = set("other") }, reason: NoAdvertisement},
		{name: "an advertisement for other Services", services: []*Service{{Name: "a/b", IPs: web.IPs, Advertisements: set("other")}},
			reason: NoAdvertisement},
		{name: "an advertisement for one of those that share", owner: "any", reason: Announced, services: []*Service{
			{Name: "a/b", IPs: web.IPs, Advertisements: set("other"), Served: true}, web}},
		{name: "an address that no pool contains stays announced", services: []*Service{{Name: "a/b", IPs: []netip.Addr{ip("10.168.7.7")}, Served: true}},
			owner: "any", reason: Announced},
		{name: "only nodes of the advertisement", services: []*Service{web},
			change: func(f *Facts) { f.Advertisements[0].Nodes = set("n3") }, owner: "n3", reason: Announced},
		{name: "dead nodes do not announce", services: []*Service{web},
			change: func(f *Facts) { f.Advertisements[0].Nodes = set("n3"); only(f, "n1") }, reason: NoEligibleNode},
		{name: "nor nodes that the API server does not know", services: []*Service{web},
			change: func(f *Facts) { f.Nodes = map[string]Node{"n2": {}} }, owner: "n2", reason: Announced},
		{name: "nor excluded ones", services: []*Service{web},
			change: func(f *Facts) { f.Nodes["n1"], f.Nodes["n2"] = Node{Excluded: "label"}, Node{Excluded: "label"} }, owner: "n3", reason: Announced},
		{name: "nor those that are not ready for long", services: []*Service{web},
			change: func(f *Facts) {
				for _, n := range []string{"n1", "n2"} {
					f.Nodes[n] = Node{NotReadySince: start.Add(-time.Hour)}
				}
			}, owner: "n3", reason: Announced},
		{name: "nor cordoned ones", services: []*Service{web},
			change: func(f *Facts) { f.Nodes["n1"], f.Nodes["n2"] = Node{Cordoned: true}, Node{Cordoned: true} }, owner: "n3", reason: Announced},
		{name: "unless nobody else is there", services: []*Service{web},
			change: func(f *Facts) {
				only(f, "n1")
				f.Nodes["n1"] = Node{NotReadySince: start.Add(-time.Hour)}
			}, owner: "n1", reason: Announced, interfaces: []string{"eth0"}},
		{name: "preferred nodes come first", services: []*Service{web}, change: func(f *Facts) {
			f.Advertisements[0].Preferred = []Preference{{10, set("n2", "n3")}, {1, set("n3")}}
		}, owner: "n3", reason: Announced},
		{name: "the weights of all advertisements add up", services: []*Service{web}, change: func(f *Facts) {
			f.Advertisements[0].Preferred = []Preference{{10, set("n2")}, {8, set("n3")}}
			f.Advertisements = append(f.Advertisements, Advertisement{Name: "more", Pools: set("lan"), Nodes: set("n3"), Preferred: []Preference{{3, set("n3")}}})
		}, owner: "n3", reason: Announced},
		{name: "where the owner of the Service wants it", services: []*Service{{Name: "a/b", IPs: web.IPs, MoveTo: "n2", Served: true}}, owner: "n2", reason: Announced},
		{name: "unless that node may not", services: []*Service{{Name: "a/b", IPs: web.IPs, MoveTo: "n2", Served: true}},
			change: func(f *Facts) { f.Advertisements[0].Nodes = set("n3") }, owner: "n3", reason: Announced},
		{name: "Local goes where an endpoint is", services: []*Service{on(local, "n2")}, owner: "n2", reason: Announced},
		{name: "also when that node is cordoned", services: []*Service{on(local, "n2")},
			change: func(f *Facts) { f.Nodes["n2"] = Node{Cordoned: true} }, owner: "n2", reason: Announced},
		{name: "not where the endpoints terminate", services: []*Service{fading(on(local, "n2", "n3"), "n2")}, owner: "n3", reason: Announced},
		{name: "unless they do so everywhere", services: []*Service{fading(on(local, "n2"), "n2")}, owner: "n2", reason: Announced},
		{name: "rather where it is ready than where it terminates, cordoned or not", services: []*Service{fading(on(local, "n2", "n3"), "n2")},
			change: func(f *Facts) { f.Nodes["n3"] = Node{Cordoned: true} }, owner: "n3", reason: Announced},
		{name: "every sharer must be served", services: []*Service{on(local, "n1", "n2"), on(&Service{Name: "a/c", IPs: web.IPs, Local: true, Served: true}, "n2", "n3")},
			owner: "n2", reason: Announced},
		{name: "an endpoint without a node counts anywhere", services: []*Service{{Name: "a/b", IPs: web.IPs, Local: true, EndpointAnywhere: true, Served: true}},
			owner: "any", reason: Announced},
		{name: "Local without endpoints is announced all the same", services: []*Service{{Name: "a/b", IPs: web.IPs, Local: true}}, owner: "any", reason: NoEndpoint},
		{name: "and so is Cluster", services: []*Service{{Name: "a/b", IPs: web.IPs}}, owner: "any", reason: NoEndpoint},
		{name: "unless the advertisement says otherwise", services: []*Service{{Name: "a/b", IPs: web.IPs}},
			change: func(f *Facts) { f.Advertisements[0].Withdraw = true }, reason: NoEndpoint},
		{name: "nor where endpoints are on nodes that may not announce", services: []*Service{on(local, "n2")},
			change: func(f *Facts) { f.Advertisements[0].Nodes = set("n1", "n3") }, reason: NoEligibleNode},
		{name: "not elsewhere when the interfaces in the subnet are down", services: []*Service{web}, change: func(f *Facts) {
			for _, n := range f.Members {
				changeNIC(f, n, func(i *Interface) { i.Carrier = false })
				i := nic
				i.Name, i.Subnets = "eth1", []netip.Prefix{netip.MustParsePrefix("192.168.1.9/24")}
				addNIC(f, n, i)
			}
		}, reason: NoInterface},
		{name: "patterns of interfaces", services: []*Service{web}, change: func(f *Facts) {
			only(f, "n1")
			for _, name := range []string{"eth1", "wlan0"} {
				i := nic
				i.Name = name
				addNIC(f, "n1", i)
			}
			f.Advertisements[0].Interfaces = []string{"eth*"}
		}, owner: "n1", reason: Announced, interfaces: []string{"eth0", "eth1"}},
		{name: "no carrier, no interface", services: []*Service{web}, change: func(f *Facts) {
			only(f, "n1")
			changeNIC(f, "n1", func(i *Interface) { i.Carrier = false })
		}, reason: NoInterface},
		{name: "no carrier, not eligible", services: []*Service{web}, change: func(f *Facts) {
			changeNIC(f, "n1", func(i *Interface) { i.Carrier = false })
			changeNIC(f, "n2", func(i *Interface) { i.Up = false })
		}, owner: "n3", reason: Announced},
		{name: "only interfaces in the subnet", services: []*Service{web}, change: func(f *Facts) {
			for _, n := range []string{"n1", "n2"} {
				changeNIC(f, n, func(i *Interface) { i.Subnets = []netip.Prefix{netip.MustParsePrefix("192.168.1.9/24")} })
			}
		}, owner: "n3", reason: Announced},
		{name: "any interface when nobody is in the subnet", services: []*Service{web}, change: func(f *Facts) {
			only(f, "n1")
			changeNIC(f, "n1", func(i *Interface) { i.Subnets = nil })
		}, owner: "n1", reason: Announced, interfaces: []string{"eth0"}},
		{name: "the interface that is named, when only others are in the subnet", services: []*Service{web}, change: func(f *Facts) {
			only(f, "n1")
			i := nic
			i.Name, i.Subnets = "eth1", []netip.Prefix{netip.MustParsePrefix("192.168.1.9/24")}
			addNIC(f, "n1", i)
			f.Advertisements[0].Interfaces = []string{"eth1"}
		}, owner: "n1", reason: Announced, interfaces: []string{"eth1"}},
		{name: "any interface when the subnet does not matter", services: []*Service{web}, change: func(f *Facts) {
			only(f, "n1")
			i := nic
			i.Name, i.Subnets = "eth1", nil
			addNIC(f, "n1", i)
			f.Advertisements[0].IgnoreSubnets = true
		}, owner: "n1", reason: Announced, interfaces: []string{"eth0", "eth1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := facts(tc.services...)
			if tc.change != nil {
				tc.change(&f)
			}
			v := verdict(settled(t, f, Options{NotReadyAfter: time.Minute}), 0)
			if v.Reason != tc.reason || tc.owner != "any" && v.Owner != tc.owner || tc.owner == "any" && !slices.Contains(f.Members, v.Owner) {
				t.Errorf("owner %q (%s), want %q (%s)", v.Owner, v.Reason, tc.owner, tc.reason)
			}
			if tc.interfaces != nil && !slices.Equal(v.Interfaces, tc.interfaces) {
				t.Errorf("interfaces %v, want %v", v.Interfaces, tc.interfaces)
			}
		})
	}
}

// act is a step of a story: what n1 learns, and what it does.
type act struct {
	what   string
	change func(f *Facts)
	after  time.Duration
	claim  string // as show prints it; and whether it is announced again
}

// show prints the first claim of a decision, and whether it is announced.
func show(d Decision) string {
	if len(d.Claims) == 0 {
		return "-"
	}
	c := d.Claims[0]
	text := c.Phase.String()
	if c.Weak {
		text += " weak"
	}
	if c.Successor != "" {
		text += " to " + c.Successor
	}
	if len(d.Announcements) == 0 {
		return text + " (silent)"
	}
	if d.Announcements[0].Probe == ProbeFirst {
		text += " (probe)"
	}
	return text
}

func TestStories(t *testing.T) {
	one := ip("10.0.0.1")
	others := func(f *Facts, claims map[string]Claim) {
		for _, n := range []string{"n2", "n3"} {
			r := f.Reports[n]
			if r.Claims = nil; claims[n].IP.IsValid() {
				c := claims[n]
				r.Claims = []*Claim{&c}
			}
			f.Reports[n] = r
		}
	}
	has := func(node string, c Claim) func(*Facts) {
		return func(f *Facts) { c.IP = one; others(f, map[string]Claim{node: c}) }
	}
	stands := func(s Standing) func(*Facts) {
		return func(f *Facts) { s.IP = one; f.Standings = []*Standing{&s} }
	}
	nobody := func(f *Facts) { others(f, nil) }
	ahead := start.AddDate(20, 0, 0)
	mine := []act{
		{"n1 is the only one that may", func(f *Facts) { f.Advertisements[0].Nodes = set("n1") }, 0, "Pending (probe)"},
		{"nobody answers the probe", stands(Standing{Phase: Announcing}), time.Second, "Announcing"},
		{"n2 and n3 may, too", func(f *Facts) { f.Advertisements[0].Nodes = set("n1", "n2", "n3") }, 0, "Announcing"},
	}
	for _, tc := range []struct {
		name string
		acts []act
	}{
		{"an older claim wins", []act{
			{"n2 claims it, too, and did so before", has("n2", Claim{Phase: Announcing, Since: start.Add(-time.Hour)}), 0, "Pending to n2 (silent)"},
			{"a while", nil, conceding, "-"}}},
		{"who has just conceded takes over at once when the winner dies", []act{
			{"n2 claims it, too, and did so before", has("n2", Claim{Phase: Announcing, Since: start.Add(-time.Hour)}), 0, "Pending to n2 (silent)"},
			{"n2 is dead", func(f *Facts) {
				f.Advertisements[0].Nodes, f.Members = set("n1", "n2"), []string{"n1", "n3"}
				nobody(f)
			}, 10 * time.Millisecond, "Announcing"}}},
		{"a younger one does not", []act{
			{"n2 claims it, too", has("n2", Claim{Phase: Announcing, Since: start.Add(time.Hour)}), 0, "Announcing, again"}}},
		{"and who has given in was perhaps the last to announce it", []act{
			{"n2 claims it, too", has("n2", Claim{Phase: Announcing, Since: start.Add(time.Hour)}), 0, "Announcing, again"},
			{"it goes on", nil, defying / 2, "Announcing"},
			{"it has given in", has("n2", Claim{Phase: Pending, Since: start.Add(time.Hour), Successor: "n1"}), 0, "Announcing, again"},
			{"it says so for a while", nobody, conceding, "Announcing"}}},
		{"or is about to, and waits for us", []act{
			{"n2 claims it, too", has("n2", Claim{Phase: Announcing, Since: start.Add(time.Hour)}), 0, "Announcing, again"},
			{"it may not have it any more", has("n2", Claim{Phase: Announcing, Since: start.Add(time.Hour), Successor: "n1"}), 0, "Announcing, again"},
			{"it has let go", nobody, conceding, "Announcing"}}},
		{"or has died", []act{
			{"n2 claims it, too", has("n2", Claim{Phase: Announcing, Since: start.Add(time.Hour)}), 0, "Announcing, again"},
			{"n2 is dead", func(f *Facts) { f.Members = []string{"n1", "n3"}; nobody(f) }, defying / 2, "Announcing, again"},
			{"a while", nil, time.Minute, "Announcing"}}},
		{"or says no more than that it has given in", []act{
			{"n2 has claimed it, too", has("n2", Claim{Phase: Pending, Since: start.Add(time.Hour), Successor: "n1"}), 0, "Announcing, again"},
			{"it says so for a while", nobody, conceding, "Announcing"}}},
		{"but who hands it over was not", []act{
			{"n1 may not own it", func(f *Facts) { f.Advertisements[0].Nodes = set("n2") }, 0, "Announcing to n2"},
			{"n2 has it", has("n2", Claim{Phase: Announcing, Since: start}), handing, "-"},
			{"n2 hands it over", func(f *Facts) {
				f.Advertisements[0].Nodes = set("n1")
				has("n2", Claim{Phase: Announcing, Since: start, Successor: "n1"})(f)
			}, time.Minute, "Announcing"},
			{"n2 has let go", nobody, handing, "Announcing"}}},
		{"nor does a weak one", []act{
			{"n2 claims it, too", has("n2", Claim{Phase: Announcing, Since: start.Add(-time.Hour), Weak: true}), 0, "Announcing, again"}}},
		{"who was held for dead has lost it, although its claim is older", []act{
			{"n2 has taken it over", has("n2", Claim{Phase: Announcing, Since: start.Add(time.Hour), After: "n1"}), 0, "Pending to n2 (silent)"}}},
		{"unless who says so was cut off", []act{
			{"n2 has taken it over", has("n2", Claim{Phase: Announcing, Since: start.Add(time.Hour), After: "n1", Weak: true}), 0, "Announcing, again"}}},
		{"so has n2, when it is n1 who has held it for dead, although n2's clock is ahead", []act{
			{"n2 has taken it over", has("n2", Claim{Phase: Announcing, Since: ahead, After: "n1"}), 0, "Pending to n2 (silent)"},
			{"n2 is held for dead", func(f *Facts) {
				f.Advertisements[0].Nodes, f.Members = set("n1", "n2"), []string{"n1", "n3"}
				nobody(f)
			}, conceding, "Announcing"},
			{"it is not", func(f *Facts) {
				f.Members = []string{"n1", "n2", "n3"}
				has("n2", Claim{Phase: Announcing, Since: ahead, After: "n1"})(f)
			}, time.Second, "Announcing, again"}}},
		{"an older claim gives in to one that is made all the same", []act{
			{"n2 claims it, too", has("n2", Claim{Phase: Announcing, Since: start.Add(time.Hour)}), 0, "Announcing, again"},
			{"a while", nil, defying, "Pending to n2 (silent)"}}},
		{"who stood still is not sure", []act{
			{"the process stops, and goes on", func(f *Facts) { f.Stood = true }, 0, "Announcing weak, again"},
			{"n2 has taken it", func(f *Facts) { f.Stood = false; has("n2", Claim{Phase: Announcing, Since: start.Add(time.Minute)})(f) }, 0, "Pending weak to n2 (silent)"}}},
		{"one that a stranger stopped loses to one that is announced", []act{
			{"a stranger is found after all", stands(Standing{Phase: Taken, Rival: MAC{7}}), 0, "Taken"},
			{"n2 announces it", has("n2", Claim{Phase: Announcing, Since: start.Add(time.Hour)}), 0, "Pending to n2 (silent)"}}},
		{"what a stranger has is probed by the next owner", []act{
			{"n1 may not own it", func(f *Facts) { f.Advertisements[0].Nodes = set("n2") }, 0, "Announcing to n2"},
			{"n2 has it", has("n2", Claim{Phase: Announcing, Since: start}), handing, "-"},
			{"n2 has started again, and found a stranger", has("n2", Claim{Phase: Taken, Since: start, Rival: MAC{7}}), 0, "-"},
			{"n1 may", func(f *Facts) { f.Advertisements[0].Nodes = set("n1", "n2") }, 0, "-"},
			{"n2 is dead", func(f *Facts) { f.Members = []string{"n1", "n3"}; nobody(f) }, 0, "Pending (probe)"}}},
		{"and is sure again when nobody has taken it", []act{
			{"the process stops, and goes on", func(f *Facts) { f.Stood = true }, 0, "Announcing weak, again"},
			{"nobody has it", func(f *Facts) { f.Stood = false }, recovering, "Announcing"}}},
		{"who is alone is not sure", []act{
			{"n2 and n3 are gone", func(f *Facts) { f.Members = []string{"n1"} }, 0, "Announcing weak"}}},
		{"alone, and then again not, it announces what it still has: others may have done so", []act{
			{"n2 and n3 are gone", func(f *Facts) { f.Members = []string{"n1"} }, 0, "Announcing weak"},
			{"n3 is there again, n2 has died", func(f *Facts) { f.Members = []string{"n1", "n3"} }, time.Minute, "Announcing weak"},
			{"not at once", nil, recovering - 1, "Announcing weak"},
			{"a while later", nil, 1, "Announcing, again"},
			{"once", nil, time.Minute, "Announcing"}}},
		{"also when most are still elsewhere", []act{
			{"all others are gone", func(f *Facts) { f.Members, f.Known = []string{"n1"}, 7 }, 0, "Announcing weak"},
			{"n3 is there again", func(f *Facts) { f.Members = []string{"n1", "n3"} }, time.Minute, "Announcing weak"},
			{"so is n2", func(f *Facts) { f.Members = []string{"n1", "n2", "n3"} }, recovering - 1, "Announcing weak"},
			{"for both of them", nil, 1, "Announcing weak, again"},
			{"once", nil, recovering, "Announcing weak"},
			{"n2 goes", func(f *Facts) { f.Members = []string{"n1", "n3"} }, time.Minute, "Announcing weak"},
			{"a while", nil, recovering, "Announcing weak"},
			{"n2 comes back", func(f *Facts) { f.Members = []string{"n1", "n2", "n3"} }, time.Minute, "Announcing weak"},
			{"a while later", nil, recovering, "Announcing weak, again"}}},
		{"but not what it is handing over", []act{
			{"all others are gone", func(f *Facts) { f.Members, f.Known = []string{"n1"}, 7 }, 0, "Announcing weak"},
			{"n3 is there again", func(f *Facts) { f.Members = []string{"n1", "n3"} }, time.Minute, "Announcing weak"},
			{"it may have it now", func(f *Facts) { f.Advertisements[0].Nodes = set("n3") }, recovering - handing/2, "Announcing weak to n3"},
			{"a while", nil, handing / 2, "Announcing weak to n3"},
			{"n3 claims it", has("n3", Claim{Phase: Announcing, Since: start}), handing, "-"}}},
		{"handed over when it may not own it, until the successor is heard", []act{
			{"only n3 may now", func(f *Facts) { f.Advertisements[0].Nodes = set("n3") }, 0, "Announcing to n3"},
			{"n3 claims it", has("n3", Claim{Phase: Announcing, Since: start}), 100 * time.Millisecond, "Announcing to n3"},
			{"n3 announces it", stands(Standing{Phase: Announcing, Peer: nicOf(2).MAC, PeerAt: start.Add(1200 * time.Millisecond)}), 100 * time.Millisecond, "-"}}},
		{"or for a second", []act{
			{"only n3 may now", func(f *Facts) { f.Advertisements[0].Nodes = set("n3") }, 0, "Announcing to n3"},
			{"n3 claims it", has("n3", Claim{Phase: Announcing, Since: start}), 100 * time.Millisecond, "Announcing to n3"},
			{"somebody else is heard", stands(Standing{Phase: Announcing, Peer: MAC{9}, PeerAt: start.Add(1200 * time.Millisecond)}), 100 * time.Millisecond, "Announcing to n3"},
			{"a second", nil, handing, "-"}}},
		{"to another one when the successor is dead", []act{
			{"n2 and n3 may now", func(f *Facts) { f.Advertisements[0].Nodes = set("n2", "n3"); f.service(0).MoveTo = "n3" }, 0, "Announcing to n3"},
			{"n3 is gone", func(f *Facts) { f.Members = []string{"n1", "n2"} }, 0, "Announcing to n2"}}},
		{"leaving hands over, too", []act{
			{"n1 leaves", func(f *Facts) { f.Leaving = true; f.service(0).MoveTo = "n2" }, 0, "Announcing to n2"},
			{"n2 claims it", has("n2", Claim{Phase: Announcing, Since: start}), 0, "Announcing to n2"},
			{"a second", nil, handing, "-"}}},
		{"leaving waits for who has just joined", []act{
			{"n2 has started again, n1 leaves", func(f *Facts) {
				f.Leaving, f.Members, f.Reports = true, []string{"n1", "n2"}, map[string]Report{"n1": f.Reports["n1"]}
			}, 0, "Announcing"},
			{"n2 has told of its interfaces", func(f *Facts) {
				f.Reports = map[string]Report{"n1": f.Reports["n1"], "n2": {Interfaces: []Interface{nicOf(1)}}}
			}, 0, "Announcing to n2"}}},
		{"but for nobody where no other may own it", []act{
			{"n1 alone may, and leaves", func(f *Facts) { f.Leaving, f.Advertisements[0].Nodes = true, set("n1") }, 0, "-"}}},
		{"announced where the advertisement says now", []act{
			{"it names an interface in another subnet", func(f *Facts) {
				i := nic
				i.Name, i.Subnets = "eth1", []netip.Prefix{netip.MustParsePrefix("192.168.1.9/24")}
				f.Reports["n1"] = Report{Interfaces: append(slices.Clone(f.Reports["n1"].Interfaces), i)}
				f.Advertisements[0].Interfaces, f.Advertisements[0].Nodes = []string{"eth1"}, set("n1")
			}, 0, "Announcing"}}},
		{"it stays a while when its endpoints here terminate and another node has one that is ready", []act{
			{"its only endpoint is here", func(f *Facts) {
				f.Services = sortedlist.Of([]*Service{{Name: "a/b", IPs: []netip.Addr{one}, Served: true, Local: true, EndpointNodes: set("n1")}})
			}, 0, "Announcing"},
			{"it terminates", func(f *Facts) { f.service(0).FadingNodes = set("n1") }, time.Minute, "Announcing"},
			{"another one is ready on n2", func(f *Facts) { f.service(0).EndpointNodes = set("n1", "n2") }, 0, "Announcing"},
			{"not at once", nil, lingering - time.Millisecond, "Announcing"},
			{"a while later", nil, time.Millisecond, "Announcing to n2"}}},
		{"so it does on a cordoned node", []act{
			{"its only endpoint is here", func(f *Facts) {
				f.Services = sortedlist.Of([]*Service{{Name: "a/b", IPs: []netip.Addr{one}, Served: true, Local: true, EndpointNodes: set("n1")}})
			}, 0, "Announcing"},
			{"the node is drained", func(f *Facts) { f.Nodes["n1"], f.service(0).FadingNodes = Node{Cordoned: true}, set("n1") }, time.Minute, "Announcing"},
			{"another one is ready on n2", func(f *Facts) { f.service(0).EndpointNodes = set("n1", "n2") }, 0, "Announcing"},
			{"not at once", nil, lingering - time.Millisecond, "Announcing"},
			{"a while later", nil, time.Millisecond, "Announcing to n2"}}},
		{"but not when it serves here no more", []act{
			{"its endpoint here terminates, and another one is ready on n2", func(f *Facts) {
				f.Services = sortedlist.Of([]*Service{{Name: "a/b", IPs: []netip.Addr{one}, Served: true, Local: true, EndpointNodes: set("n1", "n2"), FadingNodes: set("n1")}})
			}, 0, "Announcing"},
			{"the one here has ended", func(f *Facts) { f.service(0).EndpointNodes, f.service(0).FadingNodes = set("n2"), nil }, 0, "Announcing to n2"}}},
		{"moved by hand", []act{
			{"the Service is to be on n2", func(f *Facts) { f.service(0).MoveTo = "n2" }, 0, "Announcing to n2"},
			{"n2 does not take it", nil, handing, "Announcing"}}},
		{"nobody may own it", []act{
			{"no node matches", func(f *Facts) { f.Advertisements[0].Nodes = nil }, 0, "-"}}},
		{"its Service is gone", []act{
			{"the Service is deleted", func(f *Facts) { f.Services = sortedlist.List[*Service]{} }, 0, "-"}}},
		{"a stranger that comes later is reported, and forgotten", []act{
			{"a stranger claims it", stands(Standing{Phase: Announcing, Rival: MAC{7}, RivalAt: start.Add(time.Second)}), 0, "Announcing"},
			{"a while", nil, 75 * time.Second, "Announcing"}}},
		{"taken over from the dead without a probe", []act{
			{"n1 may not own it", func(f *Facts) { f.Advertisements[0].Nodes = set("n2") }, 0, "Announcing to n2"},
			{"n2 has it", has("n2", Claim{Phase: Announcing, Since: start}), handing, "-"},
			{"n1 may", func(f *Facts) { f.Advertisements[0].Nodes = set("n1", "n2") }, 0, "-"},
			{"n2 is dead", func(f *Facts) { f.Members = []string{"n1", "n3"}; nobody(f) }, 0, "Announcing"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, l := facts(&Service{Name: "a/b", IPs: []netip.Addr{one}, Served: true}), audited(t, Options{Rebalance: RebalanceOff, Recheck: 30 * time.Second})
			var before Decision
			for _, a := range slices.Concat(mine, tc.acts) {
				if f = anew(f); a.change != nil {
					a.change(&f)
				}
				f.Now = f.Now.Add(a.after)
				d := l.Decide(f)
				got := show(d)
				if len(before.Announcements) > 0 && len(d.Announcements) > 0 && d.Announcements[0].Round != before.Announcements[0].Round {
					got += ", again"
				}
				if before = d; got != a.claim {
					t.Fatalf("%s: %s, want %s", a.what, got, a.claim)
				}
			}
		})
	}
}

// TestSince: a claim is later than any other on the address that was heard of, whatever the clock says.
func TestSince(t *testing.T) {
	one := ip("10.0.0.1")
	for _, tc := range []struct {
		name  string
		heard []time.Time // of n2's claims, one after the other
		want  time.Time
	}{
		{"none", nil, start},
		{"an earlier one", []time.Time{start.Add(-time.Hour)}, start},
		{"one as old", []time.Time{start}, start.Add(time.Millisecond)},
		{"a later one", []time.Time{start.Add(time.Hour)}, start.Add(time.Hour + time.Millisecond)},
		{"one of years later, and an earlier one", []time.Time{start.AddDate(50, 0, 0), start}, start.AddDate(50, 0, 0).Add(time.Millisecond)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, l := facts(&Service{Name: "a/b", IPs: []netip.Addr{one}, Served: true}), audited(t, Options{})
			f.Advertisements[0].Nodes = set("n2")
			for _, since := range tc.heard {
				f.Reports = maps.Clone(f.Reports)
				f.Reports["n2"] = Report{Interfaces: f.Reports["n2"].Interfaces, Claims: []*Claim{{IP: one, Since: since, Phase: Announcing}}}
				l.Decide(f)
			}
			f = anew(f)
			f.Advertisements[0].Nodes, f.Members = set("n1"), []string{"n1", "n3"}
			if d := l.Decide(f); len(d.Claims) != 1 || !d.Claims[0].Since.Equal(tc.want) {
				t.Errorf("%d claims, on %+v, want one since %s", len(d.Claims), verdict(d, 0), tc.want)
			}
		})
	}
}

// TestDefiedByOneAsOld: of two claims that began at once, the one gives in whose node does not hold that the other may not
// have the address.
func TestDefiedByOneAsOld(t *testing.T) {
	one := ip("10.0.0.1")
	for affinity("n1", one) < affinity("n2", one) { // n1's is to stand
		one = one.Next()
	}
	f, l := facts(&Service{Name: "a/b", IPs: []netip.Addr{one}, Served: true}), audited(t, Options{Rebalance: RebalanceOff})
	f.Members, f.Advertisements[0].Nodes = []string{"n1", "n2"}, set("n1")
	l.Decide(f)
	f = anew(f)
	f.Advertisements[0].Nodes, f.Standings = set("n1", "n2"), []*Standing{{IP: one, Phase: Announcing}}
	f.Reports["n2"] = Report{Interfaces: f.Reports["n2"].Interfaces, Claims: []*Claim{{IP: one, Since: start, Phase: Announcing}}}
	for _, want := range []string{"Announcing", "Pending to n2 (silent)"} {
		if got := show(l.Decide(f)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		f.Now = f.Now.Add(defying)
	}
}

// TestTaken: an address that a stranger uses is not announced, and probed again and again.
func TestTaken(t *testing.T) {
	f, l := facts(&Service{Name: "a/b", IPs: []netip.Addr{ip("10.0.0.1")}, Served: true}), audited(t, Options{Recheck: 30 * time.Second})
	f.Advertisements[0].Nodes = set("n1")
	first := l.Decide(f).Announcements[0]
	stands := func(phase Phase, rival MAC) Decision {
		f.Standings = []*Standing{{IP: first.IP, Phase: phase, Rival: rival}}
		return l.Decide(f)
	}
	d := stands(Taken, MAC{7})
	if v := verdict(d, 0); v.Reason != AddressConflict || v.Claim.Rival != (MAC{7}) || v.Claim.Phase != Taken {
		t.Fatalf("a taken address: %+v", v)
	}
	if want := f.Now.Add(30 * time.Second); d.Wake.After(want) || d.Wake.IsZero() {
		t.Fatalf("wakes at %v, want %v at the latest", d.Wake, want)
	}
	f.Now = f.Now.Add(30 * time.Second)
	d = stands(Taken, MAC{7})
	if again := d.Announcements[0]; again.Round == first.Round || again.Probe != ProbeFirst {
		t.Fatalf("not probed again: %+v", again)
	}
	if v := verdict(stands(Probing, MAC{}), 0); v.Reason != AddressConflict {
		t.Errorf("while it is probed again: %+v", v)
	}
	if v := verdict(stands(Announcing, MAC{}), 0); v.Reason != Announced || v.Claim.Rival != (MAC{}) {
		t.Errorf("the stranger is gone: %+v", v)
	}
}

// TestLazyPace: once nothing has changed for five minutes, an address moves every ten seconds.
func TestLazyPace(t *testing.T) {
	f, l := facts(manyServices(12)...), audited(t, Options{})
	var claims []*Claim
	for s := range f.Services.All() {
		claims = append(claims, &Claim{IP: s.IPs[0], Since: start, Phase: Announcing})
	}
	f.Advertisements[0].Nodes = set("n1")
	l.Decide(f)
	for _, c := range claims {
		f.Standings = append(f.Standings, &Standing{IP: c.IP, Phase: Announcing})
	}
	l.Decide(f)
	f = anew(f)
	f.Advertisements[0].Nodes = set("n1", "n2")
	var moved []time.Duration
	began, first := f.Now, l.Decide(f)
	for wake := first.Wake; !wake.IsZero() && wake.Before(began.Add(time.Hour)); {
		f.Now = wake
		d := l.Decide(f)
		for _, c := range d.Claims {
			if c.Successor == "n2" { // which takes it soon
				moved = append(moved, f.Now.Sub(began))
				l.Decide(f)
				r := f.Reports["n2"]
				taken := *c
				taken.Successor = ""
				r.Claims = append(slices.Clone(r.Claims), &taken)
				slices.SortFunc(r.Claims, func(a, b *Claim) int { return a.IP.Compare(b.IP) })
				f.Reports["n2"] = r
				f.Standings = slices.DeleteFunc(slices.Clone(f.Standings), func(s *Standing) bool { return s.IP == c.IP })
				f.Standings = append(f.Standings, &Standing{IP: c.IP, Phase: Announcing, Peer: nicOf(1).MAC, PeerAt: f.Now})
				d = l.Decide(f)
			}
		}
		wake = d.Wake
	}
	if len(moved) != 4 || moved[0] != lazyAfter || moved[3] != lazyAfter+3*lazyEvery {
		t.Errorf("moved after %v, want the first after %s and then one every %s until n1 has 8", moved, lazyAfter, lazyEvery)
	}
}

// TestPeerFoundByAProbe: a member that answers a probe before it has told of itself is no stranger.
func TestPeerFoundByAProbe(t *testing.T) {
	f, l := facts(&Service{Name: "a/b", IPs: []netip.Addr{ip("10.0.0.1")}, Served: true}), audited(t, Options{Recheck: 30 * time.Second})
	f.Advertisements[0].Nodes = set("n1")
	told := f.Reports["n2"]
	delete(f.Reports, "n2")
	first := l.Decide(f).Announcements[0]
	f.Standings = []*Standing{{IP: first.IP, Phase: Taken, Rival: nicOf(1).MAC}}
	if d := l.Decide(f); len(d.Found) > 0 {
		t.Errorf("found %v, although a member has not told of its interfaces", d.Found)
	}
	f.Reports["n2"] = told
	d := l.Decide(f)
	if again := d.Announcements[0]; len(d.Found) > 0 || again.Round == first.Round || d.Claims[0].Phase != Pending {
		t.Errorf("found %v, announces %+v, claims %+v; want another probe at once", d.Found, again, d.Claims)
	}
	f.Standings = []*Standing{{IP: first.IP, Phase: Taken, Rival: MAC{7}}}
	if d := l.Decide(f); len(d.Found) != 1 {
		t.Errorf("found %v, want a stranger", d.Found)
	}
}

// TestPromised: an address that was conceded to a node which then died waits for it once, and no longer.
func TestPromised(t *testing.T) {
	for _, deaf := range []string{"n1", "n2"} { // whichever is elected first
		f, l := facts(&Service{Name: "a/b", IPs: []netip.Addr{ip("10.0.0.1")}, Served: true}), audited(t, Options{Rebalance: RebalanceOff})
		f.Self = map[string]string{"n1": "n2", "n2": "n1"}[deaf]
		f.Members = []string{"n1", "n2"}
		f.Reports[deaf] = Report{Interfaces: f.Reports[deaf].Interfaces,
			Claims: []*Claim{{IP: f.service(0).IPs[0], Since: start, Phase: Pending, Successor: "n3"}}}
		delete(f.Reports, "n3")
		var d Decision
		for range 60 { // half a second for each of the two that don't take it
			if d = l.Decide(f); len(d.Claims) > 0 {
				break
			}
			f.Now = f.Now.Add(20 * time.Millisecond)
		}
		if len(d.Claims) == 0 {
			t.Errorf("%s has not claimed it after %s", f.Self, f.Now.Sub(start))
		}
	}
}

func TestBound(t *testing.T) {
	for _, tc := range []struct{ addresses, nodes, want int }{{1, 3, 1}, {3, 3, 2}, {4, 4, 2}, {16, 4, 5}, {17, 4, 6}, {0, 3, 0}, {5, 0, 0}} {
		if got := bound(tc.addresses, tc.nodes); got != tc.want {
			t.Errorf("%d addresses on %d nodes: %d, want %d", tc.addresses, tc.nodes, got, tc.want)
		}
	}
}

// TestStrangersOfOne: who is cut off may take its own peers for strangers, and accuses nobody.
func TestStrangersOfOne(t *testing.T) {
	for _, tc := range []struct {
		members []string
		want    int
	}{{[]string{"n1", "n2", "n3"}, 1}, {[]string{"n1"}, 0}} {
		f, l := facts(&Service{Name: "a/b", IPs: []netip.Addr{ip("10.0.0.1")}, Served: true}), audited(t, Options{})
		f.Advertisements[0].Nodes, f.Members = set("n1"), tc.members
		l.Decide(f)
		f.Standings = []*Standing{{IP: ip("10.0.0.1"), Phase: Taken, Rival: MAC{7}, RivalOn: "eth0"}}
		if d := l.Decide(f); len(d.Found) != tc.want || d.Claims[0].Phase != Taken {
			t.Errorf("with %v alive: found %v, want %d; claims %v, want it taken", tc.members, d.Found, tc.want, d.Claims)
		}
	}
}

// TestQuarantine: one node probes a quarantined address that no Service has, and says when the stranger is gone.
func TestQuarantine(t *testing.T) {
	f := facts()
	f.Quarantined = []netip.Addr{ip("10.0.0.7")}
	checkers := map[string]*Layer2{}
	for _, n := range f.Members {
		f.Self = n
		l := audited(t, Options{Recheck: 30 * time.Second})
		if d := l.Decide(f); len(d.Announcements) > 0 {
			checkers[n] = l
		}
	}
	if len(checkers) != 1 {
		t.Fatalf("%d nodes probe, want one", len(checkers))
	}
	for n, l := range checkers {
		f.Self = n
		apart := f
		if apart.Members = []string{n}; len(l.Decide(apart).Announcements) > 0 {
			t.Errorf("%s is cut off from the others, and still checks", n)
		}
		var rounds []uint64
		for _, found := range []Phase{Taken, Free, Taken, Free, Free} {
			f.Standings = nil
			a := l.Decide(f).Announcements[0]
			if a.Probe != ProbeOnly || !slices.Equal(a.Interfaces, []string{"eth0"}) {
				t.Fatalf("probes %+v", a)
			}
			rounds = append(rounds, a.Round)
			f.Standings = []*Standing{{IP: a.IP, Phase: found, Rival: MAC{7}, RivalOn: "eth0"}}
			d := l.Decide(f)
			if (found == Taken) != (len(d.Found) == 1 && d.Found[0] == Stranger{a.IP, MAC{7}, "eth0", false}) {
				t.Fatalf("%s: found %v", found, d.Found)
			}
			if gone := len(rounds) == 5; gone != (len(d.Gone) == 1) {
				t.Fatalf("after %d probes: gone %v", len(rounds), d.Gone)
			}
			f.Now = f.Now.Add(30 * time.Second)
			l.Decide(f)
		}
		if slices.Sort(rounds); len(slices.Compact(rounds)) != 5 {
			t.Errorf("rounds %v, want five different ones", rounds)
		}
	}
}

func TestHowManyAreLeft(t *testing.T) {
	for _, tc := range []struct {
		members, known      int
		cutOff, outnumbered bool
	}{{1, 1, false, false}, {1, 2, true, false}, {2, 2, false, false}, {1, 3, true, true}, {2, 3, false, false}, {2, 4, true, false}, {2, 5, true, true}, {3, 1, false, false}} {
		f := Facts{Members: make([]string, tc.members), Known: tc.known}
		if f.CutOff() != tc.cutOff || f.Outnumbered() != tc.outnumbered {
			t.Errorf("%d of %d: cut off %v, outnumbered %v; want %v and %v", tc.members, tc.known, f.CutOff(), f.Outnumbered(), tc.cutOff, tc.outnumbered)
		}
	}
}

// TestReturningNode: while a node is away whose interfaces this process was never told of, whoever claims an address may be
// that node. It is called a stranger when it has had the time to join and did not, or when all nodes are known.
func TestReturningNode(t *testing.T) {
	type act struct {
		what   string
		change func(*Facts)
		after  time.Duration // it comes so long after the one before
		called bool          // a stranger, from then on
	}
	n3, back := nicOf(2).MAC, facts().Reports["n3"]
	known := func(f *Facts) { f.Unheard = false }
	away := func(f *Facts) {
		f.Members, f.Reports, f.Unheard = []string{"n1", "n2"}, maps.Clone(f.Reports), true
		delete(f.Reports, "n3")
	}
	silent := func(f *Facts) { f.Members, f.Unheard = []string{"n1", "n2", "n3"}, false }
	come := func(f *Facts) {
		silent(f)
		f.Reports = maps.Clone(f.Reports)
		f.Reports["n3"] = back
	}
	hears := func(mac MAC) func(*Facts) {
		return func(f *Facts) {
			s := *f.Standings[0]
			s.Rival, s.RivalOn, s.RivalAt = mac, "eth0", f.Now
			f.Standings = []*Standing{&s}
		}
	}
	gone, nothing := act{"n3 is away", away, 0, false}, func(*Facts) {}
	for _, tc := range []struct {
		name string
		acts []act
	}{
		{"all are known", []act{{"a stranger", hears(MAC{7}), 0, true}}},
		{"who is away was known", []act{gone, {"n3 is known", known, 0, false}, {"a stranger", hears(MAC{7}), 0, true}}},
		{"away for good", []act{gone, {"a stranger", hears(MAC{7}), time.Second, false}, {"still there", hears(MAC{7}), returning - 1, false}, {"time is over", nothing, 1, true},
			{"n3 comes, and was another", come, time.Second, true}}},
		{"heard once", []act{gone, {"a stranger", hears(MAC{7}), time.Second, false}, {"time is over", nothing, returning, true}}},
		{"one after the other", []act{gone, {"a stranger", hears(MAC{7}), 0, false}, {"another", hears(MAC{8}), returning / 2, false},
			{"half the time", nothing, returning / 2, false}, {"time is over", nothing, returning / 2, true}}},
		{"it comes back", []act{gone, {"n3 is heard", hears(n3), time.Second, false}, {"it joins", silent, time.Second, false}, {"it tells", come, time.Second, false},
			{"it leaves again, and is known", func(f *Facts) { away(f); known(f) }, time.Second, false}, {"a while", nothing, returning, false}}},
		{"another than who is heard comes back", []act{gone, {"a stranger", hears(MAC{7}), 0, false}, {"n3 joins", silent, time.Second, false}, {"it tells", come, time.Second, true}}},
	} {
		for _, phase := range []Phase{Announcing, Taken} {
			t.Run(tc.name+", "+phase.String(), func(t *testing.T) {
				f, l := facts(&Service{Name: "a/b", IPs: []netip.Addr{ip("10.0.0.1")}, Served: true}), audited(t, Options{})
				f.Advertisements[0].Nodes = set("n1")
				d := l.Decide(f)
				f.Standings = []*Standing{{IP: ip("10.0.0.1"), Phase: phase}}
				for _, a := range tc.acts {
					if a.called && a.after > 0 && a.what == "time is over" && !d.Wake.Equal(f.Now.Add(a.after)) {
						t.Errorf("%s: wakes at %s, want %s", a.what, d.Wake, f.Now.Add(a.after))
					}
					f.Now = f.Now.Add(a.after)
					a.change(&f)
					d = l.Decide(f)
					conflict := verdict(d, 0).Reason == AddressConflict
					if conflict != a.called || (len(d.Found) > 0) != a.called || (d.Claims[0].Rival != MAC{}) != a.called {
						t.Fatalf("%s: %+v, found %v; want a stranger: %v", a.what, verdict(d, 0), d.Found, a.called)
					}
					if phase == Taken && d.Claims[0].Phase == Announcing {
						t.Fatalf("%s: is announced although somebody has it", a.what)
					}
				}
			})
		}
	}
}

// TestBackAmongSome: a node that is back, and sees most of the others, may take over what another has that it does not see yet.
// That one keeps it.
func TestBackAmongSome(t *testing.T) {
	one := ip("10.0.0.1")
	all, most, alone := []string{"n1", "n2", "n3"}, []string{"n1", "n3"}, []string{"n1"}
	for name, off := range map[string][]string{"alone without the LAN": alone, "it was not away for long": most} {
		t.Run(name, func(t *testing.T) {
			f, l := facts(&Service{Name: "a/b", IPs: []netip.Addr{one}, Served: true}), audited(t, Options{})
			f.Advertisements[0].Nodes = set("n1", "n2")
			decide := func(members []string, connected bool, after time.Duration, want string) (wake time.Duration) {
				t.Helper()
				f.Now, f.Members, f.Apart, f.Reports = f.Now.Add(after), members, !connected, maps.Clone(f.Reports)
				own, n2 := f.Reports["n1"], f.Reports["n2"]
				own.Interfaces = slices.Clone(own.Interfaces)
				own.Interfaces[0].Carrier = connected
				if n2.Claims = nil; slices.Contains(members, "n2") {
					n2.Claims = []*Claim{{IP: one, Since: start, Phase: Announcing}}
				}
				f.Reports["n1"], f.Reports["n2"] = own, n2
				d := l.Decide(f)
				if got := show(d); got != want {
					t.Errorf("among %v: %s, want %s", members, got, want)
				}
				return d.Wake.Sub(f.Now)
			}
			decide(all, true, 0, "-")
			decide(off, false, time.Second, "-")
			decide(most, true, time.Minute, "Announcing weak")
			decide(all, true, recovering-1, "Pending weak to n2 (silent)")
			decide(all, true, conceding, "-")

			f.Stood = true
			decide(all, true, time.Minute, "-")
			f.Stood = false
			// n2 dies soon after.
			if wake := decide(most, true, time.Second, "Announcing weak"); wake != recovering-time.Second {
				t.Errorf("wakes %v later, want %v", wake, recovering-time.Second)
			}
			decide(most, true, recovering-time.Second, "Announcing")
		})
	}
}
