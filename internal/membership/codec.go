package membership

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// The format of what speakers tell each other inside memberlist's user messages and states. A message is
// a byte of version, a byte of kind, the sender's name unless it is a delta, and records until its end.
// Numbers are varints of encoding/binary, strings have their length before them.

// wireVersion is the first byte of a message. A message with another one is ignored.
const wireVersion = 1

type messageKind byte

const (
	// deltaMsg brings changes of one node's report.
	deltaMsg messageKind = 1 + iota
	// stateMsg brings reports.
	stateMsg
	// askMsg asks for the reports of the nodes in its records, which say what the sender has of them.
	askMsg
	// askAllMsg asks for those of all other live nodes too.
	askAllMsg
)

// record is about the report of one node.
type record struct {
	name string
	inc  uint64  // the node's life: a later one has a larger number
	head version // the newest that the sender has heard of
	// base says, when hasBase, that the sender has every change up to this one. Then the items are all
	// there are but those changed later.
	hasBase bool
	base    uint64
	items   []item
	skipped bool // the items were not read, because they bring nothing
}

// version is a state of a report: how many changes it has seen, and the digest of all items it then held.
type version struct{ seq, digest uint64 }

type message struct {
	kind    messageKind
	from    string
	records []record
}

var (
	errShort   = errors.New("message is cut off")
	errVersion = errors.New("message is of another version")
)

// maxString bounds the names in a message.
const maxString = 512

// appendMessage begins a message; records follow.
func appendMessage(b []byte, kind messageKind, from string) []byte {
	b = append(b, wireVersion, byte(kind))
	if kind != deltaMsg {
		b = appendString(b, from)
	}
	return b
}

// appendRecordHead begins a record; n items follow in size bytes, written by one itemWriter with its seq.
func appendRecordHead(b []byte, r record, n, size int) []byte {
	b = appendString(b, r.name)
	b = binary.BigEndian.AppendUint64(b, r.inc)
	b = binary.AppendUvarint(b, r.head.seq)
	b = binary.BigEndian.AppendUint64(b, r.head.digest)
	if r.hasBase {
		b = binary.AppendUvarint(append(b, 1), r.base)
	} else {
		b = append(b, 0)
	}
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(n)), uint64(size))
}

func appendRecord(b []byte, r record) []byte {
	w := itemWriter{seq: r.head.seq}
	body := make([]byte, 0, 16*len(r.items)) // few take more
	for _, i := range r.items {
		body = w.append(body, i)
	}
	return append(appendRecordHead(b, r, len(r.items), len(body)), body...)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// The first byte of an item: what it is, and what follows.
const (
	tagClaim = iota
	tagIface
	tagOnce
	tagKind // the bits of the above
)
const (
	tagGone = 4 << iota
	tagIPv6
	tagWeak
	tagRival
	tagOther // a successor, or a predecessor held for dead, or both
)

// itemWriter writes the items of a record. What they have in common with the one before takes little.
type itemWriter struct {
	seq   uint64 // of the record's head, which no item exceeds
	since int64
	named [2]string // successor and predecessor
}

func (w *itemWriter) append(b []byte, i item) []byte {
	tag := byte(0)
	if i.gone {
		tag = tagGone
	}
	switch {
	case i.key.addr.IsValid():
		return w.appendClaim(b, tag, i)
	case i.key.iface != "":
		b = binary.AppendUvarint(append(b, tag|tagIface), w.seq-i.seq)
		b = appendString(b, i.key.iface)
		if !i.gone {
			b = appendInterface(b, i.iface)
		}
	default:
		b = binary.AppendUvarint(append(b, tag|tagOnce), w.seq-i.seq)
		if !i.gone {
			b = appendOnce(b, i.once)
		}
	}
	return b
}

func (w *itemWriter) appendClaim(b []byte, tag byte, i item) []byte {
	if !i.key.addr.Is4() {
		tag |= tagIPv6
	}
	if c := i.claim; c != nil {
		tag |= bitIf(c.Weak, tagWeak) | bitIf(c.Rival != placement.MAC{}, tagRival) | bitIf(c.Successor != "" || c.After != "", tagOther)
	}
	b = binary.AppendUvarint(append(b, tag), w.seq-i.seq)
	b = append(b, i.key.addr.AsSlice()...)
	c := i.claim
	if c == nil {
		return b
	}
	b = append(b, byte(c.Phase))
	since := c.Since.UnixMilli()
	b = binary.AppendVarint(b, since-w.since)
	w.since = since
	if tag&tagRival != 0 {
		b = append(b, c.Rival[:]...)
	}
	if tag&tagOther != 0 {
		b = w.others(b, c)
	}
	return b
}

// others appends the nodes that a claim names, by number where the one before named the same.
func (w *itemWriter) others(b []byte, c *placement.Claim) []byte {
	if names := [2]string{c.Successor, c.After}; names != w.named {
		w.named = names
		return appendString(appendString(append(b, 1), c.Successor), c.After)
	}
	return append(b, 0)
}

func bitIf(on bool, bit byte) byte {
	if on {
		return bit
	}
	return 0
}

// Bits of an interface, and of what there is once.
const (
	bitUp = 1 << iota
	bitCarrier
	bitEther
	bitMaster

	bitPublished = 1
	bitLeaving   = 2
)

func appendInterface(b []byte, i *placement.Interface) []byte {
	b = append(b, bitIf(i.Up, bitUp)|bitIf(i.Carrier, bitCarrier)|bitIf(i.Ether, bitEther)|bitIf(i.Master, bitMaster))
	b = binary.AppendVarint(b, int64(i.Index))
	b = append(b, i.MAC[:]...)
	b = binary.AppendUvarint(b, uint64(len(i.Subnets)))
	for _, p := range i.Subnets {
		b = append(b, byte(p.Addr().BitLen()/8), byte(p.Bits()))
		b = append(b, p.Addr().AsSlice()...)
	}
	return b
}

func appendOnce(b []byte, o *once) []byte {
	b = append(b, bitIf(o.published, bitPublished)|bitIf(o.leaving, bitLeaving))
	b = append(b, o.keys.primary[:]...)
	b = binary.AppendUvarint(b, uint64(len(o.keys.installed)))
	for _, f := range o.keys.installed {
		b = append(b, f[:]...)
	}
	return b
}

// decode reads a message. What it allocates is bounded by the message's size. It keeps nothing of b. The
// items of a record are left out if skip says so of what comes before them.
func decode(b []byte, skip func(record) bool) (message, error) {
	if len(b) < 2 {
		return message{}, errShort
	}
	if b[0] != wireVersion {
		return message{}, fmt.Errorf("%w: %d instead of %d", errVersion, b[0], wireVersion)
	}
	m := message{kind: messageKind(b[1])}
	if m.kind < deltaMsg || m.kind > askAllMsg {
		return message{}, fmt.Errorf("message of unknown kind %d", b[1])
	}
	r := reader{b: b[2:]}
	if m.kind != deltaMsg {
		m.from = r.string()
	}
	for r.err == nil && len(r.b) > 0 {
		m.records = append(m.records, r.record(skip))
	}
	return m, r.err
}

// reader takes values off the front of b. After a fault it yields zeros, and err says what it was.
type reader struct {
	b   []byte
	err error
	// Of the claim before, as in itemWriter.
	since int64
	named [2]string
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

// take returns the next n bytes, or none.
func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.fail(errShort)
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail(errShort)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail(errShort)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) string() string {
	n := r.uvarint()
	if n > maxString {
		r.fail(fmt.Errorf("a name of %d bytes", n))
		return ""
	}
	return string(r.take(int(n)))
}

func (r *reader) record(skip func(record) bool) record {
	r.since, r.named = 0, [2]string{}
	rec := record{name: r.string(), inc: r.uint64(), head: version{seq: r.uvarint(), digest: r.uint64()}}
	if rec.hasBase = r.byte() == 1; rec.hasBase {
		rec.base = r.uvarint()
	}
	if r.err == nil && rec.name == "" || rec.base > rec.head.seq {
		r.fail(errors.New("a record that no speaker writes"))
	}
	n, size := r.uvarint(), r.uvarint()
	if size > uint64(len(r.b)) {
		r.fail(errShort)
	}
	if r.err != nil {
		return rec
	}
	if rec.skipped = skip(rec); rec.skipped {
		r.take(int(size))
		return rec
	}
	rest := r.b[size:]
	r.b = r.b[:size]
	rec.items = slices.Grow(rec.items, int(min(n, size/8))) // most take at least that
	for i := uint64(0); i < n && r.err == nil; i++ {
		rec.items = append(rec.items, r.item(rec.head.seq))
	}
	if r.err == nil && len(r.b) > 0 {
		r.fail(errors.New("a record with more than its items"))
	}
	if r.err == nil {
		r.b = rest
	}
	return rec
}

// item reads an item of a record whose head has the number seq.
func (r *reader) item(seq uint64) item {
	tag := r.byte()
	back := r.uvarint()
	if back > seq {
		r.fail(errors.New("an item newer than its record"))
	}
	i := item{seq: seq - back, gone: tag&tagGone != 0}
	switch tag & tagKind {
	case tagClaim:
		size := 4
		if tag&tagIPv6 != 0 {
			size = 16
		}
		if i.key.addr = r.addr(size); !i.gone {
			i.claim = r.claim(i.key.addr, tag)
		}
	case tagIface:
		if i.key.iface = r.string(); i.key.iface == "" {
			r.fail(errors.New("an interface without a name"))
		}
		if !i.gone {
			i.iface = r.iface(i.key.iface)
		}
	case tagOnce:
		if !i.gone {
			i.once = r.once()
		}
	default:
		r.fail(fmt.Errorf("an item of unknown kind %#x", tag))
	}
	return i
}

func (r *reader) addr(size int) netip.Addr {
	a, ok := netip.AddrFromSlice(r.take(size))
	if !ok {
		r.fail(errShort)
	}
	return a
}

func (r *reader) claim(ip netip.Addr, tag byte) *placement.Claim {
	c := &placement.Claim{IP: ip, Weak: tag&tagWeak != 0, Phase: placement.Phase(r.byte())}
	if c.Phase > placement.Free {
		r.fail(fmt.Errorf("a claim in unknown phase %d", uint8(c.Phase)))
	}
	r.since += r.varint()
	c.Since = time.UnixMilli(r.since).UTC()
	if tag&tagRival != 0 {
		copy(c.Rival[:], r.take(len(c.Rival)))
	}
	if tag&tagOther != 0 {
		if r.byte() != 0 {
			r.named = [2]string{r.string(), r.string()}
		}
		c.Successor, c.After = r.named[0], r.named[1]
	}
	return c
}

func (r *reader) iface(name string) *placement.Interface {
	bits := r.byte()
	i := &placement.Interface{
		Name: name, Up: bits&bitUp != 0, Carrier: bits&bitCarrier != 0,
		Ether: bits&bitEther != 0, Master: bits&bitMaster != 0, Index: int(r.varint()),
	}
	copy(i.MAC[:], r.take(len(i.MAC)))
	n := r.uvarint()
	for j := uint64(0); j < n && r.err == nil; j++ {
		size, bits := int(r.byte()), int(r.byte())
		p := netip.PrefixFrom(r.addr(size), bits)
		if !p.IsValid() {
			r.fail(errors.New("a subnet that is none"))
		}
		i.Subnets = append(i.Subnets, p)
	}
	return i
}

func (r *reader) once() *once {
	bits := r.byte()
	o := &once{published: bits&bitPublished != 0, leaving: bits&bitLeaving != 0}
	o.keys.primary = r.fingerprint()
	n := r.uvarint()
	for j := uint64(0); j < n && r.err == nil; j++ {
		o.keys.installed = append(o.keys.installed, r.fingerprint())
	}
	return o
}

func (r *reader) fingerprint() (f fingerprint) {
	copy(f[:], r.take(len(f)))
	return f
}
