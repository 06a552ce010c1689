package placement

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/lanyard-lb/lanyard/internal/sortedlist"
)

// aFew is how many new addresses are looked up one by one in all claims; with more, it is cheaper to list all.
const aFew = 20

// seen is what the last decision was made of, as far as it tells what has changed since.
type seen struct {
	once      bool // there was one
	steady    bool
	self      string
	now       time.Time
	cluster   *Cluster
	members   []string
	reports   []heard // of the members, in their order
	services  sortedlist.List[*Service]
	standings []*Standing
}

// heard is what a member has told.
type heard struct {
	Report
	told     bool
	unsorted bool // its claims are not as they should be
}

// takeIn finds out what is to be looked at: all addresses, or those that have changed and those that are not at rest.
func (p *pass) takeIn(whole bool) {
	if !slices.Equal(p.seen.members, p.Members) {
		p.unsettled()
		p.regain()
	}
	p.sortStandings()
	p.turn++
	p.work = p.work[:0]
	reports := p.listen()
	p.last = p.seen.now
	p.whole = p.changed(reports) || whole
	known := p.seen.once && p.seen.self == p.Self && p.hear(reports) && p.serve() && p.watch()
	if !known {
		p.relist()
		p.whole = true
	}
	p.remember(reports)
	p.join()
	if p.whole {
		p.beginAnew()
		return
	}
	for _, a := range p.active {
		p.touch(a)
	}
	slices.SortFunc(p.work, byIP)
}

// listen gathers what the members have told.
func (p *pass) listen() []heard {
	reports := p.spare[:0]
	for _, m := range p.Members {
		r, told := p.Reports[m]
		reports = append(reports, heard{Report: r, told: told})
	}
	return reports
}

// changed reports whether something has changed that may concern all addresses.
func (p *pass) changed(reports []heard) bool {
	s := &p.seen
	told := 0
	for i := range reports {
		if reports[i].told {
			told++
		}
	}
	steady := s.steady
	s.steady = !p.Stood && !p.Leaving && !p.cutOff() && told == len(p.Reports)
	switch {
	case !s.once, !steady, !s.steady, s.cluster != p.Cluster, s.self != p.Self, !slices.Equal(s.members, p.Members):
		return true
	case p.Now.Before(s.now), p.Now.Sub(s.now) > remembered, p.due():
		return true
	}
	for i, node := range p.Members {
		was, is := &s.reports[i], &reports[i]
		if was.told != is.told || was.Leaving != is.Leaving || !sameInterfaces(was.Interfaces, is.Interfaces) && !p.passOver(node, was.Interfaces, is.Interfaces) {
			return true
		}
	}
	return false
}

// hear takes in which claims of others have changed. It reports false if it cannot tell, as they are not sorted.
func (p *pass) hear(reports []heard) bool {
	if slices.Equal(p.seen.members, p.Members) {
		for i, node := range p.Members {
			if !p.hearFrom(node, &p.seen.reports[i], &reports[i]) {
				return false
			}
		}
		return true
	}
	before := map[string]*heard{}
	for i, node := range p.seen.members {
		before[node] = &p.seen.reports[i]
	}
	for i, node := range p.Members {
		was := before[node]
		if delete(before, node); was == nil {
			was = &heard{}
		}
		if !p.hearFrom(node, was, &reports[i]) {
			return false
		}
	}
	for node, was := range before {
		if !p.hearFrom(node, was, &heard{}) {
			return false
		}
	}
	return true
}

func (p *pass) hearFrom(node string, was, is *heard) bool {
	switch {
	case node == p.Self:
		return true
	case was.unsorted:
		return false
	}
	return same(was.Claims, is.Claims) || differences(was.Claims, is.Claims, claimIP, func(ip netip.Addr, now *Claim) { p.hearOf(ip, node, now) })
}

// hearOf takes in what a node now claims of an address, or nil.
func (p *pass) hearOf(ip netip.Addr, node string, now *Claim) {
	a := p.at[ip]
	if a == nil {
		return
	}
	p.touch(a)
	a.heard = slices.DeleteFunc(a.heard, func(c claimant) bool { return c.node == node })
	if now != nil {
		a.heard = append(a.heard, claimant{node: node, claim: now})
	}
}

// serve takes in which Services have changed. It reports false when so many addresses are new that it is cheaper to list all.
func (p *pass) serve() bool {
	few := true
	sortedlist.Differences(p.seen.services, p.Services, byServiceName, func(was, now *Service) {
		if few && was != nil {
			p.end(was)
		}
		few = few && (now == nil || p.begin(now))
	})
	return few
}

// end takes a Service from its addresses.
func (p *pass) end(s *Service) {
	for _, ip := range s.IPs {
		a := p.at[ip]
		if a == nil {
			continue
		}
		if i := slices.Index(a.services, s); i >= 0 {
			a.services = slices.Delete(a.services, i, i+1)
		}
		a.renewed = true
		p.touch(a)
	}
}

// begin gives a Service to its addresses.
func (p *pass) begin(s *Service) bool {
	for _, ip := range s.IPs {
		a := p.at[ip]
		if a == nil {
			if len(p.fresh) == aFew {
				return false
			}
			a = p.add(ip)
			p.whole = p.whole || p.plan.passedOver(ip)
			for _, node := range p.Members {
				if node != p.Self {
					p.look(a, node)
				}
			}
		}
		a.services = append(a.services, s)
		a.renewed = true
		p.touch(a)
	}
	return true
}

// add makes an address known.
func (l *Layer2) add(ip netip.Addr) *address {
	a := &address{ip: ip, renewed: true}
	l.at[ip] = a
	l.fresh = append(l.fresh, a)
	return a
}

// look searches the claims of a node for an address.
func (p *pass) look(a *address, node string) {
	claims := p.Reports[node].Claims
	if i, found := slices.BinarySearchFunc(claims, a.ip, func(c *Claim, ip netip.Addr) int { return c.IP.Compare(ip) }); found {
		a.heard = append(a.heard, claimant{node: node, claim: claims[i]})
	}
}

// watch takes in which standings have changed.
func (p *pass) watch() bool {
	return same(p.seen.standings, p.Standings) || differences(p.seen.standings, p.Standings, standingIP, func(ip netip.Addr, _ *Standing) {
		if a := p.at[ip]; a != nil {
			p.touch(a)
		}
	})
}

func (p *pass) sortStandings() {
	order := func(a, b *Standing) int { return a.IP.Compare(b.IP) }
	if !same(p.seen.standings, p.Standings) && !slices.IsSortedFunc(p.Standings, order) {
		p.Standings = slices.Clone(p.Standings)
		slices.SortStableFunc(p.Standings, order)
	}
}

// standing finds how an address stands.
func (p *pass) standing(ip netip.Addr) (Standing, bool) {
	if i, found := slices.BinarySearchFunc(p.Standings, ip, func(s *Standing, ip netip.Addr) int { return s.IP.Compare(ip) }); found {
		return *p.Standings[i], true
	}
	return Standing{}, false
}

// touch has an address looked at.
func (p *pass) touch(a *address) {
	if a.turn != p.turn {
		a.turn = p.turn
		p.work = append(p.work, a)
	}
}

// remember keeps what the next decision is to be compared with.
func (p *pass) remember(reports []heard) {
	s := &p.seen
	for i := range reports {
		if r := &reports[i]; p.whole { // else they are
			r.unsorted = !ascending(r.Claims)
		}
	}
	p.spare, s.reports = s.reports, reports
	clear(p.spare)
	if !slices.Equal(s.members, p.Members) {
		s.members = slices.Clone(p.Members)
	}
	s.once, s.self, s.now, s.cluster, s.services, s.standings = true, p.Self, p.Now, p.Cluster, p.Services, p.Standings
}

// join puts new addresses among the others.
func (p *pass) join() {
	if len(p.fresh) > aFew {
		p.addresses = append(p.addresses, p.fresh...)
		slices.SortFunc(p.addresses, byIP)
	} else {
		for _, a := range p.fresh {
			i, _ := slices.BinarySearchFunc(p.addresses, a, byIP)
			p.addresses = slices.Insert(p.addresses, i, a)
		}
	}
	p.fresh = p.fresh[:0]
}

// relist takes all Services and claims in anew.
func (p *pass) relist() {
	for _, a := range p.at {
		a.services, a.heard = a.services[:0], a.heard[:0]
	}
	for s := range p.Services.All() {
		for _, ip := range s.IPs {
			a := p.at[ip]
			if a == nil {
				a = p.add(ip)
			}
			a.services = append(a.services, s)
		}
	}
	p.listClaims()
}

// beginAnew has everything looked at, by a new plan.
func (p *pass) beginAnew() {
	p.flush(p.last)
	p.forgetSubnets()
	p.plan, p.shares = newPlan(p.Cluster), shares{tally: make(map[pair]int, len(p.tally))}
	clear(p.nodes)
	p.work = append(p.work[:0], p.addresses...)
	for _, a := range p.work {
		a.renewed, a.set, a.base, a.charged, a.share, a.turn = true, nil, nil, nil, share{}, p.turn
	}
}

// listClaims gathers the claims of the others on each address.
func (p *pass) listClaims() {
	for _, node := range p.Members {
		if node == p.Self {
			continue
		}
		for _, c := range p.Reports[node].Claims {
			if a := p.at[c.IP]; a != nil {
				a.heard = append(a.heard, claimant{node: node, claim: c})
			}
		}
	}
}

func byServiceName(a, b *Service) int { return cmp.Compare(a.Name, b.Name) }

func byIP(a, b *address) int { return a.ip.Compare(b.ip) }

func claimIP(c *Claim) netip.Addr { return c.IP }

func standingIP(s *Standing) netip.Addr { return s.IP }

func ascending(claims []*Claim) bool {
	for i := range max(0, len(claims)-1) {
		if !claims[i].IP.Less(claims[i+1].IP) {
			return false
		}
	}
	return true
}

// same reports whether two slices are one.
func same[T any](a, b []T) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

// differences yields what is another pointer in now than in old, or nil where there is none any more: both are
// sorted by address, each address once. It reports false, and may have yielded anything, if now is not.
func differences[T any](old, now []*T, ip func(*T) netip.Addr, yield func(netip.Addr, *T)) bool {
	differ := false // the last ones did
	for i, j := 0, 0; i < len(old) || j < len(now); {
		if i < len(old) && j < len(now) && old[i] == now[j] && !differ {
			i++
			j++
			continue
		}
		if j > 0 && j < len(now) && !ip(now[j-1]).Less(ip(now[j])) {
			return false
		}
		order := 0
		switch {
		case i == len(old):
			order = 1
		case j == len(now):
			order = -1
		default:
			order = ip(old[i]).Compare(ip(now[j]))
		}
		if differ = order != 0 || old[i] != now[j]; differ {
			if order < 0 {
				yield(ip(old[i]), nil)
			} else {
				yield(ip(now[j]), now[j])
			}
		}
		if order <= 0 {
			i++
		}
		if order >= 0 {
			j++
		}
	}
	return true
}

func sameInterfaces(a, b []Interface) bool {
	return same(a, b) || slices.EqualFunc(a, b, Interface.same)
}

func (i Interface) same(o Interface) bool {
	return i.Name == o.Name && i.Index == o.Index && i.MAC == o.MAC && i.Up == o.Up && i.Carrier == o.Carrier && i.Ether == o.Ether &&
		i.Master == o.Master && slices.Equal(i.Subnets, o.Subnets)
}
