package placement

import (
	"cmp"
	"encoding/binary"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lanyard-lb/lanyard/internal/iprange"
)

// remembered is how long a subnet counts that no node has any more: with its interfaces down, its addresses are
// not to be announced elsewhere.
const remembered = time.Hour

// plan is what follows from the Cluster, the members and their interfaces alone, as far as it was needed. It stays
// until one of them changes.
type plan struct {
	pools       pools
	byPool      map[string][]*Advertisement // of each pool; those of all for an address that none contains
	sets        map[string]*adset           // by the names of the advertisements
	plain       map[string]*adset           // by pool, for Services that all advertisements select
	uses        int                         // addresses that have a set
	late        time.Time                   // when the next node will be late; zero: none will
	forget      time.Time                   // when the first subnet is to be forgotten that no node has any more; zero: never
	checks      map[netip.Addr][]string     // see checks
	quarantined []netip.Addr                // sorted, each once
	passed      map[netip.Prefix]bool       // see passOver
	key         []byte
}

// adset is a set of advertisements that some addresses fall under.
type adset struct {
	key      string
	ads      []*Advertisement
	allowing string // names the set and the interfaces that it allows: with other interfaces, other subnets count
	ignore   bool   // one of them does not care for subnets
	withdraw bool   // one of them withdraws what nobody serves
	strays   bool   // there may be addresses that no subnet contains
	uses     int
	present  map[netip.Prefix]int // subnets of the interfaces that the set allows, whatever their state; how many have each
	subnets  prefixes             // of those that can be announced on now
	homes    prefixes             // of those that there are, or were of late
	groups   map[string]*group
}

func newPlan(c *Cluster) *plan {
	n := &plan{pools: newPools(c.Pools), byPool: map[string][]*Advertisement{}, sets: map[string]*adset{}, plain: map[string]*adset{},
		checks: map[netip.Addr][]string{}, passed: map[netip.Prefix]bool{}, quarantined: slices.Clone(c.Quarantined)}
	slices.SortFunc(n.quarantined, netip.Addr.Compare)
	n.quarantined = slices.Compact(n.quarantined)
	for i := range c.Advertisements {
		ad := &c.Advertisements[i]
		n.byPool[""] = append(n.byPool[""], ad)
		for pool, selected := range ad.Pools {
			if selected {
				n.byPool[pool] = append(n.byPool[pool], ad)
			}
		}
	}
	return n
}

// covering finds the advertisements that an address falls under; nil: none.
func (p *pass) covering(ip netip.Addr, services []*Service) *adset {
	pool := p.plan.pools.of(ip)
	all := slices.ContainsFunc(services, func(s *Service) bool { return s.Advertisements == nil })
	if all {
		if set, known := p.plan.plain[pool]; known && p.plan.sets[set.key] == set {
			return set
		}
	}
	key := p.plan.key[:0]
	var some [16]*Advertisement
	ads := some[:0]
	for _, ad := range p.plan.byPool[pool] {
		if all || slices.ContainsFunc(services, func(s *Service) bool { return s.Advertisements[ad.Name] }) {
			ads = append(ads, ad)
			key = append(append(key, ad.Name...), '\n')
		}
	}
	if p.plan.key = key; len(ads) == 0 {
		return nil
	}
	set, known := p.plan.sets[string(key)]
	if !known {
		set = p.newAdset(string(key), slices.Clone(ads))
		p.plan.sets[set.key] = set
	}
	if all {
		p.plan.plain[pool] = set
	}
	return set
}

func (p *pass) newAdset(key string, ads []*Advertisement) *adset {
	s := &adset{key: key, ads: ads, allowing: allowing(ads), present: map[netip.Prefix]int{}, groups: map[string]*group{}}
	for _, ad := range ads {
		s.ignore, s.withdraw = s.ignore || ad.IgnoreSubnets, s.withdraw || ad.Withdraw
	}
	for _, node := range p.Members {
		may := p.mayOwn(node)
		for _, i := range p.Reports[node].Interfaces {
			if !s.allows(node, i) {
				continue
			}
			for _, prefix := range i.Subnets {
				prefix = prefix.Masked()
				s.present[prefix]++
				if may && i.Suitable() {
					s.subnets.add(prefix)
				}
			}
		}
	}
	p.learn(s, p.Now)
	for prefix := range p.known[s.allowing] {
		if !prefix.IsSingleIP() {
			s.homes.add(prefix)
		}
	}
	return s
}

// allows reports whether an interface of a node counts, whatever its state.
func (s *adset) allows(node string, i Interface) bool {
	return i.Ether && slices.ContainsFunc(s.ads, func(ad *Advertisement) bool { return ad.Nodes[node] && ad.allows(i.Name) })
}

func allowing(ads []*Advertisement) string {
	var key strings.Builder
	for _, ad := range ads {
		key.WriteString(ad.Name + " " + strings.Join(ad.Interfaces, " ") + "\n")
	}
	return key.String()
}

// use has an address fall under a set, or under none.
func (p *pass) use(a *address, set *adset) {
	if a.set == set {
		return
	}
	if set != nil {
		set.uses++
		p.plan.uses++
	}
	if old := a.set; old != nil {
		old.uses--
		p.plan.uses--
		if old.uses == 0 { // nobody learns of its subnets any more
			p.learn(old, p.last)
			delete(p.plan.sets, old.key)
			p.forgetAt(p.last.Add(remembered))
		}
	}
	a.set = set
}

// learn remembers that the subnets of a set were there at a time.
func (l *Layer2) learn(s *adset, at time.Time) {
	for prefix := range s.present {
		l.learnOne(s, prefix, at)
	}
}

func (l *Layer2) learnOne(s *adset, prefix netip.Prefix, at time.Time) {
	known := l.known[s.allowing]
	if known == nil {
		known = map[netip.Prefix]time.Time{}
		l.known[s.allowing] = known
	}
	known[prefix] = at
}

// flush remembers that the subnets of all sets in use were there at a time.
func (l *Layer2) flush(at time.Time) {
	for _, s := range l.plan.sets {
		l.learn(s, at)
	}
}

// forgetSubnets forgets those that were not seen for long.
func (p *pass) forgetSubnets() {
	for key, known := range p.known {
		maps.DeleteFunc(known, func(_ netip.Prefix, last time.Time) bool { return p.Now.Sub(last) > remembered })
		if len(known) == 0 {
			delete(p.known, key)
		}
	}
}

// expire finds out when the first subnet is to be forgotten that no node has any more.
func (p *pass) expire() {
	present := map[string]map[netip.Prefix]int{}
	for _, s := range p.plan.sets {
		present[s.allowing] = s.present
	}
	for key, known := range p.known {
		for prefix, last := range known {
			if present[key][prefix] == 0 {
				p.forgetAt(last.Add(remembered))
			}
		}
	}
}

func (p *pass) forgetAt(t time.Time) {
	if p.plan.forget.IsZero() || t.Before(p.plan.forget) {
		p.plan.forget = t
	}
}

// due reports whether time alone has changed the plan.
func (p *pass) due() bool {
	late, forget := p.plan.late, p.plan.forget
	return !late.IsZero() && !p.Now.Before(late) || !forget.IsZero() && p.Now.After(forget)
}

// passOver takes in that a node has other interfaces, and reports whether that concerns no address: those of pods come
// and go all the time. It does not if none of their subnets contains one, and no address may be announced on
// interfaces whatever their subnets.
func (p *pass) passOver(node string, was, is []Interface) bool {
	for _, s := range p.plan.sets {
		if s.ignore || s.strays {
			return false
		}
	}
	var come, gone []Interface
	for len(was) > 0 || len(is) > 0 {
		switch {
		case len(was) > 0 && len(is) > 0 && was[0].same(is[0]):
			was, is = was[1:], is[1:]
		case len(is) == 0 || len(was) > 0 && was[0].Name <= is[0].Name:
			gone, was = append(gone, was[0]), was[1:]
		default:
			come, is = append(come, is[0]), is[1:]
		}
	}
	for _, i := range slices.Concat(gone, come) {
		for _, prefix := range i.Subnets {
			if p.holds(prefix.Masked()) {
				return false
			}
			p.plan.passed[prefix.Masked()] = true
		}
	}
	if len(p.plan.passed) > mostPassed {
		return false
	}
	for _, s := range p.plan.sets {
		for _, i := range gone {
			p.present(s, node, i, -1)
		}
		for _, i := range come {
			p.come = append(p.come, arrival{s, node, i})
		}
	}
	clear(p.plan.checks)
	return true
}

// arrival is an interface that is new, and has been passed over, for a set that was in use then.
type arrival struct {
	set  *adset
	node string
	Interface
}

// arrive counts the new interfaces: of a set that is not in use any more, it is known when its subnets were there last.
func (p *pass) arrive() {
	for _, a := range p.come {
		p.present(a.set, a.node, a.Interface, 1)
	}
}

// present counts an interface that a set may allow.
func (p *pass) present(s *adset, node string, i Interface, times int) {
	if !s.allows(node, i) {
		return
	}
	for _, prefix := range i.Subnets {
		prefix = prefix.Masked()
		if s.present[prefix] += times; s.present[prefix] > 0 {
			continue
		}
		delete(s.present, prefix)
		p.learnOne(s, prefix, p.last)
		p.forgetAt(p.last.Add(remembered))
	}
}

// holds reports whether a subnet contains one of the addresses.
func (l *Layer2) holds(subnet netip.Prefix) bool {
	i, _ := slices.BinarySearchFunc(l.addresses, subnet.Addr(), func(a *address, ip netip.Addr) int { return a.ip.Compare(ip) })
	return i < len(l.addresses) && subnet.Contains(l.addresses[i].ip)
}

// mostPassed bounds how many subnets are remembered that were passed over.
const mostPassed = 200

// passedOver reports whether the plan may be wrong about an address that is new.
func (n *plan) passedOver(ip netip.Addr) bool {
	for prefix := range n.passed {
		if prefix.Contains(ip) {
			return true
		}
	}
	return false
}

// groupOf returns the nodes that may own an address, whoever serves it.
func (p *pass) groupOf(ip netip.Addr, s *adset) *group {
	key := s.subnets.containing(ip, p.plan.key[:0])
	stray := false
	if len(key) == 0 && !s.ignore {
		if stray = len(s.homes.containing(ip, key)) == 0; stray {
			key = append(key, '-')
		}
	}
	p.plan.key = key
	g, known := s.groups[string(key)]
	if !known {
		g = p.gather(ip, s.ads, stray)
		s.strays = s.strays || stray
		s.groups[string(key)] = g
	}
	return g
}

// eachInterface yields the interfaces of a node that an advertisement allows and that work.
func (p *pass) eachInterface(node string, ad *Advertisement, yield func(Interface)) {
	if !ad.Nodes[node] {
		return
	}
	for _, i := range p.Reports[node].Interfaces {
		if i.Suitable() && ad.allows(i.Name) {
			yield(i)
		}
	}
}

func (a *Advertisement) allows(name string) bool {
	return len(a.Interfaces) == 0 || slices.ContainsFunc(a.Interfaces, func(pattern string) bool {
		matched, err := path.Match(pattern, name)
		return err == nil && matched
	})
}

// prefixes is a set of subnets in which those with an address are found by one look for each prefix length.
type prefixes struct {
	index   map[netip.Prefix]uint32
	lengths []int // that there are
}

func (s *prefixes) add(prefix netip.Prefix) {
	if _, known := s.index[prefix]; known {
		return
	}
	if s.index == nil {
		s.index = map[netip.Prefix]uint32{}
	}
	s.index[prefix] = uint32(len(s.index))
	if !slices.Contains(s.lengths, prefix.Bits()) {
		s.lengths = append(s.lengths, prefix.Bits())
	}
}

// containing appends to key what names the subnets that contain an address; nothing when none does.
func (s *prefixes) containing(ip netip.Addr, key []byte) []byte {
	for _, bits := range s.lengths {
		if prefix, err := ip.Prefix(bits); err == nil {
			if i, known := s.index[prefix]; known {
				key = binary.BigEndian.AppendUint32(key, i)
			}
		}
	}
	return key
}

// pools finds the pool of an address.
type pools struct {
	ranges []poolRange // sorted
}

type poolRange struct {
	iprange.Range
	name  string
	order int        // of the pool
	reach netip.Addr // the last address of this and all ranges before
}

func newPools(list []Pool) pools {
	var s pools
	for order, pool := range list {
		for _, r := range pool.Ranges {
			s.ranges = append(s.ranges, poolRange{Range: r, name: pool.Name, order: order})
		}
	}
	slices.SortFunc(s.ranges, func(a, b poolRange) int { return a.First().Compare(b.First()) })
	for i := range s.ranges {
		r := &s.ranges[i]
		if r.reach = r.Last(); i > 0 && r.reach.Less(s.ranges[i-1].reach) {
			r.reach = s.ranges[i-1].reach
		}
	}
	return s
}

// of returns the first pool that contains an address, or "".
func (s *pools) of(ip netip.Addr) (name string) {
	i, _ := slices.BinarySearchFunc(s.ranges, ip, func(r poolRange, ip netip.Addr) int { return cmp.Or(r.First().Compare(ip), -1) })
	order := 0
	for i--; i >= 0 && !s.ranges[i].reach.Less(ip); i-- {
		if r := &s.ranges[i]; r.Contains(ip) && (name == "" || r.order < order) {
			name, order = r.name, r.order
		}
	}
	return name
}
