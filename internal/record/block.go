package record

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
)

// The bounds of an entry.
const (
	MaxHolders  = 64 // of one shared address
	MaxPrevious = 5
)

// Kind is the kind of object that holds an address.
type Kind = v1beta1.HolderKind

// The kinds of holders.
const (
	Service     = v1beta1.HolderService
	Reservation = v1beta1.HolderReservation
)

// Holder is an object that holds an address. The UID tells it from a later one of the same name.
type Holder struct {
	Kind            Kind
	Namespace, Name string
	UID             string
}

// Same reports whether two holders have one kind, namespace and name, be it with different UIDs.
func (h Holder) Same(o Holder) bool { return h.Named() == o.Named() }

// Named returns the holder without its UID.
func (h Holder) Named() Holder {
	h.UID = ""
	return h
}

// String returns the kind and namespace/name.
func (h Holder) String() string { return string(h.Kind) + " " + h.Namespace + "/" + h.Name }

// Holding is a holder of an address now.
type Holding struct {
	Holder
	// Class is that of the controller which has given a Service the address, and alone may let it go. Of a
	// reservation it is of no account, for those are of no class.
	Class string
	Since time.Time // UTC, whole seconds, like all times here
}

// by reports whether a holding is a class's to let go.
func (h Holding) by(class string) bool { return h.Class == class || h.Kind != Service }

// Past is a holder of an address before; it has no UID.
type Past struct {
	Holder
	Pool     string
	From, To time.Time
}

// Entry is what is known of one address. Entries are values: nobody may change what their slices hold.
type Entry struct {
	Addr     netip.Addr
	Pool     string    // that the address was given from last
	Holders  []Holding // in the order in which they came; more than one share the address
	Released time.Time // when the last holder let go; zero while the address is held
	Previous []Past    // newest first
}

// LastReleased returns when the address was released last, be it by one of several holders; zero: never.
func (e Entry) LastReleased() time.Time {
	if len(e.Previous) > 0 && e.Previous[0].To.After(e.Released) {
		return e.Previous[0].To
	}
	return e.Released
}

// HeldBy reports whether that very holder, by its UID, holds the address.
func (e Entry) HeldBy(h Holder) bool {
	return slices.ContainsFunc(e.Holders, func(o Holding) bool { return o.Holder == h })
}

// HeldFor reports whether that very holder, by its UID, holds the address by a class.
func (e Entry) HeldFor(h Holder, class string) bool {
	return slices.ContainsFunc(e.Holders, func(o Holding) bool { return o.Holder == h && o.by(class) })
}

// Block is the record of 64 addresses, and of the controllers that wrote it: the last one of each class.
type Block struct {
	Prefix  netip.Prefix
	terms   map[string]Term
	entries []*Entry // by the last bits of their addresses; nil where nothing is known. Clones share them: none is changed
}

// size is how many addresses a block has.
const size = 64

// place returns where the entry of an address is, in the block that the address belongs to.
func place(a netip.Addr) int {
	last := a.As16()[15]
	return int(last % size)
}

// Term is the time that one controller is in office for.
type Term struct {
	Class   string
	Epoch   int64     // counts the controllers of the class
	Writer  string    // the process
	Renewed time.Time // when it was in office last; zero where that is not told
}

// Term returns that of the last controller of a class; of epoch 0 when none has written here.
func (b Block) Term(class string) Term {
	if t, known := b.terms[class]; known {
		return t
	}
	return Term{Class: class}
}

// SetTerm replaces the term of its class.
func (b Block) SetTerm(t Term) {
	t.Renewed = whole(t.Renewed)
	b.terms[t.Class] = t
}

// Terms returns all terms, in the order of their classes.
func (b Block) Terms() []Term {
	return slices.SortedFunc(maps.Values(b.terms), func(x, y Term) int { return cmp.Compare(x.Class, y.Class) })
}

// Office is the block that no pool can have addresses of. Its record tells which controllers are in office.
func Office() netip.Prefix { return BlockOf(netip.IPv6Unspecified()) }

// BlockOf returns the block that an address belongs to: the IPv4 /26 or IPv6 /122 around it.
func BlockOf(a netip.Addr) netip.Prefix { return v1beta1.RecordBlock(a) }

// Name returns the name of the API object of a block.
func Name(block netip.Prefix) string { return v1beta1.RecordName(block) }

// New returns an empty block.
func New(prefix netip.Prefix) Block {
	return Block{Prefix: prefix, terms: map[string]Term{}, entries: make([]*Entry, size)}
}

// Clone returns a block that can be changed without changing this one.
func (b Block) Clone() Block {
	b.terms, b.entries = maps.Clone(b.terms), slices.Clone(b.entries)
	return b
}

// Lookup returns what is known of an address.
func (b Block) Lookup(a netip.Addr) (Entry, bool) {
	if !b.Prefix.Contains(a) || b.entries[place(a)] == nil {
		return Entry{}, false
	}
	return *b.entries[place(a)], true
}

// set replaces the entry of an address of the block.
func (b Block) set(e Entry) { b.entries[place(e.Addr)] = &e }

// Len returns the number of addresses that something is known of.
func (b Block) Len() int {
	n := 0
	for range b.All() {
		n++
	}
	return n
}

// All yields all entries in the order of their addresses.
func (b Block) All() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for _, e := range b.entries {
			if e != nil && !yield(*e) {
				return
			}
		}
	}
}

// Since yields what has changed since an earlier state of the block: each entry as it was and as it is, the zero Entry
// for none. Some of those it yields may be the same.
func (b Block) Since(old Block) iter.Seq2[Entry, Entry] {
	return func(yield func(Entry, Entry) bool) {
		for i, now := range b.entries {
			var before, after Entry
			if now != nil {
				after = *now
			}
			if old.entries != nil {
				if old.entries[i] == now {
					continue
				}
				if old.entries[i] != nil {
					before = *old.entries[i]
				}
			}
			if !yield(before, after) {
				return
			}
		}
	}
}

// Doubt returns what is to be reckoned with while it is not known whether a write of next, in place of the block, was made:
// who holds an address in either of them may hold it.
func (b Block) Doubt(next Block) Block {
	both := next.Clone()
	for was, is := range next.Since(b) {
		for _, h := range was.Holders {
			if !slices.ContainsFunc(is.Holders, func(o Holding) bool { return o.Same(h.Holder) }) {
				is.Holders, is.Released = append(slices.Clone(is.Holders), h), time.Time{}
				both.set(is)
			}
		}
	}
	return both
}
