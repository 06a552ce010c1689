package placement

import (
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/lanyard-lb/lanyard/internal/iprange"
)

// group is the nodes that may own some address. Addresses under the same advertisements and in the same
// subnets share one.
type group struct {
	nodes []candidate
	at    map[string]int
	top   []candidate // those with the highest weight
	// stray says that no node has a subnet with the address.
	stray bool
	// reason why there is nobody.
	reason Reason
	// unclaimed counts the addresses of the group that are still to be placed in this pass.
	unclaimed int
	punctual  *group // see timely
}

// candidate is one node that may own an address.
type candidate struct {
	name       string
	hash       uint64
	weight     int
	interfaces []string
	late       bool // cordoned, or not ready for long: it comes in only where nobody else does
}

func newGroup(nodes []candidate, stray bool, empty Reason) *group {
	g := &group{nodes: nodes, at: make(map[string]int, len(nodes)), stray: stray}
	if len(nodes) == 0 {
		g.reason = empty
	}
	best := 0
	for i, c := range nodes {
		g.at[c.name] = i
		if i == 0 || c.weight > best {
			best = c.weight
		}
	}
	for _, c := range nodes {
		if c.weight == best {
			g.top = append(g.top, c)
		}
	}
	return g
}

func (g *group) has(node string) bool {
	_, has := g.at[node]
	return has
}

// timely returns the group without those that come in only where nobody else does.
func (g *group) timely() *group {
	if g.punctual == nil {
		g.punctual = g
		rest := slices.DeleteFunc(slices.Clone(g.nodes), func(c candidate) bool { return c.late })
		if len(rest) > 0 && len(rest) < len(g.nodes) {
			g.punctual = newGroup(rest, g.stray, g.reason)
			g.punctual.punctual = g.punctual
		}
	}
	return g.punctual
}

func (g *group) prefers(node string) bool {
	return slices.ContainsFunc(g.top, func(c candidate) bool { return c.name == node })
}

func (g *group) interfaces(node string) []string {
	if i, has := g.at[node]; has {
		return g.nodes[i].interfaces
	}
	return nil
}

// without returns the group less some nodes.
func (g *group) without(nodes ...string) *group {
	rest := slices.DeleteFunc(slices.Clone(g.nodes), func(c candidate) bool { return slices.Contains(nodes, c.name) })
	return newGroup(rest, g.stray, NoEligibleNode)
}

// subnets are the distinct subnets among the interfaces that a set of advertisements allows.
type subnets struct {
	list   []netip.Prefix
	ignore bool // one of the advertisements does not care
}

// remembered is how long a subnet counts that no node has any more: with its interfaces down, its addresses are
// not to be announced elsewhere.
const remembered = time.Hour

// learnSubnets remembers which subnets the interfaces have that a set of advertisements allows, whatever their
// state.
func (p *pass) learnSubnets(ads []*Advertisement) {
	known := p.known[allowing(ads)]
	if known == nil {
		known = map[netip.Prefix]time.Time{}
		p.known[allowing(ads)] = known
	}
	for _, node := range p.Members {
		for _, i := range p.Reports[node].Interfaces {
			if !i.Ether || !slices.ContainsFunc(ads, func(ad *Advertisement) bool { return ad.Nodes[node] && ad.allows(i.Name) }) {
				continue
			}
			for _, prefix := range i.Subnets {
				known[prefix.Masked()] = p.Now
			}
		}
	}
}

// allowing names a set of advertisements and the interfaces that it allows: with other interfaces, other subnets
// count.
func allowing(ads []*Advertisement) string {
	var key strings.Builder
	for _, ad := range ads {
		key.WriteString(ad.Name + " " + strings.Join(ad.Interfaces, " ") + "\n")
	}
	return key.String()
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

// homeless reports whether no node has, or had of late, a subnet with an address on an interface that a set of
// advertisements allows.
func (p *pass) homeless(ip netip.Addr, ads []*Advertisement) bool {
	for prefix := range p.known[allowing(ads)] {
		if prefix.Contains(ip) && prefix.Bits() < ip.BitLen() {
			return false
		}
	}
	return true
}

// covering returns the advertisements that an address falls under, and a key that names their set.
func (p *pass) covering(ip netip.Addr, services []*Service) ([]*Advertisement, string) {
	pool := p.poolOf(ip)
	var ads []*Advertisement
	var key strings.Builder
	for i := range p.Advertisements {
		ad := &p.Advertisements[i]
		selected := slices.ContainsFunc(services, func(s *Service) bool { return s.Advertisements == nil || s.Advertisements[ad.Name] })
		if selected && (pool == "" || ad.Pools[pool]) {
			ads = append(ads, ad)
			key.WriteString(ad.Name + "\n")
		}
	}
	return ads, key.String()
}

func (p *pass) poolOf(ip netip.Addr) string {
	for i := range p.Pools {
		if slices.ContainsFunc(p.Pools[i].Ranges, func(r iprange.Range) bool { return r.Contains(ip) }) {
			return p.Pools[i].Name
		}
	}
	return ""
}

// groupOf returns the nodes that may own an address, whoever serves it.
func (p *pass) groupOf(ip netip.Addr, ads []*Advertisement, key string) *group {
	s := p.subnetsOf(ads, key)
	var within strings.Builder
	for i, prefix := range s.list {
		if prefix.Contains(ip) {
			within.WriteByte(byte(i >> 8))
			within.WriteByte(byte(i))
		}
	}
	id := key + "\x00" + within.String()
	if g, known := p.groups[id]; known {
		return g
	}
	g := p.gather(ip, ads, within.Len() == 0 && !s.ignore && p.homeless(ip, ads))
	p.groups[id] = g
	return g
}

// subnetsOf lists the subnets of all interfaces that can be announced on under a set of advertisements.
func (p *pass) subnetsOf(ads []*Advertisement, key string) subnets {
	if s, known := p.subnets[key]; known {
		return s
	}
	p.learnSubnets(ads)
	var s subnets
	seen := map[netip.Prefix]bool{}
	for _, node := range p.Members {
		for _, ad := range ads {
			s.ignore = s.ignore || ad.IgnoreSubnets
			p.eachInterface(node, ad, func(i Interface) {
				for _, prefix := range i.Subnets {
					if prefix = prefix.Masked(); !seen[prefix] && p.mayOwn(node) {
						seen[prefix] = true
						s.list = append(s.list, prefix)
					}
				}
			})
		}
	}
	p.subnets[key] = s
	return s
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

// gather looks for the nodes that may own an address: with an interface whose subnet contains it, or, for a
// stray one, with any.
func (p *pass) gather(ip netip.Addr, ads []*Advertisement, stray bool) *group {
	var nodes []candidate
	empty := NoEligibleNode
	for _, name := range p.Members {
		if !p.mayOwn(name) {
			continue
		}
		c := candidate{name: name, hash: xxhash.Sum64String(name), late: p.Nodes[name].Cordoned || p.lateFor(name)}
		for _, ad := range ads {
			if !ad.Nodes[name] {
				continue
			}
			empty = NoInterface
			p.eachInterface(name, ad, func(i Interface) {
				if (stray || ad.IgnoreSubnets || i.reaches(ip)) && !slices.Contains(c.interfaces, i.Name) {
					c.interfaces = append(c.interfaces, i.Name)
				}
			})
			for _, preference := range ad.Preferred {
				if preference.Nodes[name] {
					c.weight += preference.Weight
				}
			}
		}
		if len(c.interfaces) > 0 {
			nodes = append(nodes, c)
		}
	}
	return newGroup(nodes, stray, empty)
}

func (i Interface) reaches(ip netip.Addr) bool {
	return slices.ContainsFunc(i.Subnets, func(s netip.Prefix) bool { return s.Contains(ip) })
}

// mayOwn reports whether a node may own addresses at all.
func (p *pass) mayOwn(name string) bool {
	node, exists := p.Nodes[name]
	return exists && node.Excluded == "" && !p.Reports[name].Leaving && (name != p.Self || !p.Leaving)
}

// lateFor reports whether a node has not been ready for longer than is put up with.
func (p *pass) lateFor(name string) bool {
	since := p.Nodes[name].NotReadySince
	if p.options.NotReadyAfter == 0 || since.IsZero() {
		return false
	}
	late := since.Add(p.options.NotReadyAfter)
	if late.After(p.Now) {
		p.wakeAt(late)
		return false
	}
	return true
}

// lingering is how long an address stays where its endpoints are about to go, or where the node is to be left, when another node has
// an endpoint: it may be new, and kube-proxy, which writes its rules once a second at most, not know of it yet.
const lingering = time.Second

// serving narrows the group of an address down to the nodes that serve every Service with it that only some nodes serve, those whose
// endpoints of one are all about to go only where nobody else does, and to those that are not late. nobody says that no Service
// with the address is served at all; then nobody's endpoints matter.
func (p *pass) serving(a *address) (_ *group, nobody bool) {
	nobody = !slices.ContainsFunc(a.services, func(s *Service) bool { return s.Served })
	demanding := slices.DeleteFunc(slices.Clone(a.services), func(s *Service) bool { return !s.Local || !s.Served })
	if len(demanding) == 0 {
		return a.group.timely(), nobody
	}
	var fit, lasting []candidate
	for _, c := range a.group.nodes {
		if slices.ContainsFunc(demanding, func(s *Service) bool { return !s.servedOn(c.name) }) {
			continue
		}
		fit = append(fit, c)
		if !slices.ContainsFunc(demanding, func(s *Service) bool { return s.fadesOn(c.name) }) {
			lasting = append(lasting, c)
		}
	}
	all := a.group
	if len(fit) < len(all.nodes) {
		all = newGroup(fit, a.group.stray, NoEligibleNode)
	}
	best := all.timely()
	if len(lasting) > 0 && len(lasting) < len(fit) {
		best = newGroup(lasting, a.group.stray, NoEligibleNode).timely()
	}
	if owner := a.memory.owner; best.has(owner) || !all.has(owner) {
		a.memory.outdone = time.Time{}
		return best, false
	}
	if p.lingered(a.memory) {
		return best, false
	}
	return all, false
}

// lingered reports whether an address has been where another node would serve it better for long enough.
func (p *pass) lingered(m *memory) bool {
	if m.outdone.IsZero() {
		m.outdone = p.Now
	}
	due := m.outdone.Add(lingering)
	if p.Now.Before(due) {
		p.wakeAt(due)
		return false
	}
	return true
}
