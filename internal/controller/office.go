package controller

import (
	"context"
	"time"

	"github.com/go-kit/log/level"

	"github.com/lanyard-lb/lanyard/internal/record"
)

// Controllers of different classes share the pools, the advertisements and the reservations. One of them reports
// on those: of the classes in office, the lowest. It goes by when each class was in office last, which all of
// them tell in one record: each renews its term there, and so learns of the others.
const (
	renewEvery   = 15 * time.Second
	refreshEvery = 30 * time.Second // what others have committed is learnt
	lapsed       = 3 * renewEvery   // who could not renew for so long does not report
	expired      = 4 * renewEvery   // and is taken to be gone
)

// office is what a controller knows of those in office.
type office struct {
	class     string
	renewed   time.Time            // last; zero: never
	refreshed time.Time            // last
	before    map[string]time.Time // the other classes in office as this one came: when they were last renewed then
	live      map[string]bool      // the other classes in office
	lowest    bool                 // none of those is lower, and those that had the word know that it is ours
}

// renew takes note of all terms, as they were when ours was renewed.
func (o *office) renew(now time.Time, terms []record.Term) {
	comes := o.renewed.IsZero() || now.Sub(o.renewed) > lapsed
	if comes {
		o.before = map[string]time.Time{}
	}
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
	defer c.mu.Unlock()
	now := c.Now()
	did := c.office.reports(now)
	c.office.renew(now, terms)
	if does := c.office.reports(now); does != did {
		_ = level.Info(c.Logger).Log("msg", "reporting on pools, advertisements and reservations", "class", c.Class, "reports", does)
		c.Queue.EnqueueConfigure()
	}
	return nil
}

// reports says whether this controller is the one that reports on what all classes share.
func (c *Controller) reports() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.office.reports(c.Now())
}
