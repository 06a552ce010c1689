package placement

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// enough is how often in a row nobody must have answered for a quarantined address to be used again.
	enough = 2
	// returning is how long a node that comes back may be heard on the wire before it has told of its interfaces, where
	// nobody knows them. A missing peer is tried again after 2.5 seconds at most, each try takes up to 2.5 seconds more (half
	// a second to connect, two to exchange what is known), and one that was still under way when the LAN came back is in vain.
	returning = 8 * time.Second
)

// Stranger is somebody on the LAN who uses an address of ours.
type Stranger struct {
	IP        netip.Addr
	MAC       MAC
	Interface string // of Self, that it was heard on
	// Held says that a Service was announced with the address when the stranger came.
	Held bool
}

// check is the probing of a quarantined address that no Service has.
type check struct {
	round   uint64
	free    int       // how often in a row nobody has answered
	next    time.Time // when to probe again; zero: a probe is under way
	suspect suspect
}

// suspect is who was heard to use an address, and was no node of ours that was known then.
type suspect struct {
	mac   MAC
	heard time.Time // last
	from  time.Time // from when on it is called a stranger
	ours  bool      // it is a node of ours
}

// held reports whether it is too early to call it a stranger.
func (s *suspect) held(now time.Time) bool { return !s.ours && now.Before(s.from) }

// forget is when it is not called a stranger any more, although the address is announced: it was not heard any more.
func (s *suspect) forget(o Options) time.Time {
	if s.heard.After(s.from) {
		return s.heard.Add(o.grudge())
	}
	return s.from.Add(o.grudge())
}

func (s *suspect) same(o *suspect) bool {
	return s.mac == o.mac && s.heard.Equal(o.heard) && s.from.Equal(o.from) && s.ours == o.ours
}

// stranger takes in who was heard to use an address, and reports whether to call it a stranger now. While some node of
// ours is not known, that takes a while: it may be that one.
func (p *pass) stranger(s *suspect, by Standing) bool {
	if by.Rival != s.mac || by.RivalAt.After(s.heard) && (s.ours || by.RivalAt.After(s.forget(p.options))) {
		*s = suspect{mac: by.Rival, from: by.RivalAt}
		if p.unheard() {
			s.from = p.Now.Add(returning)
		}
	}
	s.heard = by.RivalAt
	s.ours = s.ours || p.peer(s.mac)
	if s.held(p.Now) && !p.unheard() {
		s.from = p.Now
	}
	return !s.ours && !s.held(p.Now)
}

// unheard reports whether there is a node of ours that has not told of its interfaces.
func (p *pass) unheard() bool {
	return p.Unheard || p.untold()
}

// untold reports whether a member has not told of its interfaces yet.
func (p *pass) untold() bool {
	return slices.ContainsFunc(p.Members, func(m string) bool { _, told := p.Reports[m]; return !told })
}

// quarantine tells which strangers we know of, and looks after the addresses in quarantine: of one that is
// announced, the owner knows whether the stranger is gone; one that no Service has, one node probes. A node that is cut
// off from the others, or was a moment ago, says nothing: what it takes for strangers may be its own peers.
func (p *pass) quarantine() {
	if p.CutOff() {
		clear(p.checking)
		return
	}
	for _, a := range p.work {
		if o := a.own; o != nil && o.conceded.IsZero() && !o.Weak && (o.Rival != MAC{}) {
			p.decision.Found = append(p.decision.Found, Stranger{IP: a.ip, MAC: o.Rival, Interface: o.rivalOn, Held: o.Phase == Announcing})
		}
	}
	checked := map[netip.Addr]bool{}
	for _, ip := range p.plan.quarantined {
		switch a := p.at[ip]; {
		case a == nil:
			names, known := p.plan.checks[ip]
			if !known {
				names = p.checks(ip)
				p.plan.checks[ip] = names
			}
			if len(names) > 0 {
				checked[ip] = true
				p.probe(ip, names)
			}
		case a.owner == p.Self && a.own != nil && a.own.Phase == Announcing && (a.own.Rival == MAC{}):
			p.decision.Gone = append(p.decision.Gone, ip)
		}
	}
	for ip := range p.checking {
		if !checked[ip] {
			delete(p.checking, ip)
		}
	}
	slices.SortFunc(p.decision.Found, func(a, b Stranger) int { return a.IP.Compare(b.IP) })
}

// peer reports whether a MAC address is of another member.
func (p *pass) peer(mac MAC) bool {
	for node, r := range p.Reports {
		if node != p.Self && slices.ContainsFunc(r.Interfaces, func(i Interface) bool { return i.MAC == mac }) {
			return true
		}
	}
	return false
}

// checks returns the interfaces on which Self is to probe an address that no Service has: one node does, of
// those with the subnet where there are any.
func (p *pass) checks(ip netip.Addr) []string {
	best, names := "", []string(nil)
	within := false
	for _, node := range p.Members {
		if !p.mayOwn(node) {
			continue
		}
		on, reaches := p.probeOn(node, ip)
		switch {
		case len(on) == 0, within && !reaches:
		case best == "", reaches && !within, affinity(node, ip) > affinity(best, ip):
			best, names, within = node, on, reaches
		}
	}
	if best != p.Self {
		return nil
	}
	return names
}

func (p *pass) probeOn(node string, ip netip.Addr) (names []string, reaches bool) {
	var all []string
	for _, i := range p.Reports[node].Interfaces {
		if !i.Suitable() {
			continue
		}
		all = append(all, i.Name)
		if i.reaches(ip) {
			names = append(names, i.Name)
		}
	}
	if len(names) > 0 {
		return names, true
	}
	return all, false
}

func (p *pass) probe(ip netip.Addr, names []string) {
	c := p.checking[ip]
	if c == nil {
		p.round++
		c = &check{round: p.round}
		p.checking[ip] = c
	}
	s, _ := p.standing(ip)
	switch {
	case !c.next.IsZero() && !p.Now.Before(c.next):
		p.round++
		c.round, c.next = p.round, time.Time{}
	case s.Phase == Taken:
		c.free = 0
		if p.stranger(&c.suspect, s) {
			p.decision.Found = append(p.decision.Found, Stranger{IP: ip, MAC: s.Rival, Interface: s.RivalOn})
		} else if c.suspect.held(p.Now) {
			p.wakeAt(c.suspect.from)
		}
		p.probeAgain(c)
	case s.Phase == Free && c.next.IsZero():
		c.free++
		p.probeAgain(c)
	}
	if c.free >= enough {
		p.decision.Gone = append(p.decision.Gone, ip)
	}
	if !c.next.IsZero() {
		p.wakeAt(c.next)
	}
	p.probes = append(p.probes, &Announcement{IP: ip, Interfaces: names, Round: c.round, Probe: ProbeOnly})
}

func (p *pass) probeAgain(c *check) {
	if c.next.IsZero() {
		c.next = p.Now.Add(max(p.options.Recheck, time.Second))
	}
}
