package kube

import (
	"context"
	"errors"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/lanyard-lb/lanyard/internal/record"
)

// term is what Records know from one Load to the next.
type term struct {
	records *Records
	epoch   int64
	fence   atomic.Pointer[FencedError] // set once another controller has taken over

	mu       sync.RWMutex // guards the rest
	slots    map[netip.Prefix]*slot
	blocks   map[netip.Prefix]record.Block  // as they were last read or written
	versions map[netip.Prefix]string        // the resourceVersions of those
	byName   map[record.Holder][]netip.Addr // what the holder has, by its name; sorted
}

func newTerm(r *Records) *term {
	return &term{
		records:  r,
		slots:    map[netip.Prefix]*slot{},
		blocks:   map[netip.Prefix]record.Block{},
		versions: map[netip.Prefix]string{},
		byName:   map[record.Holder][]netip.Addr{},
	}
}

// slot returns the slot of a block, a new one when there is none.
func (t *term) slot(p netip.Prefix) *slot {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.slots[p]
	if s == nil {
		s = &slot{term: t, name: record.Name(p), view: record.New(p)}
		t.slots[p] = s
	}
	return s
}

// commit has requests carried out, one for each block, all at the same time.
func (t *term) commit(ctx context.Context, requests map[netip.Prefix]request) error {
	var wait sync.WaitGroup
	failed := make(chan error, len(requests))
	for p, r := range requests {
		wait.Go(func() { failed <- t.slot(p).commit(ctx, r) })
	}
	wait.Wait()
	close(failed)
	var all []error
	for err := range failed {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// publish lets readers see a block, which nobody may change from here on, as it is in an object's version.
func (t *term) publish(b record.Block, version string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.versions[b.Prefix] = version
	for before, after := range b.Since(t.blocks[b.Prefix]) {
		for _, h := range before.Holders {
			t.index(h.Named(), before.Addr, false)
		}
		for _, h := range after.Holders {
			t.index(h.Named(), after.Addr, true)
		}
	}
	t.blocks[b.Prefix] = b
}

// index notes whether a holder has an address. mu is held.
func (t *term) index(named record.Holder, a netip.Addr, has bool) {
	list := t.byName[named]
	switch at, had := slices.BinarySearchFunc(list, a, netip.Addr.Compare); {
	case has && !had: // readers may have the list as it was
		t.byName[named] = slices.Insert(slices.Clip(list), at, a)
	case had && !has && len(list) == 1:
		delete(t.byName, named)
	case had && !has:
		t.byName[named] = slices.Concat(list[:at], list[at+1:])
	}
}

func (t *term) lookup(a netip.Addr) (record.Entry, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.blocks[record.BlockOf(a)].Lookup(a)
}

// Lookup returns what is known of an address: its holders, when it was released last, and its history. It
// asks nobody and is as new as the last Load or Commit.
func (r *Records) Lookup(a netip.Addr) (record.Entry, bool) {
	if t := r.current(); t != nil {
		return t.lookup(a)
	}
	return record.Entry{}, false
}

// HeldBy returns the entries of the addresses that an object of that name holds, whatever its UID, in the
// order of the addresses. A Hold whose Commit failed without being refused counts as held, a Release as not made.
// It asks nobody.
func (r *Records) HeldBy(holder record.Holder) []record.Entry {
	t := r.current()
	if t == nil {
		return nil
	}
	t.mu.RLock()
	addrs := t.byName[holder.Named()]
	t.mu.RUnlock()
	var entries []record.Entry
	for _, a := range addrs {
		if e, known := t.lookup(a); known {
			entries = append(entries, e)
		}
	}
	return entries
}

// All returns all that is known of all addresses, in their order. It asks nobody.
func (r *Records) All() iter.Seq[record.Entry] {
	return func(yield func(record.Entry) bool) {
		t := r.current()
		if t == nil {
			return
		}
		t.mu.RLock()
		blocks := slices.SortedFunc(maps.Values(t.blocks), func(x, y record.Block) int {
			return x.Prefix.Addr().Compare(y.Prefix.Addr())
		})
		t.mu.RUnlock()
		for _, b := range blocks {
			for e := range b.All() {
				if !yield(e) {
					return
				}
			}
		}
	}
}
