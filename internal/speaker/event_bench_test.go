package speaker

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/announce"
	"github.com/lanyard-lb/lanyard/internal/kube"
	"github.com/lanyard-lb/lanyard/internal/membership"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// hall is where three speakers meet that are driven by hand: all that one event brings about is done when
// settle returns, but for what waits for time to pass.
type hall struct {
	tb      testing.TB
	names   []string
	guests  []*guest
	reports map[string]placement.Report
}

// guest is one of the speakers, and its edges: an announcer that finds every address free at once, and a membership
// that brings news at once.
type guest struct {
	*Speaker
	hall   *hall
	state  keeper
	news   chan struct{}
	wire   chan struct{}
	want   []*placement.Announcement
	stand  []*placement.Standing
	spent  time.Duration // processor time
	passes int
}

func (g *guest) Run(context.Context) error            { return nil }
func (g *guest) Changed() <-chan struct{}             { return g.news }
func (g *guest) SetPeers([]membership.Peer)           {}
func (g *guest) Members() []string                    { return g.hall.names }
func (g *guest) Reports() map[string]placement.Report { return g.hall.reports }
func (g *guest) Problems() map[string]string          { return nil }
func (g *guest) Health() membership.Health            { return membership.Health{} }
func (g *guest) Resync(context.Context) error         { return nil }
func (g *guest) Leave(context.Context) error          { return nil }

func (g *guest) Publish(r placement.Report) {
	old := g.hall.reports[g.Node]
	if sameSlice(old.Interfaces, r.Interfaces) && (sameSlice(old.Claims, r.Claims) || slices.Equal(old.Claims, r.Claims)) {
		return
	}
	g.hall.reports = merged(map[string]placement.Report{g.Node: r}, g.hall.reports)
	g.hall.reports[g.Node] = r
	for _, o := range g.hall.guests {
		touch(o.news)
	}
}

type guestAnnouncer struct{ *guest }

func (a guestAnnouncer) Changed() <-chan struct{}        { return a.wire }
func (a guestAnnouncer) Standings() []*announce.Standing { return a.stand }

func (a guestAnnouncer) Set(w announce.Want) error {
	if sameSlice(a.want, w.Announcements) {
		return nil
	}
	stand, changed := slices.Clone(a.stand), false
	differences(a.want, w.Announcements, func(x, y *placement.Announcement) int { return x.IP.Compare(y.IP) }, func(was, now *placement.Announcement) {
		if was != nil && now != nil && was.Round == now.Round {
			return
		}
		changed = true
		at, had := slices.BinarySearchFunc(stand, cmp.Or(now, was), func(s *placement.Standing, n *placement.Announcement) int { return s.IP.Compare(n.IP) })
		switch {
		case now == nil:
			stand = slices.Delete(stand, at, at+1)
		case had:
			stand[at] = &placement.Standing{IP: now.IP, Phase: placement.Announcing}
		default:
			stand = slices.Insert(stand, at, &placement.Standing{IP: now.IP, Phase: placement.Announcing})
		}
	})
	if a.want = w.Announcements; changed {
		a.stand = stand
		touch(a.wire)
	}
	return nil
}

func numbered(i int) string { return fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255) }

// newHall has three speakers that have come to rest with that many Services, each with an endpoint.
func newHall(tb testing.TB, services int, policy corev1.ServiceExternalTrafficPolicy) *hall {
	h := &hall{tb: tb, names: []string{"n1", "n2", "n3"}, reports: map[string]placement.Report{}}
	seen := cluster(0, h.names...)
	seen.Pools[0].Spec.Addresses = []v1beta1.AddressRange{"10.0.0.0/8"}
	for i := range services {
		s := assigned(fmt.Sprintf("svc%05d", i), numbered(i))
		s.Spec.ExternalTrafficPolicy = policy
		seen.Services = append(seen.Services, s)
		slice := endpoints(s.Name, discoveryv1.EndpointConditions{}, &h.names[i%3])
		slice.Name = s.Name
		seen.EndpointSlices = append(seen.EndpointSlices, slice)
	}
	for _, node := range h.names {
		metrics, err := NewMetrics(prometheus.NewRegistry())
		if err != nil {
			tb.Fatal(err)
		}
		dir := tb.TempDir()
		g := &guest{hall: h, news: make(chan struct{}, 1), wire: make(chan struct{}, 1), state: keeper{path: filepath.Join(dir, stateFile)}}
		g.Speaker = New(Config{Node: node, Metrics: metrics, Announcer: guestAnnouncer{g}, Membership: g, Pulse: NewPulse(nil), StateDir: dir,
			Reporter: NewReporter(ReporterConfig{Logger: log.NewNopLogger(), Metrics: metrics}), Logger: log.NewNopLogger()})
		h.guests = append(h.guests, g)
		g.setInterfaces([]placement.Interface{{Name: "eth0", Index: 2, MAC: macOf(node), Up: true, Carrier: true, Ether: true,
			Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.250/8")}}})
	}
	h.tell(seen.observed())
	for _, g := range h.guests {
		if err := g.Ready(); err != nil {
			tb.Fatal(err)
		}
		g.spent, g.passes = 0, 0
	}
	return h
}

// tell has all observe something, and lets them work until nothing is left to do.
func (h *hall) tell(seen kube.Observed) {
	for _, g := range h.guests {
		own := seen // a map that one of them has changed is not what the others observe
		own.Services = merged(map[string]*corev1.Service{}, seen.Services)
		g.measured(func() bool { g.Observe(own); return false })
	}
	for busy := true; busy; {
		busy = false
		for _, g := range h.guests {
			busy = g.measured(g.work) || busy
		}
	}
	for _, g := range h.guests {
		g.measured(func() bool {
			g.Reporter.looked = time.Time{}
			g.Reporter.look(time.Now())
			g.Reporter.next(time.Now())
			if err := g.state.keep(*g.observed); err != nil {
				h.tb.Fatal(err)
			}
			return false
		})
	}
}

func (g *guest) measured(do func() bool) bool {
	begin := processorTime()
	result := do()
	g.spent += processorTime() - begin
	return result
}

// work makes a pass if there is something to make it for.
func (g *guest) work() bool {
	select {
	case <-g.dirty:
	case <-g.news:
	case <-g.wire:
	default:
		return false
	}
	if f, wait := g.facts(); wait {
		g.introduce(f)
	} else {
		g.passes++
		g.pass(*f)
	}
	return true
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// owner of an address, as n1 sees it.
func (h *hall) owner(ip string) string {
	for v := range h.guests[0].verdicts.All() {
		if v.IP == netip.MustParseAddr(ip) {
			return v.Owner
		}
	}
	return ""
}

// measure reports what one event costs the speaker that owns the address, and the two others, each.
func (h *hall) measure(b *testing.B, owner string, events int) {
	var owns, others, passes float64
	for _, g := range h.guests {
		passes += float64(g.passes)
		if g.Node == owner {
			owns += float64(g.spent.Nanoseconds())
		} else {
			others += float64(g.spent.Nanoseconds())
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(owns/float64(events), "owner-ns/event")
	b.ReportMetric(others/2/float64(events), "other-ns/event")
	b.ReportMetric(passes/3/float64(events), "passes/event")
}

// BenchmarkServiceEvent is what one event of a Service costs a speaker among 10,000 Services, in processor time and
// with the garbage that it makes: from its being observed, through all passes that it brings about on the three nodes,
// to its being kept and ready to be reported.
func BenchmarkServiceEvent(b *testing.B) {
	const name, ip = "default/new", "10.1.2.3"
	one := func(s *corev1.Service) kube.Observed {
		return kube.Observed{Services: map[string]*corev1.Service{name: s}}
	}
	b.Run("new,gone", func(b *testing.B) {
		h, events, owner := newHall(b, 10_000, ""), 0, ""
		b.ReportAllocs()
		for b.Loop() {
			s := assigned("new", ip)
			h.tell(one(&s))
			owner = h.owner(ip)
			h.tell(one(nil))
			events += 2
		}
		h.measure(b, owner, events)
	})
	b.Run("edited", func(b *testing.B) {
		h, events := newHall(b, 10_000, ""), 0
		s := assigned("new", ip)
		h.tell(one(&s))
		for _, g := range h.guests {
			g.spent, g.passes = 0, 0
		}
		b.ReportAllocs()
		for b.Loop() {
			s := assigned("new", ip)
			events++
			s.ResourceVersion = fmt.Sprint(events)
			h.tell(one(&s))
		}
		h.measure(b, h.owner(ip), events)
	})
}

// BenchmarkEndpointEvent is the same for one event of an EndpointSlice. With Cluster it changes nothing for speakers;
// with Local, the address moves to another node.
func BenchmarkEndpointEvent(b *testing.B) {
	for _, policy := range []corev1.ServiceExternalTrafficPolicy{corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal} {
		b.Run(string(policy), func(b *testing.B) {
			h, events := newHall(b, 10_000, policy), 0
			b.ReportAllocs()
			for b.Loop() {
				slice := endpoints("svc05000", discoveryv1.EndpointConditions{}, &h.names[events%3])
				slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{NodeName: &h.names[(events+1)%3]})
				h.tell(kube.Observed{EndpointSlices: map[string]*discoveryv1.EndpointSlice{"default/svc05000": &slice}})
				events++
			}
			h.measure(b, h.owner(numbered(5000)), events)
		})
	}
}

// differences yields what differs between two sorted lists: what has come (was is nil), what has gone (now is nil),
// and what is another pointer. It does not look at what is the same pointer.
func differences[T any](before, after []*T, compare func(a, b *T) int, yield func(was, now *T)) {
	if len(before) == len(after) && (len(before) == 0 || &before[0] == &after[0]) {
		return
	}
	for len(before) > 0 || len(after) > 0 {
		n := 0
		for n < len(before) && n < len(after) && before[n] == after[n] {
			n++
		}
		if before, after = before[n:], after[n:]; n > 0 {
			continue
		}
		order := 0
		switch {
		case len(before) == 0:
			order = 1
		case len(after) == 0:
			order = -1
		default:
			order = compare(before[0], after[0])
		}
		var was, now *T
		if order <= 0 {
			was, before = before[0], before[1:]
		}
		if order >= 0 {
			now, after = after[0], after[1:]
		}
		yield(was, now)
	}
}
