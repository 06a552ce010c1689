package ipam

import "maps"

// Standing sums a decision up.
type Standing struct {
	Reason   Reason
	Has      bool // some address
	IsMissed bool // some address is missing
}

// Standing sums the decision up.
func (d Decision) Standing() Standing {
	return Standing{Reason: d.Reason, Has: len(d.Assigned) > 0, IsMissed: len(d.Missing) > 0}
}

// Standings returns how many Services there are of each standing. It takes no longer with more Services.
func (l *Ledger) Standings() map[Standing]int { return maps.Clone(l.standings) }

// stand counts a Service under another standing; the zero value: under none.
func (l *Ledger) stand(e *entry, now Standing) {
	if e.isReservation || e.counted == now {
		return
	}
	if e.counted != (Standing{}) {
		tally(l.standings, e.counted, -1)
	}
	if now != (Standing{}) {
		tally(l.standings, now, 1)
	}
	e.counted = now
}
