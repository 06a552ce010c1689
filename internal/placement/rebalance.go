package placement

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Rebalance says when addresses move although their owners could keep them: to preferred nodes, and away from
// nodes that own more than their share.
type Rebalance int

// The kinds of rebalancing. In each, one address moves at a time.
const (
	// RebalanceLazy moves when nothing else has changed for five minutes, an address every ten seconds.
	RebalanceLazy Rebalance = iota
	// RebalanceOff moves nothing by itself.
	RebalanceOff
	// RebalanceNow moves as soon as nothing has changed for a fifth of a second.
	RebalanceNow
)

const (
	lazyAfter = 5 * time.Minute
	lazyEvery = 10 * time.Second
	nowAfter  = 200 * time.Millisecond
)

var rebalanceNames = [...]string{RebalanceLazy: "lazy", RebalanceOff: "off", RebalanceNow: "now"}

// ParseRebalance reads "off", "lazy" or "now".
func ParseRebalance(s string) (Rebalance, error) {
	for r, name := range rebalanceNames {
		if s == name {
			return Rebalance(r), nil
		}
	}
	return 0, fmt.Errorf("unknown way of rebalancing %q: choose one of %s", s, strings.Join(rebalanceNames[:], ", "))
}

// rest notes since when nothing has been on the move.
func (p *pass) rest() {
	if p.stirred || p.quiet.IsZero() || len(p.Reports) < len(p.Members) {
		p.calm = false
		p.quiet = p.Now
	}
	for _, a := range p.work {
		if len(a.services) > 0 && len(a.claims) > 0 && a.claims[0].claim.Successor != "" {
			a.stirs, p.moved = true, p.Now
		}
	}
}

// shares are what the search for what to move looks at: how many addresses of each group each node has that may be
// moved, and how many are misplaced; and what it found last.
type shares struct {
	tally     map[pair]int
	misplaced int
	searched  bool   // nothing that it depends on has changed since, but for pairs that are new
	unchecked []pair // those
	found     *address
	to        string
}

type pair struct {
	group *group
	node  *node
}

// share is what one address contributes to the shares.
type share struct {
	pair      pair // on a preferred node; zero: it is not
	misplaced bool // not on a preferred node, although there are some
}

// rebalance hands over what should be elsewhere: where the owner of a Service wants it, at once; otherwise one
// address in the cluster at a time. Every node finds the same one, and its owner hands it over.
func (p *pass) rebalance() {
	if p.Leaving {
		return
	}
	for _, a := range p.work {
		if len(a.services) > 0 && a.moveTo != "" && a.moveTo != p.Self && a.group.has(a.moveTo) {
			p.move(a, a.moveTo)
		}
	}
	for i, a := range p.work {
		p.count(a, &p.before[i])
	}
	if !p.mayRebalance() {
		return
	}
	if p.search(); p.found != nil {
		p.move(p.found, p.to)
	}
}

// search finds what to move, if it might be something else than the last time.
func (p *pass) search() {
	if p.searched && len(p.unchecked) > 0 {
		p.searched = p.found == nil && !slices.ContainsFunc(p.unchecked, func(on pair) bool {
			return on.group != nil && on.group.limits().exceeded(on.node) > 0
		})
	}
	p.unchecked = p.unchecked[:0]
	if p.searched {
		return
	}
	p.searched = true
	if p.found, p.to = p.misplacedOne(); p.found == nil {
		p.found, p.to = p.excess()
	}
}

// count brings the shares up to date with an address.
func (p *pass) count(a *address, was *before) {
	var s share
	if len(a.services) > 0 && a.movable() {
		on := a.find(a.owner)
		if s.misplaced = on.weight < a.group.best; !s.misplaced {
			s.pair = pair{a.group, on.node}
		}
	}
	p.shares.put(a.share, -1)
	p.shares.put(s, 1)
	a.share = s
	p.shares.compare(a, was)
}

// many pairs are checked as fast as all.
const many = 100

func (s *shares) put(one share, times int) {
	if one.misplaced {
		s.misplaced += times
	}
	if one.pair != (pair{}) {
		if s.tally[one.pair] += times; s.tally[one.pair] == 0 {
			delete(s.tally, one.pair)
		}
	}
}

// compare notes whether an address contributes something else than before.
func (s *shares) compare(a *address, was *before) {
	if a.charged != was.charged || a.misplaced != was.misplaced {
		s.searched = false
	}
	if s.searched && a.pair != was.pair {
		s.unchecked = append(s.unchecked, a.pair)
		s.searched = len(s.unchecked) < many
	}
	was.share, was.charged = a.share, a.charged
}

// move hands an address over if it is ours and not on the move.
func (p *pass) move(a *address, to string) {
	o := a.own
	if a.owner != p.Self || o == nil || o.Successor != "" || !o.conceded.IsZero() {
		return
	}
	p.include(a)
	if o.refused == to && p.Now.Before(o.named.Add(lazyEvery)) {
		p.wake(a, o.named.Add(lazyEvery))
		return // it did not take it a moment ago
	}
	p.handOver(a, o, to)
}

func (p *pass) mayRebalance() bool {
	var at time.Time
	switch p.options.Rebalance {
	case RebalanceOff:
		return false
	case RebalanceNow:
		at = p.quiet.Add(nowAfter)
		if next := p.moved.Add(nowAfter); next.After(at) {
			at = next
		}
	case RebalanceLazy:
		at = p.quiet.Add(lazyAfter)
		if next := p.moved.Add(lazyEvery); next.After(at) {
			at = next
		}
	}
	if p.Now.Before(at) {
		p.wakeAt(at)
	}
	return p.calm && !p.Now.Before(at)
}

// movable reports whether an address may be moved without its Services' owners saying so.
func (a *address) movable() bool {
	return a.claimed && a.claims[0].claim.Phase == Announcing && a.find(a.owner) != nil && a.owner != a.moveTo
}

// misplacedOne finds the first address that is not on one of its preferred nodes.
func (p *pass) misplacedOne() (*address, string) {
	if p.misplaced > 0 {
		for _, a := range p.addresses {
			if a.misplaced {
				return a, a.group.elect(a.ip)
			}
		}
	}
	return nil, ""
}

// excess finds the first address of the nodes that are furthest above the bound, and the node of its group that owns
// the least.
func (p *pass) excess() (*address, string) {
	best, most := map[pair]bool{}, 0
	limits := map[*group]limits{} // of those that are dear to find out
	for on := range p.tally {
		l, known := limits[on.group]
		if !known {
			if l = on.group.limits(); len(on.group.top) > handful {
				limits[on.group] = l
			}
		}
		over := l.exceeded(on.node)
		if over == 0 || over < most {
			continue
		}
		if over > most {
			clear(best)
		}
		best[on], most = true, over
	}
	if most > 0 {
		for _, a := range p.addresses {
			if best[a.pair] {
				return a, a.least()
			}
		}
	}
	return nil, ""
}

// limits are what the load of a node in a group is held against.
type limits struct {
	bound int
	least int // that a preferred node owns
}

func (g *group) limits() limits {
	l := limits{g.bound(), g.top[0].load}
	for i := range g.top {
		l.least = min(l.least, g.top[i].load)
	}
	return l
}

// exceeded is how far a node is above the bound, if another one can take something; else 0.
func (l limits) exceeded(n *node) int {
	if over := n.load - l.bound; over > 0 && l.least+1 < n.load {
		return over
	}
	return 0
}

// least is the preferred node of an address that owns the least; ties go by hash.
func (a *address) least() string {
	var best *node
	for i := range a.group.top {
		switch c := a.group.top[i].node; {
		case best == nil, c.load < best.load, c.load == best.load && affinity(c.name, a.ip) > affinity(best.name, a.ip):
			best = c
		}
	}
	return best.name
}
