package membership

import (
	"bytes"
	"slices"
	"time"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// A memberReport is what is known of the report of one node. Items come in any order, late, twice or
// never; each holds its newest version. The digest tells when they add up to what the node has: see take.
type memberReport struct {
	name string
	live bool
	died time.Time // when it ceased to be live; when it was first heard of, if it never was
	inc  uint64
	head version // the newest heard of
	// base is the newest version that was complete: an item that is not newer and not here has been taken
	// out, so no packet can bring it back, and what was taken out need not be remembered.
	base   uint64
	known  bool // some version was complete
	digest uint64
	items  map[itemKey]item // those taken out too while they are newer than base or still to be told
	gone   int              // so many are taken out
	out    outbox
	gap    gap

	// Made when they are needed, nil until then: the report, and the record of everything as it is sent.
	snapshot *placement.Report
	encoded  []byte
}

func newMemberReport(name string) *memberReport {
	return &memberReport{name: name, items: make(map[itemKey]item)}
}

// reborn forgets the report: the node has begun a new life.
func (m *memberReport) reborn(inc uint64) {
	*m = memberReport{name: m.name, live: m.live, died: m.died, inc: inc, items: make(map[itemKey]item)}
}

// complete tells that nothing newer is known of than what is here.
func (m *memberReport) complete() bool { return m.known && m.base == m.head.seq }

// merge takes in a record of the same life, and tells whether that changed the report. With relay, news
// is gossiped on.
func (m *memberReport) merge(r record, relay bool) (changed bool) {
	if r.head.seq <= m.base {
		return false // it all came before
	}
	for _, i := range r.items {
		if m.take(i) {
			changed = true
			if relay {
				m.out.add(i.key)
			}
		}
	}
	if r.hasBase && r.base > m.base {
		changed = m.rebase(r) || changed
	}
	if r.head.seq > m.head.seq {
		m.head = r.head
	}
	if m.digest == m.head.digest && m.head.seq > m.base {
		m.base, m.known = m.head.seq, true
		changed = true
	}
	m.sweep()
	if changed {
		m.snapshot = nil
	}
	m.encoded = nil // the head may have changed
	return changed
}

// take keeps an item if it is newer than what is here.
func (m *memberReport) take(i item) bool {
	old, ok := m.items[i.key]
	if ok && i.seq <= old.seq || !ok && i.seq <= m.base {
		return false
	}
	m.put(i)
	return true
}

func (m *memberReport) put(i item) {
	if old, ok := m.items[i.key]; ok {
		m.count(old, -1)
	}
	m.count(i, 1)
	m.items[i.key] = i
}

// count adds an item to what is counted of them, or with -1 takes it off.
func (m *memberReport) count(i item, by int) {
	if i.gone {
		m.gone += by
	} else {
		m.digest ^= i.hash()
	}
}

// drop forgets an item, and tells whether there was one that is not taken out.
func (m *memberReport) drop(k itemKey) bool {
	old, ok := m.items[k]
	if !ok {
		return false
	}
	delete(m.items, k)
	m.count(old, -1)
	return !old.gone
}

// rebase takes out what the record, which has everything up to its base, does not hold.
func (m *memberReport) rebase(r record) (changed bool) {
	held := make(map[itemKey]bool, len(r.items))
	for _, i := range r.items {
		held[i.key] = true
	}
	for k, i := range m.items {
		if i.seq <= r.base && !held[k] {
			changed = m.drop(k) || changed
		}
	}
	changed = changed || !m.known
	m.base, m.known = r.base, true
	return changed
}

// sweep forgets items taken out that no packet can bring back and nobody has to be told of.
func (m *memberReport) sweep() {
	if m.gone == 0 {
		return
	}
	for k, i := range m.items {
		if i.gone && i.seq <= m.base && !m.out.has(k) {
			m.drop(k)
		}
	}
}

// record returns what the report is, without its items.
func (m *memberReport) record() record {
	return record{name: m.name, inc: m.inc, head: m.head, hasBase: m.known, base: m.base}
}

// appendTo adds the record with all items to a message.
func (m *memberReport) appendTo(b []byte) []byte {
	if m.encoded == nil {
		r := m.record()
		r.items = make([]item, 0, len(m.items))
		for _, i := range m.items {
			if !i.gone || i.seq > m.base {
				r.items = append(r.items, i)
			}
		}
		m.encoded = appendRecord(nil, r)
	}
	return append(b, m.encoded...)
}

// once returns what there is once, if that has come.
func (m *memberReport) once() (once, bool) {
	i, ok := m.items[itemKey{}]
	if !ok || i.gone {
		return once{}, false
	}
	return *i.once, true
}

// report returns the report if it has been complete in some version and the node has published one. What is
// remembered of a node that is live again counts only once it is known to be true still: its claims may be of
// an earlier life, or have grown weak.
func (m *memberReport) report() (placement.Report, bool) {
	o, ok := m.once()
	if !m.live || !m.known || m.gap.unverified || !ok || !o.published {
		return placement.Report{}, false
	}
	if m.snapshot == nil {
		m.snapshot = m.build(o.leaving)
	}
	return *m.snapshot, true
}

func (m *memberReport) build(leaving bool) *placement.Report {
	r := &placement.Report{Leaving: leaving}
	for _, i := range m.items {
		switch {
		case i.claim != nil:
			r.Claims = append(r.Claims, *i.claim)
		case i.iface != nil:
			r.Interfaces = append(r.Interfaces, *i.iface)
		}
	}
	slices.SortFunc(r.Claims, func(a, b placement.Claim) int { return a.IP.Compare(b.IP) })
	slices.SortFunc(r.Interfaces, func(a, b placement.Interface) int {
		return itemKey{iface: a.Name}.compare(itemKey{iface: b.Name})
	})
	return r
}

// publish makes the report what the items say: all of them but what there is once, which stays unless it
// is among them. It returns the keys that changed. The report is our own.
func (m *memberReport) publish(items []item) []itemKey {
	seq := m.head.seq + 1
	held := make(map[itemKey]bool, len(items))
	var changed []itemKey
	set := func(i item) {
		i.seq = seq
		m.put(i)
		m.out.add(i.key)
		changed = append(changed, i.key)
	}
	for _, i := range items {
		held[i.key] = true
		if old, ok := m.items[i.key]; !ok || !sameValue(old, i) {
			set(i)
		}
	}
	for k, i := range m.items {
		if !held[k] && !i.gone && k != (itemKey{}) {
			set(item{key: k, gone: true})
		}
	}
	if len(changed) > 0 {
		m.settle(seq)
		m.sweep()
	}
	return changed
}

// restart gives all items anew as the first change of another life of ours.
func (m *memberReport) restart(inc uint64) {
	items := m.items
	m.reborn(inc)
	for _, i := range items {
		if !i.gone {
			i.seq = 1
			m.put(i)
			m.out.add(i.key)
		}
	}
	m.settle(1)
}

// settle makes what is here the version seq, which is complete.
func (m *memberReport) settle(seq uint64) {
	m.head = version{seq: seq, digest: m.digest}
	m.base, m.known, m.snapshot, m.encoded = seq, true, nil, nil
}

// itemsOf splits a report into items without versions.
func itemsOf(r placement.Report, keys keyState) []item {
	items := make([]item, 0, len(r.Claims)+len(r.Interfaces)+1)
	items = append(items, item{once: &once{published: true, leaving: r.Leaving, keys: keys}})
	for j := range r.Interfaces {
		if i := &r.Interfaces[j]; i.Name != "" {
			items = append(items, item{key: itemKey{iface: i.Name}, iface: i})
		}
	}
	for _, c := range r.Claims {
		if c.IP.IsValid() {
			c.IP = c.IP.WithZone("")
			c.Since = time.UnixMilli(c.Since.UnixMilli()).UTC()
			items = append(items, item{key: itemKey{addr: c.IP}, claim: &c})
		}
	}
	return items
}

// sameValue tells whether two items say the same, whatever their versions.
func sameValue(a, b item) bool {
	switch {
	case a.gone || b.gone:
		return a.gone == b.gone
	case a.claim != nil && b.claim != nil:
		return *a.claim == *b.claim
	case a.iface != nil && b.iface != nil:
		return bytes.Equal(appendInterface(nil, a.iface), appendInterface(nil, b.iface))
	case a.once != nil && b.once != nil:
		return bytes.Equal(appendOnce(nil, a.once), appendOnce(nil, b.once))
	}
	return false
}
