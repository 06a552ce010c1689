package kube

import (
	"context"
	"fmt"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/internal/record"
)

// slot is one block: the changes that wait to be written, and what is known of its API object. One of those
// who wait has the turn: it writes what all have brought until then, and passes the turn on.
type slot struct {
	term *term
	name string // of the API object

	mu      sync.Mutex // guards waiting and busy
	waiting []*request
	busy    bool // somebody has the turn

	// The rest belongs to who has the turn.
	view     record.Block      // never changed in place: readers have it
	object   metav1.ObjectMeta // as last read or written; without a resourceVersion: there is no object
	doubtful bool              // a write failed, so that it is not known whether it was made
	resigned bool              // this controller is not in office any more
}

// request is what one caller of commit waits for: that the changes are made; and, if it says so, that the object
// has been read or written since, or that it tells that this controller is in office at this time, or no more.
type request struct {
	changes []record.Change
	look    bool
	renew   bool
	resign  bool
	turn    chan struct{} // buffered: it is this caller's turn
	result  chan error    // buffered: the request is settled
	gone    bool          // guarded by the slot's mu: the caller no longer waits
}

// commit returns when a request has been carried out, each change made or refused, or ctx ends.
func (s *slot) commit(ctx context.Context, asked request) error {
	r := &asked
	r.changes, r.turn, r.result = slices.Clone(r.changes), make(chan struct{}, 1), make(chan error, 1)
	s.mu.Lock()
	s.waiting = append(s.waiting, r)
	if !s.busy {
		s.busy = true
		r.turn <- struct{}{}
	}
	s.mu.Unlock()
	select {
	case err := <-r.result:
		return err
	case <-r.turn:
		s.takeTurn(ctx)
		return <-r.result
	case <-ctx.Done():
		s.leave(r)
		return fmt.Errorf("wait for the write of IPAllocationRecord %s: %w", s.name, context.Cause(ctx))
	}
}

// takeTurn settles all that wait. When the write failed because ctx of this caller ended, the others have
// theirs tried again by the next one.
func (s *slot) takeTurn(ctx context.Context) {
	s.mu.Lock()
	batch := s.waiting
	s.waiting = nil
	s.mu.Unlock()
	results, err := s.flush(ctx, batch)
	s.mu.Lock()
	defer s.mu.Unlock()
	var again []*request
	for i, r := range batch {
		switch {
		case err == nil:
			r.result <- results[i]
		case ctx.Err() != nil && i > 0 && !r.gone:
			again = append(again, r)
		default:
			r.result <- err
		}
	}
	s.waiting = append(again, s.waiting...)
	s.passTurn()
}

// passTurn gives the turn to the first that waits. mu is held.
func (s *slot) passTurn() {
	s.busy = len(s.waiting) > 0
	if s.busy {
		s.waiting[0].turn <- struct{}{}
	}
}

// leave takes back a request, unless it is being written; it may have been given the turn meanwhile.
func (s *slot) leave(r *request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.gone = true
	s.waiting = slices.DeleteFunc(s.waiting, func(o *request) bool { return o == r })
	select {
	case <-r.turn:
		s.passTurn()
	default:
	}
}
