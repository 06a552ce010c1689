package membership

// outbox holds the items of one node's report that gossip still has to carry, by how often it did. They
// are written when a packet goes out, as they are then: a newer version takes the place of an older one.
type outbox struct {
	sent  map[itemKey]int
	tiers [][]itemKey // tiers[n] were sent n times; those that sent says otherwise of are left over
}

// add has an item sent from the beginning.
func (o *outbox) add(k itemKey) {
	if n, ok := o.sent[k]; ok && n == 0 {
		return
	}
	if o.sent == nil {
		o.sent = make(map[itemKey]int)
	}
	o.sent[k] = 0
	o.push(0, k)
}

func (o *outbox) push(tier int, k itemKey) {
	for len(o.tiers) <= tier {
		o.tiers = append(o.tiers, nil)
	}
	o.tiers[tier] = append(o.tiers[tier], k)
}

func (o *outbox) empty() bool { return len(o.sent) == 0 }

func (o *outbox) has(k itemKey) bool {
	_, ok := o.sent[k]
	return ok
}

func (o *outbox) clear() { *o = outbox{} }

// send offers the items, those sent least first, until take refuses one for lack of room. Each that it
// takes counts as sent, and is done with after limit times, or at once when take says that it never fits.
func (o *outbox) send(limit int, take func(itemKey) verdict) {
	var moved []itemKey
	from := make([]int, 0, len(o.tiers)) // where each tier goes on
	for tier := 0; tier < len(o.tiers); tier++ {
		n, full := o.sendTier(tier, limit, take, &moved)
		from = append(from, n)
		if full {
			break
		}
	}
	for tier, n := range from {
		o.tiers[tier] = o.tiers[tier][n:]
	}
	for _, k := range moved {
		o.push(o.sent[k], k)
	}
	if o.empty() {
		o.clear()
	}
}

// sendTier does so for one tier, and returns how many of its keys are done with.
func (o *outbox) sendTier(tier, limit int, take func(itemKey) verdict, moved *[]itemKey) (n int, full bool) {
	for _, k := range o.tiers[tier] {
		if sent, ok := o.sent[k]; ok && sent == tier {
			switch take(k) {
			case noRoom:
				return n, true
			case never:
				delete(o.sent, k)
			case taken:
				if tier+1 >= limit {
					delete(o.sent, k)
				} else {
					o.sent[k] = tier + 1
					*moved = append(*moved, k)
				}
			}
		}
		n++
	}
	return n, false
}

// verdict is what became of an item offered.
type verdict int

const (
	taken verdict = iota
	noRoom
	never
)
