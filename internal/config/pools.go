package config

import (
	"cmp"
	"math/big"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/ipam"
)

// candidate is a pool that may come into force: as it is written or, pinned, as it was when last good.
type candidate struct {
	ref
	object *v1beta1.IPAddressPool
	before *v1beta1.IPAddressPoolSpec // last good; nil when there is none
	now    poolSpec
	ok     bool    // now is good in itself
	pinned bool    // what is written is faulty, before is in force
	faults []Fault // of what is written, by itself
	edit   []clash // why what is written was given up for before
	clash  []clash // why it is not in force at all
}

// rank orders candidates: what is in force already; then, when this process does not remember, what says of
// itself that it is; then the others.
func (c *candidate) rank() int {
	switch {
	case c.pinned, c.before != nil && equality.Semantic.DeepEqual(c.before, &c.object.Spec):
		return 0
	case c.before == nil && isReady(c.object.Generation, c.object.Status.Conditions):
		return 1
	}
	return 2
}

// pools brings pools in force. Where two overlap, the one that is in force already wins, then the older; ties
// by name.
func (p *parser) pools(s *Snapshot, o Objects, last map[string]good[v1beta1.IPAddressPoolSpec]) {
	candidates := make([]*candidate, len(o.Pools))
	for i := range o.Pools {
		object := &o.Pools[i]
		c := &candidate{ref: ref{KindIPAddressPool, object.Name, object.UID}, object: object}
		c.before = of(last, c.ref)
		own := parser{}
		c.now, c.ok = own.pool(object, &object.Spec, o.Namespaces)
		c.faults = own.faults
		if !c.ok && c.before != nil {
			c.pin(o)
		}
		candidates[i] = c
	}
	accepted, taken := accept(candidates, o)
	s.Conflicts = map[string][]Conflict{}
	for _, c := range candidates {
		p.faults = append(p.faults, c.faults...)
		p.faults = append(p.faults, faults(append(c.edit, c.clash...))...)
		s.conflicts(append(c.edit, c.clash...))
		if c.pinned && len(c.clash) == 0 {
			p.kept(c.ref)
		}
	}
	for _, c := range accepted {
		spec := &c.object.Spec
		if c.pinned {
			spec = c.before
		}
		keep(p.good.pools, c.ref, c.before, spec)
	}
	s.fill(accepted, taken, o)
	for _, pool := range s.Pools {
		if len(pool.Ranges) == 0 {
			p.warn(KindIPAddressPool, pool.Name, "spec.addresses", NothingLeft,
				"all that the pool lists is excluded, or something else: it has nothing to hand out")
		}
	}
}

// pin returns to what was last good, which was found good once.
func (c *candidate) pin(o Objects) {
	c.pinned = true
	c.now, c.ok = (&parser{}).pool(c.object, c.before, o.Namespaces)
}

// accept takes in the candidates one after the other. One that cannot have the addresses of its edit returns
// to what it had, which others may have been given in the meantime: all starts again, with that settled. It
// ends because each start settles one more.
func accept(candidates []*candidate, o Objects) ([]*candidate, index) {
	slices.SortFunc(candidates, func(a, b *candidate) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()),
			a.object.CreationTimestamp.Compare(b.object.CreationTimestamp.Time), cmp.Compare(a.name, b.name))
	})
	var accepted []*candidate
	var taken index
	for _, c := range candidates {
		if c.clash = nil; !c.ok {
			continue
		}
		clashes := taken.clashes(c.now.parts)
		switch {
		case len(clashes) == 0:
			taken.add(c.now.parts)
			accepted = append(accepted, c)
		case c.rank() > 0 && c.before != nil:
			c.edit = clashes
			c.pin(o)
			return accept(candidates, o)
		default:
			c.clash = clashes
		}
	}
	return accepted, taken
}

// fill writes the accepted pools into the Snapshot.
func (s *Snapshot) fill(accepted []*candidate, taken index, o Objects) {
	s.leaveOut(accepted, taken, o)
	s.Pools = make([]ipam.Pool, 0, len(accepted))
	s.Totals = map[string]map[ipam.Family]*big.Int{}
	for _, c := range accepted {
		pool := c.now.pool
		pool.Ranges = remaining(c.now.parts, s.LeftOut[c.name])
		s.Totals[c.name] = totals(pool, c.now.written)
		s.Pools = append(s.Pools, pool)
	}
	slices.SortFunc(s.Pools, func(a, b ipam.Pool) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Name, b.Name))
	})
	s.written = written(accepted, taken)
}
