package membership

import (
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

const (
	// remembered is how long the report of a node that is not live is kept: it may be a false alarm.
	remembered = 10 * time.Minute
	// rememberedMost bounds how many are kept. More than that are only heard of when names are made up.
	rememberedMost = 2048
	// gossipMult is how often each node passes an item on by gossip, per decade of members. Every node
	// that it is news to does, so that few miss it; they find out, see repair.
	gossipMult = 2
	// warnPause is how long one warning about another life of ours is enough: two nodes of one name
	// outbid each other all the time.
	warnPause = time.Minute
)

// store holds the reports of all nodes, ours too, and what of them has to be told. It is safe for
// concurrent use. It calls nothing of memberlist, which may hold locks of its own when it calls us.
type store struct {
	self    string
	room    int // for a delta, in a packet of its own
	logger  log.Logger
	changed chan<- struct{} // holds one signal after reports changed
	news    chan struct{}   // holds one signal when fresh has something
	gapped  chan struct{}   // holds one signal when a gap may have appeared

	mu      sync.Mutex
	own     *memberReport
	told    placement.Report // ours, as it was published last
	plain   bool             // and that its lists are in order
	leaving bool             // we leave, whatever is published
	members map[string]*memberReport
	keys    keyState
	view    map[string]placement.Report // nil: to be made
	newer   []*memberReport             // those whose report may be another than in view
	fresh   map[itemKey]bool            // own items to be sent directly; nil while not running
	turn    []*memberReport             // those with something to gossip, the next first
	live    int                         // so many of the members are
	size    int                         // of the last state, in bytes
	touched time.Time                   // when something last changed
	warned  time.Time                   // when another life of ours was last logged
	doubt   doubt
	doubted string // whom to ask for everything; empty: nobody

	// Answers to probes bear the digest, and must not wait for mu: who answers late counts as dead.
	sum atomic.Uint64
	// exchanges is how many states of others came whole and were taken in.
	exchanges atomic.Uint64
}

func newStore(self string, room int, logger log.Logger, changed chan<- struct{}) *store {
	own := newMemberReport(self)
	s := &store{
		self: self, room: room, logger: logger, changed: changed,
		news: make(chan struct{}, 1), gapped: make(chan struct{}, 1),
		own: own, members: map[string]*memberReport{self: own},
	}
	own.publish([]item{{once: &once{}}})
	return s
}

// open begins our life inc.
func (s *store) open(inc uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fresh = make(map[itemKey]bool)
	s.own.restart(inc)
	s.enqueue(s.own)
	s.touch()
}

// close ends it: nobody is live.
func (s *store) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fresh = nil
	for _, m := range s.members {
		m.live = false
	}
	s.live = 0
	s.touch()
}

// publish makes the report ours.
func (s *store) publish(r placement.Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Leaving = r.Leaving || s.leaving
	var items []item
	if s.plain {
		items, s.plain = differences(s.told, r, s.keys)
	}
	if s.told = r; s.plain {
		s.tell(s.own.change(items))
		s.own.snapshot = &r
		clear(s.own.moved)
		return
	}
	_, s.plain = differences(placement.Report{}, r, s.keys)
	s.tell(s.own.publish(itemsOf(r, s.keys)))
}

// leave has the others know that we leave, for good.
func (s *store) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving, s.told.Leaving = true, true
	o, _ := s.own.once()
	o.leaving = true
	s.tell(s.own.change([]item{{once: &o}}))
}

// leaves tells whether a node said that it leaves, in this life.
func (s *store) leaves(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[name]
	if m == nil {
		return false
	}
	o, _ := m.once()
	return o.leaving && !m.gap.unverified
}

// setKeys has the others know which keys we have.
func (s *store) setKeys(k keyState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = k
	o, _ := s.own.once()
	o.keys = k
	s.tell(s.own.change([]item{{once: &o}}))
}

// otherKeys returns which keys each other live member has; none if it has not told.
func (s *store) otherKeys() []keyState {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []keyState
	for _, m := range s.members {
		if m.live && m != s.own {
			o, _ := m.once()
			keys = append(keys, o.keys)
		}
	}
	return keys
}

// tell has changes of our items told.
func (s *store) tell(keys []itemKey) {
	if len(keys) == 0 {
		return
	}
	if s.fresh != nil {
		for _, k := range keys {
			s.fresh[k] = true
		}
		signal(s.news)
	}
	s.enqueue(s.own)
	s.touch(s.own)
}

// touch notes that reports changed: those of some members, or of any if none is named.
func (s *store) touch(members ...*memberReport) {
	if s.newer = append(s.newer, members...); len(members) == 0 || len(s.newer) > len(s.members) {
		s.view, s.newer = nil, nil
	}
	s.touched = time.Now()
	s.sum.Store(s.digestAll())
	signal(s.changed)
}

// enqueue has the gossip carry what is in a member's outbox.
func (s *store) enqueue(m *memberReport) {
	if !m.out.empty() && !slices.Contains(s.turn, m) {
		s.turn = append(s.turn, m)
	}
}

// reports returns the reports of the live members. It is shared: nobody changes it.
func (s *store) reports() map[string]placement.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == nil {
		s.view = make(map[string]placement.Report, len(s.members))
		for name, m := range s.members {
			if r, ok := m.report(); ok {
				s.view[name] = r
			}
		}
		s.newer = nil
	}
	if len(s.newer) > 0 {
		s.view = maps.Clone(s.view)
		for _, m := range s.newer {
			if r, ok := m.report(); ok {
				s.view[m.name] = r
			} else {
				delete(s.view, m.name)
			}
		}
		s.newer = nil
	}
	return s.view
}

// member returns what is known of a node, which may be nothing.
func (s *store) member(name string) *memberReport {
	m := s.members[name]
	if m == nil {
		m = newMemberReport(name)
		m.died = time.Now()
		s.members[name] = m
	}
	return m
}

// setLive notes that a node is a live member now, or is one no more. Before and after Run nobody is.
func (s *store) setLive(name string, live bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fresh == nil {
		return
	}
	m := s.member(name)
	switch {
	case live && !m.live:
		s.live++
	case !live && m.live:
		s.live--
	}
	m.live = live
	switch {
	case !live && m == s.own:
	case !live:
		m.died = time.Now()
		m.out.clear()
	case m != s.own:
		m.gap.open(m.known, time.Now())
		signal(s.gapped)
	}
	s.forget()
	s.touch()
}

// forget drops nodes that have not been live for long, or are too many.
func (s *store) forget() {
	var idle []*memberReport
	for name, m := range s.members {
		switch {
		case m.live || m == s.own:
		case time.Since(m.died) > remembered:
			delete(s.members, name)
		default:
			idle = append(idle, m)
		}
	}
	if len(idle) <= rememberedMost {
		return
	}
	slices.SortFunc(idle, func(a, b *memberReport) int { return a.died.Compare(b.died) })
	for _, m := range idle[:len(idle)-rememberedMost] {
		delete(s.members, m.name)
	}
}

// merge takes in what a message says. News of a delta is gossiped on.
func (s *store) merge(msg message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var visible []*memberReport
	for _, r := range msg.records {
		if msg.kind == askMsg || msg.kind == askAllMsg || r.skipped {
			r.hasBase, r.items = false, nil // it says what the sender has, without bringing it
		}
		switch {
		case r.inc == 0: // the sender has heard nothing
		case r.name == s.self:
			s.aboutUs(r)
		case s.members[r.name] == nil && len(s.members)-s.live > rememberedMost: // it is news of nobody we know
		case s.mergeRecord(r, msg):
			visible = append(visible, s.members[r.name])
		}
	}
	if len(visible) > 0 {
		s.touch(visible...)
	}
}

// mergeRecord takes in a record that a member sent, and tells whether reports changed by it.
func (s *store) mergeRecord(r record, msg message) (visible bool) {
	m := s.member(r.name)
	if r.inc < m.inc {
		return false
	}
	if r.inc > m.inc {
		visible = m.live
		gap := m.gap
		m.reborn(r.inc)
		m.gap = gap
	}
	newer := r.head.seq > m.head.seq
	if newer {
		m.gap.asks = min(m.gap.asks, 1) // no need to be slow: somebody tells of the node
		if msg.kind == deltaMsg && len(r.items) == 0 {
			// There is more than gossip carries.
			m.out.addHead()
			m.gap.hurry = true
		}
	}
	visible = m.merge(r, msg.kind == deltaMsg) && m.live || visible
	s.enqueue(m)
	if m.gap.unverified && m.verified(msg, newer) {
		m.gap.unverified = false
		visible = visible || m.live
	}
	if m.gap.update(m.complete(), time.Now()) {
		signal(s.gapped)
	}
	return visible
}

// verified tells that after a message with a record of it, the report is what the node has: it says so itself,
// or the one that was asked about it, or another who has heard of a change.
func (m *memberReport) verified(msg message, newer bool) bool {
	asked := msg.kind == stateMsg && msg.from == m.gap.askedWhom
	return m.complete() && (msg.from == m.name || asked || newer)
}

// knows tells that a record, of which the items are still to be read, brings nothing.
func (s *store) knows(r record) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[r.name]
	return m != nil && (r.inc < m.inc || r.inc == m.inc && r.head.seq <= m.base)
}

// aboutUs begins another life if somebody knows us by one that is later than ours, or by more changes:
// then the clock went back between the lives.
func (s *store) aboutUs(r record) {
	if r.inc < s.own.inc || r.inc == s.own.inc && r.head.seq <= s.own.head.seq {
		return
	}
	if r.inc == math.MaxUint64 {
		return // no life is later
	}
	if time.Since(s.warned) > warnPause {
		s.warned = time.Now()
		_ = level.Warn(s.logger).Log("msg", "others know this node by a later life: does another use its name, or did the clock go back?",
			"theirs", r.inc, "ours", s.own.inc)
	}
	s.own.restart(max(r.inc+1, uint64(time.Now().UnixNano())))
	s.enqueue(s.own)
	s.touch()
}

// state returns the message with all that is known of the live members.
func (s *store) state() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := appendMessage(make([]byte, 0, s.size+s.size/8), stateMsg, s.self)
	for _, m := range s.members {
		if m.live && m.known || m == s.own {
			b = m.appendTo(b)
		}
	}
	s.size = len(b)
	return b
}

// broadcasts returns deltas for one packet: together, with the overhead of each, at most limit bytes.
func (s *store) broadcasts(overhead, limit int) [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.turn) == 0 {
		return nil
	}
	var out [][]byte
	times := s.gossipTimes()
	room := limit - crcRoom
	for range len(s.turn) {
		m := s.turn[0]
		if b := m.delta(times, room-overhead, s.room); b != nil {
			out = append(out, b)
			room -= overhead + len(b)
		} else if !m.out.empty() {
			break // no room; it stays the next
		}
		s.turn = s.turn[1:]
		if !m.out.empty() {
			s.turn = append(s.turn, m)
		}
	}
	return out
}

// gossipTimes is how often an item is passed on.
func (s *store) gossipTimes() int {
	decades := 0
	for n := 1; n < 1+s.live; n *= 10 {
		decades++
	}
	return max(1, gossipMult*decades)
}

// delta writes what gossip has to carry of a report, at most limit bytes; nil if nothing fits.
func (m *memberReport) delta(times, limit, room int) []byte {
	p := newPacker(m, limit, room)
	b := []byte(nil)
	if p.limit >= 0 && m.out.sendHead(times) {
		b = p.head()
	} else {
		m.out.send(times, p.take)
		b = p.bytes()
	}
	if m.out.empty() {
		m.sweep()
	}
	return b
}
