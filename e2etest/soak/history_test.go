package soak

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestHistory tells one version of Services after the other, and expects violations where there is one and nowhere else.
func TestHistory(t *testing.T) {
	type step = func(h *told)
	has := func(name string, ips ...string) step {
		return func(h *told) { h.write(name, func(s *Service) { s.IPs = addresses(ips...) }) }
	}
	asks := func(name, key, value string) step {
		return func(h *told) {
			h.write(name, func(s *Service) { s.Annotations = map[string]string{key: value} })
		}
	}
	port := func(name, port string) step {
		return func(h *told) { h.write(name, func(s *Service) { s.Ports = []string{port} }) }
	}
	reason := func(name, reason string) step {
		return func(h *told) { h.write(name, func(s *Service) { s.Assigned.Reason = reason }) }
	}
	later := func(d time.Duration) step { return func(h *told) { h.now = h.now.Add(d) } }
	gone := func(name string) step { return func(h *told) { h.delete(name) } }
	settle := func(h *told) { h.history.Settle(&Facts{Services: h.services}) }
	pool := func(p Pool) step { return func(h *told) { h.history.Pool(&p) } }
	span := []Span{{addrA, addrA}}
	for _, test := range []struct {
		name  string
		steps []step
		want  string // rule, or ""
	}{
		{"each has its own", []step{has("a", "10.77.0.130"), has("b", "10.77.0.131")}, ""},
		{"two have one", []step{has("a", "10.77.0.130"), has("b", "10.77.0.130")}, "exclusive"},
		{"two have one for a moment", []step{has("a", "10.77.0.130"), has("b", "10.77.0.130"), asks("b", annotationPool, "x"), has("b")}, "exclusive"},
		{"one after the other", []step{has("a", "10.77.0.130"), gone("a"), has("b", "10.77.0.130")}, ""},
		{"both share", []step{asks("a", annotationSharing, "k"), asks("b", annotationSharing, "k"), port("b", "443/TCP"), has("a", "10.77.0.130"),
			has("b", "10.77.0.130")}, ""},
		{"both share and use one port", []step{asks("a", annotationSharing, "k"), asks("b", annotationSharing, "k"), has("a", "10.77.0.130"),
			has("b", "10.77.0.130")}, "exclusive"},
		{"one has just ceased to share", []step{asks("a", annotationSharing, "k"), asks("b", annotationSharing, "k"), port("b", "443/TCP"), has("a", "10.77.0.130"),
			asks("a", annotationSharing, "other"), later(time.Second), has("b", "10.77.0.130")}, ""},
		{"one has ceased to share long ago", []step{asks("a", annotationSharing, "k"), asks("b", annotationSharing, "k"), port("b", "443/TCP"), has("a", "10.77.0.130"),
			asks("a", annotationSharing, "other"), later(2 * ofLate), has("b", "10.77.0.130")}, "exclusive"},
		{"lost to one that has ceased to share", []step{asks("a", annotationSharing, "k"), asks("b", annotationSharing, "k"), port("b", "443/TCP"),
			has("a", "10.77.0.130"), has("b", "10.77.0.130"), settle, asks("a", annotationSharing, "other"), has("b", "10.77.0.131")}, ""},
		{"lost beside one that shares", []step{asks("a", annotationSharing, "k"), asks("b", annotationSharing, "k"), port("b", "443/TCP"),
			has("a", "10.77.0.130"), has("b", "10.77.0.130"), settle, has("b", "10.77.0.131")}, "keeps"},
		{"lost", []step{has("a", "10.77.0.130"), has("a")}, "keeps"},
		{"moved", []step{has("a", "10.77.0.130"), has("a", "10.77.0.131")}, "keeps"},
		{"another one is added", []step{has("a", "10.77.0.130"), has("a", "fd77::1:0", "10.77.0.130")}, ""},
		{"moved by an edit", []step{has("a", "10.77.0.130"), asks("a", annotationPool, "x"), has("a", "10.77.0.131")}, ""},
		{"moved long after an edit that has been met", []step{has("a", "10.77.0.130"), asks("a", annotationPool, "x"), has("a", "10.77.0.131"), settle,
			has("a", "10.77.0.132")}, "keeps"},
		{"moved long after an edit that still waits", []step{has("a", "10.77.0.130"), asks("a", annotationAddresses, "10.77.0.131"), reason("a", "AddressInUse"),
			settle, has("a", "10.77.0.131")}, ""},
		{"moved for a port, unshared", []step{has("a", "10.77.0.130"), port("a", "443/TCP"), has("a", "10.77.0.131")}, "keeps"},
		{"fled from a stranger", []step{has("a", "10.77.0.130"), func(h *told) { h.troubles.Squat(addrA, h.now) }, has("a", "10.77.0.131")}, ""},
		{"moved out of a pool", []step{has("a", "10.77.0.130"), pool(Pool{Name: "p", Reassign: true, Spans: span}), has("a", "10.77.0.131")}, ""},
		{"moved out of a pool that had it before", []step{pool(Pool{Name: "p", Spans: span}), has("a", "10.77.0.130"), pool(Pool{Name: "p"}),
			settle, pool(Pool{Name: "p", Reassign: true}), has("a", "10.77.0.131")}, ""},
		{"not moved out of another", []step{has("a", "10.77.0.130"), pool(Pool{Name: "p", Spans: span}), has("a", "10.77.0.131")}, "keeps"},
		{"made anew", []step{has("a", "10.77.0.130"), gone("a"), has("a", "10.77.0.131")}, ""},
		{"none of ours any more", []step{has("a", "10.77.0.130"), func(h *told) { h.write("a", func(s *Service) { s.LoadBalancer, s.IPs = false, nil }) }}, ""},
		{"a stranger who is one", []step{func(h *told) { h.troubles.Squat(addrA, h.now) },
			pool(Pool{Name: "p", Quarantined: []Quarantined{{addrA.String(), "02:aa", "n1"}}})}, ""},
		{"a node is taken for a stranger", []step{func(h *told) { h.troubles.Squat(addrA, h.now) },
			pool(Pool{Name: "p", Quarantined: []Quarantined{{addrA.String(), "02:11", "n1"}}})}, "accused"},
		{"nobody is taken for a stranger", []step{pool(Pool{Name: "p", Quarantined: []Quarantined{{addrA.String(), "02:aa", "n1"}}})}, "accused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newTold()
			for _, step := range test.steps {
				step(h)
			}
			have := strings.Join(h.broken, "; ")
			if rule, _, _ := strings.Cut(have, ":"); rule != test.want || len(h.broken) > 1 {
				t.Errorf("the history says %q, want %q once", have, test.want)
			}
		})
	}
}

// told is a history as a test tells it.
type told struct {
	history  *History
	troubles *Troubles
	services map[string]*Service
	now      time.Time
	broken   []string
	uid      int
}

func newTold() *told {
	h := &told{now: start, troubles: NewTroubles(testNodes, start), services: map[string]*Service{}}
	h.history = NewHistory(h.troubles, "02:aa", func(v Violation) { h.broken = append(h.broken, v.String()) })
	h.history.Now = func() time.Time { return h.now }
	return h
}

func (h *told) write(name string, change func(*Service)) {
	name = "default/" + name
	before := h.services[name]
	now := &Service{Name: name[len("default/"):], Namespace: "default", LoadBalancer: true, Families: []int{4}, Ports: []string{"80/TCP"},
		Assigned: Condition{Status: "True", Reason: "Assigned"}}
	if before != nil {
		*now = *before
	} else {
		h.uid++
		now.UID = fmt.Sprint(h.uid)
	}
	change(now)
	h.services[name] = now
	h.history.Service(before, now)
}

func (h *told) delete(name string) {
	h.history.Service(h.services["default/"+name], nil)
	delete(h.services, "default/"+name)
}

func addresses(list ...string) (ips []netip.Addr) {
	for _, text := range list {
		ips = append(ips, netip.MustParseAddr(text))
	}
	return ips
}
