package soak

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Rules are how long a state may last that must not be, from when the product must know better. The figures that the
// product is to reach are far lower, and belong to benchmarks.
type Rules struct {
	Silent    time.Duration // nobody answers for an address that a node may announce that is well
	Double    time.Duration // two nodes answer for an address
	Stray     time.Duration // a node answers for an address that it may not announce
	Ghost     time.Duration // a node answers for an address that no status names
	Unsaid    time.Duration // a Service has no address, and no reason why
	Clash     time.Duration // two Services have an address that they may not share any more
	Healing   time.Duration // how long after a partition two owners may be in good faith
	Quarrel   time.Duration // how long a stranger's visit may have an effect
	Elections time.Duration // how long after the loss of a controller there may be no other
}

// Usual are the rules of a soak.
var Usual = Rules{Silent: 6 * time.Second, Double: 3 * time.Second, Stray: 6 * time.Second, Ghost: 5 * time.Second, Unsaid: 10 * time.Second,
	Clash: 15 * time.Second, Healing: 8 * time.Second, Quarrel: 25 * time.Second, Elections: 45 * time.Second}

// Look is what was seen at a moment.
type Look struct {
	At    time.Time
	Facts *Facts
	// Answers are the hosts that answered for each address that was asked for.
	Answers map[netip.Addr][]string
	// Slack is how long the machine stood still of late: so much longer everything may take.
	Slack time.Duration
}

// sayer reports that a rule is broken.
type sayer func(rule, format string, args ...any)

// Judge compares what the LAN says with what the API server says, look after look. It is not safe for concurrent use.
type Judge struct {
	Rules
	Troubles *Troubles
	nodes    []string
	seen     map[netip.Addr]*seen
	unsaid   map[string]time.Time // by UID of the Service
	clashes  map[string]time.Time
	Checks   map[string]int // how often each rule was applied where it might have been broken
	Longest  map[string]time.Duration
	owners   map[netip.Addr]string
	Moves    int // how often an address had another owner than before
}

// seen is what is remembered of one address. Times are zero while it is not so.
type seen struct {
	held, free     time.Time
	silent, double time.Time
	may, mayNot    map[string]time.Time // by node
	strays         map[string]time.Time
	told           map[string]bool // rules that were reported, until they hold again
}

// NewJudge returns a Judge that has seen nothing.
func NewJudge(nodes []string, t *Troubles, r Rules) *Judge {
	return &Judge{Rules: r, Troubles: t, nodes: nodes, seen: map[netip.Addr]*seen{}, unsaid: map[string]time.Time{},
		clashes: map[string]time.Time{}, Checks: map[string]int{}, Longest: map[string]time.Duration{}, owners: map[netip.Addr]string{}}
}

// Look judges one look at everything, and says what must not be, each thing once for as long as it lasts.
func (j *Judge) Look(l Look) (broken []Violation) {
	holders := l.Facts.Holders()
	say := func(rule, format string, args ...any) {
		broken = append(broken, Violation{At: l.At, Rule: rule, Text: fmt.Sprintf(format, args...)})
	}
	for _, ip := range slices.SortedFunc(maps.Keys(l.Answers), netip.Addr.Compare) {
		s := j.seen[ip]
		if s == nil {
			s = &seen{may: map[string]time.Time{}, mayNot: map[string]time.Time{}, strays: map[string]time.Time{}, told: map[string]bool{}}
			j.seen[ip] = s
		}
		may, _ := l.Facts.MayAnnounce(ip, holders[ip])
		s.update(l.At, len(holders[ip]) > 0, may, j.nodes)
		j.address(l, ip, s, holders[ip], say)
	}
	j.services(l, holders, say)
	return broken
}

func (s *seen) update(now time.Time, held bool, may map[string]bool, nodes []string) {
	s.held, s.free = since(s.held, held, now), since(s.free, !held, now)
	for _, n := range nodes {
		s.may[n], s.mayNot[n] = since(s.may[n], held && may[n], now), since(s.mayNot[n], held && !may[n], now)
	}
}

// since goes on with the time since when something is so, or begins or ends it.
func since(was time.Time, is bool, now time.Time) time.Time {
	switch {
	case !is:
		return time.Time{}
	case was.IsZero():
		return now
	}
	return was
}

// late is how long something has been wrong that has been so since begun and may be so until due.
func late(now time.Time, begun, due time.Time) time.Duration {
	if due.After(begun) {
		begun = due
	}
	return now.Sub(begun)
}

// apply counts a check, keeps the longest time that something was wrong, and tells once when that is too long.
func (j *Judge) apply(s *seen, id string, wrong, limit time.Duration, say func()) {
	rule, _, _ := strings.Cut(id, " ")
	j.Checks[rule]++
	if wrong > j.Longest[rule] {
		j.Longest[rule] = wrong
	}
	switch {
	case wrong <= 0:
		delete(s.told, id)
	case wrong > limit && !s.told[id]:
		s.told[id] = true
		say()
	}
}

func (j *Judge) address(l Look, ip netip.Addr, s *seen, holders []*Service, say sayer) {
	var own []string
	for _, host := range l.Answers[ip] {
		if slices.Contains(j.nodes, host) {
			own = append(own, host)
		}
	}
	quarrel := j.Troubles.Squatted(ip, l.At.Add(-j.Quarrel-l.Slack))
	wrong := time.Duration(0)
	if len(own) < len(l.Answers[ip]) && !quarrel {
		wrong = 1
	}
	j.apply(s, "alien", wrong, 0, func() { say("alien", "%s is answered by %v, and no stranger should be there", ip, l.Answers[ip]) })
	j.moved(ip, own)
	s.silent = since(s.silent, len(own) == 0 && len(holders) > 0 && !quarrel, l.At)
	s.double = since(s.double, len(own) > 1, l.At)
	if due, must := j.due(s, l); must && len(holders) > 0 && !quarrel {
		wrong := time.Duration(0)
		if !s.silent.IsZero() {
			wrong = late(l.At, s.silent, due)
		}
		j.apply(s, "silent", wrong, j.Silent+l.Slack, func() {
			say("silent", "nobody answers for %s of %s since %s, though %v may, and must know since %s", ip, names(holders), clock(s.silent),
				allowed(s.may), clock(due))
		})
	}
	if !j.Troubles.Split(l.At.Add(-j.Healing - l.Slack)) {
		wrong := time.Duration(0)
		if !s.double.IsZero() {
			wrong = l.At.Sub(s.double)
		}
		j.apply(s, "double", wrong, j.Double+l.Slack, func() {
			say("double", "%s is answered by %v since %s, and nobody is parted", ip, own, clock(s.double))
		})
	}
	for _, node := range j.nodes {
		j.stray(l, ip, s, node, slices.Contains(own, node), names(holders), say)
	}
}

// due is from when somebody must answer for an address: when a node that may announce it is well and must know that it
// may; false: none is.
func (j *Judge) due(s *seen, l Look) (first time.Time, must bool) {
	for node, may := range s.may {
		well, is := j.Troubles.Well(node)
		knowsMay, may1 := j.Troubles.KnowsBy(node, may)
		knowsHeld, may2 := j.Troubles.KnowsBy(node, s.held)
		if may.IsZero() || !is || !may1 || !may2 {
			continue
		}
		at := latest(well, knowsMay, knowsHeld)
		if at.After(l.At) {
			continue
		}
		if !must || at.Before(first) {
			first, must = at, true
		}
	}
	return first, must
}

func latest(times ...time.Time) (last time.Time) {
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}

// stray judges one node that answers for an address that it may not announce, or that nobody has.
func (j *Judge) stray(l Look, ip netip.Addr, s *seen, node string, answers bool, holders []string, say sayer) {
	rule, begun, limit := "stray", s.mayNot[node], j.Stray
	if len(holders) == 0 {
		rule, begun, limit = "ghost", s.free, j.Ghost
	}
	s.strays[node] = since(s.strays[node], answers && !begun.IsZero(), l.At)
	well, is := j.Troubles.Well(node)
	by, knows := j.Troubles.KnowsBy(node, begun)
	if begun.IsZero() || !is || !knows {
		return
	}
	wrong := time.Duration(0)
	if !s.strays[node].IsZero() {
		wrong = late(l.At, s.strays[node], latest(by, well))
	}
	j.apply(s, rule+" "+node, wrong, limit+l.Slack, func() {
		if rule == "ghost" {
			say(rule, "%s answers for %s since %s, which no status names since %s", node, ip, clock(s.strays[node]), clock(begun))
			return
		}
		say(rule, "%s answers for %s of %s since %s, and may not since %s", node, ip, holders, clock(s.strays[node]), clock(begun))
	})
}

// moved counts the changes of owners.
func (j *Judge) moved(ip netip.Addr, own []string) {
	if len(own) != 1 {
		return
	}
	if was := j.owners[ip]; was != "" && was != own[0] {
		j.Moves++
	}
	j.owners[ip] = own[0]
}

// services judges what is said of Services.
func (j *Judge) services(l Look, holders map[netip.Addr][]*Service, say sayer) {
	directed := !j.Troubles.Undirected(l.At.Add(-j.Elections - l.Slack))
	present := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(l.Facts.Services)) {
		s := l.Facts.Services[name]
		if !s.Ours() {
			continue
		}
		id := s.UID
		present[id] = true
		silent := len(s.IPs) == 0 && (s.Assigned.Status != "False" || s.Assigned.Reason == "")
		j.lasting(j.unsaid, id, silent, directed, l, "unsaid", j.Unsaid, func(from time.Time) {
			say("unsaid", "Service %s has no address since %s, and its condition is %+v", name, clock(from), s.Assigned)
		})
	}
	maps.DeleteFunc(j.unsaid, func(id string, _ time.Time) bool { return !present[id] })
	clashing := map[string]bool{}
	for ip, list := range holders {
		for i, a := range list {
			for _, b := range list[i+1:] {
				id := fmt.Sprintf("%s of %s and %s", ip, a.Full(), b.Full())
				clashing[id] = true
				j.lasting(j.clashes, id, !MayShare(a, b), directed, l, "clash", j.Clash, func(from time.Time) {
					say("clash", "%s may not be shared since %s", id, clock(from))
				})
			}
		}
	}
	maps.DeleteFunc(j.clashes, func(id string, _ time.Time) bool { return !clashing[id] })
}

// lasting judges a state that may be, but not for long; what has been told once is pushed into the far future, so that
// it is not told again.
func (j *Judge) lasting(all map[string]time.Time, id string, is, directed bool, l Look, rule string, limit time.Duration,
	say func(from time.Time)) {
	all[id] = since(all[id], is, l.At)
	if !directed { // it counts from when there is a controller again
		if is {
			all[id] = l.At
		}
		return
	}
	j.Checks[rule]++
	from := all[id]
	if from.IsZero() {
		return
	}
	wrong := l.At.Sub(from)
	j.Longest[rule] = max(j.Longest[rule], wrong)
	if wrong > limit+l.Slack {
		say(from)
		all[id] = l.At.Add(24 * time.Hour)
	}
}

func names(holders []*Service) (list []string) {
	for _, s := range holders {
		list = append(list, s.Full())
	}
	return list
}

func allowed(may map[string]time.Time) (list []string) {
	for _, node := range slices.Sorted(maps.Keys(may)) {
		if !may[node].IsZero() {
			list = append(list, node)
		}
	}
	return list
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }
