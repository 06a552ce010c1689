package layer2

import (
	"context"
	"errors"
	"sync"
	"time"
)

// sender sends the bursts of all responders, from one goroutine.
type sender struct {
	mu    sync.Mutex
	queue *queue
	kick  chan struct{}
	// send what is next of a burst; held is false once the burst is of no use any more.
	send func(b burst, out []byte) (held bool, err error)
}

// errAsleep is returned for what may not be sent now.
var errAsleep = errors.New("not awake")

func newSender(refresh time.Duration) *sender {
	s := &sender{queue: newQueue(refresh), kick: make(chan struct{}, 1)}
	s.send = func(b burst, out []byte) (held bool, err error) {
		r := b.holding.responder
		switch {
		case b.over():
			list, err := r.conclude(b.holding)
			s.add(list)
			return err != nil, err
		case b.probe:
			return r.probe(b.holding, out)
		}
		return r.announce(b.holding, out)
	}
	return s
}

// add queues bursts; their first frames are sent at once, as far as the pace allows.
func (s *sender) add(list []burst) {
	if len(list) == 0 {
		return
	}
	s.mu.Lock()
	s.queue.add(list)
	s.mu.Unlock()
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// run sends until ctx ends. What is queued then is dropped.
func (s *sender) run(ctx context.Context) {
	out := make([]byte, 0, frameSize)
	for {
		var wake <-chan time.Time
		if d, ok := s.flush(out); ok {
			// Several frames at a time cost less than a timer for each.
			wake = time.After(max(d, breather))
		}
		select {
		case <-ctx.Done():
			return
		case <-s.kick:
		case <-wake:
		}
	}
}

// flush sends all that is due, and returns how long until more is.
func (s *sender) flush(out []byte) (time.Duration, bool) {
	for {
		now := time.Now()
		s.mu.Lock()
		b, ok := s.queue.next(now)
		if !ok {
			d, more := s.queue.wait(now)
			s.mu.Unlock()
			return d, more
		}
		s.mu.Unlock()
		s.one(b, now, out)
	}
}

func (s *sender) one(b burst, now time.Time, out []byte) {
	held, err := s.send(b, out)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !held: // withdrawn, or done
	case errors.Is(err, errAsleep):
		s.queue.postpone(b, now)
	case err != nil && busy(err):
		s.queue.full(b, now)
	case err != nil && b.probe: // nobody can have heard it
		s.queue.retry(b, now)
	default:
		s.queue.sent(b, now)
	}
}
