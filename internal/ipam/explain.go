package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// explain gives the reason of a decision and says, wish by wish and pool by pool, what stood in the way.
func (l *Ledger) explain(e *entry, missing []slot) (Reason, string) {
	e.watched = nil
	switch {
	case e.Foreign:
		return ForeignStatus, fmt.Sprintf("status names %s, which no pool contains and Lanyard did not write; it is left alone", list(e.Status))
	case e.Invalid != "":
		return InvalidRequest, l.having(e) + e.Invalid
	case len(missing) > 0:
		return l.explainMissing(e, missing)
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
	return Assigned, l.describe(e.Assigned)
}

func (l *Ledger) explainMissing(e *entry, missing []slot) (Reason, string) {
	reason, parts := Reason(""), []string{}
	for _, s := range missing {
		r := l.explainSlot(e, s)
		if r.reason != "" && (reason == "" || !slices.Contains(helpfulness, r.reason)) {
			reason = r.reason
		}
		if !slices.Contains(parts, r.text) {
			parts = append(parts, r.text)
		}
	}
	if reason == "" {
		reason = FamilyUnavailable
	}
	message := l.having(e) + strings.Join(parts, "; ")
	if help := remedies[reason]; help != "" {
		message += ". " + help
	}
	return reason, message
}

// having begins the message of one who has something, but not all.
func (l *Ledger) having(e *entry) string {
	if len(e.Assigned) == 0 {
		return ""
	}
	return l.describe(e.Assigned) + "; "
}

func (l *Ledger) explainSlot(e *entry, s slot) refusal {
	if s.ip.IsValid() {
		r := l.watch(e, s.ip)
		if p := l.poolOf(s.ip); r.reason == "" && !l.quotaLeft(p, e.Service.Namespace, len(e.slots)) {
			r = refuse(QuotaExceeded, "namespace %s may not hold that many more addresses (%d)", e.Service.Namespace, p.PerNamespace)
		}
		if r.reason == "" {
			return refuse("", "%s is free, but the Service requires all that it asks for", s.ip)
		}
		return refusal{r.reason, s.ip.String() + ": " + r.text}
	}
	if e.Reservation != "" {
		return l.explainReservation(e, s.family)
	}
	if others := l.shared(e, s.family); e.Sharing.Key != "" && len(others) > 0 && !e.Sharing.Spill {
		if r := l.watch(e, others[0]); r.reason != "" {
			if r.reason != PoolNotAllowed {
				r.reason = SharingConflict
			}
			return refusal{r.reason, fmt.Sprintf("cannot share %s of sharing key %s: %s", others[0], e.Sharing.Key, r.text)}
		}
	}
	return l.explainPools(e, s.family)
}

func (l *Ledger) explainReservation(e *entry, f Family) refusal {
	r := l.reservationOf(e)
	if r == nil {
		return refuse(ReservationMissing, "there is no IPReservation %s in namespace %s", e.Reservation, e.Service.Namespace)
	}
	var taken []string
	for _, ip := range r.IPs() {
		if FamilyOf(ip) != f {
			continue
		}
		if o := l.watch(e, ip); o.reason != "" {
			taken = append(taken, ip.String()+": "+o.text)
		}
	}
	if len(taken) == 0 {
		return refuse(ReservationFull, "IPReservation %s holds no %s address", e.Reservation, f)
	}
	return refuse(ReservationFull, "IPReservation %s has no free %s address: %s", e.Reservation, f, strings.Join(taken, ", "))
}

// explainPools says for each pool considered why not; the reason is that of the pool closest to a solution.
func (l *Ledger) explainPools(e *entry, f Family) refusal {
	if len(l.pools) == 0 {
		return refuse(NoPool, "no %s address: there is no IPAddressPool in force", f)
	}
	reason, verdicts := Reason(""), []string{}
	for _, name := range e.Pools {
		if !slices.ContainsFunc(l.pools, func(p *pool) bool { return p.Name == name }) {
			reason = NoPool
			verdicts = append(verdicts, fmt.Sprintf("pool %s: there is none of that name in force", name))
		}
	}
	offered := false
	for _, p := range l.candidates(e) {
		r := l.lacks(e, p, f)
		offered = offered || r.reason == ""
		if slices.Index(helpfulness, r.reason) > slices.Index(helpfulness, reason) {
			reason = r.reason
		}
		verdicts = append(verdicts, fmt.Sprintf("pool %s: %s", p.Name, r.text))
	}
	if offered {
		return refuse("", "an %s address could be had, but the Service requires both families", f)
	}
	return refuse(reason, "no %s address: %s", f, strings.Join(verdicts, "; "))
}

// describe lists assignments, each with its pool, and with the stranger that uses it.
func (l *Ledger) describe(assigned []Assignment) string {
	parts := make([]string, len(assigned))
	for i, a := range assigned {
		parts[i] = a.IP.String() + " outside any pool"
		if a.Pool != "" {
			parts[i] = a.IP.String() + " from pool " + a.Pool
		}
		if s, bad := l.quarantine[a.IP]; bad {
			parts[i] += " (which a stranger on the LAN uses: " + s.Known + ")"
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
