package placement

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/lanyard-lb/lanyard/internal/sortedlist"
)

// told is what the last decision said.
type told struct {
	verdicts      sortedlist.List[*Verdict]
	claims        []*Claim
	own           []*Announcement // of what Self owns
	announcements []*Announcement // of joined, and of what it only probes
	joined        []*Announcement
	probes        []*Announcement
}

// conclude writes the decision down, as far as it is another than the last one; notes which addresses are not at rest;
// and lets go of those that no Service has any more.
func (p *pass) conclude() {
	var new []*address // the verdict on them is another
	var gone []*address
	p.active = p.active[:0]
	for i, a := range p.work {
		was := &p.before[i]
		p.compare(a, was)
		if len(a.services) == 0 {
			gone = append(gone, a)
		} else if a.stirs || a.restless() || a.changed(was) {
			p.active = append(p.active, a)
		}
		if p.say(a) {
			new = append(new, a)
		}
	}
	p.forget(gone)
	if p.whole {
		p.writeAll()
	} else {
		p.write(new)
	}
	p.decision.Verdicts, p.decision.Claims = p.told.verdicts, p.told.claims
}

// write takes in what is another than before.
func (p *pass) write(new []*address) {
	verdicts := make([]sortedlist.Edit[netip.Addr, *Verdict], len(new))
	for i, a := range new {
		verdicts[i] = sortedlist.Edit[netip.Addr, *Verdict]{Key: a.ip, Now: a.verdict, Gone: a.verdict == nil}
	}
	var claims []edit[*Claim]
	var own []edit[*Announcement]
	for i, a := range p.work {
		was := p.before[i].own
		if is := a.own; is != nil && (was == nil || was.Claim != is.Claim) {
			c := is.Claim
			claims = append(claims, edit[*Claim]{a.ip, &c, false})
		} else if is == nil && was != nil {
			claims = append(claims, edit[*Claim]{ip: a.ip, gone: true})
		}
		before, had := was.announcement()
		if now, has := a.own.announcement(); has != had || !now.same(&before) {
			own = append(own, edit[*Announcement]{a.ip, &now, !has})
		}
	}
	t := &p.told
	t.verdicts = sortedlist.Edited(t.verdicts, verdicts, func(v *Verdict, ip netip.Addr) int { return v.IP.Compare(ip) })
	t.claims = edited(t.claims, claims, func(c *Claim) netip.Addr { return c.IP })
	t.own = edited(t.own, own, func(a *Announcement) netip.Addr { return a.IP })
}

// writeAll takes everything in.
func (p *pass) writeAll() {
	verdicts := make([]*Verdict, len(p.addresses))
	var claims []*Claim
	var own []*Announcement
	for i, a := range p.addresses {
		if verdicts[i] = a.verdict; a.own == nil {
			continue
		}
		c := a.own.Claim
		claims = append(claims, &c)
		if announcement, has := a.own.announcement(); has {
			own = append(own, &announcement)
		}
	}
	t := &p.told
	reuse(claims, t.claims, func(c *Claim) netip.Addr { return c.IP }, func(a, b *Claim) bool { return *a == *b })
	reuse(own, t.own, func(a *Announcement) netip.Addr { return a.IP }, (*Announcement).same)
	if !sortedlist.Equal(t.verdicts, verdicts) {
		t.verdicts = sortedlist.Of(verdicts)
	}
	if !slices.Equal(t.claims, claims) {
		t.claims = claims
	}
	if !slices.Equal(t.own, own) {
		t.own = own
	}
}

// reuse puts what was told before in the place of what says the same; both are sorted by address.
func reuse[T any](now, before []*T, ip func(*T) netip.Addr, same func(a, b *T) bool) {
	for i, e := range now {
		for len(before) > 0 && ip(before[0]).Less(ip(e)) {
			before = before[1:]
		}
		if len(before) > 0 && same(before[0], e) {
			now[i] = before[0]
		}
	}
}

// restless reports whether Self has claimed an address and does not simply announce it.
func (a *address) restless() bool {
	return a.own != nil && (a.own.Phase != Announcing || a.own.Weak || a.own.Rival != MAC{})
}

// changed reports whether anything that is remembered of an address has changed.
func (a *address) changed(was *before) bool {
	m, w := &a.memory, &was.memory
	return m.expected != w.expected || !m.until.Equal(w.until) || !slices.Equal(m.missed, w.missed) || !m.stranded.Equal(w.stranded) ||
		!m.outdone.Equal(w.outdone) || m.used != w.used || m.owner != w.owner || !m.latest.Equal(w.latest) || !a.own.same(was.own)
}

func (o *own) same(w *own) bool {
	if o == nil || w == nil {
		return o == w
	}
	return o.Claim == w.Claim && slices.Equal(o.interfaces, w.interfaces) && o.round == w.round && o.probe == w.probe && o.named.Equal(w.named) &&
		o.refused == w.refused && slices.Equal(o.rivals, w.rivals) && o.defied.Equal(w.defied) && o.conceded.Equal(w.conceded) &&
		o.rivalOn == w.rivalOn && o.suspect.same(&w.suspect) && o.recheck.Equal(w.recheck)
}

// announcement of an address that Self has claimed, unless another's claim stands.
func (o *own) announcement() (Announcement, bool) {
	if o == nil || !o.conceded.IsZero() {
		return Announcement{}, false
	}
	return Announcement{IP: o.IP, Interfaces: o.interfaces, Round: o.round, Probe: o.probe}, true
}

func (a *Announcement) same(b *Announcement) bool {
	return a.IP == b.IP && a.Round == b.Round && a.Probe == b.Probe && slices.Equal(a.Interfaces, b.Interfaces)
}

// say brings the verdict on an address up to date, and reports whether it is another one now.
func (p *pass) say(a *address) bool {
	if len(a.services) == 0 {
		had := a.verdict != nil
		a.verdict = nil
		return had
	}
	if v := p.verdict(a); a.verdict == nil || !v.same(a.verdict) {
		another := v
		a.verdict = &another
		return true
	}
	return false
}

func (v *Verdict) same(o *Verdict) bool {
	return v.IP == o.IP && v.Owner == o.Owner && v.Reason == o.Reason && v.Detail == o.Detail && v.Claim == o.Claim &&
		slices.Equal(v.Services, o.Services) && slices.Equal(v.Interfaces, o.Interfaces)
}

func (p *pass) verdict(a *address) Verdict {
	v := Verdict{IP: a.ip, Services: a.names, Owner: a.owner, Reason: a.reason}
	if a.owner == "" {
		v.Reason = cmp.Or(v.Reason, NoEligibleNode)
		return v
	}
	if on := a.find(a.owner); on != nil {
		v.Interfaces = on.interfaces
	}
	if a.group.stray {
		v.Detail = "no node has a subnet with this address"
	}
	claim := a.claim(p.Self)
	if claim == nil {
		v.Reason = Settling
		return v
	}
	v.Claim = *claim
	switch {
	case claim.Rival != MAC{}:
		v.Reason, v.Detail = AddressConflict, "a stranger at "+claim.Rival.String()+" uses the address"
	case claim.Phase != Announcing:
		v.Reason = Settling
	default:
		v.Reason = cmp.Or(v.Reason, Announced)
	}
	return v
}

// claim of the owner, or nil.
func (a *address) claim(self string) *Claim {
	switch {
	case a.owner == self && a.own != nil:
		return &a.own.Claim
	case a.owner != self && a.claimed && a.claims[0].node == a.owner:
		return a.claims[0].claim
	}
	return nil
}

// forget lets go of addresses.
func (p *pass) forget(gone []*address) {
	for _, a := range gone {
		delete(p.at, a.ip)
	}
	if len(gone) > aFew {
		p.addresses = slices.DeleteFunc(p.addresses, func(a *address) bool { return len(a.services) == 0 })
		return
	}
	for _, a := range gone {
		if i, found := slices.BinarySearchFunc(p.addresses, a, byIP); found {
			p.addresses = slices.Delete(p.addresses, i, i+1)
		}
	}
}

// announce joins what Self owns and what it only probes.
func (p *pass) announce() {
	t := &p.told
	if !same(t.own, t.joined) || !slices.EqualFunc(p.probes, t.probes, (*Announcement).same) {
		t.joined, t.probes, t.announcements = t.own, p.probes, t.own
		if len(p.probes) > 0 {
			t.announcements = slices.Concat(t.own, p.probes)
			slices.SortFunc(t.announcements, func(a, b *Announcement) int { return a.IP.Compare(b.IP) })
		}
	}
	p.decision.Announcements = t.announcements
}

// edit is an element that comes into a list, in place of one with the same address, or goes from it.
type edit[T any] struct {
	ip   netip.Addr
	now  T
	gone bool
}

// edited is a list with changes, both sorted by address; without any, it is the same one.
func edited[T any](list []T, changes []edit[T], ip func(T) netip.Addr) []T {
	if len(changes) == 0 {
		return list
	}
	now := make([]T, 0, len(list)+len(changes))
	for _, c := range changes {
		i, found := slices.BinarySearchFunc(list, c.ip, func(e T, at netip.Addr) int { return ip(e).Compare(at) })
		now = append(now, list[:i]...)
		if !c.gone {
			now = append(now, c.now)
		}
		if found {
			i++
		}
		list = list[i:]
	}
	return append(now, list...)
}
