package controller

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/internal/record"
)

const (
	// lingers is how long the release of a deleted Service's addresses waits for those of others, to be made by the same write.
	lingers = 250 * time.Millisecond
	// alone is how long nobody waits for others after a release has failed: each is tried again at its own pace.
	alone = 30 * time.Second
	// hangs is how long a batch may take before nobody waits for it any more.
	hangs = lingers + time.Second
)

// batcher gathers the releases of deleted Services. Only deletions meet them: before anything is decided, they are settled.
// It is safe for concurrent use.
type batcher struct {
	linger time.Duration // zero: each is released by itself

	mu       sync.Mutex // guards the rest, and what is in the open batch
	open     *batch     // which others can join; nil: none
	underWay []*batch   // all that are not over
	of       map[types.NamespacedName]*batch
	alone    time.Time // until when each is released by itself
}

// batch is Services that are released together.
type batch struct {
	names   []types.NamespacedName
	changes []record.Change
	began   time.Time
	hurry   chan struct{} // buffered: it is not to linger any more
	over    chan struct{} // closed: they are released, or that has failed
}

// join adds a Service to those that are about to be released. The first one has to release them all, which is the batch
// that it gets; the others get none. joined is false when this is no time for batches.
func (q *batcher) join(name types.NamespacedName, changes []record.Change) (led *batch, joined bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.linger == 0 || time.Now().Before(q.alone) {
		return nil, false
	}
	if q.open == nil {
		led = &batch{began: time.Now(), hurry: make(chan struct{}, 1), over: make(chan struct{})}
		q.open, q.underWay = led, append(q.underWay, led)
	}
	b := q.open
	b.names, b.changes = append(b.names, name), append(b.changes, changes...)
	q.of[name] = b
	return led, true
}

// gather lets a batch grow for a while, and closes it.
func (q *batcher) gather(ctx context.Context, b *batch) {
	select {
	case <-time.After(q.linger):
	case <-b.hurry:
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open = nil
}

// end tells those who wait for a batch that it is over.
func (q *batcher) end(b *batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, n := range b.names {
		delete(q.of, n)
	}
	if len(q.of) == 0 {
		q.of = map[types.NamespacedName]*batch{} // a map that was large once stays large
	}
	q.underWay = slices.DeleteFunc(q.underWay, func(o *batch) bool { return o == b })
	close(b.over)
}

// failed notes that a release has failed.
func (q *batcher) failed() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.alone = time.Now().Add(alone)
}

// settle returns when a Service is not about to be released any more, or ctx ends. It is an error, for now, if its release
// hangs.
func (q *batcher) settle(ctx context.Context, name types.NamespacedName) error {
	q.mu.Lock()
	b := q.of[name]
	q.mu.Unlock()
	if b == nil {
		return nil
	}
	over, err := b.await(ctx)
	if err == nil && !over {
		err = errors.New("the addresses of an earlier Service of this name are still being released")
	}
	return err
}

// settleAll returns when nobody of those is about to be released any more who are now, but for those whose release hangs, or
// ctx ends. Their addresses are free late for others, too. waited is false if there are none.
func (q *batcher) settleAll(ctx context.Context) (waited bool, _ error) {
	q.mu.Lock()
	all := slices.Clone(q.underWay)
	q.mu.Unlock()
	for _, b := range all {
		if _, err := b.await(ctx); err != nil {
			return true, err
		}
	}
	return len(all) > 0, nil
}

// await waits until a batch is over, which is false if that hangs.
func (b *batch) await(ctx context.Context) (over bool, _ error) {
	select {
	case b.hurry <- struct{}{}:
	default:
	}
	select {
	case <-b.over:
		return true, nil
	case <-time.After(time.Until(b.began.Add(hangs))):
		return false, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// forgetDeleted is forget for a Service that has been deleted. When it returns, another call may have been charged with it:
// that one begins within lingers, and if it fails, the Service is asked for again.
func (c *Controller) forgetDeleted(ctx context.Context, name types.NamespacedName, uid string, left ...record.Change) error {
	changes := append(c.releases(serviceHolder(name, uid), nil), left...)
	asks := slices.ContainsFunc(changes, func(r record.Change) bool { return r.Gone }) // and may be refused
	if len(changes) == 0 || asks {
		return c.forget(ctx, name, uid, left...)
	}
	led, joined := c.batcher.join(name, changes)
	switch {
	case !joined:
		err := c.forget(ctx, name, uid, left...)
		if err != nil {
			c.batcher.failed()
		}
		return err
	case led == nil:
		return nil
	}
	c.batcher.gather(ctx, led)
	err := c.release(ctx, led.changes)
	if err == nil {
		c.drop(led.names...)
	} else {
		c.batcher.failed()
	}
	c.batcher.end(led)
	if err != nil {
		c.Queue.Enqueue(led.names[1:]...) // the first is tried again as its call has failed
	}
	return err
}
