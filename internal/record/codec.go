package record

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
)

// Decode reads the record of a block from its API object. The error joins everything that cannot be read or
// does not belong there; the block holds all the rest and is good to use.
func Decode(prefix netip.Prefix, o *v1beta1.IPAllocationRecord) (Block, error) {
	b := New(prefix)
	for _, t := range o.Terms {
		b.SetTerm(Term{Class: t.Class, Epoch: t.Epoch, Writer: t.Writer, Renewed: decodeRenewed(t.Renewed)})
	}
	var faults []error
	if o.Block != prefix.String() {
		faults = append(faults, fmt.Errorf("block: %q, must be %s", o.Block, prefix))
	}
	for i, a := range o.Allocations {
		e, err := decodeEntry(prefix, a)
		if _, twice := b.Lookup(e.Addr); twice {
			err = errors.Join(err, fmt.Errorf("address: %s stands there twice; the first one counts", e.Addr))
			e = Entry{}
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("allocations[%d]: %w", i, err))
		}
		if e.Addr.IsValid() && (len(e.Holders) > 0 || len(e.Previous) > 0 || !e.Released.IsZero()) {
			b.set(e)
		}
	}
	if len(faults) > 0 {
		return b, fmt.Errorf("IPAllocationRecord %s: %w", o.Name, errors.Join(faults...))
	}
	return b, nil
}

// decodeEntry returns no address when the entry as a whole cannot be used.
func decodeEntry(prefix netip.Prefix, a v1beta1.Allocation) (e Entry, err error) {
	addr, err := netip.ParseAddr(a.Address)
	if err != nil || !prefix.Contains(addr) {
		return Entry{}, fmt.Errorf("address: %q is none of %s", a.Address, prefix)
	}
	e = Entry{Addr: addr, Pool: a.Pool}
	var faults []error
	for i, h := range a.Holders {
		holder, err := decodeHolder(h.Kind, h.Namespace, h.Name)
		if err != nil || slices.ContainsFunc(e.Holders, func(o Holding) bool { return o.Same(holder) }) {
			faults = append(faults, fmt.Errorf("holders[%d]: not a holder, or one for the second time", i))
			continue
		}
		holder.UID = h.UID
		class := Change{Holder: holder, Class: h.Class}.class()
		e.Holders = append(e.Holders, Holding{Holder: holder, Class: class, Since: decodeTime(&h.Since)})
	}
	for i, p := range a.Previous[:min(len(a.Previous), MaxPrevious)] {
		holder, err := decodeHolder(p.Kind, p.Namespace, p.Name)
		if err != nil {
			faults = append(faults, fmt.Errorf("previous[%d]: %w", i, err))
			continue
		}
		e.Previous = append(e.Previous, Past{Holder: holder, Pool: p.Pool, From: decodeTime(&p.From), To: decodeTime(&p.To)})
	}
	if len(e.Holders) == 0 && a.Released != nil {
		e.Released = decodeTime(a.Released)
	}
	return e, errors.Join(faults...)
}

func decodeHolder(kind Kind, namespace, name string) (Holder, error) {
	if kind != Service && kind != Reservation || namespace == "" || name == "" {
		return Holder{}, fmt.Errorf("%q %q/%q is no holder", kind, namespace, name)
	}
	return Holder{Kind: kind, Namespace: namespace, Name: name}, nil
}

// decodeTime returns the start of 1970 for a time that is missing, so that it can be written again.
func decodeTime(t *metav1.Time) time.Time {
	if t.IsZero() {
		return time.Unix(0, 0).UTC()
	}
	return whole(t.Time)
}

func decodeRenewed(t *metav1.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.Time
}

// Encode returns a block as the API object that Decode reads; its resourceVersion is for the caller to set.
func (b Block) Encode() *v1beta1.IPAllocationRecord {
	o := &v1beta1.IPAllocationRecord{Block: b.Prefix.String()}
	o.Name = Name(b.Prefix)
	for _, t := range b.Terms() {
		term := v1beta1.ControllerTerm{Class: t.Class, Epoch: t.Epoch, Writer: t.Writer}
		if !t.Renewed.IsZero() {
			renewed := metav1.NewTime(t.Renewed)
			term.Renewed = &renewed
		}
		o.Terms = append(o.Terms, term)
	}
	for e := range b.All() {
		a := v1beta1.Allocation{Address: e.Addr.String(), Pool: e.Pool}
		for _, h := range e.Holders {
			a.Holders = append(a.Holders, v1beta1.AllocationHolder{
				Kind: h.Kind, Namespace: h.Namespace, Name: h.Name, UID: h.UID, Class: h.Class, Since: metav1.NewTime(h.Since),
			})
		}
		for _, p := range e.Previous {
			a.Previous = append(a.Previous, v1beta1.PreviousHolder{
				Kind: p.Kind, Namespace: p.Namespace, Name: p.Name, Pool: p.Pool, From: metav1.NewTime(p.From), To: metav1.NewTime(p.To),
			})
		}
		if !e.Released.IsZero() {
			released := metav1.NewTime(e.Released)
			a.Released = &released
		}
		o.Allocations = append(o.Allocations, a)
	}
	return o
}
