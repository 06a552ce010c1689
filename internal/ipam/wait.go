package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"unique"
)

// wait puts an entry among those that miss something.
func (l *Ledger) wait(e *entry) {
	e.wish = l.wish(e)
	group := l.waiting[e.wish]
	at, _ := slices.BinarySearchFunc(group, e, (*entry).compare)
	l.waiting[e.wish] = slices.Insert(group, at, e)
	for _, ip := range e.watched {
		l.onlookers[ip] = append(l.onlookers[ip], e)
	}
}

// unwait undoes wait; of an entry that does not wait, nothing.
func (l *Ledger) unwait(e *entry) {
	group := l.waiting[e.wish]
	at, found := slices.BinarySearchFunc(group, e, (*entry).compare)
	if !found || group[at] != e {
		return
	}
	if l.waiting[e.wish] = slices.Delete(group, at, at+1); len(group) == 1 {
		delete(l.waiting, e.wish)
	}
	for _, ip := range e.watched {
		l.onlookers[ip] = slices.DeleteFunc(l.onlookers[ip], func(o *entry) bool { return o == e })
		if len(l.onlookers[ip]) == 0 {
			delete(l.onlookers, ip)
		}
	}
}

// wish sums up what an entry that misses any address of some families goes by: the pools that may serve it, and its
// namespace where one has a limit. While one of a wish cannot be served, no other can. The zero value: it goes by more
// than that.
func (l *Ledger) wish(e *entry) (zero unique.Handle[string]) {
	switch {
	case e.Invalid != "":
		return unique.Make("none")
	case e.isReservation, e.Reservation != "", e.Sharing.Key != "", len(e.Addresses) > 0, len(l.retained.by[e.Service]) > 0:
		return zero
	}
	text := fmt.Append(nil, e.Missing, e.AllOrNothing)
	limited := false
	for _, p := range l.candidates(e) {
		if (p.AutoAssign || len(e.Pools) > 0) && p.Audience.admits(e.Service.Namespace, e.Labels) {
			text = append(append(text, '/'), p.Name...)
			limited = limited || p.PerNamespace > 0
		}
	}
	if limited {
		text = append(append(text, '@'), e.Service.Namespace...)
	}
	return unique.Make(string(text))
}

// serveWaiting tries those that wait, oldest first, if something has become free, and again as long as that
// frees something else. Those that are refused for another reason than they were told are told.
func (l *Ledger) serveWaiting() Changed {
	var changed Changed
	var misled []*entry
	for progress := true; l.freed && progress; {
		l.freed, progress = false, false
		for q := l.queueUp(); len(q) > 0; {
			e := q[0].list[0]
			if len(l.choose(e)) == 0 {
				refused := q.refuse()
				if l.isMisled(e) {
					misled = append(misled, refused...)
				}
				continue
			}
			q.next()
			l.unwait(e)
			if l.decide(e) {
				changed.add(e)
				progress = true
			}
		}
	}
	l.freed = false
	return changed.and(l.retell(misled...))
}

// isMisled reports whether one that waits was told another reason than it would be now. Those that were told of
// addresses are onlookers, and left to retell.
func (l *Ledger) isMisled(e *entry) bool {
	if len(e.watched) > 0 {
		return false
	}
	reason, _ := l.explain(e, l.unfilled(e))
	e.watched = nil
	return reason != e.Reason
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

// retell explains anew why they wait to those who were told who has an address that has passed to others, and to some
// more, of whom some may not wait any longer.
func (l *Ledger) retell(again ...*entry) Changed {
	for ip := range l.passed {
		again = append(again, l.onlookers[ip]...)
	}
	clear(l.passed)
	slices.SortFunc(again, (*entry).compare)
	var changed Changed
	for _, e := range slices.Compact(again) {
		if len(e.Missing) == 0 {
			continue
		}
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
