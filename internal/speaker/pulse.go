package speaker

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// stall is how long the process may stand still before others may have taken it for dead, and its addresses
	// over; beat is how often it looks.
	stall = 300 * time.Millisecond
	beat  = 50 * time.Millisecond
)

// Pulse notices that this process stood still: frozen, or without a processor. From then on it is not awake,
// and answers nothing, until GoOn is called: others may have its addresses by now.
type Pulse struct {
	start time.Time
	last  atomic.Int64 // when it was seen to run last, since start
	held  atomic.Bool
	stood chan bool
}

// NewPulse returns a Pulse. It starts nothing.
func NewPulse() *Pulse { return &Pulse{start: time.Now(), stood: make(chan bool, 1)} }

// Awake reports whether the process has been running without a break, or has caught up with what it missed.
// It is quick, and safe for concurrent use.
func (p *Pulse) Awake() bool {
	return !p.held.Load() && time.Since(p.start)-time.Duration(p.last.Load()) < stall
}

// Stood has true waiting after the process stood still.
func (p *Pulse) Stood() <-chan bool { return p.stood }

// GoOn says that what was missed until Stood was read is made up for.
func (p *Pulse) GoOn() { p.held.Store(len(p.stood) > 0) }

// Run watches until ctx ends.
func (p *Pulse) Run(ctx context.Context) error {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	p.last.Store(int64(time.Since(p.start)))
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := time.Since(p.start)
		if now-time.Duration(p.last.Load()) >= stall {
			p.held.Store(true)
			select {
			case p.stood <- true:
			default:
			}
		}
		p.last.Store(int64(now))
	}
}
