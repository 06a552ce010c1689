package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// decide settles one entry and reports whether its decision changed.
func (l *Ledger) decide(e *entry) bool {
	before := e.Decision
	l.keep(e)
	return l.settle(e, before)
}

// settle gives an entry what it misses, makes it wait when that cannot be had, and reports whether its
// decision differs from the one before.
func (l *Ledger) settle(e *entry, before Decision) bool {
	for _, a := range l.choose(e) {
		l.holders[a.IP] = e.Service
		e.Assigned = append(e.Assigned, a)
	}
	slices.SortFunc(e.Assigned, func(a, b Assignment) int { return e.rank(a.IP) - e.rank(b.IP) })
	e.Missing = l.missing(e)
	e.Reason, e.Message = l.explain(e)
	if len(e.Missing) > 0 {
		l.wait(e)
	}
	return !e.Decision.Equal(before)
}

// rank is the place of an address's family among those that the Service asks for; -1: not wanted.
func (e *entry) rank(a netip.Addr) int { return slices.Index(e.Families, FamilyOf(a)) }

// keep lets an entry go on with what it has: what the ledger gave it, or, when it is new here, what its
// status names. What it no longer wants is released as soon as its status no longer names it, so that no
// address ever stands in two statuses.
func (l *Ledger) keep(e *entry) {
	candidates := slices.Concat(e.IPs(), e.lingering)
	if len(candidates) == 0 {
		candidates = e.Status
	}
	e.Foreign = len(e.Assigned) == 0 && !e.Ours && slices.ContainsFunc(e.Status, func(a netip.Addr) bool { return l.poolOf(a) == "" })
	e.Assigned, e.lingering = nil, nil
	for _, ip := range candidates {
		holder, held := l.holders[ip]
		if held && holder != e.Service {
			continue
		}
		pool := l.poolOf(ip)
		switch {
		case !e.Foreign && e.wants(ip) && (pool != "" || e.Ours || held):
			e.Assigned = append(e.Assigned, Assignment{IP: ip, Pool: pool})
			l.holders[ip] = e.Service
		case slices.Contains(e.Status, ip):
			e.lingering = append(e.lingering, ip)
			l.holders[ip] = e.Service
		case held:
			l.release(ip)
		}
	}
}

// wants reports whether an address is of a family that the entry asks for and has no address of yet.
func (e *entry) wants(ip netip.Addr) bool {
	return e.rank(ip) >= 0 && !slices.ContainsFunc(e.Assigned, func(a Assignment) bool { return FamilyOf(a.IP) == FamilyOf(ip) })
}

func (l *Ledger) missing(e *entry) []Family {
	if e.Foreign {
		return nil
	}
	var missing []Family
	for _, f := range e.Families {
		if !slices.ContainsFunc(e.Assigned, func(a Assignment) bool { return FamilyOf(a.IP) == f }) {
			missing = append(missing, f)
		}
	}
	return missing
}

// choose finds addresses for the families that an entry misses, without taking them: from one pool when one
// has them all, else from the first pool that has each.
func (l *Ledger) choose(e *entry) []Assignment {
	missing := l.missing(e)
	if len(missing) == 0 {
		return nil
	}
	for _, p := range l.pools {
		if p.AutoAssign && p.serves(missing, l.held) {
			return l.take(p, missing)
		}
	}
	var chosen []Assignment
	for _, f := range missing {
		for _, p := range l.pools {
			if p.AutoAssign && p.serves([]Family{f}, l.held) {
				chosen = append(chosen, l.take(p, []Family{f})...)
				break
			}
		}
	}
	if e.AllOrNothing && len(chosen) < len(missing) {
		return nil
	}
	return chosen
}

func (l *Ledger) take(p *pool, families []Family) []Assignment {
	var taken []Assignment
	for _, f := range families {
		if ip, ok := p.lowest(f, l.held); ok {
			taken = append(taken, Assignment{IP: ip, Pool: p.Name})
		}
	}
	return taken
}

// explain gives the reason of a decision and says, pool by pool, why the next one could not help.
func (l *Ledger) explain(e *entry) (Reason, string) {
	switch {
	case e.Foreign:
		return ForeignStatus, fmt.Sprintf("status names %s, which no pool contains and Lanyard did not write; it is left alone", list(e.Status))
	case len(e.Missing) > 0:
		return l.explainMissing(e)
	}
	var outside []netip.Addr
	for _, a := range e.Assigned {
		if a.Pool == "" {
			outside = append(outside, a.IP)
		}
	}
	if len(outside) > 0 {
		return OutsidePool, fmt.Sprintf("%s kept although no pool contains it any more", list(outside))
	}
	return Assigned, describe(e.Assigned)
}

func (l *Ledger) explainMissing(e *entry) (Reason, string) {
	reason, verdicts := NoPool, []string{"there is no IPAddressPool"}
	if len(l.pools) > 0 {
		reason, verdicts = PoolNotAllowed, nil
	}
	for _, p := range l.pools {
		r, verdict := p.refusal(e.Missing, l.held)
		verdicts = append(verdicts, fmt.Sprintf("pool %s: %s", p.Name, verdict))
		reason = moreHelpful(reason, r)
	}
	names := make([]string, len(e.Missing))
	for i, f := range e.Missing {
		names[i] = f.String()
	}
	message := fmt.Sprintf("no %s address: %s", strings.Join(names, " and no "), strings.Join(verdicts, "; "))
	if len(e.Assigned) > 0 {
		message = describe(e.Assigned) + "; " + message
	}
	return reason, message
}

// refusal says why a pool cannot give an address of each of the families.
func (p *pool) refusal(families []Family, held func(netip.Addr) bool) (Reason, string) {
	if !p.AutoAssign {
		return PoolNotAllowed, "autoAssign is off"
	}
	var reason Reason
	var verdicts []string
	for _, f := range families {
		switch _, free := p.lowest(f, held); {
		case free:
			verdicts = append(verdicts, fmt.Sprintf("has %s addresses, but the Service requires both families", f))
		case len(p.free[f]) == 0:
			reason = moreHelpful(reason, FamilyUnavailable)
			verdicts = append(verdicts, fmt.Sprintf("has no %s addresses", f))
		default:
			reason = moreHelpful(reason, PoolExhausted)
			verdicts = append(verdicts, fmt.Sprintf("all its %s addresses are in use", f))
		}
	}
	return reason, strings.Join(verdicts, ", ")
}

// moreHelpful picks the reason that is closer to a solution when several pools refuse.
func moreHelpful(a, b Reason) Reason {
	order := []Reason{NoPool, PoolNotAllowed, FamilyUnavailable, PoolExhausted}
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}

// describe lists assignments, each with its pool.
func describe(assigned []Assignment) string {
	parts := make([]string, len(assigned))
	for i, a := range assigned {
		parts[i] = a.IP.String() + " outside any pool"
		if a.Pool != "" {
			parts[i] = a.IP.String() + " from pool " + a.Pool
		}
	}
	return strings.Join(parts, ", ")
}

func list(ips []netip.Addr) string {
	parts := make([]string, len(ips))
	for i, a := range ips {
		parts[i] = a.String()
	}
	return strings.Join(parts, ", ")
}
