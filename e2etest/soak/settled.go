package soak

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Rest is what was seen when everything should be at rest.
type Rest struct {
	Facts *Facts
	// Answers are the hosts that answered for each address, to the questions of each client.
	Answers []map[netip.Addr][]string
	// Records are the holders of each address by the IPAllocationRecords: Services and reservations as namespace/name,
	// the latter with a trailing asterisk.
	Records map[netip.Addr][]string
	// MACs of the nodes.
	MACs map[string]string
}

// Owners are the hosts that answer, where one alone does.
func (r Rest) Owners() map[netip.Addr]string {
	owners := map[netip.Addr]string{}
	for _, answers := range r.Answers {
		for ip, hosts := range answers {
			if len(hosts) == 1 {
				owners[ip] = hosts[0]
			}
		}
	}
	return owners
}

// Disagreements are all that contradicts itself when everything should be at rest: what Services have and what they
// could have, what their conditions, the reports, the records and the counts of the pools say, and who answers on the
// LAN.
func (r Rest) Disagreements() []string {
	d := &disagreements{Rest: r, holders: r.Facts.Holders()}
	d.wire()
	for _, name := range slices.Sorted(maps.Keys(r.Facts.Services)) {
		if s := r.Facts.Services[name]; s.Ours() {
			d.assigned(s)
			d.announced(s)
		} else {
			d.notOurs(s)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Facts.Reports)) {
		if s := r.Facts.Services[name]; (s == nil || len(s.IPs) == 0) && !d.orphaned(name) {
			d.say("there is a ServiceL2Status %s, and no Service of that name has an address", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Facts.Pools)) {
		d.pool(r.Facts.Pools[name])
	}
	for _, name := range slices.Sorted(maps.Keys(r.Facts.Advertisements)) {
		d.advertisement(r.Facts.Advertisements[name])
	}
	d.records()
	return d.list
}

type disagreements struct {
	Rest
	holders map[netip.Addr][]*Service
	list    []string
}

func (d *disagreements) say(format string, args ...any) {
	d.list = append(d.list, fmt.Sprintf(format, args...))
}

// wire compares who answers with who may.
func (d *disagreements) wire() {
	for i, answers := range d.Answers {
		for _, ip := range slices.SortedFunc(maps.Keys(answers), netip.Addr.Compare) {
			hosts, holders := answers[ip], d.holders[ip]
			may, why := d.Facts.MayAnnounce(ip, holders)
			switch {
			case len(holders) == 0 && len(hosts) > 0:
				d.say("%s is answered by %v, and no status names it", ip, hosts)
			case len(holders) == 0:
			case len(may) == 0 && len(hosts) > 0:
				d.say("%s of %v is answered by %v, and nobody may: %s", ip, names(holders), hosts, why)
			case len(may) > 0 && (len(hosts) != 1 || !may[hosts[0]]):
				d.say("%s of %v is answered by %v, want one of %v", ip, names(holders), hosts, slices.Sorted(maps.Keys(may)))
			case i > 0 && !slices.Equal(d.Answers[0][ip], hosts):
				d.say("%s is answered by %v to one client and by %v to another", ip, d.Answers[0][ip], hosts)
			}
		}
	}
	for ip, holders := range d.holders {
		for i, a := range holders {
			for _, b := range holders[i+1:] {
				if !MayShare(a, b) {
					d.say("%s is held by %s and %s, which may not share it", ip, a.Full(), b.Full())
				}
			}
		}
	}
}

// slot is one address that a Service asks for: a given one, or any of a family.
type slot struct {
	family int
	ip     netip.Addr
}

func familyOf(ip netip.Addr) int {
	if ip.Is4() {
		return 4
	}
	return 6
}

// missing are the wishes of a Service that what it has does not fulfil.
func (d *disagreements) missing(s *Service) (missing []slot) {
	left := slices.Clone(s.IPs)
	var wishes []slot
	for _, ip := range s.Requested() {
		wishes = append(wishes, slot{familyOf(ip), ip})
	}
	for _, f := range s.Families {
		if !slices.ContainsFunc(wishes, func(w slot) bool { return w.family == f }) {
			wishes = append(wishes, slot{family: f})
		}
	}
	for _, w := range wishes {
		at := slices.IndexFunc(left, func(ip netip.Addr) bool { return d.fulfils(s, w, ip) })
		if at < 0 {
			missing = append(missing, w)
			continue
		}
		left = slices.Delete(left, at, at+1)
	}
	return missing
}

func (d *disagreements) fulfils(s *Service, w slot, ip netip.Addr) bool {
	pool := d.Facts.PoolOf(ip)
	switch {
	case w.ip.IsValid():
		return ip == w.ip
	case familyOf(ip) != w.family:
		return false
	case pool == nil:
		return s.Annotations[annotationReassign] != "true"
	case s.Reservation() != "":
		r := d.Facts.Reservations[s.Reservation()]
		return r != nil && slices.Contains(r.Held, ip)
	}
	return len(s.Pools()) == 0 || slices.Contains(s.Pools(), pool.Name)
}

// orphaned tells whether a report belongs to a Service that is gone: Kubernetes deletes it, and may be late with that when
// the API server has been away.
func (d *disagreements) orphaned(report string) bool {
	owners, s := d.Facts.Reports[report].Owners, d.Facts.Services[report]
	return len(owners) > 0 && (s == nil || !slices.Contains(owners, s.UID))
}

// leaves tells whether a Service may have an address outside of all pools that it is to give up for another one.
func (d *disagreements) leaves(s *Service) bool {
	for _, p := range d.Facts.Pools {
		if p.Reassign {
			return true
		}
	}
	return len(s.Pools()) > 0 || s.Reservation() != ""
}

// reasons are those of docs/allocation.md that may come up here.
var reasons = []string{"InvalidRequest", "NoPool", "PoolNotAllowed", "FamilyUnavailable", "PoolPaused", "PoolExhausted", "AddressNotInPool",
	"AddressInUse", "SharingConflict", "ReservationMissing", "ReservationFull", "Quarantined"}

// assigned compares what a Service has with what it could have, and both with its condition.
func (d *disagreements) assigned(s *Service) {
	missing := d.missing(s)
	invalid := slices.ContainsFunc(s.Requested(), func(ip netip.Addr) bool { return !slices.Contains(s.Families, familyOf(ip)) })
	outside := slices.ContainsFunc(s.IPs, func(ip netip.Addr) bool { return d.Facts.PoolOf(ip) == nil })
	status := "False"
	if d.served(s) {
		status = "True"
	}
	switch have := s.Assigned; {
	case have.Status != status || have.Message == "":
		d.say("Service %s has %v and misses %v, and its condition is %+v, want %s", s.Full(), s.IPs, missing, have, status)
	case invalid:
		if have.Reason != "InvalidRequest" {
			d.say("Service %s asks for an address of a family that it does not have, and its condition is %+v", s.Full(), have)
		}
	case len(missing) == 0 && outside:
		if waits := d.leaves(s) && slices.Contains(reasons, have.Reason); have.Reason != "OutsidePool" && !waits {
			d.say("Service %s has %v, in no pool any more, and its condition is %+v", s.Full(), s.IPs, have)
		}
	case len(missing) == 0:
		if have.Reason != "Assigned" {
			d.say("Service %s has all that it asks for, %v, and its condition is %+v", s.Full(), s.IPs, have)
		}
	case !slices.Contains(reasons, have.Reason):
		d.say("Service %s has %v and misses %v, and its condition is %+v", s.Full(), s.IPs, missing, have)
	default:
		d.denied(s, missing)
	}
}

// served tells whether a Service has what it cannot do without: an address of each family when it requires both, else any.
func (d *disagreements) served(s *Service) bool {
	for _, f := range s.Families {
		if s.RequireBoth && !slices.ContainsFunc(s.IPs, func(ip netip.Addr) bool { return familyOf(ip) == f }) {
			return false
		}
	}
	return len(s.IPs) > 0
}

// denied checks that a Service cannot have what it misses.
func (d *disagreements) denied(s *Service, missing []slot) {
	var could []string
	for _, w := range missing {
		if from := d.could(s, w); from != "" {
			could = append(could, from)
		}
	}
	if len(could) == 0 || s.RequireBoth && len(could) < len(missing) {
		return // one that requires both families takes all that it misses, or nothing
	}
	d.say("Service %s has %v and waits (%s: %s), although it could have %s", s.Full(), s.IPs, s.Assigned.Reason, s.Assigned.Message,
		strings.Join(could, " and "))
}

// could says from where a Service could have an address, or "".
func (d *disagreements) could(s *Service, w slot) string {
	switch {
	case w.ip.IsValid():
		if p := d.Facts.PoolOf(w.ip); p == nil || len(s.Pools()) > 0 && !slices.Contains(s.Pools(), p.Name) || !d.free(s, w.ip) {
			return ""
		}
		return w.ip.String()
	case s.Reservation() != "":
		r := d.Facts.Reservations[s.Reservation()]
		if r == nil {
			return ""
		}
		for _, ip := range r.Held {
			if familyOf(ip) == w.family && d.free(s, ip) {
				return ip.String() + " of its reservation"
			}
		}
		return ""
	}
	if s.Key() != "" {
		others := d.sharedBy(s, w.family)
		for _, ip := range others {
			p := d.Facts.PoolOf(ip)
			if d.free(s, ip) && p != nil && (len(s.Pools()) == 0 || slices.Contains(s.Pools(), p.Name)) {
				return ip.String() + " of its sharing key"
			}
		}
		if len(others) > 0 && s.Annotations[annotationSpill] != "true" {
			return ""
		}
	}
	for _, p := range d.Facts.Pools {
		asked := slices.Contains(s.Pools(), p.Name) || len(s.Pools()) == 0 && p.AutoAssign
		if asked && !p.Paused && !p.Closing && p.Ready.Status == "True" && p.Counts[w.family].Available > 0 {
			return fmt.Sprintf("one of the %d of IPv%d in pool %s", p.Counts[w.family].Available, w.family, p.Name)
		}
	}
	return ""
}

// free tells whether a Service could have a given address. What a pool keeps for a Service of some name counts as not
// free: who it is kept for, the records say.
func (d *disagreements) free(s *Service, ip netip.Addr) bool {
	p := d.Facts.PoolOf(ip)
	if p == nil || slices.ContainsFunc(p.Quarantined, func(q Quarantined) bool { return q.Address == ip.String() }) {
		return false
	}
	joins := false
	for _, other := range d.holders[ip] {
		if other.Full() != s.Full() && !MayShare(s, other) {
			return false
		}
		joins = joins || other.Full() != s.Full()
	}
	for name, r := range d.Facts.Reservations {
		if slices.Contains(r.Held, ip) {
			if name != s.Reservation() {
				return false
			}
			joins = true
		} else if name == s.Reservation() {
			return false
		}
	}
	return joins || !p.Paused && !p.Closing && !p.Retains
}

// sharedBy are the addresses of the others of a Service's sharing key.
func (d *disagreements) sharedBy(s *Service, family int) (ips []netip.Addr) {
	for ip, holders := range d.holders {
		if familyOf(ip) == family && slices.ContainsFunc(holders, func(o *Service) bool { return o.Full() != s.Full() && o.Key() == s.Key() }) {
			ips = append(ips, ip)
		}
	}
	return ips
}

// announced compares the condition and the report of a Service with what the LAN says.
func (d *disagreements) announced(s *Service) {
	report := d.Facts.Reports[s.Full()]
	if len(s.IPs) == 0 {
		if s.Announced != (Condition{}) {
			d.say("Service %s has no address, and its condition is Announced %+v", s.Full(), s.Announced)
		}
		return
	}
	owners := d.Owners()
	status, why := "True", ""
	for _, ip := range slices.SortedFunc(slices.Values(s.IPs), netip.Addr.Compare) {
		if may, no := d.Facts.MayAnnounce(ip, d.holders[ip]); len(may) == 0 && status == "True" {
			status, why = "False", no
		}
	}
	if s.Announced.Status != status || why != "" && s.Announced.Reason != why {
		d.say("Service %s with %v should have the condition Announced %s %s, and has %+v", s.Full(), s.IPs, status, why, s.Announced)
	}
	for _, ip := range s.IPs {
		if said := fmt.Sprintf("%s by %s on ", ip, owners[ip]); owners[ip] != "" && !strings.Contains(s.Announced.Message, said) {
			d.say("Service %s: %s is answered by %s, and the condition Announced says %q", s.Full(), ip, owners[ip], s.Announced.Message)
		}
	}
	if report == nil {
		d.say("Service %s with %v has no ServiceL2Status", s.Full(), s.IPs)
		return
	}
	if len(report.Announcements) != len(s.IPs) {
		d.say("Service %s has %v, and its ServiceL2Status tells of %d addresses", s.Full(), s.IPs, len(report.Announcements))
	}
	for _, a := range report.Announcements {
		owner := owners[a.IP]
		agrees := a.Node == owner && (a.Phase == "Announcing") == (owner != "") && (owner == "" || a.MAC == d.MACs[owner])
		if !slices.Contains(s.IPs, a.IP) || !agrees {
			d.say("Service %s has %v, %s is answered by %q (%s), and its ServiceL2Status says %+v", s.Full(), s.IPs, a.IP, owner,
				d.MACs[owner], a)
		}
	}
}

// notOurs checks that nothing of ours is left on a Service.
func (d *disagreements) notOurs(s *Service) {
	if s.LoadBalancer && len(s.IPs) == 0 && s.Announced == (Condition{}) {
		return // what its condition says is for those of its class, who may be another Lanyard
	}
	if len(s.IPs) > 0 || s.Assigned != (Condition{}) || s.Announced != (Condition{}) {
		d.say("Service %s is none of ours, and has %v, IPAssigned %+v, Announced %+v", s.Full(), s.IPs, s.Assigned, s.Announced)
	}
}

// pool compares the counts of a pool with who holds its addresses.
func (d *disagreements) pool(p *Pool) {
	if !p.Current {
		d.say("pool %s has no condition Ready about its present spec: %+v", p.Name, p.Ready)
		return
	}
	if p.Name == bad {
		if p.Ready.Reason != "NothingLeft" {
			d.say("pool %s lists the nodes' own addresses, and says Ready %+v", p.Name, p.Ready)
		}
		return
	}
	if p.Ready.Status != "True" {
		d.say("pool %s says Ready %+v", p.Name, p.Ready)
		return
	}
	for _, family := range []int{4, 6} {
		want := Counts{}
		for _, span := range p.Spans {
			if familyOf(span.From) == family {
				want.Total += span.size()
			}
		}
		remembered := 0
		for ip := range d.known(p, family) {
			if d.isHeld(ip) {
				want.Assigned++
			} else if slices.ContainsFunc(p.Quarantined, func(q Quarantined) bool { return q.Address == ip.String() }) {
				want.Quarantined++
			} else {
				remembered++
			}
		}
		have := p.Counts[family]
		kept := have.Total - have.Assigned - have.Quarantined - have.Available
		want.Available = want.Total - want.Assigned - want.Quarantined - kept
		if have != want || kept < 0 || kept > remembered || kept > 0 && !p.Retains {
			d.say("pool %s counts %+v of IPv%d, want %+v; %d are kept, of %d that the records know and nobody holds", p.Name, have, family,
				want, kept, remembered)
		}
	}
}

// advertisement checks what is said of one: UnknownPool and NoNode are warnings, with which it is in force.
func (d *disagreements) advertisement(a *Advert) {
	in := a.Ready.Status == "True" || a.Ready.Reason == "UnknownPool" || a.Ready.Reason == "NoNode"
	if !a.Current || in != (a.Name != bad) || !in && a.Ready.Reason != "InvalidSelector" {
		d.say("advertisement %s says Ready %+v, about its present spec: %t", a.Name, a.Ready, a.Current)
	}
}

// known are the addresses of a pool that somebody holds, that are quarantined, or that the records know.
func (d *disagreements) known(p *Pool, family int) map[netip.Addr]bool {
	all := map[netip.Addr]bool{}
	add := func(ip netip.Addr) {
		if familyOf(ip) == family && p.Has(ip) {
			all[ip] = true
		}
	}
	for ip := range d.holders {
		add(ip)
	}
	for ip := range d.Records {
		add(ip)
	}
	for _, r := range d.Facts.Reservations {
		for _, ip := range r.Held {
			add(ip)
		}
	}
	for _, q := range p.Quarantined {
		if ip, err := netip.ParseAddr(q.Address); err == nil {
			add(ip)
		}
	}
	return all
}

func (d *disagreements) isHeld(ip netip.Addr) bool {
	reserved := false
	for _, r := range d.Facts.Reservations {
		reserved = reserved || slices.Contains(r.Held, ip)
	}
	return reserved || len(d.holders[ip]) > 0
}

// records compares the allocation records with the statuses.
func (d *disagreements) records() {
	want := map[netip.Addr][]string{}
	for ip, holders := range d.holders {
		want[ip] = names(holders)
	}
	for name, r := range d.Facts.Reservations {
		for _, ip := range r.Held {
			want[ip] = append(want[ip], name+"*")
		}
	}
	for ip := range d.Records {
		want[ip] = append([]string{}, want[ip]...) // those, too, that only the records know
	}
	for _, ip := range slices.SortedFunc(maps.Keys(want), netip.Addr.Compare) {
		slices.Sort(want[ip])
		have := slices.Sorted(slices.Values(d.Records[ip]))
		if !slices.Equal(want[ip], have) {
			d.say("%s is held by %v, and the records say %v", ip, want[ip], have)
		}
	}
}

// size is the number of addresses of a range of less than 2^31.
func (s Span) size() int {
	a, b := s.From.As16(), s.To.As16()
	n := 0
	for i := range a {
		n = n<<8 + int(b[i]) - int(a[i])
	}
	return n + 1
}

const (
	annotationSpill = "lanyard.dev/sharing-spill"
	bad             = "bad" // a pool and an advertisement that are faulty
)
