package ipam

import (
	"net/netip"
	"slices"
)

// wait puts an entry among those that miss something.
func (l *Ledger) wait(e *entry) {
	at, _ := slices.BinarySearchFunc(l.waiting, e, (*entry).compare)
	l.waiting = slices.Insert(l.waiting, at, e)
	for _, ip := range e.watched {
		l.onlookers[ip] = append(l.onlookers[ip], e)
	}
}

func (l *Ledger) unwait(e *entry) {
	at, found := slices.BinarySearchFunc(l.waiting, e, (*entry).compare)
	if !found || l.waiting[at] != e {
		return
	}
	l.waiting = slices.Delete(l.waiting, at, at+1)
	for _, ip := range e.watched {
		l.onlookers[ip] = slices.DeleteFunc(l.onlookers[ip], func(o *entry) bool { return o == e })
		if len(l.onlookers[ip]) == 0 {
			delete(l.onlookers, ip)
		}
	}
}

// watch is obstacle for who is going to be told the answer: should it change, so does what is told.
func (l *Ledger) watch(e *entry, ip netip.Addr) refusal {
	if !slices.Contains(e.watched, ip) {
		e.watched = append(e.watched, ip)
	}
	return l.obstacle(e, ip)
}

// pass notes that others hold an address now, or hold it differently. Without anybody who was told who does,
// it is none of our business.
func (l *Ledger) pass(ips ...netip.Addr) {
	for _, ip := range ips {
		if len(l.onlookers[ip]) > 0 {
			l.passed[ip] = true
		}
	}
}

// retell explains anew why they wait to those who were told who has an address that has passed to others.
func (l *Ledger) retell() Changed {
	var again []*entry
	for ip := range l.passed {
		again = append(again, l.onlookers[ip]...)
	}
	clear(l.passed)
	slices.SortFunc(again, (*entry).compare)
	var changed Changed
	for _, e := range slices.Compact(again) {
		before := e.Decision
		l.unwait(e)
		e.Reason, e.Message = l.explain(e, l.unfilled(e))
		l.stand(e, e.Standing())
		l.wait(e)
		if !e.Decision.Equal(before) {
			changed.add(e)
		}
	}
	return changed
}
