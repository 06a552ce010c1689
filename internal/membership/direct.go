package membership

import (
	"cmp"
	"maps"
	"slices"
)

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

// others returns the names of the live members besides us, sorted.
func (s *store) others() []string {
	var names []string
	for name, m := range s.members {
		if m.live && m != s.own {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
