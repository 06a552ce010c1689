package placement

import (
	"net/netip"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
)

// group is the nodes that may own some address. Addresses under the same advertisements and in the same
// subnets share one.
type group struct {
	nodes []candidate
	at    map[string]int // where each is; nil while they are few
	top   []candidate    // those with the highest weight
	best  int            // that weight
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
	*node
	weight     int
	interfaces []string
	late       bool // cordoned, or not ready for long: it comes in only where nobody else does
}

// node is a node as the elector counts what it has.
type node struct {
	name string
	hash uint64
	load int // addresses that it owns, or is to own
}

// node returns the one with a name.
func (l *Layer2) node(name string) *node {
	n := l.nodes[name]
	if n == nil {
		n = &node{name: name, hash: xxhash.Sum64String(name)}
		l.nodes[name] = n
	}
	return n
}

// charge counts an address as a node's, and no other's; nil: as nobody's.
func (l *Layer2) charge(a *address, n *node) {
	if a.charged != nil {
		a.charged.load--
	}
	if a.charged = n; n != nil {
		n.load++
	}
}

// handful is how many nodes are looked through as fast as looked up.
const handful = 8

func newGroup(nodes []candidate, stray bool, empty Reason) *group {
	g := &group{nodes: nodes, stray: stray}
	if len(nodes) == 0 {
		g.reason = empty
	}
	if len(nodes) > handful {
		g.at = make(map[string]int, len(nodes))
	}
	tops := 0
	for i := range nodes {
		c := &nodes[i]
		if g.at != nil {
			g.at[c.name] = i
		}
		if i == 0 || c.weight > g.best {
			g.best, tops = c.weight, 0
		}
		if c.weight == g.best {
			tops++
		}
	}
	if tops == len(nodes) {
		g.top = nodes
		return g
	}
	for _, c := range nodes {
		if c.weight == g.best {
			g.top = append(g.top, c)
		}
	}
	return g
}

// The groups of addresses that nobody may own.
var (
	uncovered = newGroup(nil, false, NoAdvertisement)
	withdrawn = newGroup(nil, false, NoEndpoint)
)

// find returns a node as one of the group, or nil.
func (g *group) find(node string) *candidate {
	if g.at != nil {
		if i, has := g.at[node]; has {
			return &g.nodes[i]
		}
		return nil
	}
	for i := range g.nodes {
		if g.nodes[i].name == node {
			return &g.nodes[i]
		}
	}
	return nil
}

func (g *group) has(node string) bool { return g.find(node) != nil }

// timely returns the group without those that come in only where nobody else does.
func (g *group) timely() *group {
	if g.punctual == nil {
		g.punctual = g
		late := func(c candidate) bool { return c.late }
		if !slices.ContainsFunc(g.nodes, late) {
			return g
		}
		rest := slices.DeleteFunc(slices.Clone(g.nodes), late)
		if len(rest) > 0 && len(rest) < len(g.nodes) {
			g.punctual = newGroup(rest, g.stray, g.reason)
			g.punctual.punctual = g.punctual
		}
	}
	return g.punctual
}

func (g *group) interfaces(node string) []string {
	if c := g.find(node); c != nil {
		return c.interfaces
	}
	return nil
}

// same reports whether two groups of the same set of advertisements, and the same subnets, come to the same.
func (g *group) same(o *group) bool {
	return g == o || g.reason == o.reason && slices.EqualFunc(g.nodes, o.nodes, func(x, y candidate) bool { return x.node == y.node })
}

// without returns the group less some nodes.
func (g *group) without(nodes ...string) *group {
	rest := slices.DeleteFunc(slices.Clone(g.nodes), func(c candidate) bool { return slices.Contains(nodes, c.name) })
	return newGroup(rest, g.stray, NoEligibleNode)
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
		c := candidate{node: p.node(name), late: p.Nodes[name].Cordoned || p.lateFor(name)}
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
		if p.plan.late.IsZero() || late.Before(p.plan.late) {
			p.plan.late = late
		}
		return false
	}
	return true
}

// lingering is how long an address stays where its endpoints are about to go, or where the node is to be left, when another node has
// an endpoint: it may be new, and kube-proxy not forward to it yet. That begins writing its rules a second after the last time at
// most, and a busy node may take part of another second over it.
const lingering = 2 * time.Second

// serving narrows the group of an address down to the nodes that serve every Service with it that only some nodes serve, those whose
// endpoints of one are all about to go only where nobody else does, and to those that are not late. nobody says that no Service
// with the address is served at all; then nobody's endpoints matter.
func (p *pass) serving(a *address) (_ *group, nobody bool) {
	nobody = !slices.ContainsFunc(a.services, func(s *Service) bool { return s.Served })
	if !slices.ContainsFunc(a.services, (*Service).demands) {
		return a.base.timely(), nobody
	}
	fit, fading := p.fit(a.base, a.services)
	all := a.base
	if len(fit) < len(all.nodes) {
		all = newGroup(fit, a.base.stray, NoEligibleNode)
	}
	best := all.timely()
	if fading > 0 && fading < len(fit) {
		lasting := slices.DeleteFunc(slices.Clone(fit), func(c candidate) bool { return fades(a.services, c.name) })
		best = newGroup(lasting, a.base.stray, NoEligibleNode).timely()
	}
	if owner := a.memory.owner; best.has(owner) || !all.has(owner) {
		a.memory.outdone = time.Time{}
		return best, false
	}
	if p.lingered(a) {
		return best, false
	}
	return all, false
}

// fewest is the Service that the fewest nodes serve, or nil if any node may.
func fewest(services []*Service) (few *Service) {
	for _, s := range services {
		if s.demands() && !s.EndpointAnywhere && (few == nil || len(s.EndpointNodes) < len(few.EndpointNodes)) {
			few = s
		}
	}
	return few
}

// fit returns the nodes of a group that serve every one of the Services that demands it, and how many of them do so only until
// the endpoints of one have terminated.
func (p *pass) fit(g *group, services []*Service) (fit []candidate, fading int) {
	take := func(c *candidate) {
		for _, s := range services {
			if s.demands() && !s.servedOn(c.name) {
				return
			}
		}
		fit = append(fit, *c)
		if fades(services, c.name) {
			fading++
		}
	}
	few := fewest(services)
	if few == nil || g.at == nil || len(few.EndpointNodes) > len(g.nodes)/handful {
		for i := range g.nodes {
			take(&g.nodes[i])
		}
		return fit, fading
	}
	at := p.spots[:0]
	for node := range few.EndpointNodes {
		if i, has := g.at[node]; has {
			at = append(at, i)
		}
	}
	slices.Sort(at)
	fit = make([]candidate, 0, len(at))
	for _, i := range at {
		take(&g.nodes[i])
	}
	p.spots = at
	return fit, fading
}

func fades(services []*Service, node string) bool {
	return slices.ContainsFunc(services, func(s *Service) bool { return s.demands() && s.fadesOn(node) })
}

// lingered reports whether an address has been where another node would serve it better for long enough.
func (p *pass) lingered(a *address) bool {
	if a.memory.outdone.IsZero() {
		a.memory.outdone = p.Now
	}
	due := a.memory.outdone.Add(lingering)
	if p.Now.Before(due) {
		p.wake(a, due)
		return false
	}
	return true
}
