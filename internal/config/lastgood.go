package config

import (
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
)

// lastGood holds the specs that are in force, by name of the object.
type lastGood struct {
	pools          map[string]good[v1beta1.IPAddressPoolSpec]
	reservations   map[string]good[v1beta1.IPReservationSpec]
	advertisements map[string]good[v1beta1.L2AdvertisementSpec]
}

func newLastGood() lastGood {
	return lastGood{
		pools:          map[string]good[v1beta1.IPAddressPoolSpec]{},
		reservations:   map[string]good[v1beta1.IPReservationSpec]{},
		advertisements: map[string]good[v1beta1.L2AdvertisementSpec]{},
	}
}

// good is the spec of an object, a copy that nobody changes.
type good[S any] struct {
	uid  types.UID
	spec *S
}

// deepCopier is what generated API types offer.
type deepCopier[S any] interface {
	*S
	DeepCopy() *S
}

// of returns what was last good of one object, or nil.
func of[S any](last map[string]good[S], r ref) *S {
	if g, known := last[r.name]; known && g.uid == r.uid {
		return g.spec
	}
	return nil
}

// keep remembers a spec as good; a copy that last already has is shared.
func keep[S any, P deepCopier[S]](now map[string]good[S], r ref, last *S, spec *S) {
	if last == nil || !equality.Semantic.DeepEqual(last, spec) {
		last = P(spec).DeepCopy()
	}
	now[r.name] = good[S]{r.uid, last}
}

// orLast parses a spec and, when that is faulty, what was last good of the same object.
func orLast[S, V any, P deepCopier[S]](p *parser, r ref, spec P, last, now map[string]good[S], parse func(*parser, *S) (V, bool)) (V, bool) {
	before := of(last, r)
	value, ok := parse(p, (*S)(spec))
	if !ok && before != nil {
		// The faults are those of the edit; what the last good version is warned of was said in its time.
		value, ok = parse(&parser{}, before)
		p.kept(r)
		spec = before
	}
	if ok {
		keep[S, P](now, r, before, (*S)(spec))
	}
	return value, ok
}

// kept says on a faulty object that what was in force of it stays so.
func (p *parser) kept(r ref) {
	p.warn(r.kind, r.name, "spec", LastGoodInForce, "this edit is not in force; what was before it stays in force")
}
