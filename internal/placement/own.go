package placement

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// handing is how long an address is answered for after its successor was named, unless the successor is
	// heard on the wire before.
	handing = time.Second
	// conceding is how long a claim that has lost is still told, with its winner as the successor, so that
	// the winner knows that others may have learned our MAC address.
	conceding = 2 * time.Second
	// defying is how long another node has to let go of its claim when ours is older.
	defying = 800 * time.Millisecond
	// recovering is how long a node must have been among its peers for its claims to count fully again.
	recovering = 3 * time.Second
)

// own is an address that this node has claimed.
type own struct {
	Claim
	interfaces []string
	round      uint64
	probe      Probe
	named      time.Time // when the successor was named
	refused    string    // a successor that did not take it
	rivals     []rival   // the others that claimed it at the last decision
	defied     time.Time // since when one of them has not let go, although our claim is no younger; zero: none
	conceded   time.Time // since when another's claim stands; zero: ours does
	rivalOn    string    // the interface that Rival was heard on
	suspect    suspect
	recheck    time.Time // when to probe again what a stranger uses
}

// rival is another node with a claim on an address of ours.
type rival struct {
	node  string
	holds bool // it has neither let go nor named a successor
}

// weaken marks the claims of a node that may have missed something, until it has been among its peers for a
// while. What such a node still announces a while after it sees somebody again it announces anew: not at once, for
// most of it others have, and not for each who comes.
func (p *pass) weaken() {
	cutOff := p.cutOff()
	if p.Stood || cutOff || p.apart {
		p.weak = p.Now
	}
	p.apart = cutOff
	recovered := p.Now.Sub(p.weak) >= recovering
	regained := !p.regained.IsZero() && p.Now.Sub(p.regained) >= recovering
	waiting := false
	for _, a := range p.work {
		o := a.own
		if o == nil {
			continue
		}
		if regained && o.Weak && o.Phase == Announcing && o.Successor == "" {
			p.again(o) // those on the other side may have had it, and have gone before we heard of it
		}
		switch {
		case p.Stood || cutOff:
			o.Weak = true
		case o.Weak && recovered:
			o.Weak = false
		}
		waiting, a.stirs = waiting || o.Weak, a.stirs || o.Weak
	}
	if waiting && !cutOff {
		p.wakeAt(p.weak.Add(recovering))
	}
	if regained {
		p.regained = time.Time{}
	}
	if !p.regained.IsZero() {
		p.wakeAt(p.regained.Add(recovering))
	}
}

// cutOff reports whether Self may miss what the others do: it sees at most half of them, or is apart.
func (p *pass) cutOff() bool { return p.CutOff() || p.Apart }

// regain notes when one whom a node that was cut off did not see has come back.
func (p *pass) regain() {
	if !p.apart || !p.regained.IsZero() {
		return
	}
	if slices.ContainsFunc(p.Members, func(m string) bool { return !slices.Contains(p.seen.members, m) }) {
		p.regained = p.Now
	}
}

// progress takes in how our addresses stand on the wire.
func (p *pass) progress() {
	for _, a := range p.work {
		o := a.own
		if o == nil || !o.conceded.IsZero() {
			continue
		}
		s, known := p.standing(a.ip)
		if !known {
			continue
		}
		rechecking := o.Phase == Taken && (s.Phase == Probing || s.Phase == Pending)
		silenced := o.Phase == Announcing && s.Phase == Pending // no interface works now
		if !rechecking && !silenced {
			o.Phase = s.Phase
		}
		switch o.Phase {
		case Taken:
			if (s.Rival != MAC{}) {
				p.accuse(a, o, s)
			}
			if p.peer(s.Rival) && !rechecking { // now we know: it was heard before it told of itself
				o.Phase, o.recheck = Pending, time.Time{}
				p.again(o)
				continue
			}
			p.checkAgain(a, o, rechecking)
		case Announcing:
			o.probe, o.recheck = NoProbe, time.Time{}
			o.Rival = MAC{}
			if (s.Rival == MAC{}) || !p.accuse(a, o, s) {
				continue
			}
			if forget := o.suspect.forget(p.options); p.Now.Before(forget) {
				p.wake(a, forget)
			} else {
				o.Rival = MAC{}
			}
		}
	}
}

// accuse has who was heard to use an address of ours for its rival, if it is to be called a stranger now.
func (p *pass) accuse(a *address, o *own, s Standing) bool {
	o.Rival, o.rivalOn = MAC{}, s.RivalOn
	if p.stranger(&o.suspect, s) {
		o.Rival = s.Rival
		return true
	}
	if o.suspect.held(p.Now) {
		p.wake(a, o.suspect.from)
	}
	return false
}

// grudge is how long a stranger that claims an address of ours is reported after it was heard last.
func (o Options) grudge() time.Duration { return 5 * max(o.Recheck, time.Second) / 2 }

// checkAgain has an address that a stranger uses probed again, every so often.
func (p *pass) checkAgain(a *address, o *own, rechecking bool) {
	switch {
	case p.options.Recheck == 0 || rechecking:
		return
	case o.recheck.IsZero():
		o.recheck = p.Now.Add(p.options.Recheck)
	case !p.Now.Before(o.recheck):
		p.again(o)
		o.recheck = p.Now.Add(p.options.Recheck)
	}
	p.wake(a, o.recheck)
}

// again has an address announced, or probed, once more.
func (p *pass) again(o *own) {
	p.round++
	o.round = p.round
}

// carryOut makes our own claims follow from who owns what.
func (p *pass) carryOut() {
	for _, a := range p.work {
		switch o := a.own; {
		case len(a.services) == 0 && o != nil:
			p.drop(a, Withdrawn, "")
		case len(a.services) == 0:
		case (o == nil || !o.conceded.IsZero()) && p.mine(a):
			p.claim(a)
		case o != nil:
			p.follow(a, o)
		}
	}
}

// mine reports whether we are to claim an address that we do not own: it is for us, or its owner hands it
// over to us.
func (p *pass) mine(a *address) bool {
	if !a.claimed {
		return a.owner == p.Self
	}
	return a.claims[0].claim.Successor == p.Self && a.group.has(p.Self)
}

// claim claims an address. What a node of ours has announced before is not probed.
func (p *pass) claim(a *address) {
	o := &own{Claim: Claim{IP: a.ip, Since: p.since(a), Phase: Announcing}}
	change := Change{IP: a.ip, Cause: New}
	if a.memory.used {
		change.Cause = Failover
		if a.memory.owner != p.Self {
			o.After, change.Other = a.memory.owner, a.memory.owner
		}
	}
	if a.claimed {
		from := a.claims[0]
		o.Since, o.After, change.Cause, change.Other = from.claim.Since, "", Handover, from.node
		if from.claim.Phase != Announcing {
			a.memory.used = false // it was never on the wire
		}
		p.charge(a, p.node(p.Self))
		a.claimed = false
	}
	if !a.memory.used {
		o.Phase, o.probe = Pending, ProbeFirst
	}
	if o.Weak = p.Now.Sub(p.weak) < recovering; o.Weak && !p.cutOff() { // who seems dead may not have been heard yet
		p.wake(a, p.weak.Add(recovering))
	}
	o.interfaces, o.rivals = a.group.interfaces(p.Self), p.rivals(a)
	p.again(o)
	a.own, a.owner, a.claimed = o, p.Self, true
	a.claims = slices.Insert(a.claims, 0, claimant{node: p.Self, claim: &o.Claim})
	a.memory.used = a.memory.used || o.Phase == Announcing
	p.decision.Taken = append(p.decision.Taken, change)
}

// since is when a claim made now begins: later than all that were heard of. Clocks differ, and may be set back.
func (p *pass) since(a *address) time.Time {
	now, next := p.Now.UTC().Truncate(time.Millisecond), a.memory.latest.Add(time.Millisecond)
	if now.Before(next) {
		return next
	}
	return now
}

// follow brings a claim of ours up to date with who owns the address.
func (p *pass) follow(a *address, o *own) {
	if names := a.group.interfaces(p.Self); len(names) > 0 {
		o.interfaces = names
	}
	rivals := p.rivals(a)
	switch {
	case !o.conceded.IsZero():
		p.concede(a, o)
	case len(a.group.nodes) == 0 && !p.Leaving && p.waits(a):
		o.interfaces, o.Phase = nil, Pending
	case len(a.group.nodes) == 0 && !p.Leaving:
		p.drop(a, Ineligible, "")
	case len(a.group.nodes) == 0 && p.untold(): // who has just joined is about to be one to hand it over to
	case !a.claimed: // we should not have it, and were given time to hand it over
		p.drop(a, Ineligible, a.owner)
	case a.owner == p.Self && p.defied(a, o):
		p.yield(a, o)
	case a.owner == p.Self:
		p.keep(a, o, rivals)
	default:
		p.yield(a, o)
	}
	o.rivals = rivals
}

// waits reports whether Self may own an address that nobody may own now, were it not for its interfaces. It then
// keeps the claim without announcing: when a switch restarts, all nodes lose their carrier, and each goes on with
// its own afterwards, instead of the first one with all.
func (p *pass) waits(a *address) bool {
	return a.reason == NoInterface && p.mayOwn(p.Self) && slices.ContainsFunc(a.set.ads, func(ad *Advertisement) bool { return ad.Nodes[p.Self] })
}

// keep goes on with a claim that stands.
func (p *pass) keep(a *address, o *own, rivals []rival) {
	if o.Phase == Announcing && (p.Stood || contested(o.rivals, rivals)) {
		p.again(o) // others may have announced it meanwhile
	}
	switch {
	case !a.group.has(p.Self):
		p.retreat(a, o)
	case o.Successor != "":
		p.await(a, o)
	}
}

// defied reports whether another node goes on claiming an address of ours, and makes it the owner: it must hold
// that we may not have the address, and know what we don't, as the API server is away for us. Of the two, it is
// always the one with the older claim that gives in; of two as old, the one that holds the other for able.
func (p *pass) defied(a *address, o *own) bool {
	i := slices.IndexFunc(a.claims, func(c claimant) bool {
		return c.node != p.Self && a.group.has(c.node) && c.claim.Successor == "" && c.claim.underWay() && (o.Weak || !c.claim.Weak) && !c.claim.Since.Before(o.Since)
	})
	switch due := o.defied.Add(defying); {
	case i < 0 || o.Successor != "":
		o.defied = time.Time{}
	case o.defied.IsZero():
		o.defied = p.Now
		p.wake(a, p.Now.Add(defying))
	case p.Now.Before(due):
		p.wake(a, due)
	default:
		a.owner = a.claims[i].node
		return true
	}
	return false
}

// rivals are the others that have a claim on an address: they may have announced it beside us.
func (p *pass) rivals(a *address) (list []rival) {
	for _, c := range a.claims {
		if c.node != p.Self {
			list = append(list, rival{node: c.node, holds: c.claim.Successor == ""})
		}
	}
	return list
}

// contested reports whether the word of a node may have been the last on the wire: it has come to claim the address,
// or it claimed it, and lets go or is gone. Who hands it over to us and then goes is none of those.
func contested(before, now []rival) bool {
	return slices.ContainsFunc(now, func(r rival) bool { return !slices.Contains(before, r) }) ||
		slices.ContainsFunc(before, func(r rival) bool {
			return r.holds && !slices.ContainsFunc(now, func(n rival) bool { return n.node == r.node })
		})
}

// await gives a move up when its successor does not take the address.
func (p *pass) await(a *address, o *own) {
	p.calm, a.stirs = false, true
	if deadline := o.named.Add(handing); p.Now.Before(deadline) && slices.Contains(p.Members, o.Successor) {
		p.wake(a, deadline)
		return
	}
	o.refused, o.Successor = o.Successor, ""
}

// retreat hands over an address that we may not own any more.
func (p *pass) retreat(a *address, o *own) {
	p.unsettles(a)
	due := o.named.Add(handing)
	if o.Successor != "" && p.Now.Before(due) && a.group.has(o.Successor) {
		p.wake(a, due)
		return
	}
	a.miss(o.Successor)
	if to := p.wished(a, a.group); to != "" {
		p.handOver(a, o, to)
	}
}

// handOver names the successor.
func (p *pass) handOver(a *address, o *own, to string) {
	o.Successor, o.named = to, p.Now
	p.charge(a, p.node(to))
	a.memory.expected, a.memory.until = to, p.Now.Add(expecting)
	p.moved = p.Now
	p.wake(a, p.Now.Add(handing))
}

// yield lets an address go to the node whose claim stands. One that we hand over we answer for until the
// successor has been heard on the wire; any other we let go of at once, and say so for a while.
func (p *pass) yield(a *address, o *own) {
	if o.Successor != a.owner {
		p.decision.Lost = append(p.decision.Lost, Change{IP: a.ip, Cause: Conflict, Other: a.owner})
		o.conceded, o.Phase, o.Rival = p.Now, Pending, MAC{}
		p.concede(a, o)
		return
	}
	if due := o.named.Add(handing); p.Now.Before(due) && !p.heard(a.ip, a.owner, o.named) {
		p.wake(a, due)
		return
	}
	p.drop(a, Handover, a.owner)
}

// concede goes on telling that a claim has lost, for a while.
func (p *pass) concede(a *address, o *own) {
	over := o.conceded.Add(conceding)
	if !p.Now.Before(over) {
		a.own = nil
		return
	}
	p.wake(a, over)
	if a.owner != "" {
		o.Successor = a.owner
	}
}

// heard reports whether a node was heard to announce an address since a time.
func (p *pass) heard(ip netip.Addr, node string, since time.Time) bool {
	s, _ := p.standing(ip)
	return !s.PeerAt.Before(since) && slices.ContainsFunc(p.Reports[node].Interfaces, func(i Interface) bool { return i.MAC == s.Peer })
}

func (p *pass) drop(a *address, cause Cause, to string) {
	if a.own.conceded.IsZero() {
		p.decision.Lost = append(p.decision.Lost, Change{IP: a.ip, Cause: cause, Other: to})
	}
	a.own = nil
}
