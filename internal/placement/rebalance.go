package placement

import (
	"fmt"
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
	for _, a := range p.addresses {
		if len(a.claims) > 0 && a.claims[0].claim.Successor != "" {
			p.moved = p.Now
			return
		}
	}
}

// rebalance hands over what should be elsewhere: where the owner of a Service wants it, at once; otherwise one
// address in the cluster at a time. Every node finds the same one, and its owner hands it over.
func (p *pass) rebalance() {
	if p.Leaving {
		return
	}
	for _, a := range p.addresses {
		if a.moveTo != "" && a.moveTo != p.Self && a.group.has(a.moveTo) {
			p.move(a, a.moveTo)
		}
	}
	if !p.mayRebalance() {
		return
	}
	a, to := p.misplaced()
	if a == nil {
		a, to = p.excess()
	}
	if a != nil {
		p.move(a, to)
	}
}

// move hands an address over if it is ours and not on the move.
func (p *pass) move(a *address, to string) {
	o := p.own[a.ip]
	if a.owner != p.Self || o == nil || o.Successor != "" || !o.conceded.IsZero() {
		return
	}
	if o.refused == to && p.Now.Before(o.named.Add(lazyEvery)) {
		p.wakeAt(o.named.Add(lazyEvery))
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
func (p *pass) movable(a *address) bool {
	return a.claimed && a.claims[0].claim.Phase == Announcing && a.group.has(a.owner) && a.owner != a.moveTo
}

// misplaced finds the first address that is not on one of its preferred nodes.
func (p *pass) misplaced() (*address, string) {
	for _, a := range p.addresses {
		if p.movable(a) && len(a.group.top) < len(a.group.nodes) && !a.group.prefers(a.owner) {
			return a, p.elect(a.ip, a.group)
		}
	}
	return nil, ""
}

// excess finds an address of the node that is furthest above the bound, and the node of its group that owns
// the least.
func (p *pass) excess() (found *address, to string) {
	limits := map[*group]int{}
	most := 0
	for _, a := range p.addresses {
		limit, known := limits[a.group]
		if !known {
			limit = p.bound(a.group)
			limits[a.group] = limit
		}
		over := p.load[a.owner] - limit
		if over <= most || !p.movable(a) || !a.group.prefers(a.owner) {
			continue
		}
		if least := p.least(a); p.load[least]+1 < p.load[a.owner] {
			found, to, most = a, least, over
		}
	}
	return found, to
}

// least is the preferred node of an address that owns the least; ties go by hash.
func (p *pass) least(a *address) string {
	best := ""
	for _, c := range a.group.top {
		switch load := p.load[c.name]; {
		case best == "", load < p.load[best], load == p.load[best] && affinity(c.name, a.ip) > affinity(best, a.ip):
			best = c.name
		}
	}
	return best
}
