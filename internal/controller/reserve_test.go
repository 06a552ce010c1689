package controller

import (
	"context"
	"testing"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/config"
	"github.com/lanyard-lb/lanyard/internal/record"
)

// interrupted are records to which something else happens while a reservation's hold is on its way there.
type interrupted struct {
	*records
	by func()
}

func (r *interrupted) Commit(ctx context.Context, changes ...record.Change) error {
	if by := r.by; by != nil && changes[0].Holder.Kind == record.Reservation && !changes[0].Let {
		r.by = nil
		by()
	}
	return r.records.Commit(ctx, changes...)
}

// TestReservationGoesWhileItsHoldIsCommitted: the hold lands after what the reservation held was released.
func TestReservationGoesWhileItsHoldIsCommitted(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1")
	w.start("")
	c := w.controller
	c.Records = &interrupted{records: c.Records.(*records), by: func() { // as Configure does
		w.objects.Reservations = nil
		c.mu.Lock()
		c.snapshot, _ = config.ParseAfter(c.snapshot, w.objects)
		c.mu.Unlock()
		if err := c.reserve(t.Context(), w.objects); err != nil {
			t.Error(err)
		}
	}}
	one := int32(1)
	w.reservation("r", v1beta1.IPReservationSpec{Pool: "lan", IPv4: &one})
	if got := w.records.holdersOf("10.0.0.1"); got != "" {
		t.Errorf("10.0.0.1 is still held by %q", got)
	}
	w.apply("a")
	w.expect("a", "10.0.0.1 True Assigned")
}
