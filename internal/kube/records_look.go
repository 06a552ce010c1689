package kube

import (
	"context"
	"errors"
	"net/netip"

	"github.com/lanyard-lb/lanyard/internal/record"
)

// Confirm returns nil if no other controller of this class had taken over when it was called. It costs one
// request, which all share who ask at the same time.
func (r *Records) Confirm(ctx context.Context) error {
	t := r.current()
	if t == nil {
		return errNotLoaded
	}
	return t.slot(record.Office()).commit(ctx, request{look: true})
}

// Renew tells other controllers that this one is in office, and returns the terms of all: of each class the
// last, with the time when it was in office last. Each that was renewed since this one was for the first time
// knows of it.
func (r *Records) Renew(ctx context.Context) ([]record.Term, error) {
	t := r.current()
	if t == nil {
		return nil, errNotLoaded
	}
	if err := t.slot(record.Office()).commit(ctx, request{renew: true}); err != nil {
		return nil, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.blocks[record.Office()].Terms(), nil
}

// Resign tells other controllers that this one is not in office any more: they need not wait until they miss it.
func (r *Records) Resign(ctx context.Context) error {
	t := r.current()
	if t == nil {
		return nil
	}
	return t.slot(record.Office()).commit(ctx, request{resign: true})
}

// Refresh learns what controllers of other classes have committed until it was called.
func (r *Records) Refresh(ctx context.Context) error {
	t := r.current()
	if t == nil {
		return errNotLoaded
	}
	found, err := r.list(ctx)
	if err != nil {
		return err
	}
	t.mu.RLock()
	requests := map[netip.Prefix]request{}
	for p, o := range found {
		if t.versions[p] != o.ResourceVersion { // be it older or newer: the API server is asked once more
			requests[p] = request{look: true}
		}
	}
	t.mu.RUnlock()
	if err := t.commit(ctx, requests); err != nil {
		return errors.Join(errors.New("learn the allocation records of others"), err)
	}
	return nil
}
