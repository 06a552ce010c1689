package placement

import (
	"net/netip"
	"slices"
	"time"
)

// aFew is how many new addresses are looked up one by one; with more, a whole pass is cheaper.
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
	services  []*Service
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
	}
	p.sortStandings()
	reports := p.listen()
	p.last, p.whole = p.seen.now, whole || p.changed(reports)
	p.turn++
	if !p.whole {
		p.work = append(p.work[:0], p.active...)
		for _, a := range p.work {
			a.turn = p.turn
		}
		p.whole = !p.hear(reports) || !p.serve() || !p.watch()
	}
	p.remember(reports)
	if p.whole {
		p.beginAnew()
	} else {
		p.join()
	}
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
	s.steady = !p.Stood && !p.Leaving && !p.CutOff() && told == len(p.Reports)
	switch {
	case !s.once, !steady, !s.steady, s.cluster != p.Cluster, s.self != p.Self, !slices.Equal(s.members, p.Members):
		return true
	case p.Now.Before(s.now), p.Now.Sub(s.now) > remembered, p.due():
		return true
	}
	for i := range reports {
		was, is := &s.reports[i], &reports[i]
		if was.told != is.told || was.Leaving != is.Leaving || !sameInterfaces(was.Interfaces, is.Interfaces) {
			return true
		}
	}
	return false
}

// hear takes in which claims of others have changed. It reports false if it cannot tell.
func (p *pass) hear(reports []heard) bool {
	for i, node := range p.Members {
		was, is := &p.seen.reports[i], &reports[i]
		if node == p.Self || same(was.Claims, is.Claims) {
			continue
		}
		if was.unsorted || !differences(was.Claims, is.Claims, claimIP, func(ip netip.Addr, now *Claim) { p.hearOf(ip, node, now) }) {
			return false
		}
	}
	return true
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

// serve takes in which Services have changed. It reports false when they are so many that a whole pass is cheaper.
func (p *pass) serve() bool {
	old, now := p.seen.services, p.Services
	for len(old) > 0 || len(now) > 0 {
		switch {
		case len(old) > 0 && len(now) > 0 && old[0] == now[0]:
			old, now = old[1:], now[1:]
		case len(now) == 0 || len(old) > 0 && old[0].Name <= now[0].Name:
			p.end(old[0])
			old = old[1:]
		default:
			if !p.begin(now[0]) {
				return false
			}
			now = now[1:]
		}
	}
	return true
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
		switch r := &reports[i]; {
		case p.whole:
			r.unsorted = !ascending(r.Claims)
		case same(s.reports[i].Claims, r.Claims):
			r.unsorted = s.reports[i].unsorted
		}
	}
	p.spare, s.reports = s.reports, reports
	clear(p.spare)
	if !slices.Equal(s.members, p.Members) {
		s.members = slices.Clone(p.Members)
	}
	if !slices.Equal(s.services, p.Services) {
		s.services = append(s.services[:0], p.Services...)
	}
	s.once, s.self, s.now, s.cluster, s.standings = true, p.Self, p.Now, p.Cluster, p.Standings
}

// join puts what is to be looked at in order, and new addresses among the others.
func (p *pass) join() {
	slices.SortFunc(p.work, byIP)
	for _, a := range p.fresh {
		i, _ := slices.BinarySearchFunc(p.addresses, a, byIP)
		p.addresses = slices.Insert(p.addresses, i, a)
	}
	p.fresh = p.fresh[:0]
}

// beginAnew has everything looked at, and nothing taken for granted but what is remembered.
func (p *pass) beginAnew() {
	p.flush(p.last)
	p.forgetSubnets()
	p.plan, p.shares = newPlan(p.Cluster), shares{tally: map[pair]int{}}
	for _, a := range p.at {
		a.services, a.heard, a.renewed = a.services[:0], nil, true
		a.set, a.base, a.charged, a.share = nil, nil, nil, share{}
	}
	for _, s := range p.Services {
		for _, ip := range s.IPs {
			a := p.at[ip]
			if a == nil {
				a = p.add(ip)
			}
			a.services = append(a.services, s)
		}
	}
	p.addresses = append(p.addresses, p.fresh...)
	if len(p.fresh) > 0 {
		slices.SortFunc(p.addresses, byIP)
	}
	p.fresh = nil
	p.listClaims()
	p.work = append(p.work[:0], p.addresses...)
	for _, a := range p.work {
		a.turn = p.turn
	}
	clear(p.nodes)
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
	return same(a, b) || slices.EqualFunc(a, b, func(x, y Interface) bool {
		return x.Name == y.Name && x.Index == y.Index && x.MAC == y.MAC && x.Up == y.Up && x.Carrier == y.Carrier && x.Ether == y.Ether &&
			x.Master == y.Master && slices.Equal(x.Subnets, y.Subnets)
	})
}
