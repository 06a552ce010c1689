package controller

import (
	"context"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/internal/record"
)

const (
	// lingers is how long the release of a deleted Service's addresses waits for those of others, to be made by the same write.
	lingers = 100 * time.Millisecond
	// apart is how long nobody waits for others after a release has failed: each is tried again at its own pace.
	apart = 30 * time.Second
	// hangs is how long a release may take before nobody waits for it any more but a Service of the same name.
	hangs = time.Second
)

// departures are the Services that are gone and have not been released. Only deletions meet them: before anything is decided,
// they are settled. It is safe for concurrent use.
type departures struct {
	linger time.Duration // zero: each is released by itself

	mu       sync.Mutex // guards the rest, and what is in the open party
	open     *party     // which others can join; nil: none
	underWay []*party   // all that are not over
	of       map[types.NamespacedName]*party
	apart    time.Time
}

// party is Services that are released together.
type party struct {
	names   []types.NamespacedName
	changes []record.Change
	hurry   chan struct{} // buffered: it is not to linger any more
	over    chan struct{} // closed: they are released, or that has failed
}

// join adds a Service to those that are about to be released. The first one has to release them all, which is the party
// that it gets; the others get none. Alone it is when this is no time for parties.
func (d *departures) join(name types.NamespacedName, changes []record.Change) (led *party, alone bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.linger == 0 || time.Now().Before(d.apart) {
		return nil, true
	}
	if d.open == nil {
		led = &party{hurry: make(chan struct{}, 1), over: make(chan struct{})}
		d.open, d.underWay = led, append(d.underWay, led)
	}
	p := d.open
	p.names, p.changes = append(p.names, name), append(p.changes, changes...)
	d.of[name] = p
	return led, false
}

// gather lets a party grow for a while, and closes it.
func (d *departures) gather(ctx context.Context, p *party) {
	select {
	case <-time.After(d.linger):
	case <-p.hurry:
	case <-ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = nil
}

// end tells those who wait for a party that it is over.
func (d *departures) end(p *party) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range p.names {
		delete(d.of, n)
	}
	if len(d.of) == 0 {
		d.of = map[types.NamespacedName]*party{} // a map that was large once stays large
	}
	d.underWay = slices.DeleteFunc(d.underWay, func(o *party) bool { return o == p })
	close(p.over)
}

// failed notes that a release has failed.
func (d *departures) failed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.apart = time.Now().Add(apart)
}

// settle returns when a Service is not about to be released any more, or ctx ends.
func (d *departures) settle(ctx context.Context, name types.NamespacedName) error {
	d.mu.Lock()
	p := d.of[name]
	d.mu.Unlock()
	return p.await(ctx)
}

// settleAll returns when nobody of those is about to be released any more who are now, or one of them hangs, or ctx ends.
func (d *departures) settleAll(ctx context.Context) error {
	d.mu.Lock()
	all := slices.Clone(d.underWay)
	d.mu.Unlock()
	if len(all) == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, hangs)
	defer cancel()
	for _, p := range all {
		if p.await(limited) != nil {
			return ctx.Err() // what is released late, others get late
		}
	}
	return nil
}

func (p *party) await(ctx context.Context) error {
	if p == nil {
		return nil
	}
	select {
	case p.hurry <- struct{}{}:
	default:
	}
	select {
	case <-p.over:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// depart is forget for a Service that has been deleted. When it returns, another call may have been charged with it: that one
// begins within lingers, and if it fails, the Service is asked for again.
func (c *Controller) depart(ctx context.Context, name types.NamespacedName, uid string, left ...record.Change) error {
	changes := append(c.releases(serviceHolder(name, uid), nil), left...)
	asks := slices.ContainsFunc(changes, func(r record.Change) bool { return r.Gone }) // and may be refused
	if len(changes) == 0 || asks {
		return c.forget(ctx, name, uid, left...)
	}
	led, alone := c.departures.join(name, changes)
	switch {
	case alone:
		err := c.forget(ctx, name, uid, left...)
		if err != nil {
			c.departures.failed()
		}
		return err
	case led == nil:
		return nil
	}
	c.departures.gather(ctx, led)
	err := c.release(ctx, led.changes)
	if err == nil {
		c.drop(led.names...)
	} else {
		c.departures.failed()
	}
	c.departures.end(led)
	if err != nil {
		c.Queue.Enqueue(led.names[1:]...) // the first is tried again as its call has failed
	}
	return err
}
