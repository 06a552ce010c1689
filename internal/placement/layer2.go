package placement

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"
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
}

// Layer2 elects one owner for each address, where one node at a time announces: per address and never per
// Service, so that Services that share one have one owner. A node that owns an address keeps it as long as it
// may. It remembers what it has claimed and seen between decisions, and is not safe for concurrent use.
type Layer2 struct {
	options  Options
	own      map[netip.Addr]*own
	memory   map[netip.Addr]*memory
	checking map[netip.Addr]*check
	known    map[string]map[netip.Prefix]time.Time // subnets that nodes have had, by advertisements, and when they had them last
	members  []string                              // of the last decision
	quiet    time.Time                             // since when all is settled, and by the same members
	moved    time.Time                             // when an address was last seen on the move
	weak     time.Time                             // when what we have claimed last became weak
	apart    bool                                  // whether we were cut off at the last decision
	round    uint64
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
}

// NewLayer2 returns an elector that has claimed nothing.
func NewLayer2(o Options) *Layer2 {
	return &Layer2{options: o, own: map[netip.Addr]*own{}, memory: map[netip.Addr]*memory{}, checking: map[netip.Addr]*check{}, known: map[string]map[netip.Prefix]time.Time{}}
}

// Decision is what follows from facts.
type Decision struct {
	// Verdicts on all addresses, sorted. One that says the same as in the last decision is the same pointer.
	Verdicts []*Verdict
	// Claims of Self for the others to know, and what Self is to announce; both sorted by address.
	Claims        []Claim
	Announcements []Announcement
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

// pass is one decision in the making.
type pass struct {
	*Layer2
	Facts
	decision  Decision
	addresses []*address // sorted
	at        map[netip.Addr]*address
	groups    map[string]*group
	subnets   map[string]subnets
	load      map[string]int // addresses per node, also those that are expected to go there
	standings map[netip.Addr]Standing
	calm      bool // nothing is on the move
	stirred   bool // something has changed, beside what is handed over by nodes that may own it
}

// address is one address in a pass.
type address struct {
	ip       netip.Addr
	services []*Service
	names    []string
	group    *group // of those that may own it
	claims   []claimant
	owner    string // who owns it, or is to
	claimed  bool   // the owner's claim stands
	promised string // to whom the last owner has conceded it; nobody else has a claim
	reason   Reason // why nobody may own it, or what else there is to say
	moveTo   string
	memory   *memory
}

// claimant is a node with a claim on an address.
type claimant struct {
	node  string
	claim *Claim
	void  bool // another was made since, because the node was held for dead
}

// Decide takes the facts in, and says what follows. What it returns may be kept, but not changed.
func (l *Layer2) Decide(f Facts) Decision {
	if f.Cluster == nil {
		f.Cluster = &Cluster{}
	}
	p := &pass{
		Layer2: l, Facts: f, groups: map[string]*group{}, subnets: map[string]subnets{},
		load: map[string]int{}, standings: make(map[netip.Addr]Standing, len(f.Standings)), calm: true,
	}
	if !slices.Equal(l.members, f.Members) {
		p.unsettled()
	}
	l.members = f.Members
	for _, s := range f.Standings {
		p.standings[s.IP] = s
	}
	p.forgetSubnets()
	p.list()
	p.weaken()
	p.progress()
	p.stand()
	p.place()
	p.carryOut()
	p.rest()
	p.rebalance()
	p.conclude()
	p.quarantine()
	return p.decision
}

// wakeAt has the next decision made at a time at the latest.
func (p *pass) wakeAt(t time.Time) {
	if p.decision.Wake.IsZero() || t.Before(p.decision.Wake) {
		p.decision.Wake = t
	}
}

// list gathers the addresses of all Services, who may own them, and what is remembered of them.
func (p *pass) list() {
	p.at = map[netip.Addr]*address{}
	for _, s := range p.Services {
		for _, ip := range s.IPs {
			if p.at[ip] == nil {
				p.at[ip] = &address{ip: ip}
				p.addresses = append(p.addresses, p.at[ip])
			}
			p.at[ip].services = append(p.at[ip].services, s)
		}
	}
	slices.SortFunc(p.addresses, func(a, b *address) int { return a.ip.Compare(b.ip) })
	for ip := range p.memory {
		if p.at[ip] == nil {
			delete(p.memory, ip)
		}
	}
	for _, a := range p.addresses {
		p.describe(a)
	}
	p.listClaims()
}

func (p *pass) describe(a *address) {
	slices.SortFunc(a.services, func(x, y *Service) int { return cmp.Compare(x.Name, y.Name) })
	for _, s := range a.services {
		a.names = append(a.names, s.Name)
		a.moveTo = cmp.Or(a.moveTo, s.MoveTo)
	}
	if a.memory = p.memory[a.ip]; a.memory == nil {
		a.memory = &memory{}
		p.memory[a.ip] = a.memory
	}
	ads, key := p.covering(a.ip, a.services)
	if len(ads) == 0 {
		a.group, a.reason = newGroup(nil, false, NoAdvertisement), NoAdvertisement
		return
	}
	a.group = p.groupOf(a.ip, ads, key)
	group, nobody := p.serving(a)
	a.reason = cmp.Or(a.group.reason, group.reason)
	if a.group = group; !nobody || a.reason != "" {
		return
	}
	a.reason = NoEndpoint
	if slices.ContainsFunc(ads, func(ad *Advertisement) bool { return ad.Withdraw }) {
		a.group = newGroup(nil, false, NoEndpoint)
	}
}

// listClaims gathers the claims on each address, the one that stands first.
func (p *pass) listClaims() {
	for _, node := range p.Members {
		if node == p.Self {
			continue
		}
		claims := p.Reports[node].Claims
		for i := range claims {
			if a := p.at[claims[i].IP]; a != nil {
				a.claims = append(a.claims, claimant{node: node, claim: &claims[i]})
			}
		}
	}
	for ip, o := range p.own {
		if a := p.at[ip]; a != nil {
			a.claims = append(a.claims, claimant{node: p.Self, claim: &o.Claim})
		}
	}
}

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
	for _, a := range p.addresses {
		if len(a.claims) == 0 {
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
	case a.group.has(winner.node), winner.claim.Successor != "" && slices.Contains(p.Members, winner.claim.Successor):
		a.memory.stranded = time.Time{}
	case len(a.group.nodes) == 0:
		return // everybody lets it go
	case a.memory.stranded.IsZero():
		a.memory.stranded = p.Now
	}
	if since := a.memory.stranded; !since.IsZero() {
		p.unsettled()
		if !p.Now.Before(since.Add(patience)) {
			return
		}
		p.wakeAt(since.Add(patience))
	}
	if winner.claim.Successor == "" {
		a.memory.expected = ""
		if a.group.has(winner.node) {
			a.memory.missed = nil
		}
	}
	a.owner, a.claimed = winner.node, true
	p.load[a.owner]++
	if a.memory.owner != a.owner { // it has moved, if it has only just been heard of
		p.calm, p.moved, a.memory.owner = false, p.Now, a.owner
	}
}

func (p *pass) unsettled() { p.calm, p.stirred = false, true }

// moving notes that a node hands an address over.
func (p *pass) moving(a *address, from string) {
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
	for _, a := range p.addresses {
		switch {
		case a.claimed || len(a.group.nodes) == 0:
			continue
		case (a.group.has(a.memory.expected) || a.promised != "") && p.Now.Before(a.memory.until):
			a.owner = a.memory.expected
			p.load[a.owner]++
		default:
			a.miss(a.memory.expected)
			a.group.unclaimed++
			open = append(open, a)
		}
		p.unsettled()
	}
	for _, a := range open {
		a.owner = p.wished(a, a.group)
		a.group.unclaimed--
		p.load[a.owner]++
		a.memory.expected, a.memory.until = a.owner, p.Now.Add(expecting)
	}
	for _, a := range p.addresses {
		if !a.claimed && a.owner != "" && a.owner != p.Self {
			p.wakeAt(a.memory.until)
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
	if to := p.elect(a.ip, g, a.memory.missed...); to != "" {
		return to
	}
	if rest := g.without(a.memory.missed...); len(rest.nodes) > 0 {
		return p.elect(a.ip, rest)
	}
	a.memory.missed = nil
	return p.elect(a.ip, g)
}

// conclude writes the decision down.
func (p *pass) conclude() {
	for _, a := range p.addresses {
		p.decision.Verdicts = append(p.decision.Verdicts, p.verdict(a))
	}
	for _, ip := range slices.SortedFunc(maps.Keys(p.own), netip.Addr.Compare) {
		o := p.own[ip]
		p.decision.Claims = append(p.decision.Claims, o.Claim)
		if o.conceded.IsZero() {
			p.decision.Announcements = append(p.decision.Announcements, Announcement{IP: ip, Interfaces: o.interfaces, Round: o.round, Probe: o.probe})
		}
	}
}

func (p *pass) verdict(a *address) *Verdict {
	v := &Verdict{IP: a.ip, Services: a.names, Owner: a.owner, Reason: a.reason}
	if a.owner == "" {
		v.Reason = cmp.Or(v.Reason, NoEligibleNode)
		return v
	}
	v.Interfaces = a.group.interfaces(a.owner)
	if a.group.stray {
		v.Detail = "no node has a subnet with this address"
	}
	claim, claimed := p.claimOf(a)
	if !claimed {
		v.Reason = Settling
		return v
	}
	v.Claim = *claim
	switch {
	case claim.Rival != MAC{}:
		v.Reason, v.Detail = AddressConflict, "a stranger at "+claim.Rival.String()+" uses the address"
	case claim.Phase != Announcing:
		v.Reason = Settling
	default:
		v.Reason = cmp.Or(v.Reason, Announced)
	}
	return v
}

func (p *pass) claimOf(a *address) (*Claim, bool) {
	if a.owner == p.Self {
		if o := p.own[a.ip]; o != nil {
			return &o.Claim, true
		}
		return nil, false
	}
	if a.claimed && a.claims[0].node == a.owner {
		return a.claims[0].claim, true
	}
	return nil, false
}
