package membership

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
	b := appendMessage(make([]byte, 0, len(p.body)+headRoom+len(p.m.name)), deltaMsg, "")
	b = appendRecordHead(b, record{name: p.m.name, inc: p.m.inc, head: p.m.head}, p.n)
	return append(b, p.body...)
}
