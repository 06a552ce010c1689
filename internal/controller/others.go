package controller

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/internal/ipam"
	"github.com/lanyard-lb/lanyard/internal/record"
)

// other tells who holds an address by the records and is nobody that the ledger gives addresses: Services of
// other classes, and those that are still to be given up. mu is held.
func (c *Controller) other(e record.Entry) (ipam.Other, bool) {
	reserves := func(k ipam.Key) bool { return slices.Contains(c.ledger.Holders(e.Addr).Reservations, k) }
	serves := func(k ipam.Key) bool { _, known := c.ledger.Decision(k); return known }
	return otherThan(e, c.Class, serves, reserves)
}

func otherThan(e record.Entry, class string, serves, reserves func(ipam.Key) bool) (o ipam.Other, is bool) {
	var texts []string
	for _, h := range e.Holders {
		k := ipam.Key{Namespace: h.Namespace, Name: h.Name}
		switch {
		case h.Kind == record.Reservation:
			o.Beside.Reservations = append(o.Beside.Reservations, k)
			if !reserves(k) {
				texts = append(texts, "it is reserved by "+k.String())
			}
		case h.Class != class:
			texts = append(texts, fmt.Sprintf("it is held by %s, a Service of %s", k, classText(h.Class)))
			o.By = append(o.By, k)
		case !serves(k):
			texts = append(texts, "it is still held by "+k.String())
			o.By = append(o.By, k)
			fallthrough // it may be served again
		default:
			o.Beside.Services = append(o.Beside.Services, k)
		}
	}
	o.Text = strings.Join(texts, "; ")
	return o, len(texts) > 0
}

func classText(class string) string {
	if class == "" {
		return "no class"
	}
	return "class " + class
}

// learnOther tells the ledger whether somebody else holds an address. mu is held.
func (c *Controller) learnOther(e record.Entry) ipam.Changed {
	o, is := c.other(e)
	known, denied := c.others[e.Addr]
	switch {
	case is && (!denied || known != o.Text):
		c.others[e.Addr] = o.Text
		return c.ledger.Deny(e.Addr, o, ipam.Key{}, false)
	case !is && denied:
		delete(c.others, e.Addr)
		c.keepFor(e)
		return c.ledger.Allow(e.Addr)
	}
	return ipam.Changed{}
}

// keepFor has an address that a Service of another class has let go kept for its name, if the pool says so. mu is
// held.
func (c *Controller) keepFor(e record.Entry) {
	if len(e.Previous) == 0 || e.Previous[0].Kind != record.Service {
		return
	}
	last := e.Previous[0]
	k := ipam.Key{Namespace: last.Namespace, Name: last.Name}
	if _, ours := c.ledger.Decision(k); !ours {
		c.ledger.Remember(e.Addr, k, last.To)
	}
}

// learnOthers is learnOther for all that the records know.
func (c *Controller) learnOthers() {
	c.mu.Lock()
	var changed ipam.Changed
	for e := range c.Records.All() {
		changed = both(changed, c.learnOther(e))
	}
	c.mu.Unlock()
	if len(changed.Services)+len(changed.Reservations) > 0 {
		c.follow(changed, types.NamespacedName{})
	}
	c.relearnOthers() // also those whose record was deleted
}

// relearnOthers is learnOther for what the ledger was denied.
func (c *Controller) relearnOthers() {
	c.mu.Lock()
	var changed ipam.Changed
	for _, ip := range slices.SortedFunc(maps.Keys(c.others), netip.Addr.Compare) {
		e, _ := c.Records.Lookup(ip)
		e.Addr = ip
		changed = both(changed, c.learnOther(e))
	}
	c.mu.Unlock()
	if len(changed.Services)+len(changed.Reservations) > 0 {
		c.follow(changed, types.NamespacedName{})
	}
}

// learn has the ledger give up an address that the records say is somebody else's, and learn what else others
// hold nearby. An earlier or later object of the same name is none: it is this one that is seen too late, and
// its next version is on its way. The object itself is, while it holds the address by another class.
func (c *Controller) learn(who record.Holder, held *record.HeldError) {
	if held.By.Same(who) && held.By != who {
		return
	}
	c.mu.Lock()
	e, _ := c.Records.Lookup(held.Addr)
	by, is := c.other(e)
	if !is {
		by = ipam.Other{Text: held.Error()}
	}
	c.others[held.Addr] = by.Text
	changed := c.ledger.Deny(held.Addr, by, ipam.Key{Namespace: who.Namespace, Name: who.Name}, who.Kind == record.Reservation)
	block := record.BlockOf(held.Addr)
	for ip := block.Addr(); block.Contains(ip); ip = ip.Next() {
		if e, known := c.Records.Lookup(ip); known && ip != held.Addr {
			changed = both(changed, c.learnOther(e))
		}
	}
	c.mu.Unlock()
	c.follow(changed, types.NamespacedName{})
}

// refresh learns from the API server what controllers of other classes have committed and let go, now and then,
// as long as there are any or they hold something.
func (c *Controller) refresh(ctx context.Context) error {
	c.mu.Lock()
	due := len(c.office.live)+len(c.others) > 0 && c.Now().Sub(c.office.refreshed) >= refreshEvery
	c.mu.Unlock()
	if !due {
		return nil
	}
	if err := c.Records.Refresh(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	c.office.refreshed = c.Now()
	c.mu.Unlock()
	c.learnOthers()
	return nil
}
