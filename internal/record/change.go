package record

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Change is one step of one holder on one address. Hold and Release make them.
type Change struct {
	Addr   netip.Addr
	Holder Holder
	// Class of the controller that makes the change. Who commits it fills it in.
	Class string
	Pool  string
	At    time.Time
	// Beside lists who else may hold the address at the same time, whatever their UIDs; anybody else makes
	// a Hold fail.
	Beside []Holder
	// Replaces is the UID of an earlier object of the holder's name that is known to be gone, whose address
	// the holder takes over.
	Replaces string
	// Let says that the holder lets the address go; Gone, that it does because it is no more, if that is true.
	Let, Gone bool
	// Left, of a Release, is the class that the holder has the address by, when not the one of who commits it.
	Left *string
}

// Hold is a holder's claim on an address, from now on. It fails with a *HeldError when somebody holds the
// address who is neither the holder nor one of beside; also when the holder does by another class, which may be
// about to let it go.
func Hold(addr netip.Addr, holder Holder, pool string, now time.Time, beside ...Holder) Change {
	return Change{Addr: addr, Holder: holder, Pool: pool, At: now, Beside: beside}
}

// Release lets an address go. It changes nothing when that very holder, by its UID, does not hold the address, or
// does by another class.
func Release(addr netip.Addr, holder Holder, now time.Time) Change {
	return Change{Addr: addr, Holder: holder, At: now, Let: true}
}

// ReleaseLeft is a Release of what a Service holds by a class that has no controller in office any more.
func ReleaseLeft(addr netip.Addr, holder Holder, class string, now time.Time) Change {
	return Change{Addr: addr, Holder: holder, At: now, Let: true, Left: &class}
}

// ReleaseGone is a Release for a holder that seems to be gone. Who commits it asks the API server first, and
// refuses it with a *HeldError when the holder lives.
func ReleaseGone(addr netip.Addr, holder Holder, now time.Time) Change {
	return Change{Addr: addr, Holder: holder, At: now, Let: true, Gone: true}
}

// HeldError says that somebody else holds an address: By, by a class. When By has the name of who asked, it is
// an object of that name with another UID, or holds the address by another class.
type HeldError struct {
	Addr  netip.Addr
	By    Holder
	Class string
}

// Error names the address and its holder.
func (e *HeldError) Error() string {
	return fmt.Sprintf("address %s is held by %s (uid %s)", e.Addr, e.By, e.By.UID)
}

// FullError says that an address has as many holders as it can.
type FullError struct {
	Addr netip.Addr
}

// Error names the address.
func (e *FullError) Error() string {
	return fmt.Sprintf("address %s is shared by %d holders, and can be by no more", e.Addr, MaxHolders)
}

// Apply makes one change in place and reports whether the block says something else now. When it fails, the
// block is as it was.
func (b Block) Apply(c Change) (changed bool, err error) {
	if !b.Prefix.Contains(c.Addr) {
		return false, fmt.Errorf("address %s does not belong to block %s", c.Addr, b.Prefix)
	}
	e, _ := b.Lookup(c.Addr)
	e.Addr = c.Addr
	c.At = whole(c.At)
	if c.Let {
		e, changed = e.release(c)
	} else if e, changed, err = e.hold(c); err != nil {
		return false, err
	}
	if changed {
		b.set(e)
	}
	return changed, nil
}

func (e Entry) hold(c Change) (Entry, bool, error) {
	had, replaced := false, Holding{}
	for _, o := range e.Holders {
		switch {
		case o.Holder == c.Holder && o.by(c.Class):
			had = true
		case o.Same(c.Holder) && o.UID == c.Replaces && o.UID != c.Holder.UID:
			replaced = o
		case o.Same(c.Holder), !slices.ContainsFunc(c.Beside, o.Same):
			return e, false, &HeldError{Addr: c.Addr, By: o.Holder, Class: o.Class}
		}
	}
	changed := false
	if replaced != (Holding{}) {
		e, changed = e.leave(replaced, c.At), true
	}
	if c.Pool != "" && e.Pool != c.Pool {
		e.Pool, changed = c.Pool, true
	}
	if had {
		return e, changed, nil
	}
	if len(e.Holders) >= MaxHolders {
		return e, false, &FullError{Addr: c.Addr}
	}
	e.Holders = append(slices.Clone(e.Holders), Holding{Holder: c.Holder, Class: c.class(), Since: c.At})
	e.Released = time.Time{}
	return e, true, nil
}

// class returns the class that the holder is to hold the address by.
func (c Change) class() string {
	if c.Holder.Kind != Service {
		return ""
	}
	return c.Class
}

func (e Entry) release(c Change) (Entry, bool) {
	class := c.Class
	if c.Left != nil {
		class = *c.Left
	}
	at := slices.IndexFunc(e.Holders, func(h Holding) bool { return h.Holder == c.Holder && h.by(class) })
	if at < 0 {
		return e, false
	}
	return e.leave(e.Holders[at], c.At), true
}

// leave moves a holder to the history.
func (e Entry) leave(h Holding, at time.Time) Entry {
	if at.Before(h.Since) { // the clocks of two controllers differ
		at = h.Since
	}
	e.Holders = slices.DeleteFunc(slices.Clone(e.Holders), func(o Holding) bool { return o == h })
	past := Past{Holder: h.Named(), Pool: e.Pool, From: h.Since, To: at}
	e.Previous = append([]Past{past}, e.Previous...)
	e.Previous = e.Previous[:min(len(e.Previous), MaxPrevious)]
	if len(e.Holders) == 0 {
		e.Holders, e.Released = nil, at
	}
	return e
}

// whole returns a time as it comes back from the API server.
func whole(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
