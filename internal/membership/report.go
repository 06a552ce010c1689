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
	gone   map[itemKey]bool // those that are taken out
	out    outbox
	gap    gap

	// Made when they are needed, nil until then: the report, and the record of everything as it is sent.
	snapshot *placement.Report
	encoded  []byte
	moved    map[itemKey]bool // the items that have changed since the snapshot was made
}

func newMemberReport(name string) *memberReport {
	m := &memberReport{name: name}
	m.reborn(0)
	return m
}

// reborn forgets the report: the node has begun a new life.
func (m *memberReport) reborn(inc uint64) {
	*m = memberReport{name: m.name, live: m.live, died: m.died, inc: inc, items: map[itemKey]item{}, gone: map[itemKey]bool{}, moved: map[itemKey]bool{}}
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
	switch {
	case !i.gone:
		m.digest ^= i.hash()
	case by > 0:
		m.gone[i.key] = true
	default:
		delete(m.gone, i.key)
	}
	if m.snapshot != nil {
		m.moved[i.key] = true
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
	for k := range m.gone {
		if m.items[k].seq <= m.base && !m.out.has(k) {
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
	if m.snapshot == nil || len(m.moved) > 0 {
		m.snapshot = m.build(o.leaving)
		clear(m.moved)
	}
	return *m.snapshot, true
}

// build makes the report. It shares with the one before what is the same still.
func (m *memberReport) build(leaving bool) *placement.Report {
	var old placement.Report
	keys := m.moved
	if m.snapshot != nil && len(m.moved) <= len(m.items)/4 {
		old = *m.snapshot
	} else {
		keys = make(map[itemKey]bool, len(m.items))
		for k := range m.items {
			keys[k] = true
		}
	}
	var claims, interfaces []itemKey
	for k := range keys {
		switch {
		case k.addr.IsValid():
			claims = append(claims, k)
		case k.iface != "":
			interfaces = append(interfaces, k)
		}
	}
	return &placement.Report{
		Leaving: leaving,
		Claims: patched(old.Claims, claims, claimKey, func(k itemKey) (*placement.Claim, bool) {
			c := m.items[k].claim
			return c, c != nil
		}),
		Interfaces: patched(old.Interfaces, interfaces, interfaceKey, func(k itemKey) (i placement.Interface, is bool) {
			if is = m.items[k].iface != nil; is {
				i = *m.items[k].iface
			}
			return i, is
		}),
	}
}

func claimKey(c *placement.Claim) itemKey { return itemKey{addr: c.IP} }

func interfaceKey(i placement.Interface) itemKey { return itemKey{iface: i.Name} }

// patched returns the list, which is sorted by key, with the elements of those keys as they are now; nil says that
// there is none. Without keys it is the list itself.
func patched[T any](list []T, keys []itemKey, keyOf func(T) itemKey, now func(itemKey) (T, bool)) []T {
	if len(keys) == 0 {
		return list
	}
	slices.SortFunc(keys, itemKey.compare)
	out := make([]T, 0, len(list)+len(keys))
	for _, k := range keys {
		i, held := slices.BinarySearchFunc(list, k, func(e T, k itemKey) int { return keyOf(e).compare(k) })
		out = append(out, list[:i]...)
		if list = list[i:]; held {
			list = list[1:]
		}
		if e, is := now(k); is {
			out = append(out, e)
		}
	}
	if out = append(out, list...); len(out) == 0 {
		return nil
	}
	return out
}

// publish makes the report what the items say: all of them but what there is once, which stays unless it
// is among them. It returns the keys that changed. The report is our own.
func (m *memberReport) publish(items []item) []itemKey {
	held := make(map[itemKey]bool, len(items))
	for _, i := range items {
		held[i.key] = true
	}
	for k, i := range m.items {
		if !held[k] && !i.gone && k != (itemKey{}) {
			items = append(items, item{key: k, gone: true})
		}
	}
	return m.change(items)
}

// change makes the report say what the items do, of their keys, and returns the keys that changed by that. The
// report is our own.
func (m *memberReport) change(items []item) []itemKey {
	seq := m.head.seq + 1
	var changed []itemKey
	for _, i := range items {
		if old, ok := m.items[i.key]; ok && sameValue(old, i) || !ok && i.gone {
			continue
		}
		i.seq = seq
		m.put(i)
		m.out.add(i.key)
		changed = append(changed, i.key)
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
	m.base, m.known, m.encoded = seq, true, nil
}

// itemsOf splits a report into items without versions.
func itemsOf(r placement.Report, keys keyState) []item {
	items := make([]item, 0, len(r.Claims)+len(r.Interfaces)+1)
	items = append(items, onceOf(r, keys))
	for j := range r.Interfaces {
		if r.Interfaces[j].Name != "" {
			items = append(items, interfaceItem(&r.Interfaces[j]))
		}
	}
	for j := range r.Claims {
		if r.Claims[j].IP.IsValid() {
			items = append(items, claimItem(r.Claims[j]))
		}
	}
	return items
}

func onceOf(r placement.Report, keys keyState) item {
	return item{once: &once{published: true, leaving: r.Leaving, keys: keys}}
}

func interfaceItem(i *placement.Interface) item { return item{key: itemKey{iface: i.Name}, iface: i} }

func claimItem(claim *placement.Claim) item {
	c := *claim
	c.IP = c.IP.WithZone("")
	c.Since = time.UnixMilli(c.Since.UnixMilli()).UTC()
	if c != *claim {
		claim = &c
	}
	return item{key: itemKey{addr: c.IP}, claim: claim}
}

// differences returns the items by which a report differs from one that was published before, or false when the
// lists cannot be compared: their elements must be in order, each key once. Of those two that are the same it looks
// at nothing.
func differences(before, now placement.Report, keys keyState) (items []item, ok bool) {
	if before.Leaving != now.Leaving {
		items = append(items, onceOf(now, keys))
	}
	gone := func(k itemKey) { items = append(items, item{key: k, gone: true}) }
	// A slice of interfaces is a new one because something has changed.
	ok = differing(before.Interfaces, now.Interfaces, interfaceKey, func(_, _ placement.Interface) bool { return false },
		func(i placement.Interface) { items = append(items, interfaceItem(&i)) }, gone) &&
		differing(before.Claims, now.Claims, claimKey, func(a, b *placement.Claim) bool { return a == b || *a == *b },
			func(c *placement.Claim) { items = append(items, claimItem(c)) }, gone)
	return items, ok
}

// differing tells of the elements by which a list differs from one before, and of the keys that are gone. It returns
// false if the list is not in order. The one before is taken to be, as it was looked at in its time.
func differing[T any](before, now []T, keyOf func(T) itemKey, same func(a, b T) bool, tell func(T), gone func(itemKey)) bool {
	if len(before) == len(now) && (len(now) == 0 || &before[0] == &now[0]) {
		return true
	}
	var last itemKey
	for len(before) > 0 || len(now) > 0 {
		n := 0
		for n < len(before) && n < len(now) && same(before[n], now[n]) {
			n++
		}
		if n > 0 { // in order among each other, as they were before
			if keyOf(now[0]).compare(last) <= 0 {
				return false
			}
			last = keyOf(now[n-1])
			before, now = before[n:], now[n:]
			continue
		}
		if len(now) == 0 || len(before) > 0 && keyOf(before[0]).compare(keyOf(now[0])) < 0 {
			gone(keyOf(before[0]))
			before = before[1:]
			continue
		}
		k := keyOf(now[0])
		if k.compare(last) <= 0 || k.addr.Zone() != "" {
			return false
		}
		tell(now[0])
		if last = k; len(before) > 0 && keyOf(before[0]) == k {
			before = before[1:]
		}
		now = now[1:]
	}
	return true
}

// sameValue tells whether two items say the same, whatever their versions.
func sameValue(a, b item) bool {
	switch {
	case a.gone || b.gone:
		return a.gone == b.gone
	case a.claim != nil && b.claim != nil:
		return a.claim == b.claim || *a.claim == *b.claim
	case a.iface != nil && b.iface != nil:
		return bytes.Equal(appendInterface(nil, a.iface), appendInterface(nil, b.iface))
	case a.once != nil && b.once != nil:
		return bytes.Equal(appendOnce(nil, a.once), appendOnce(nil, b.once))
	}
	return false
}
