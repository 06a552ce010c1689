package placement

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/lanyard-lb/lanyard/internal/sortedlist"
)

const (
	// expecting is how long an address that nobody has claimed is left to the node that ought to.
	expecting = 500 * time.Millisecond
	// patience is how long the owner of an address that it should not own any more is given to hand it over.
	patience = 1500 * time.Millisecond
)

// Options of the election. They should be the same on all nodes.
type Options struct {
	Rebalance Rebalance
	// NotReadyAfter is how long a node may be without readiness before others come first; 0: for ever.
	NotReadyAfter time.Duration
	// Recheck is how often an address is probed again that a stranger was found to use.
	Recheck time.Duration
	// Audit, for tests, is told if a decision is not the one that comes of looking at everything anew: then
	// something was changed that may not be, see Facts, or the elector is wrong. It makes decisions slow.
	Audit func(difference string)
}

// Layer2 elects one owner for each address, where one node at a time announces: per address and never per
// Service, so that Services that share one have one owner. A node that owns an address keeps it as long as it
// may. It remembers what it has claimed and seen between decisions, and is not safe for concurrent use.
type Layer2 struct {
	options   Options
	addresses []*address              // of all Services, sorted, and those that Self is about to let go
	at        map[netip.Addr]*address // the same
	checking  map[netip.Addr]*check
	known     map[string]map[netip.Prefix]time.Time // subnets that nodes have had, by advertisements, and when they had them last
	quiet     time.Time                             // since when all is settled, and by the same members
	moved     time.Time                             // when an address was last seen on the move
	weak      time.Time                             // when what we have claimed last became weak
	apart     bool                                  // whether we were cut off at the last decision
	regained  time.Time                             // when we saw somebody again while we were, with claims to be announced anew; zero: none
	round     uint64

	// What follows can be found anew, and is by a whole pass.
	seen   seen
	plan   *plan
	nodes  map[string]*node
	active []*address // those that are not at rest, sorted
	told   told
	shares

	// Memory for the next pass.
	turn  uint64
	work  []*address
	fresh []*address
	spare []heard
	spots []int
}

// memory of one address.
type memory struct {
	expected string    // the node that ought to claim it,
	until    time.Time // by then
	missed   []string  // nodes that did not, since somebody had it last
	stranded time.Time // since when its owner should not own it; zero: it may
	outdone  time.Time // since when its owner serves it, and another node would do better; zero: none would
	used     bool      // a node of ours has announced it
	owner    string    // whose claim stood last
	latest   time.Time // the latest Since of all claims that were ever heard of
}

// NewLayer2 returns an elector that has claimed nothing.
func NewLayer2(o Options) *Layer2 {
	return &Layer2{options: o, at: map[netip.Addr]*address{}, checking: map[netip.Addr]*check{}, known: map[string]map[netip.Prefix]time.Time{},
		plan: newPlan(&Cluster{}), nodes: map[string]*node{}}
}

// Decision is what follows from facts. Verdicts, Claims and Announcements are the very lists of the last decision
// while nothing in them is another, and other lists when something is.
type Decision struct {
	// Verdicts on all addresses, sorted. In all of these lists, what says the same as in the last decision is the same
	// pointer, and a list of the same is the same list.
	Verdicts sortedlist.List[*Verdict]
	// Claims of Self for the others to know, and what Self is to announce; both sorted by address.
	Claims        []*Claim
	Announcements []*Announcement
	// Taken lists the addresses that Self has claimed just now, and Lost those that it has let go.
	Taken, Lost []Change
	// Found are the strangers that Self knows of, by address; Gone the quarantined addresses that no stranger
	// uses any more.
	Found []Stranger
	Gone  []netip.Addr
	// Wake is when to decide again although nothing has changed; zero: no need to.
	Wake time.Time
}

// Change is an address that Self has claimed or let go.
type Change struct {
	IP    netip.Addr
	Cause Cause
	Other string // the node it came from or went to; empty: none
}

// Cause says in one word why an address changes hands.
type Cause string

// The causes.
const (
	New        Cause = "New"        // nobody of ours had it
	Failover   Cause = "Failover"   // its owner is dead, or does not hand it over
	Handover   Cause = "Handover"   // its owner hands it over
	Conflict   Cause = "Conflict"   // another node's claim stands
	Ineligible Cause = "Ineligible" // no node may announce it
	Withdrawn  Cause = "Withdrawn"  // no Service has it any more
)

// pass is one decision in the making. It looks at the addresses that something has changed for, and at those that are
// not at rest: all others would come to the same as in the last one. An address is at rest if it was looked at, and
// nothing came of it that could be otherwise by now: it changed nothing that is remembered, waits for no time, and was
// not seen on the move. A whole pass looks at all.
type pass struct {
	*Layer2
	Facts
	decision Decision
	whole    bool
	last     time.Time // of the last decision
	before   []before  // what was before this pass, of each address in work
	probes   []*Announcement
	come     []arrival
	calm     bool // nothing is on the move
	stirred  bool // something has changed, beside what is handed over by nodes that may own it
}

// address is one address, and what the last pass that looked at it has come to.
type address struct {
	ip       netip.Addr
	services []*Service // sorted by name; none: it is on its way out
	names    []string   // of the Services; shared with verdicts
	moveTo   string
	set      *adset     // of the advertisements that it falls under; nil: none
	base     *group     // of those that may own it whoever serves it
	group    *group     // of those that may own it
	on       *candidate // the one of the group that was asked for last, see find
	from     *group     // the base that group was made of
	reason   Reason     // why nobody may own it, or what else there is to say
	heard    []claimant
	claims   []claimant // of the others and of Self, the one that stands first
	owner    string     // who owns it, or is to
	claimed  bool       // the owner's claim stands
	promised string     // to whom the last owner has conceded it; nobody else has a claim
	memory   memory
	own      *own // what Self claims; nil: nothing

	charged *node // whose load it is part of
	share
	verdict *Verdict
	renewed bool   // its Services are others
	stirs   bool   // it is not at rest, as far as this pass has come
	turn    uint64 // of the last pass that looked at it
}

// before is what was before a pass.
type before struct {
	memory  memory
	own     *own // a copy
	charged *node
	share
}

// claimant is a node with a claim on an address.
type claimant struct {
	node  string
	claim *Claim
	void  bool // another was made since, because the node was held for dead
}

// Decide takes the facts in, and says what follows. What it returns may be kept, but not changed.
func (l *Layer2) Decide(f Facts) Decision {
	if l.options.Audit == nil {
		return l.decide(f, false)
	}
	d, difference := l.audit(f)
	if difference != "" {
		l.options.Audit(difference)
	}
	return d
}

func (l *Layer2) decide(f Facts, whole bool) Decision {
	if f.Cluster == nil {
		f.Cluster = &Cluster{}
	}
	p := &pass{Layer2: l, Facts: f, calm: true}
	p.takeIn(whole)
	p.describe()
	p.weaken()
	p.progress()
	p.stand()
	p.place()
	p.carryOut()
	p.rest()
	p.rebalance()
	p.conclude()
	p.quarantine()
	p.announce()
	return p.decision
}

// wakeAt has the next decision made at a time at the latest.
func (p *pass) wakeAt(t time.Time) {
	if p.decision.Wake.IsZero() || t.Before(p.decision.Wake) {
		p.decision.Wake = t
	}
}

// wake has an address looked at again at a time at the latest.
func (p *pass) wake(a *address, t time.Time) {
	a.stirs = true
	p.wakeAt(t)
}

// describe finds out who may own the addresses, and makes them ready to be looked at.
func (p *pass) describe() {
	p.before = make([]before, len(p.work))
	for i, a := range p.work {
		if len(a.services) == 0 {
			a.memory, a.group, a.on, a.base, a.from = memory{}, nil, nil, nil, nil
		}
		p.before[i] = a.now()
		p.charge(a, nil)
		a.stirs, a.owner, a.claimed, a.promised = false, "", false, ""
		if a.renewed {
			p.cover(a)
		}
		if len(a.services) > 0 {
			p.eligible(a)
		}
		a.claims = append(a.claims[:0], a.heard...)
		if a.own != nil {
			a.claims = append(a.claims, claimant{node: p.Self, claim: &a.own.Claim})
		}
	}
	if p.whole {
		p.expire()
	} else {
		p.arrive()
	}
	if p.plan.uses > 0 && !p.plan.late.IsZero() {
		p.wakeAt(p.plan.late)
	}
}

// now is what is to be compared after the pass.
func (a *address) now() before {
	b := before{memory: a.memory, charged: a.charged, share: a.share}
	if a.own != nil {
		own := *a.own
		b.own = &own
	}
	return b
}

// include has an address among those that this pass looks at, although it was at rest.
func (p *pass) include(a *address) {
	if a.turn == p.turn {
		return
	}
	a.turn = p.turn
	i, _ := slices.BinarySearchFunc(p.work, a, byIP)
	p.work, p.before = slices.Insert(p.work, i, a), slices.Insert(p.before, i, a.now())
}

// cover finds out what follows from the Services of an address, whoever serves them.
func (p *pass) cover(a *address) {
	a.renewed = false
	slices.SortFunc(a.services, func(x, y *Service) int { return cmp.Compare(x.Name, y.Name) })
	if !slices.EqualFunc(a.names, a.services, func(name string, s *Service) bool { return name == s.Name }) {
		a.names = make([]string, len(a.services))
		for i, s := range a.services {
			a.names[i] = s.Name
		}
	}
	a.moveTo = ""
	for _, s := range a.services {
		a.moveTo = cmp.Or(a.moveTo, s.MoveTo)
	}
	var set *adset
	if len(a.services) > 0 {
		set = p.covering(a.ip, a.services)
	}
	if p.use(a, set); set != nil {
		a.base = p.groupOf(a.ip, set)
	}
}

// eligible finds the nodes that may own an address now.
func (p *pass) eligible(a *address) {
	if a.set == nil {
		a.group, a.on, a.from, a.reason = uncovered, nil, nil, NoAdvertisement
		return
	}
	group, nobody := p.serving(a)
	a.reason = cmp.Or(a.base.reason, group.reason)
	if nobody && a.reason == "" {
		if a.reason = NoEndpoint; a.set.withdraw {
			group = withdrawn
		}
	}
	if a.from == a.base && a.narrowed(a.group) && a.narrowed(group) && a.group.same(group) {
		return // as before; the search for what to move need not be made again
	}
	a.group, a.on, a.from = group, nil, a.base
}

// find returns a node as one of those that may own the address, or nil.
func (a *address) find(node string) *candidate {
	if a.on == nil || a.on.name != node {
		if a.on = nil; a.group != nil {
			a.on = a.group.find(node)
		}
	}
	return a.on
}

// narrowed reports whether a group is of this address alone.
func (a *address) narrowed(g *group) bool { return g != a.base && g != a.base.punctual }

// compare puts the claim that stands before the others: of a node that may own the address before one that may
// not, one that is not being handed over, one that has got somewhere and was not stopped by a stranger, one that
// is not weak, one that is not void, the older one. Ties go by hash, then name.
func (a *address) compare(x, y claimant) int {
	return cmp.Or(
		first(a.group.has(x.node), a.group.has(y.node)),
		first(x.claim.Successor == "", y.claim.Successor == ""),
		first(x.claim.underWay(), y.claim.underWay()),
		first(!x.claim.Weak, !y.claim.Weak),
		first(!x.void, !y.void),
		x.claim.Since.Compare(y.claim.Since),
		cmp.Compare(affinity(y.node, a.ip), affinity(x.node, a.ip)),
		cmp.Compare(x.node, y.node),
	)
}

// first orders true before false.
func first(x, y bool) int {
	switch {
	case x == y:
		return 0
	case x:
		return -1
	}
	return 1
}

// stand finds the owner of each address that is claimed, and forgets expectations that have come true.
func (p *pass) stand() {
	for _, a := range p.work {
		if len(a.services) == 0 || len(a.claims) == 0 {
			continue
		}
		if len(a.claims) > 1 {
			a.judge()
			slices.SortFunc(a.claims, a.compare)
		}
		p.standOne(a)
	}
}

// judge finds the claims that are void.
func (a *address) judge() {
	for i := range a.claims {
		c := &a.claims[i]
		c.void = slices.ContainsFunc(a.claims, func(o claimant) bool {
			return o.claim.After == c.node && !o.claim.Weak && o.claim.Since.After(c.claim.Since)
		})
	}
}

func (p *pass) standOne(a *address) {
	winner := a.claims[0]
	for _, c := range a.claims {
		a.memory.used = a.memory.used || c.claim.Phase == Announcing
		if c.claim.Since.After(a.memory.latest) {
			a.memory.latest = c.claim.Since
		}
	}
	if winner.claim.Phase == Taken {
		a.memory.used = false // whoever has it next looks for the stranger, too
	}
	if winner.claim.conceded() { // nobody owns it, only the note is left: its winner is somewhere, or was seen to go
		to := winner.claim.Successor
		if to == a.memory.owner || slices.Contains(a.memory.missed, to) {
			return
		}
		if a.memory.expected != to {
			a.memory.expected, a.memory.until = to, p.Now.Add(expecting)
		}
		a.promised = to
		return
	}
	if winner.claim.Successor != "" {
		// It is to be claimed by the successor, also when the leaver's word that it has let go comes first.
		a.memory.expected, a.memory.until = winner.claim.Successor, p.Now.Add(expecting)
		p.moving(a, winner.node)
	}
	switch {
	case a.find(winner.node) != nil, winner.claim.Successor != "" && slices.Contains(p.Members, winner.claim.Successor):
		a.memory.stranded = time.Time{}
	case len(a.group.nodes) == 0:
		a.memory.stranded = time.Time{}
		return // everybody lets it go
	case a.memory.stranded.IsZero():
		a.memory.stranded = p.Now
	}
	if since := a.memory.stranded; !since.IsZero() {
		p.unsettles(a)
		if !p.Now.Before(since.Add(patience)) {
			return
		}
		p.wake(a, since.Add(patience))
	}
	if winner.claim.Successor == "" {
		a.memory.expected = ""
		if a.find(winner.node) != nil {
			a.memory.missed = nil
		}
	}
	a.owner, a.claimed = winner.node, true
	if on := a.find(a.owner); on != nil {
		p.charge(a, on.node)
	} else {
		p.charge(a, p.node(a.owner))
	}
	if a.memory.owner != a.owner { // it has moved, if it has only just been heard of
		p.calm, p.moved, a.memory.owner = false, p.Now, a.owner
	}
}

func (p *pass) unsettled() { p.calm, p.stirred = false, true }

func (p *pass) unsettles(a *address) {
	a.stirs = true
	p.unsettled()
}

// moving notes that a node hands an address over.
func (p *pass) moving(a *address, from string) {
	a.stirs = true
	if p.calm = false; !a.group.has(from) {
		p.unsettled()
	}
}

// place finds an owner for each address that has none: the node that is expected to claim it, as long as it is
// given time, else the one that is elected of those that were not given time in vain: one that is alive may not
// know of the address, as the API server is away for it. Loads grow in the order of addresses, so that all nodes
// that know the same claims come to the same.
func (p *pass) place() {
	var open []*address
	for _, a := range p.work {
		switch {
		case len(a.services) == 0 || a.claimed || len(a.group.nodes) == 0:
			continue
		case (a.group.has(a.memory.expected) || a.promised != "") && p.Now.Before(a.memory.until):
			a.owner = a.memory.expected
			p.charge(a, p.node(a.owner))
		default:
			a.miss(a.memory.expected)
			a.group.unclaimed++
			open = append(open, a)
		}
		p.unsettles(a)
	}
	for _, a := range open {
		a.owner = p.wished(a, a.group)
		a.group.unclaimed--
		p.charge(a, p.node(a.owner))
		a.memory.expected, a.memory.until = a.owner, p.Now.Add(expecting)
	}
	for _, a := range p.work {
		if !a.claimed && a.owner != "" && a.owner != p.Self {
			p.wake(a, a.memory.until)
		}
	}
}

// miss notes that a node that might have claimed an address did not.
func (a *address) miss(node string) {
	if node != "" && !slices.Contains(a.memory.missed, node) {
		a.memory.missed = append(a.memory.missed, node)
	}
}

// wished is where an address should go: where its Services want it, else to the elected node; of those that did
// not claim it, to none as long as there are others.
func (p *pass) wished(a *address, g *group) string {
	if g.has(a.moveTo) && !slices.Contains(a.memory.missed, a.moveTo) {
		return a.moveTo
	}
	if to := g.elect(a.ip, a.memory.missed...); to != "" {
		return to
	}
	if rest := g.without(a.memory.missed...); len(rest.nodes) > 0 {
		return rest.elect(a.ip)
	}
	a.memory.missed = nil
	return g.elect(a.ip)
}
