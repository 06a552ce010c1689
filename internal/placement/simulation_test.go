package placement

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/internal/sortedlist"
)

// simulation is a cluster in one process, on a clock of its own: an elector per node, and between them gossip
// that is late and out of order, and a LAN that a partition cuts as well. All that chance decides comes from
// one seed.
type simulation struct {
	t       testing.TB
	chance  *rand.Rand
	options Options
	pause   time.Duration // that a decision takes
	now     time.Time
	nodes   map[string]*station
	cluster Facts // what the API server tells all
	mail    []letter
	client  map[netip.Addr]string    // who the client, on side 0, believes to have an address
	moves   int                      // addresses that a node has claimed, so far
	newest  int                      // of the Services that came later
	movedTo netip.Addr               // the address that was moved by hand by the last event
	edition int                      // of the cluster, counted up as it changes
	watched time.Time                // when it was last looked at who answers for what
	lonely  map[netip.Addr]time.Time // since when nobody answers for an address, on side 0
	crowded map[netip.Addr]time.Time // since when several do that reach each other
	lax     bool                     // events overlap: only what comes of it all is checked
}

// station is a node in a simulation.
type station struct {
	name      string
	side      int // of the partition; all on one side reach each other
	down      bool
	frozen    bool
	stood     bool
	leaving   bool
	links     []Interface
	elector   *Layer2
	members   map[string]bool
	reports   map[string]Report
	versions  map[string]int
	published Report
	version   int
	wants     map[netip.Addr]*Announcement
	stands    map[netip.Addr]*standing
	wake      time.Time
	dirty     bool
	booted    time.Time
	clock     time.Duration // how far it is ahead of the simulation's
	seen      Facts         // of the cluster, as it knows it
	edition   int
	deaf      bool // the API server is away for it
	passes    int
	decided   time.Time
	settled   bool // it has seen all others, or waited for them for long enough
}

type standing struct {
	Standing
	until time.Time // of the probe
}

// letter is something that reaches a node later.
type letter struct {
	at time.Time
	to string
	do func(*station)
}

// More lives than are tested each time: go test -run TestLife ./internal/placement -seed 1000 -seeds 500.
var (
	firstSeed = flag.Uint64("seed", 0, "of the first life")
	seeds     = flag.Uint64("seeds", 60, "how many lives")
)

const step = 5 * time.Millisecond

func newSimulation(t testing.TB, seed uint64, nodes, addresses int, o Options) *simulation {
	s := &simulation{
		t: t, chance: rand.New(rand.NewPCG(seed, 7)), options: o, now: time.Unix(1_000_000, 0),
		nodes: map[string]*station{}, client: map[netip.Addr]string{},
		lonely: map[netip.Addr]time.Time{}, crowded: map[netip.Addr]time.Time{},
		cluster: facts(manyServices(addresses)...),
	}
	s.cluster.Nodes, s.cluster.Advertisements[0].Nodes = map[string]Node{}, map[string]bool{}
	for i := range nodes {
		name := fmt.Sprintf("n%03d", i)
		s.nodes[name] = &station{name: name, links: []Interface{nicOf(i)}}
		s.cluster.Nodes[name], s.cluster.Advertisements[0].Nodes[name] = Node{}, true
	}
	for _, n := range s.all() {
		s.boot(n)
	}
	return s
}

// nicOf is the interface of the i-th node, which its MAC address names.
func nicOf(i int) Interface {
	nic := nic
	nic.MAC = MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}
	return nic
}

func (s *simulation) all() []*station {
	return slices.SortedFunc(maps.Values(s.nodes), func(a, b *station) int { return cmp.Compare(a.name, b.name) })
}

// boot starts a node's speaker: it learns what those that it reaches know, and they hear of it.
func (s *simulation) boot(n *station) {
	n.down, n.frozen, n.leaving, n.elector = false, false, false, NewLayer2(s.options)
	n.members, n.reports, n.versions = map[string]bool{n.name: true}, map[string]Report{}, map[string]int{}
	n.wants, n.stands, n.dirty = map[netip.Addr]*Announcement{}, map[netip.Addr]*standing{}, true
	n.published, n.booted, n.settled = Report{Interfaces: n.links}, s.now, false
	n.seen, n.edition, n.deaf = s.cluster, s.edition, false
	n.clock = s.clock()
	n.version++
	n.reports[n.name] = n.published
	for _, o := range s.all() {
		if o != n && s.reach(n, o) && o.elector != nil {
			s.introduce(n, o)
			s.meet(o, n)
		}
	}
}

// clock is how far the clock of a node is ahead: by milliseconds or by years, or it is behind.
func (s *simulation) clock() time.Duration {
	most := []time.Duration{100 * time.Millisecond, 10 * time.Second, time.Hour, 20 * 365 * 24 * time.Hour}[s.chance.IntN(4)]
	return time.Duration(s.chance.Int64N(2*int64(most))) - most
}

func (s *simulation) reach(a, b *station) bool {
	return a.side == b.side && !a.down && !b.down && !a.frozen && !b.frozen
}

// introduce has n know o at once, with its report.
func (s *simulation) introduce(n, o *station) {
	n.members[o.name] = true
	n.learn(o.name, o.published, o.version)
}

func (n *station) learn(from string, r Report, version int) {
	if version > n.versions[from] {
		n.versions[from], n.reports[from], n.dirty = version, r, true
	}
}

// meet has n hear of o after a while, its report last.
func (s *simulation) meet(n, o *station) {
	after := s.between(5, 250)
	s.post(n, after, func(n *station) {
		if s.reach(n, o) {
			n.members[o.name], n.dirty = true, true
		}
	})
	s.post(n, after+s.between(0, 20), func(n *station) {
		if s.reach(n, o) {
			n.learn(o.name, o.published, o.version)
		}
	})
}

func (s *simulation) between(low, high int) time.Duration {
	return time.Duration(low+s.chance.IntN(high-low+1)) * time.Millisecond
}

func (s *simulation) post(to *station, after time.Duration, do func(*station)) {
	s.mail = append(s.mail, letter{s.now.Add(after), to.name, do})
}

// lose has everybody on another side, or all if o is down, count o out within half a second, and o them.
func (s *simulation) lose(o *station) {
	for _, n := range s.all() {
		if n == o || s.reach(n, o) {
			continue
		}
		s.post(n, s.between(300, 500), func(n *station) { s.countOut(n, o) })
		s.post(o, s.between(300, 500), func(o *station) { s.countOut(o, n) })
	}
}

func (s *simulation) countOut(n, o *station) {
	if !s.reach(n, o) {
		delete(n.members, o.name)
		delete(n.reports, o.name)
		delete(n.versions, o.name)
		n.dirty = true
	}
}

// run lets time pass.
func (s *simulation) run(d time.Duration) {
	for end := s.now.Add(d); s.now.Before(end); s.now = s.now.Add(step) {
		s.deliver()
		s.watch()
		for _, n := range s.all() {
			if n.down || n.frozen {
				continue
			}
			s.probed(n)
			if !s.hasSettled(n) || s.now.Sub(n.decided) < s.pause {
				continue
			}
			if n.dirty || !n.wake.IsZero() && !s.now.Add(n.clock).Before(n.wake) {
				s.decide(n)
			}
		}
	}
}

func (s *simulation) deliver() {
	due := s.mail
	s.mail = nil
	for _, l := range due {
		n := s.nodes[l.to]
		switch {
		case l.at.After(s.now), n.frozen:
			s.mail = append(s.mail, l)
		case !n.down:
			l.do(n)
		}
	}
}

// hasSettled reports whether a node may decide yet, as the speaker does.
func (s *simulation) hasSettled(n *station) bool {
	n.settled = n.settled || len(n.members) == len(s.nodes) && len(n.reports) == len(s.nodes) || s.now.Sub(n.booted) >= time.Second
	return n.settled
}

// probed ends the probes that are over.
func (s *simulation) probed(n *station) {
	for ip, st := range n.stands {
		if st.Phase == Probing && !s.now.Before(st.until) {
			st.Phase, n.dirty = Announcing, true
			s.announce(n, ip)
		}
	}
}

func (s *simulation) decide(n *station) {
	f := n.seen
	f.Self, f.Now, f.Members, f.Reports = n.name, s.now.Add(n.clock), slices.Sorted(maps.Keys(n.members)), n.reports
	f.Known, f.Stood, f.Leaving, f.Unheard = len(s.nodes), n.stood, n.leaving, len(n.versions) < len(s.nodes)-1
	for _, ip := range slices.SortedFunc(maps.Keys(n.stands), netip.Addr.Compare) {
		s := n.stands[ip].Standing
		f.Standings = append(f.Standings, &s)
	}
	s.audit(n)
	d := n.elector.Decide(f)
	for _, c := range d.Claims {
		if ((c.Rival != MAC{}) || len(d.Found) > 0) && !s.lax { // one that announces, and crashes before it is known, may be
			s.t.Fatalf("%s takes a node of ours for a stranger: %+v, %v", n.name, *c, d.Found)
		}
	}
	if !d.Wake.IsZero() && !d.Wake.After(f.Now) {
		s.t.Fatalf("%s is to wake at %s, which is not after %s", n.name, d.Wake, f.Now)
	}
	n.dirty, n.stood, n.wake = false, false, d.Wake
	n.passes++
	n.decided = s.now
	s.moves += len(d.Taken)
	s.set(n, d.Announcements)
	s.publish(n, Report{Interfaces: n.links, Claims: d.Claims, Leaving: n.leaving})
}

// audit has decisions compared with those of whole passes: all, or, where there are many addresses, some.
func (s *simulation) audit(n *station) {
	n.elector.options.Audit = nil
	if s.cluster.Services.Len() < 100 || n.passes%20 == 0 {
		n.elector.options.Audit = func(difference string) {
			s.t.Helper()
			s.t.Fatalf("%s: %s", n.name, difference)
		}
	}
}

// set is the announcer of a node.
func (s *simulation) set(n *station, list []*Announcement) {
	wants := map[netip.Addr]*Announcement{}
	for _, a := range list {
		before, had := n.wants[a.IP]
		wants[a.IP], n.wants[a.IP] = a, a
		switch st := n.stands[a.IP]; {
		case !had && a.Probe == ProbeFirst:
			n.stands[a.IP] = &standing{Standing{IP: a.IP, Phase: Probing}, s.now.Add(300 * time.Millisecond)}
		case !had:
			n.stands[a.IP] = &standing{Standing: Standing{IP: a.IP, Phase: Announcing}}
			s.announce(n, a.IP)
		case st.Phase == Announcing && before.Round != a.Round:
			s.announce(n, a.IP)
		}
	}
	for ip := range n.wants {
		if _, still := wants[ip]; !still {
			delete(n.stands, ip)
		}
	}
	n.wants = wants
}

// announce announces an address now and, if it is still announced then, twice again.
func (s *simulation) announce(n *station, ip netip.Addr) {
	s.frame(n, ip)
	round, elector := n.wants[ip].Round, n.elector
	for _, after := range []time.Duration{300 * time.Millisecond, time.Second} {
		s.post(n, after, func(n *station) {
			if st := n.stands[ip]; st != nil && st.Phase == Announcing && n.wants[ip].Round == round && n.elector == elector {
				s.frame(n, ip)
			}
		})
	}
}

// frame is heard by all on the same side who have the address, and by the client.
func (s *simulation) frame(n *station, ip netip.Addr) {
	if !n.links[0].Suitable() {
		return
	}
	for _, o := range s.nodes {
		st := o.stands[ip]
		switch {
		case o == n || !s.reach(n, o) || st == nil:
			continue
		case o.versions[n.name] > 0: // it has heard of n
			st.Peer, st.PeerAt = n.links[0].MAC, s.now.Add(o.clock)
		default:
			st.Rival, st.RivalOn, st.RivalAt = n.links[0].MAC, nic.Name, s.now.Add(o.clock)
		}
		o.dirty = true
	}
	if n.side == 0 {
		s.client[ip] = n.name
	}
}

func (s *simulation) publish(n *station, r Report) {
	if sameClaims(r.Claims, n.published.Claims) && r.Leaving == n.published.Leaving && slices.EqualFunc(r.Interfaces, n.published.Interfaces, sameInterface) {
		return
	}
	n.published = r
	n.version++
	n.reports[n.name] = r
	version := n.version
	for _, o := range s.all() {
		if o == n || !s.reach(n, o) {
			continue
		}
		after := s.between(1, 30)
		if s.chance.IntN(20) == 0 {
			after = s.between(100, 500) // the first copies are lost
		}
		s.post(o, after, func(o *station) {
			if s.reach(n, o) && o.members[n.name] {
				o.learn(n.name, r, version)
			}
		})
	}
}

func sameInterface(a, b Interface) bool {
	return a.Name == b.Name && a.Suitable() == b.Suitable() && slices.Equal(a.Subnets, b.Subnets)
}

// What can happen to nodes.

func (s *simulation) crash(n *station) {
	n.down = true
	s.lose(n)
}

func (s *simulation) freeze(n *station) {
	n.frozen = true
	s.lose(n)
}

// thaw lets a frozen node go on: it notices, and asks the others before it does anything.
func (s *simulation) thaw(n *station) {
	n.frozen, n.stood, n.dirty = false, true, true
	for _, o := range s.all() {
		if o != n && s.reach(n, o) {
			s.introduce(n, o)
			s.meet(o, n)
		}
	}
}

// stop ends nodes in good order: each leaves when it has handed over, or a while later.
func (s *simulation) stop(list ...*station) {
	for _, n := range list {
		n.leaving, n.dirty = true, true
	}
	for end := s.now.Add(1500 * time.Millisecond); ; s.run(step) {
		list = slices.DeleteFunc(list, func(n *station) bool {
			if s.now.Before(end) && len(n.wants) > 0 {
				return false
			}
			n.down = true
			for _, o := range s.all() {
				s.post(o, s.between(1, 30), func(o *station) { s.countOut(o, n) })
			}
			return true
		})
		if len(list) == 0 {
			return
		}
	}
}

// carrier takes the carrier from the interfaces of nodes, or gives it back.
func (s *simulation) carrier(up bool, list ...*station) {
	for _, n := range list {
		n.links = slices.Clone(n.links)
		n.links[0].Carrier = up
		n.reports[n.name] = Report{Interfaces: n.links}
		n.dirty = true
	}
}

// services has some Services go and others come.
func (s *simulation) services() {
	s.change(func(f *Facts) {
		all := f.all()
		if len(all) > 1 {
			gone := s.chance.IntN(len(all))
			all = slices.Delete(all, gone, min(len(all), gone+1+s.chance.IntN(3)))
		}
		for range 1 + s.chance.IntN(3) {
			s.newest++
			ip := netip.AddrFrom4([4]byte{10, 0, 200 + byte(s.newest>>8), byte(s.newest)})
			all = append(all, &Service{Name: fmt.Sprint("new/", s.newest), Served: true, IPs: []netip.Addr{ip}})
		}
		f.Services = sortedlist.Of(all)
	})
}

// moveTo has the owner of a Service want it on a node for a while, and checks that it goes there.
func (s *simulation) moveTo(node string) {
	s.t.Helper()
	i := s.chance.IntN(s.cluster.Services.Len())
	ip := s.cluster.service(i).IPs[0]
	s.change(func(f *Facts) { f.setService(i, wanted(f.service(i), node)) })
	s.run(settle)
	if s.lax {
		// it may have gone on already
	} else if owner := s.owners()[ip]; owner != node {
		s.t.Fatalf("%s is on %s although it was to move to %s", ip, owner, node)
	}
	s.movedTo = ip
	s.change(func(f *Facts) { f.setService(i, wanted(f.service(i), "")) })
}

// wanted is a Service whose owner wants it on a node.
func wanted(s *Service, node string) *Service {
	c := *s
	c.MoveTo = node
	return &c
}

// part puts nodes on another side, or back.
func (s *simulation) part(side int, list ...*station) {
	for _, n := range list {
		n.side = side
	}
	for _, n := range list {
		s.lose(n)
		for _, o := range s.all() {
			if o != n && s.reach(n, o) {
				s.meet(n, o)
				s.meet(o, n)
			}
		}
	}
}

func (n *station) answers(ip netip.Addr) bool {
	st := n.stands[ip]
	return !n.down && !n.frozen && n.links[0].Suitable() && st != nil && st.Phase == Announcing
}

// holders of an address on a side: the nodes that answer for it.
func (s *simulation) holders(ip netip.Addr, side int) []string {
	var list []string
	for _, n := range s.all() {
		if n.side == side && n.answers(ip) {
			list = append(list, n.name)
		}
	}
	return list
}

// owners checks that every address has one holder on each side that has nodes, and returns those of side 0.
func (s *simulation) owners() map[netip.Addr]string {
	s.t.Helper()
	owners := map[netip.Addr]string{}
	sides := map[int]bool{}
	for _, n := range s.nodes {
		if !n.down && !n.frozen && s.cluster.Nodes[n.name].Excluded == "" {
			sides[n.side] = true
		}
	}
	for service := range s.cluster.Services.All() {
		for side := range sides {
			holders := s.holders(service.IPs[0], side)
			if len(holders) != 1 {
				s.t.Fatalf("%s is announced by %v on side %d, want one node", service.IPs[0], holders, side)
			}
			if side == 0 {
				owners[service.IPs[0]] = holders[0]
			}
		}
	}
	return owners
}

// believed checks that the client knows the owners, as far as it has asked nobody.
func (s *simulation) believed(owners map[netip.Addr]string) {
	s.t.Helper()
	for ip, owner := range owners {
		if s.client[ip] != owner {
			s.t.Fatalf("%s was announced last by %s, but %s owns it", ip, s.client[ip], owner)
		}
	}
}

func (s *simulation) loads(owners map[netip.Addr]string) map[string]int {
	loads := map[string]int{}
	for _, owner := range owners {
		loads[owner]++
	}
	return loads
}

// bounded checks that no node owns more than its share.
func (s *simulation) bounded(owners map[netip.Addr]string) {
	s.t.Helper()
	eligible := 0
	for _, n := range s.nodes {
		if n.side == 0 && !n.down && !n.frozen && s.cluster.Nodes[n.name].Excluded == "" {
			eligible++
		}
	}
	limit := bound(len(owners), eligible)
	for node, load := range s.loads(owners) {
		if load > limit {
			s.t.Fatalf("%s owns %d of %d addresses on %d nodes, more than %d", node, load, len(owners), eligible, limit)
		}
	}
}

// settle is long enough for anything to come to rest that needs no rebalancing.
const settle = 5 * time.Second

// life is a random life of a cluster: after each event and a time to settle, each address has one owner, the
// client knows it, and nothing has moved that need not.
func life(t *testing.T, seed uint64, nodes, addresses, events int) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("seed %d, %d nodes, %d addresses", seed, nodes, addresses)
		}
	}()
	s := newSimulation(t, seed, nodes, addresses, Options{Rebalance: RebalanceOff})
	s.pause = time.Duration(addresses) * 20 * time.Microsecond
	s.run(settle)
	owners := s.owners()
	s.bounded(owners)
	for range events {
		excused, text := s.event()
		s.run(settle)
		now := s.owners()
		s.believed(now)
		for ip, owner := range owners {
			if now[ip] != "" && now[ip] != owner && !excused[owner] && ip != s.movedTo {
				t.Fatalf("%s moved from %s to %s, which nobody asked for, after: %s", ip, owner, now[ip], text)
			}
		}
		owners = now
		s.rested(text)
	}
}

// rested checks that nobody decides when nothing happens.
func (s *simulation) rested(text string) {
	s.t.Helper()
	s.run(time.Second)
	for _, n := range s.all() {
		n.passes = 0
	}
	s.run(time.Second)
	for _, n := range s.all() {
		if n.passes > 0 {
			s.t.Fatalf("%s decides %d times in a second although nothing happens, after: %s", n.name, n.passes, text)
		}
	}
}

// event has something happen to some nodes, and returns those that may lose addresses by it.
func (s *simulation) event() (excused map[string]bool, text string) {
	excused, s.movedTo = map[string]bool{}, netip.Addr{}
	up := slices.DeleteFunc(s.all(), func(n *station) bool { return n.down || n.frozen })
	s.chance.Shuffle(len(up), func(i, j int) { up[i], up[j] = up[j], up[i] })
	some := up[:1+s.chance.IntN(max(1, len(up)/3))]
	if len(up) <= 2 {
		some = up[:1]
	}
	kind := s.chance.IntN(14)
	if len(up) < 2 && kind != 6 {
		kind = 6
	}
	for _, n := range some {
		excused[n.name] = true
	}
	switch kind {
	case 0:
		for _, n := range some {
			s.crash(n)
		}
		text = "crash"
	case 1:
		s.stop(some[0])
		text = "stop"
	case 2:
		// Frozen for less or more than it takes to notice; all of them go on.
		for _, n := range some {
			s.freeze(n)
		}
		s.run(s.between(100, 3000))
		for _, n := range some {
			s.thaw(n)
		}
		text = "freeze"
	case 3:
		// A partition: the smaller side has no say, and when it is back, it takes nothing.
		some = some[:max(1, min(len(some), (len(up)-1)/2))]
		// One that ends while its nodes are still being counted out is as many false alarms: who has taken
		// over from the living keeps it.
		s.part(1, some...)
		span := s.between(100, 6000)
		s.run(span)
		s.part(0, some...)
		if span < 600*time.Millisecond {
			for name := range s.nodes {
				excused[name] = true
			}
		}
		text = "partition"
	case 4:
		n := some[0]
		s.crash(n)
		s.run(s.between(5, 1500))
		s.boot(n)
		text = "restart"
	case 5:
		n := some[0]
		node := Node{Excluded: "Excluded"}
		if text = "exclude"; s.chance.IntN(2) == 0 {
			node, text = Node{Cordoned: true}, "cordon"
		}
		s.change(func(f *Facts) { f.Nodes[n.name] = node })
		s.run(2 * time.Second)
		s.change(func(f *Facts) { f.Nodes[n.name] = Node{} })
	case 6:
		for _, n := range s.all() {
			if n.down {
				s.boot(n)
			}
		}
		text = "boot"
	case 7:
		s.services()
		text = "services"
		clear(excused)
	case 8:
		// Some lose the carrier, and get it back; gossip goes another way.
		some = some[:max(1, min(len(some), (len(up)-1)/2))]
		s.carrier(false, some...)
		s.run(s.between(100, 3000))
		s.carrier(true, some...)
		text = "carrier"
	case 9:
		s.moveTo(some[0].name)
		text = "move to"
		clear(excused)
	case 10:
		// Some of both sides of a partition leave meanwhile.
		some = some[:max(1, min(len(some), (len(up)-1)/2))]
		s.part(1, some...)
		s.run(s.between(100, 3000))
		leavers := []*station{some[0]}
		if rest := slices.DeleteFunc(slices.Clone(up), func(n *station) bool { return n.side == 1 }); len(rest) > 1 {
			leavers = append(leavers, rest[0])
			excused[rest[0].name] = true
		}
		s.stop(leavers...)
		s.part(0, some...)
		text = "stop while parted"
	case 11:
		s.stop(some...)
		text = "stop together"
		if len(some) == len(up) {
			s.boot(some[0])
		}
	case 12:
		// The API server is away for some, while Services come and go.
		for _, n := range some {
			n.deaf = true
		}
		s.services()
		s.run(settle)
		s.midway()
		for _, n := range some {
			s.listen(n)
		}
		text = "services, unheard by some"
		clear(excused)
	case 13:
		// A node does not hear that it may own nothing any more, nor that it may again.
		n := some[0]
		n.deaf = true
		s.change(func(f *Facts) { f.Nodes[n.name] = Node{Excluded: "Excluded"} })
		s.run(settle)
		s.change(func(f *Facts) { f.Nodes[n.name] = Node{} })
		s.run(settle)
		s.midway()
		s.listen(n)
		text = "exclude, unheard"
	}
	return excused, fmt.Sprint(text, " of ", slices.Sorted(maps.Keys(excused)))
}

// midway checks that every address has one holder in the middle of an event.
func (s *simulation) midway() {
	s.t.Helper()
	if !s.lax {
		s.owners()
	}
}

// change has something change in the cluster; nodes hear of it one by one, those that are deaf not at all.
func (s *simulation) change(do func(*Facts)) {
	s.cluster.Cluster = cloned(s.cluster.Cluster)
	do(&s.cluster)
	s.edition++
	seen, edition := s.cluster, s.edition
	for _, n := range s.all() {
		s.post(n, s.between(0, 300), func(n *station) {
			if !n.deaf && n.edition < edition {
				n.seen, n.edition, n.dirty = seen, edition, true
			}
		})
	}
}

// listen has a node hear of the API server again.
func (s *simulation) listen(n *station) {
	n.deaf, n.seen, n.edition, n.dirty = false, s.cluster, s.edition, true
}

const (
	// soon is how long nobody may answer for an address: half a second until a death is known, half until all
	// gossip has come, half for one who does not claim it, and the time of a probe.
	soon = 2 * time.Second
	// crowd is how long several may that reach each other: for as long as a handover takes, and gossip.
	crowd = 1500 * time.Millisecond
)

// watch checks now and then that each address is answered for by one node on side 0, but for a while.
func (s *simulation) watch() {
	s.t.Helper()
	if s.now.Sub(s.watched) < 50*time.Millisecond {
		return
	}
	s.watched = s.now
	able, answering := false, map[netip.Addr][]string{}
	for _, n := range s.all() {
		if n.side != 0 || n.down || n.frozen || !n.settled || !n.links[0].Suitable() {
			continue
		}
		able = true
		for ip, st := range n.stands {
			if st.Phase == Announcing {
				answering[ip] = append(answering[ip], n.name)
			}
		}
	}
	for service := range s.cluster.Services.All() {
		ip := service.IPs[0]
		holders := answering[ip]
		s.since(s.lonely, ip, able && len(holders) == 0, holders, soon)
		s.since(s.crowded, ip, len(holders) > 1, holders, crowd)
	}
}

func (s *simulation) since(m map[netip.Addr]time.Time, ip netip.Addr, is bool, holders []string, limit time.Duration) {
	s.t.Helper()
	switch at, was := m[ip]; {
	case !is:
		delete(m, ip)
	case !was:
		m[ip] = s.now
	case s.now.Sub(at) > limit && !s.lax:
		s.t.Fatalf("%s is answered for by %v for more than %s", ip, holders, limit)
	}
}

// TestLife: whatever happens, each address has one owner in the end, and nothing moves that need not.
func TestLife(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+*seeds; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			chance := rand.New(rand.NewPCG(seed, 1))
			life(t, seed, 2+chance.IntN(12), 1+chance.IntN(60), 12)
		})
	}
}

// TestOverlap: so it is when one thing happens before the last one is over, and the client knows the owners. In one life of
// some hundreds it does not: a node announces, and is stopped before the others have heard that it is back.
func TestOverlap(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+*seeds; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			chance := rand.New(rand.NewPCG(seed, 1))
			o := Options{Rebalance: Rebalance(chance.IntN(3))}
			s := newSimulation(t, seed, 2+chance.IntN(8), 1+chance.IntN(20), o)
			s.lax = true
			var happened []string
			defer func() {
				if t.Failed() {
					t.Log(happened, o)
				}
			}()
			s.run(s.between(0, 3000))
			for range 5 {
				for range 1 + chance.IntN(5) {
					_, text := s.event()
					span := s.between(0, 900)
					s.run(span)
					happened = append(happened, text, span.String())
				}
				s.run(2 * settle)
				s.believed(s.owners())
			}
		})
	}
}

// raceDetector says that the test was built with it: everything takes ten times as long.
var raceDetector bool

// TestLifeOfMany is hundreds of nodes and thousands of addresses. With the race detector, it is a tenth of that.
func TestLifeOfMany(t *testing.T) {
	nodes, addresses := 200, 2000
	if raceDetector || testing.Short() {
		nodes, addresses = 40, 400
	}
	life(t, 1, nodes, addresses, 2)
}

// TestShares: with rebalancing, no node owns more than its share in the end, and none more is moved than it takes.
func TestShares(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			chance := rand.New(rand.NewPCG(seed, 1))
			s := newSimulation(t, seed, 3+chance.IntN(8), 1+chance.IntN(60), Options{Rebalance: RebalanceNow})
			s.run(settle)
			for range 8 {
				_, text := s.event()
				s.run(settle + 15*time.Second)
				owners, moves := s.owners(), s.moves
				s.believed(owners)
				s.bounded(owners)
				if s.run(10 * time.Second); s.moves != moves {
					t.Fatalf("seed %d: %d addresses moved at rest, after: %s", seed, s.moves-moves, text)
				}
			}
		})
	}
}

// TestSwitchRestarts: when all nodes lose carrier and each other for a while, and get both back, most addresses
// are where they were.
func TestSwitchRestarts(t *testing.T) {
	for seed := range uint64(10) {
		s := newSimulation(t, seed, 5, 40, Options{Rebalance: RebalanceOff})
		s.run(settle)
		before := s.owners()
		for i, n := range s.all() {
			s.part(i, n)
		}
		s.carrier(false, s.all()...)
		s.run(settle)
		for _, n := range s.all() {
			s.run(s.between(0, 100))
			s.carrier(true, n)
		}
		s.run(s.between(0, 1000))
		for _, n := range s.all() {
			s.part(0, n)
		}
		s.run(settle)
		after, moved := s.owners(), 0
		for ip := range before {
			if before[ip] != after[ip] {
				moved++
			}
		}
		if moved > len(before)/2 {
			t.Errorf("seed %d: %d of %d addresses moved; they were on %v, and are on %v", seed, moved, len(before), s.loads(before), s.loads(after))
		}
	}
}
