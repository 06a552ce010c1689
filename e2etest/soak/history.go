package soak

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Violation is something that must not be.
type Violation struct {
	At   time.Time
	Rule string // in one word
	Text string
}

func (v Violation) String() string { return fmt.Sprintf("%s: %s", v.Rule, v.Text) }

// History checks every version of every Service and pool: what stands in two statuses, what a Service lost without a
// reason, and whom the product takes for a stranger. Safe for concurrent use.
type History struct {
	Troubles *Troubles
	Stranger string // MAC address
	Report   func(Violation)
	Now      func() time.Time

	mu       sync.Mutex
	checked  int
	current  map[string]*Service
	past     map[string][]version // by namespace/name: what it was of late, oldest first
	edited   map[string]bool      // by UID: it may have what it asked for before
	listed   map[string][]Span    // by pool: all that it has ever listed
	moving   map[string]bool      // pools that have had their holders move
	reserved map[string]bool      // reservations that have changed, by namespace/name
	accused  map[string]bool
}

type version struct {
	until   time.Time // when the next one came
	service *Service
}

// NewHistory returns a History that has seen nothing.
func NewHistory(t *Troubles, stranger string, report func(Violation)) *History {
	return &History{Troubles: t, Stranger: stranger, Report: report, Now: time.Now, current: map[string]*Service{}, past: map[string][]version{},
		edited: map[string]bool{}, listed: map[string][]Span{}, moving: map[string]bool{}, reserved: map[string]bool{}, accused: map[string]bool{}}
}

const (
	// ofLate is how old a version may be that the controller may have decided by, while it hears the API server;
	// lately, if that has been away.
	ofLate = 15 * time.Second
	lately = time.Minute
)

// Service takes in a version of a Service; nil: it is gone.
func (h *History) Service(before, now *Service) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checked++
	if now == nil {
		if before != nil {
			delete(h.current, before.Full())
			delete(h.past, before.Full())
			delete(h.edited, before.UID)
		}
		return
	}
	same := before != nil && before.UID == now.UID
	if same {
		if before.Wish() != now.Wish() {
			h.edited[now.UID] = true
		}
		h.remember(before)
	} else {
		delete(h.past, now.Full())
	}
	h.current[now.Full()] = now
	for _, ip := range now.IPs {
		if !same || !slices.Contains(before.IPs, ip) {
			h.gained(now, ip)
		}
	}
	if same && now.Ours() && !h.edited[now.UID] {
		for _, ip := range before.IPs {
			if !slices.Contains(now.IPs, ip) && !h.mayLose(now, ip) {
				h.say("keeps", "Service %s, which nobody has edited, lost %s: it had %v and has %v (%s), version %s", now.Full(), ip, before.IPs,
					now.IPs, now.Assigned.Reason, now.Version)
			}
		}
	}
}

func (h *History) say(rule, format string, args ...any) {
	h.Report(Violation{At: h.Now(), Rule: rule, Text: fmt.Sprintf(format, args...)})
}

// remember keeps a version that has been replaced, and forgets old ones.
func (h *History) remember(s *Service) {
	now := h.Now()
	list := append(h.past[s.Full()], version{now, s})
	for len(list) > 1 && now.Sub(list[0].until) > lately {
		list = list[1:]
	}
	h.past[s.Full()] = list
}

// versions are those of a Service that the controller may know it by, the present one among them.
func (h *History) versions(s *Service) []*Service {
	window := ofLate
	if h.Troubles.APIAway(h.Now().Add(-lately)) {
		window = lately
	}
	list := []*Service{s}
	for _, v := range h.past[s.Full()] {
		if h.Now().Sub(v.until) <= window {
			list = append(list, v.service)
		}
	}
	return list
}

// gained checks that whoever else has an address shares it with a Service that has come to it.
func (h *History) gained(s *Service, ip netip.Addr) {
	for _, other := range h.current {
		if other.Full() == s.Full() || !slices.Contains(other.IPs, ip) {
			continue
		}
		shared := false
		for _, a := range h.versions(s) {
			for _, b := range h.versions(other) {
				shared = shared || MayShare(a, b)
			}
		}
		if !shared {
			h.say("exclusive", "%s stands in the statuses of %s and %s, version %s", ip, other.Full(), s.Full(), s.Version)
		}
	}
}

// mayLose tells whether there is a reason for a Service to lose an address that is not an edit of its own.
func (h *History) mayLose(s *Service, ip netip.Addr) bool {
	if h.Troubles.Squatted(ip, time.Time{}) || s.Annotations[annotationReassign] == "true" || h.reserved[s.Reservation()] {
		return true
	}
	for _, other := range h.current { // one of them has to go; which one, an edit of the other may have decided
		if other.Full() != s.Full() && slices.Contains(other.IPs, ip) && !MayShare(s, other) {
			return true
		}
	}
	for pool := range h.moving { // who has an address that it does not list any more moves, too
		if slices.ContainsFunc(h.listed[pool], func(x Span) bool { return x.Has(ip) }) {
			return true
		}
	}
	return false
}

// Pool takes in a version of a pool.
func (h *History) Pool(p *Pool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checked++
	for _, x := range p.Spans {
		if !slices.Contains(h.listed[p.Name], x) {
			h.listed[p.Name] = append(h.listed[p.Name], x)
		}
	}
	if p.Reassign {
		h.moving[p.Name] = true
	}
	for _, q := range p.Quarantined {
		ip, err := netip.ParseAddr(q.Address)
		id := p.Name + q.Address + q.MAC
		if (err != nil || q.MAC != h.Stranger || !h.Troubles.Squatted(ip, time.Time{})) && !h.accused[id] {
			h.accused[id] = true
			h.say("accused", "pool %s says that a stranger at %s uses %s (heard by %s); there is none", p.Name, q.MAC, q.Address, q.Node)
		}
	}
}

// Reservation takes in that a reservation has changed in what it asks for.
func (h *History) Reservation(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reserved[name] = true
}

// Settle takes in that all is at rest: from now on those Services that have what they ask for keep it.
func (h *History) Settle(f *Facts) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range f.Services {
		now := h.current[s.Full()]
		if now != nil && now.UID == s.UID && now.Wish() == s.Wish() && slices.Equal(now.IPs, s.IPs) && s.Assigned.Reason == "Assigned" {
			delete(h.edited, s.UID)
		}
	}
	h.moving, h.reserved = map[string]bool{}, map[string]bool{}
	for _, p := range f.Pools {
		if p.Reassign {
			h.moving[p.Name] = true
		}
	}
}

// Checked is how many versions were checked.
func (h *History) Checked() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.checked
}
