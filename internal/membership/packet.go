package membership

import (
	"cmp"
	"maps"
	"slices"
)

const (
	// packetSize bounds our packets, all headers below UDP's included; it is memberlist's own, and fits a
	// VXLAN.
	packetSize = 1400
	// packetHeads is what of it memberlist may take: encryption 29 bytes, the head of a compound and of
	// its part 4, a byte of type, the checksum 5.
	packetHeads = 29 + 4 + 1 + crcRoom
	// crcRoom is what memberlist may add to a packet without having counted it: a checksum.
	crcRoom = 5
	// headRoom is more than the beginning of a delta takes besides the node's name.
	headRoom = 40
)

// packetRoom is what a packet has for a delta in a cluster with that label.
func packetRoom(label string) int {
	room := packetSize - packetHeads
	if label != "" {
		room -= 2 + len(label)
	}
	return room
}

// packer writes a delta of one report that is no longer than a limit.
type packer struct {
	m     *memberReport
	limit int // of the items
	whole int // that limit when nothing else is in the packet
	w     itemWriter
	body  []byte
	n     int
}

func newPacker(m *memberReport, limit, room int) *packer {
	head := headRoom + len(m.name)
	return &packer{m: m, limit: limit - head, whole: room - head, w: itemWriter{seq: m.head.seq}}
}

// take adds the item of a key if there is room. One that would not even fit alone into a packet never
// does: that it is missing is noticed by the digest, and it is fetched.
func (p *packer) take(k itemKey) verdict {
	i, ok := p.m.items[k]
	if !ok {
		return never
	}
	before := p.w
	body := p.w.append(p.body, i)
	if len(body) <= p.limit {
		p.body = body
		p.n++
		return taken
	}
	p.w = before
	if len(body)-len(p.body) > p.whole {
		return never
	}
	return noRoom
}

// bytes returns the delta, nil if there is nothing in it.
func (p *packer) bytes() []byte {
	if p.n == 0 {
		return nil
	}
	return p.head()
}

// head returns the delta even if there is nothing in it.
func (p *packer) head() []byte {
	b := appendMessage(make([]byte, 0, len(p.body)+headRoom+len(p.m.name)), deltaMsg, "")
	b = appendRecordHead(b, record{name: p.m.name, inc: p.m.inc, head: p.m.head}, p.n, len(p.body))
	return append(b, p.body...)
}

// directly is how many members we send our changes to ourselves, at once; gossip reaches all, but takes
// some rounds.
const directly = 16

// parcel is a delta and the members that get it.
type parcel struct {
	packet []byte
	to     []string
}

// parcels takes what of ours is fresh and packs it for up to so many members as directly says, whom pick
// chooses among more. A member that a claim names as its successor gets that claim in any case.
func (s *store) parcels(pick func([]string) []string) []parcel {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.fresh) == 0 {
		return nil
	}
	keys := slices.SortedFunc(maps.Keys(s.fresh), func(a, b itemKey) int {
		return cmp.Or(cmp.Compare(s.successor(a), s.successor(b)), a.compare(b))
	})
	clear(s.fresh)
	others := s.others()
	if len(others) == 0 {
		return nil
	}
	if len(others) > directly {
		others = pick(others)[:directly]
	}
	var out []parcel
	for len(keys) > 0 {
		p, n := s.parcel(keys, others)
		keys = keys[n:]
		if p.packet != nil {
			out = append(out, p)
		}
	}
	return out
}

// parcel packs as many of the keys as fit, and returns how many are done with.
func (s *store) parcel(keys []itemKey, others []string) (parcel, int) {
	p := newPacker(s.own, s.room, s.room)
	to := slices.Clone(others)
	for n, k := range keys {
		if p.take(k) == noRoom {
			return parcel{p.bytes(), to}, n
		}
		name := s.successor(k)
		if m := s.members[name]; m != nil && m.live && m != s.own && !slices.Contains(to, name) {
			to = append(to, name)
		}
	}
	return parcel{p.bytes(), to}, len(keys)
}

// successor is whom our claim of a key names as such.
func (s *store) successor(k itemKey) string {
	if c := s.own.items[k].claim; c != nil {
		return c.Successor
	}
	return ""
}

// others returns the names of the live members besides us and those given, sorted.
func (s *store) others(but ...*memberReport) []string {
	var names []string
	for name, m := range s.members {
		if m.live && m != s.own && !slices.Contains(but, m) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
