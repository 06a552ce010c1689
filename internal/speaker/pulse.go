package speaker

import (
	"context"
	"sync"
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
	lend     func(until time.Time)
	start    time.Time
	mu       sync.Mutex   // for who changes what follows
	last     atomic.Int64 // when it was seen to run last, since start
	held     atomic.Bool  // it stood still, and has not caught up
	standing chan struct{}
}

// NewPulse returns a Pulse. It starts nothing. Who answers for this process calls for lend: until then it is awake, even if it
// does nothing more. Nil: nobody does.
func NewPulse(lend func(until time.Time)) *Pulse {
	if lend == nil {
		lend = func(time.Time) {}
	}
	return &Pulse{lend: lend, start: time.Now(), standing: make(chan struct{}, 1)}
}

// Awake reports whether the process has been running without a break, or has caught up with what it missed.
// It is quick, and safe for concurrent use.
func (p *Pulse) Awake() bool { return !p.held.Load() && !p.stopped() }

func (p *Pulse) stopped() bool {
	return time.Since(p.start)-time.Duration(p.last.Load()) >= stall
}

// Standing has a signal waiting after the process stood still.
func (p *Pulse) Standing() <-chan struct{} { return p.standing }

// Stood reports whether the process stood still and has not caught up. What happens after it was asked counts
// anew.
func (p *Pulse) Stood() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped() {
		p.beat() // before the goroutine of Run comes to it
	}
	select {
	case <-p.standing:
	default:
	}
	return p.held.Load()
}

// GoOn says that what was missed until Stood was asked last is made up for.
func (p *Pulse) GoOn() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held.Store(len(p.standing) > 0)
}

// Run watches until ctx ends.
func (p *Pulse) Run(ctx context.Context) error {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	p.mu.Lock()
	p.runs(time.Since(p.start))
	p.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			p.mu.Lock()
			p.beat()
			p.mu.Unlock()
		}
	}
}

// beat takes note that the process runs, and whether it stood still before. The clock is read once: what comes between is not
// taken for running.
func (p *Pulse) beat() {
	now := time.Since(p.start)
	if now-time.Duration(p.last.Load()) >= stall {
		p.held.Store(true)
		touch(p.standing)
	}
	p.runs(now)
}

// runs takes note that the process ran at that time since start.
func (p *Pulse) runs(now time.Duration) {
	p.last.Store(int64(now))
	if !p.held.Load() {
		p.lend(p.start.Add(now + stall))
	}
}
