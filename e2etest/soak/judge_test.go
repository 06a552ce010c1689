package soak

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	testNodes = []string{"n1", "n2", "n3", "n4"}
	addrA     = netip.MustParseAddr("10.77.0.130")
	addrB     = netip.MustParseAddr("fd77::1:0")
	start     = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
)

// scene is a cluster that a test changes, and a judge that looks at it once a second.
type scene struct {
	facts    *Facts
	answers  map[netip.Addr][]string
	troubles *Troubles
	judge    *Judge
	now      time.Time
	broken   []string
}

func newScene() *scene {
	s := &scene{now: start, troubles: NewTroubles(testNodes, start.Add(-time.Hour)), facts: someFacts(),
		answers: map[netip.Addr][]string{addrA: {"n1"}, addrB: {"n2"}}}
	s.judge = NewJudge(testNodes, s.troubles, Usual)
	return s
}

// someFacts are a Service with two addresses, one that has none and says why, and an advertisement for all nodes.
func someFacts() *Facts {
	f := &Facts{Services: map[string]*Service{}, Pools: map[string]*Pool{}, Advertisements: map[string]*Advert{"wide": {Name: "wide", Current: true, Ready: Condition{Status: "True", Reason: "InForce"}}},
		Reservations: map[string]*Reservation{}, Nodes: map[string]*Node{}, Endpoints: map[string][]Endpoint{}, Reports: map[string]*L2Status{}}
	for i, n := range testNodes {
		f.Nodes[n] = &Node{Name: n, Labels: map[string]string{zoneLabel: []string{"a", "b"}[i%2]}}
		f.Endpoints["default/web"] = append(f.Endpoints["default/web"], Endpoint{Node: n, Serves: true})
	}
	f.Pools["block-0"] = &Pool{Name: "block-0", AutoAssign: true, Current: true, Ready: Condition{Status: "True", Reason: "InForce"},
		Spans:  []Span{{addrA, netip.MustParseAddr("10.77.0.131")}, {addrB, netip.MustParseAddr("fd77::1:1")}},
		Counts: map[int]Counts{4: {Total: 2, Assigned: 1, Available: 1}, 6: {Total: 2, Assigned: 1, Available: 1}}}
	f.Services["default/web"] = &Service{Name: "web", Namespace: "default", UID: "1", LoadBalancer: true, Families: []int{4, 6}, Ports: []string{"80/TCP"},
		IPs: []netip.Addr{addrA, addrB}, Assigned: Condition{"True", "Assigned", "all"},
		Announced: Condition{"True", "Announced", "10.77.0.130 by n1 on eth0; fd77::1:0 by n2 on eth0"}}
	f.Services["default/waits"] = &Service{Name: "waits", Namespace: "default", UID: "2", LoadBalancer: true, Families: []int{4},
		Annotations: map[string]string{annotationAddresses: addrA.String()}, Assigned: Condition{"False", "AddressInUse", "default/web has it"}}
	f.Reports["default/web"] = &L2Status{Announcements: []Announcement{
		{IP: addrA, Node: "n1", Phase: "Announcing", MAC: "02:77:00:00:00:11"}, {IP: addrB, Node: "n2", Phase: "Announcing", MAC: "02:77:00:00:00:12"}}}
	return f
}

// pass looks once a second for so long.
func (s *scene) pass(d time.Duration) {
	for end := s.now.Add(d); s.now.Before(end); s.now = s.now.Add(time.Second) {
		for _, v := range s.judge.Look(Look{At: s.now, Facts: s.facts, Answers: s.answers}) {
			s.broken = append(s.broken, v.String())
		}
	}
}

// expect checks that just these rules were broken, once each; none: none.
func (s *scene) expect(t *testing.T, rules ...string) {
	t.Helper()
	var have []string
	for _, text := range s.broken {
		rule, _, _ := strings.Cut(text, ":")
		have = append(have, rule)
	}
	slices.Sort(have)
	slices.Sort(rules)
	if !slices.Equal(have, rules) {
		t.Errorf("broken are\n%s\nwant %v", strings.Join(s.broken, "\n"), rules)
	}
	s.broken = nil
}

func (s *scene) edit(change func(*Service)) {
	now := *s.facts.Services["default/web"]
	change(&now)
	s.facts.Services["default/web"] = &now
}

// TestJudge: each rule lets pass what may be for a while, and tells once of what goes on.
func TestJudge(t *testing.T) {
	for _, test := range []struct {
		name string
		play func(s *scene)
		want []string // rules; where the name ends in "in time", none
	}{
		{"all is well", func(*scene) {}, nil},
		{"nobody answers", func(s *scene) { s.answers[addrA] = nil }, []string{"silent"}},
		{"nobody answers and no advertisement is there", func(s *scene) { s.answers[addrA], s.answers[addrB], s.facts.Advertisements = nil, nil, nil }, nil},
		{"nobody answers while a stranger is there", func(s *scene) {
			s.answers[addrA] = []string{"c3"}
			s.troubles.Squat(addrA, s.now)
		}, nil},
		{"a stranger answers whom nobody has sent", func(s *scene) { s.answers[addrA] = []string{"c3", "n1"} }, []string{"alien"}},
		{"nobody answers and all nodes are in trouble", func(s *scene) {
			s.answers[addrA] = nil
			for _, n := range testNodes {
				s.troubles.Begin(n, Gone, s.now)
			}
		}, nil},
		{"nobody answers and one node is well", func(s *scene) {
			s.answers[addrA] = nil
			for _, n := range testNodes[1:] {
				s.troubles.Begin(n, Gone, s.now)
			}
		}, []string{"silent"}},
		{"nobody answers for a new address while the API server is away", func(s *scene) {
			s.troubles.StopAPI(s.now)
			s.answers[addrA] = nil
			s.edit(func(w *Service) { w.IPs = []netip.Addr{addrB} })
			s.pass(time.Second)
			s.edit(func(w *Service) { w.IPs = []netip.Addr{addrA, addrB} })
		}, nil},
		{"two answer", func(s *scene) { s.answers[addrB] = []string{"n2", "n3"} }, []string{"double"}},
		{"two answer in a partition", func(s *scene) {
			s.answers[addrB] = []string{"n2", "n3"}
			s.troubles.Begin("n3", Parted, s.now)
		}, nil},
		{"one answers that may not", func(s *scene) { s.facts.Nodes["n1"].Excluded = true }, []string{"stray"}},
		{"one answers that may not, and is not to know yet", func(s *scene) {
			s.troubles.StopAPI(s.now)
			s.facts.Nodes["n1"].Excluded = true
		}, nil},
		{"one answers without an endpoint under Local", func(s *scene) {
			s.edit(func(w *Service) { w.Local = true })
			s.facts.Endpoints["default/web"] = []Endpoint{{"n2", true}, {"n1", false}}
		}, []string{"stray"}},
		{"under Local without any endpoint all may", func(s *scene) {
			s.edit(func(w *Service) { w.Local = true })
			s.facts.Endpoints["default/web"] = nil
		}, nil},
		{"one answers that is withdrawn", func(s *scene) {
			s.facts.Advertisements["wide"].Withdraw = true
			s.facts.Endpoints["default/web"] = nil
		}, []string{"stray", "stray"}},
		{"one answers for what nobody has", func(s *scene) { s.edit(func(w *Service) { w.IPs = []netip.Addr{addrB} }) }, []string{"ghost"}},
		{"no address, and no reason", func(s *scene) {
			s.answers[addrA], s.answers[addrB] = nil, nil
			s.edit(func(w *Service) { w.IPs, w.Assigned = nil, Condition{} })
		}, []string{"unsaid"}},
		{"no address, no reason, no controller", func(s *scene) {
			s.answers[addrA], s.answers[addrB] = nil, nil
			s.edit(func(w *Service) { w.IPs, w.Assigned = nil, Condition{} })
			s.troubles.Touch(s.now)
		}, nil},
		{"two have one address", func(s *scene) {
			other := *s.facts.Services["default/waits"]
			other.IPs = []netip.Addr{addrA}
			s.facts.Services["default/waits"] = &other
		}, []string{"clash"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newScene()
			s.pass(3 * time.Second)
			s.expect(t)
			test.play(s)
			s.pass(2 * time.Second)
			if !slices.Contains(test.want, "alien") {
				s.expect(t)
			}
			s.pass(30 * time.Second)
			s.expect(t, test.want...)
		})
	}
}

// TestJudgeForgets: what was wrong and is right again, for a moment, counts from the beginning.
func TestJudgeForgets(t *testing.T) {
	s := newScene()
	for range 10 {
		s.answers[addrA] = nil
		s.pass(4 * time.Second)
		s.answers[addrA] = []string{"n1"}
		s.pass(time.Second)
	}
	s.expect(t)
	if s.judge.Longest["silent"] < 3*time.Second || s.judge.Checks["silent"] < 50 {
		t.Errorf("the longest silence was %v, of %d checks", s.judge.Longest["silent"], s.judge.Checks["silent"])
	}
}

// TestKnowsBy: a speaker hears of what the API server says, unless it is cut off; then later, the longer it was.
func TestKnowsBy(t *testing.T) {
	tr := NewTroubles(testNodes, start)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	want := func(node string, said time.Time, by time.Time, knows bool) {
		t.Helper()
		if have, k := tr.KnowsBy(node, said); k != knows || knows && !have.Equal(by) {
			t.Errorf("%s knows of what was said at %v by %v, %t; want %v, %t", node, said, have, k, by, knows)
		}
	}
	want("n1", at(10), at(10), true)
	tr.Begin("n1", Unplugged, at(20))
	want("n1", at(10), time.Time{}, false)
	want("n2", at(10), at(10), true)
	tr.End("n1", Unplugged, at(30))
	want("n1", at(10), at(10), true)
	want("n1", at(19), at(30).Add(catching+20*time.Second), true)
	want("n1", at(90), at(90), true)
	tr.Begin("n2", Parted, at(90))
	want("n2", at(91), at(91), true)
	tr.StopAPI(at(100))
	want("n3", at(50), time.Time{}, false)
	tr.StartAPI(at(101))
	want("n3", at(50), at(50), true)
	want("n3", at(100), at(101).Add(catching+2*time.Second), true)
}

// TestJudgeMayLookLate: an address that came and went between two looks is answered for in the second, and nobody is to
// blame.
func TestJudgeMayLookLate(t *testing.T) {
	s := newScene()
	s.edit(func(w *Service) { w.IPs = []netip.Addr{addrB} })
	s.answers[addrA] = nil
	s.pass(20 * time.Second)
	s.answers[addrA] = []string{"n3"}
	s.pass(4 * time.Second)
	s.answers[addrA] = nil
	s.pass(20 * time.Second)
	s.expect(t)
}
