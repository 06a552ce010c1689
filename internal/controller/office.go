package controller

import (
	"context"
	"maps"
	"time"

	"github.com/go-kit/log/level"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/internal/record"
)

// Controllers of different classes share the pools, the advertisements and the reservations. One of them reports
// on those: of the classes in office, the lowest. It goes by when each class was in office last, which all of
// them tell in one record: each renews its term there, and so learns of the others.
const (
	renewEvery   = 15 * time.Second
	refreshEvery = renewEvery     // what others have committed is learnt
	lapsed       = 3 * renewEvery // who could not renew for so long does not report
	expired      = 4 * renewEvery // and is taken to be gone
)

// office is what a controller knows of those in office.
type office struct {
	class     string
	renewed   time.Time            // last; zero: never
	refreshed time.Time            // last
	before    map[string]time.Time // the other classes in office as this one came: when they were last renewed then
	live      map[string]bool      // the other classes in office
	left      map[string]bool      // those that were, until what they have left behind is looked through
	lowest    bool                 // none of those is lower, and those that had the word know that it is ours
}

// renew takes note of all terms, as they were when ours was renewed.
func (o *office) renew(now time.Time, terms []record.Term) {
	comes := o.renewed.IsZero() || now.Sub(o.renewed) > lapsed
	if comes {
		o.before = map[string]time.Time{}
	}
	were := o.live
	o.renewed, o.lowest, o.live = now, true, map[string]bool{}
	for _, t := range terms {
		if t.Class == o.class || now.Sub(t.Renewed) > expired {
			continue
		}
		o.live[t.Class] = true
		if comes {
			o.before[t.Class] = t.Renewed
		}
		unaware := t.Renewed.Equal(o.before[t.Class]) // it has not seen us yet, and may think that it has the word
		if t.Class < o.class || unaware {
			o.lowest = false
		}
	}
	if o.left == nil {
		o.left = map[string]bool{}
	}
	for class := range were {
		o.left[class] = o.left[class] || !o.live[class]
	}
	maps.DeleteFunc(o.left, func(class string, left bool) bool { return !left || o.live[class] })
}

// reports says whether this controller is the one that reports.
func (o *office) reports(now time.Time) bool { return o.lowest && now.Sub(o.renewed) <= lapsed }

// keepOffice renews the term when it is time to.
func (c *Controller) keepOffice(ctx context.Context) error {
	c.mu.Lock()
	due := c.Now().Sub(c.office.renewed) >= renewEvery
	c.mu.Unlock()
	if !due {
		return nil
	}
	terms, err := c.Records.Renew(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	now := c.Now()
	did := c.office.reports(now)
	c.office.renew(now, terms)
	does, left := c.office.reports(now), maps.Clone(c.office.left)
	c.mu.Unlock()
	if does != did {
		_ = level.Info(c.Logger).Log("msg", "reporting on pools, advertisements and reservations", "class", c.Class, "reports", does)
		c.Queue.EnqueueConfigure()
	}
	for class := range left {
		if err := c.clearAfter(ctx, class); err != nil {
			return err
		}
		c.mu.Lock()
		delete(c.office.left, class)
		c.mu.Unlock()
	}
	return nil
}

// clearAfter releases what is held by a class that has no controller in office any more, where the holders are
// gone: nobody else may have heard of it. Of those that go later we hear ourselves. Who lives is looked at once more, for
// it may have left the class while that was in office.
func (c *Controller) clearAfter(ctx context.Context, class string) error {
	var gone []record.Change
	for e := range c.Records.All() {
		for _, h := range e.Holders {
			if h.Kind == record.Service && h.Class == class {
				gone = append(gone, record.ReleaseGone(e.Addr, h.Holder, c.Now()))
			}
		}
	}
	for _, change := range gone {
		err := c.release(ctx, []record.Change{change})
		if butHeld(err) != nil {
			return err
		}
		if err != nil {
			c.Queue.Enqueue(types.NamespacedName{Namespace: change.Holder.Namespace, Name: change.Holder.Name})
		}
	}
	return nil
}

// End tells the controllers of other classes that this one is not in office any more.
func (c *Controller) End(ctx context.Context) {
	if err := c.Records.Resign(ctx); err != nil {
		_ = level.Debug(c.Logger).Log("msg", "could not resign; other classes find out by themselves", "err", err)
	}
}

// reports says whether this controller is the one that reports on what all classes share.
func (c *Controller) reports() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.office.reports(c.Now())
}
