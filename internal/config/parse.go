package config

import (
	"cmp"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// Parse checks the objects and returns the Snapshot of those that are good, and every fault of the others.
// Faults are sorted by kind and name.
func Parse(o Objects) (Snapshot, []Fault) { return ParseAfter(Snapshot{}, o) }

// ParseAfter is Parse that knows what was in force before. An object whose edit is faulty stays in force as it
// was in last, where that had an object of its name and UID; its faults, which are not warnings, say so. And
// where an edit brings two pools to overlap, the edit is what loses.
func ParseAfter(last Snapshot, o Objects) (Snapshot, []Fault) {
	p := parser{good: newLastGood()}
	s := Snapshot{good: p.good}
	p.pools(&s, o, last.good.pools)
	s.Reservations = p.reservations(o, last.good.reservations)
	p.advertisements(&s, o, last.good.advertisements)
	slices.SortStableFunc(p.faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return s, p.faults
}

type parser struct {
	faults []Fault
	good   lastGood
}

func (p *parser) fault(kind, name, field string, reason Reason, format string, args ...any) {
	p.faults = append(p.faults, Fault{Kind: kind, Name: name, Field: field, Reason: reason, Message: fmt.Sprintf(format, args...)})
}

func (p *parser) warn(kind, name, field string, reason Reason, format string, args ...any) {
	p.fault(kind, name, field, reason, format, args...)
	p.faults[len(p.faults)-1].Warning = true
}

// ref names one object for good: a later one of the same name has another UID.
type ref struct {
	kind, name string
	uid        types.UID
}
