package membership

import (
	"slices"
	"time"
)

const (
	// gapGrace is how long a report may lack what we know to exist before it is asked for: gossip may be
	// bringing it. It begins anew whenever something comes, up to gapPatience.
	gapGrace    = 100 * time.Millisecond
	gapPatience = 500 * time.Millisecond
	// askAgain is the pause before one asks again, which doubles up to askSlowly.
	askAgain  = 200 * time.Millisecond
	askSlowly = 5 * time.Second
)

// gap is what we know to lack of a member's report. Zero is nothing.
type gap struct {
	since      time.Time // zero: there is none
	came       time.Time // when something came
	asked      time.Time
	asks       int
	askedWhom  string
	unverified bool // the member is live again, and may have changed meanwhile: its report doesn't count
	hurry      bool // gossip brings nothing
}

// open notes that the member became live; known tells that it was before, and had a report.
func (g *gap) open(known bool, now time.Time) {
	*g = gap{since: now, came: now, unverified: known}
}

// ask notes that somebody was asked.
func (g *gap) ask(whom string, now time.Time) {
	g.asks++
	g.asked, g.askedWhom = now, whom
}

// update looks whether there is a gap now that something came, and tells whether that is new.
func (g *gap) update(complete bool, now time.Time) bool {
	if complete && !g.unverified {
		*g = gap{}
		return false
	}
	fresh := g.since.IsZero()
	if fresh {
		g.since = now
	}
	g.came = now
	return fresh
}

// due is when to ask; with many members, gossip takes longer.
func (g *gap) due(members int) time.Time {
	if g.asks > 0 {
		return g.asked.Add(min(askAgain<<min(g.asks-1, 8), askSlowly))
	}
	if g.hurry {
		return g.since
	}
	due := g.came.Add(gapGrace + time.Duration(members)*time.Millisecond/2)
	if most := g.since.Add(gapPatience); due.After(most) {
		return most
	}
	return due
}

// letter is a message for a member, to be sent reliably.
type letter struct {
	to  string
	msg []byte
}

// asks returns what to ask of whom now, and when to look again; never, if that is zero. Where there are
// several to choose from, pick puts them in random order.
func (s *store) asks(now time.Time, pick func([]string) []string) (letters []letter, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lacking, next := s.lacking(now)
	if len(lacking) > lettersAtOnce {
		s.doubted = s.askOne(lacking, now, pick)
	} else {
		for _, m := range lacking {
			to := m.name
			if others := s.others(m); m.gap.asks%2 == 1 && len(others) > 0 { // it didn't answer: somebody else
				to = pick(others)[0]
			}
			letters = append(letters, letter{to, s.ask(askMsg, []record{m.record()})})
			m.gap.ask(to, now)
		}
	}
	for _, m := range lacking {
		if !m.gap.since.IsZero() {
			next = earlier(next, m.gap.due(0))
		}
	}
	if s.doubted != "" {
		letters = append(letters, letter{s.doubted, s.ask(askAllMsg, s.bare())})
		s.doubted = ""
	}
	return letters, next
}

// lacking returns the members with a gap to ask for now, and when the next one is due.
func (s *store) lacking(now time.Time) (due []*memberReport, next time.Time) {
	members := len(s.members)
	for _, m := range s.members {
		if !m.live || m == s.own || m.gap.since.IsZero() {
			continue
		}
		if at := m.gap.due(members); at.After(now) {
			next = earlier(next, at)
		} else {
			due = append(due, m)
		}
	}
	return due, next
}

// askOne chooses one of many members with gaps to be asked for everything: after a partition, that one
// knows of the others too.
func (s *store) askOne(lacking []*memberReport, now time.Time, pick func([]string) []string) string {
	names := make([]string, 0, len(lacking))
	for _, m := range lacking {
		names = append(names, m.name)
	}
	whom := pick(names)[0]
	for _, m := range lacking {
		m.gap.ask(whom, now)
	}
	return whom
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

func (s *store) ask(kind messageKind, records []record) []byte {
	b := appendMessage(nil, kind, s.self)
	for _, r := range records {
		b = appendRecord(b, r)
	}
	return b
}

// bare returns what we have of all live members, without the items.
func (s *store) bare() []record {
	var records []record
	for _, m := range s.members {
		if m.live {
			records = append(records, m.record())
		}
	}
	return records
}

// answer returns what the asker lacks of what it asks for; nil if that is nothing.
func (s *store) answer(msg message) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := appendMessage(nil, stateMsg, s.self)
	empty := len(b)
	var listed []string
	for _, r := range msg.records {
		listed = append(listed, r.name)
		if m := s.members[r.name]; m != nil {
			b = m.answer(b, r)
		}
	}
	if msg.kind == askAllMsg {
		slices.Sort(listed)
		for _, m := range s.members {
			if _, ok := slices.BinarySearch(listed, m.name); !ok && m.live && m.known {
				b = m.appendTo(b)
			}
		}
	}
	if len(b) == empty {
		return nil
	}
	return b
}

// answer adds what the asker, who has r, lacks, or that there is nothing newer, if we can be sure.
func (m *memberReport) answer(b []byte, r record) []byte {
	newer := m.inc > r.inc || m.inc == r.inc && (!r.hasBase || m.base > r.base)
	switch {
	case m.known && newer:
		return m.appendTo(b)
	case m.inc >= r.inc && m.inc > 0 && m.live && !m.gap.unverified:
		bare := m.record()
		bare.hasBase, bare.base = false, 0 // it comes without the items
		return appendRecord(b, bare)
	}
	return b
}

// The digest of all reports goes with each answer to a probe. So within a few probes a node finds out
// that it, or the other, lacks something that neither has heard of.

const (
	// doubtAfter is how long nothing must have changed for digests to be compared: until then, gossip is
	// under way.
	doubtAfter = 100 * time.Millisecond
	// doubtMin and doubtMax bound the pause before different digests make us ask again: the trouble may
	// be one that asking doesn't cure, such as that we see other members than they do.
	doubtMin = 200 * time.Millisecond
	doubtMax = 5 * time.Second
)

// doubt paces asking because of different digests.
type doubt struct {
	last  time.Time
	pause time.Duration
}

// digest is one of the reports of all live members. It waits for nothing.
func (s *store) digest() uint64 { return s.sum.Load() }

func (s *store) digestAll() uint64 {
	sum := uint64(0)
	for name, m := range s.members {
		if m.live {
			sum ^= mix(mix(hashString(name)^mix(m.inc)) ^ m.digest)
		}
	}
	return sum
}

// compare takes the digest of a member, who is asked for what we lack if it is another than ours.
func (s *store) compare(peer string, digest uint64, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if digest == s.digest() {
		s.doubt.pause = 0
		return
	}
	if s.touched.After(s.doubt.last) {
		s.doubt.pause = 0
	}
	if now.Sub(s.touched) < doubtAfter || now.Sub(s.doubt.last) < s.doubt.pause {
		return
	}
	s.doubt = doubt{last: now, pause: min(max(2*s.doubt.pause, doubtMin), doubtMax)}
	s.doubted = peer
	signal(s.gapped)
}
