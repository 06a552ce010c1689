package placement

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// audit decides once more, in a whole pass from the same state, and says how that differs; "" if it does not.
// What is wrong then is the elector, or somebody has changed what it took for unchanged.
func (l *Layer2) audit(f Facts) (Decision, string) {
	twin := l.twin()
	d, want := l.decide(f, false), twin.decide(f, true)
	if text := d.differs(want); text != "" {
		return d, text
	}
	return d, l.differs(twin)
}

// twin returns an elector in the same state, which has seen nothing yet.
func (l *Layer2) twin() *Layer2 {
	t := NewLayer2(l.options)
	t.options.Audit = nil
	t.quiet, t.moved, t.weak, t.apart, t.regained, t.round = l.quiet, l.moved, l.weak, l.apart, l.regained, l.round
	t.seen.now, t.seen.members = l.seen.now, l.seen.members
	t.known = l.flushed()
	for ip, c := range l.checking {
		copied := *c
		t.checking[ip] = &copied
	}
	for _, a := range l.addresses {
		b := &address{ip: a.ip, memory: a.memory, renewed: true}
		b.memory.missed = slices.Clone(a.memory.missed)
		if a.own != nil {
			own := *a.own
			b.own = &own
		}
		t.at[a.ip] = b
		t.addresses = append(t.addresses, b)
	}
	return t
}

// flushed is which subnets are known, and when they were there last, as of the last decision.
func (l *Layer2) flushed() map[string]map[netip.Prefix]time.Time {
	f := &Layer2{plan: l.plan, known: map[string]map[netip.Prefix]time.Time{}}
	for key, known := range l.known {
		f.known[key] = maps.Clone(known)
	}
	f.flush(l.seen.now)
	return f.known
}

func (d Decision) differs(w Decision) string {
	for _, part := range []string{
		firstDifference("verdicts", slices.Collect(d.Verdicts.All()), slices.Collect(w.Verdicts.All()), (*Verdict).same),
		firstDifference("claims", d.Claims, w.Claims, func(a, b *Claim) bool { return *a == *b }),
		firstDifference("announcements", d.Announcements, w.Announcements, (*Announcement).same),
		firstDifference("taken", d.Taken, w.Taken, func(a, b Change) bool { return a == b }),
		firstDifference("lost", d.Lost, w.Lost, func(a, b Change) bool { return a == b }),
		firstDifference("found", d.Found, w.Found, func(a, b Stranger) bool { return a == b }),
		firstDifference("gone", d.Gone, w.Gone, func(a, b netip.Addr) bool { return a == b }),
	} {
		if part != "" {
			return part
		}
	}
	if !d.Wake.Equal(w.Wake) {
		return fmt.Sprintf("wakes at %s, a whole pass at %s", d.Wake, w.Wake)
	}
	return ""
}

func firstDifference[T any](what string, list, want []T, same func(T, T) bool) string {
	for i := range max(len(list), len(want)) {
		switch {
		case i >= len(list):
			return fmt.Sprintf("%s: %d, a whole pass comes to %d: %+v", what, len(list), len(want), want[i])
		case i >= len(want):
			return fmt.Sprintf("%s: %d, a whole pass comes to %d: not to %+v", what, len(list), len(want), list[i])
		case !same(list[i], want[i]):
			return fmt.Sprintf("%s: %+v, a whole pass comes to %+v", what, list[i], want[i])
		}
	}
	return ""
}

// differs says how the state differs from that of an elector that has made a whole pass of the same facts.
func (l *Layer2) differs(w *Layer2) string {
	known, wanted := l.flushed(), w.flushed()
	switch {
	case !l.quiet.Equal(w.quiet), !l.moved.Equal(w.moved), !l.weak.Equal(w.weak), l.apart != w.apart, !l.regained.Equal(w.regained), l.round != w.round:
		return fmt.Sprintf("quiet since %s, moved at %s, weak since %s, apart %v, regained at %s, round %d; a whole pass comes to %s, %s, %s, %v, %s, %d",
			l.quiet, l.moved, l.weak, l.apart, l.regained, l.round, w.quiet, w.moved, w.weak, w.apart, w.regained, w.round)
	case !maps.EqualFunc(known, wanted, func(a, b map[netip.Prefix]time.Time) bool { return maps.EqualFunc(a, b, time.Time.Equal) }):
		return fmt.Sprintf("knows the subnets %v, a whole pass %v", known, wanted)
	case !maps.EqualFunc(l.checking, w.checking, func(a, b *check) bool { return *a == *b }):
		return fmt.Sprintf("checks %v, a whole pass %v", l.checking, w.checking)
	case len(l.at) != len(w.at):
		return fmt.Sprintf("%d addresses, a whole pass has %d", len(l.at), len(w.at))
	case l.misplaced != w.misplaced:
		return fmt.Sprintf("%d are misplaced, a whole pass finds %d", l.misplaced, w.misplaced)
	}
	if text := firstDifference("addresses", l.addresses, w.addresses, (*address).same); text != "" {
		return text
	}
	for name, n := range w.nodes {
		if has := l.nodes[name]; has == nil && n.load != 0 || has != nil && has.load != n.load {
			return fmt.Sprintf("%s has not the load of %d that it has after a whole pass", name, n.load)
		}
	}
	tally := map[string]int{}
	for on, n := range l.tally {
		tally[on.node.name] += n
	}
	for on, n := range w.tally {
		tally[on.node.name] -= n
	}
	for name, n := range tally {
		if n != 0 {
			return fmt.Sprintf("%d more addresses of %s may be moved than after a whole pass", n, name)
		}
	}
	return ""
}

// same reports whether two electors have come to the same of an address.
func (a *address) same(b *address) bool {
	aware := func(c, d claimant) bool { return c.node == d.node && *c.claim == *d.claim }
	return a.ip == b.ip && slices.Equal(a.services, b.services) && a.moveTo == b.moveTo && a.reason == b.reason && a.owner == b.owner &&
		a.claimed == b.claimed && a.promised == b.promised && !a.changed(&before{memory: b.memory, own: b.own}) &&
		slices.EqualFunc(a.claims, b.claims, aware) && len(a.heard) == len(b.heard) && a.group.equals(b.group) &&
		(a.charged == nil) == (b.charged == nil) && (a.charged == nil || a.charged.name == b.charged.name) &&
		a.misplaced == b.misplaced && (a.pair == pair{}) == (b.pair == pair{})
}

func (g *group) equals(o *group) bool {
	return g.stray == o.stray && g.reason == o.reason && g.unclaimed == 0 && o.unclaimed == 0 && g.best == o.best && len(g.top) == len(o.top) &&
		slices.EqualFunc(g.nodes, o.nodes, func(x, y candidate) bool {
			return x.name == y.name && x.weight == y.weight && x.late == y.late && slices.Equal(x.interfaces, y.interfaces)
		})
}

// String is for who audits.
func (a *address) String() string {
	return fmt.Sprintf("%s: owner %q claimed %v promised %q reason %q, memory %+v, own %+v, claims %v, %d nodes may own it", a.ip, a.owner, a.claimed,
		a.promised, a.reason, a.memory, a.own, a.claims, len(a.group.nodes))
}
