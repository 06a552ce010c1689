package speaker

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/announce/layer2"
	"github.com/lanyard-lb/lanyard/internal/kube"
	"github.com/lanyard-lb/lanyard/internal/membership"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// void is a LAN without neighbours.
type void struct{}

func (void) Listen(placement.Interface, layer2.Family) (layer2.Conn, error) {
	return voidConn(make(chan struct{})), nil
}

func (void) Member(placement.Interface) (layer2.Member, error) { return voidMember{}, nil }

type voidConn chan struct{}

func (c voidConn) Serve(func([]byte)) error    { <-c; return net.ErrClosed }
func (c voidConn) Narrow([]layer2.Span) error  { return nil }
func (c voidConn) Write(b []byte) (int, error) { return len(b), nil }
func (c voidConn) Close() error                { close(c); return nil }

type voidMember struct{}

func (voidMember) Join(netip.Addr) error  { return nil }
func (voidMember) Leave(netip.Addr) error { return nil }
func (voidMember) Close() error           { return nil }

// quiet links tell of one interface.
type quietLinks []placement.Interface

func (l quietLinks) Run(ctx context.Context, changed func([]placement.Interface)) error {
	changed(l)
	<-ctx.Done()
	return nil
}

// BenchmarkLife measures, in real time, what one event of a Service among 10,000 costs one of three speakers, with the
// gossip between them, the announcers (on a LAN that nobody else is on) and all that takes its time: twenty times a second
// one comes, is probed and announced, or goes. What the speakers use when nothing happens is taken off. Run it with
// -benchtime 200x.
func BenchmarkLife(b *testing.B) {
	seen := cluster(0, "n1", "n2", "n3")
	seen.Pools[0].Spec.Addresses = []v1beta1.AddressRange{"10.0.0.0/8"}
	seen.Speakers = nil
	for i := range 10_000 {
		seen.Services = append(seen.Services, assigned(fmt.Sprintf("svc%05d", i), numbered(i)))
	}
	ctx, cancel := context.WithCancel(b.Context())
	var peers []membership.Peer
	var gossips []*membership.Gossip
	for _, node := range []string{"n1", "n2", "n3"} {
		free, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			b.Fatal(err)
		}
		at := free.Addr().(*net.TCPAddr).AddrPort()
		if err := free.Close(); err != nil {
			b.Fatal(err)
		}
		peers = append(peers, membership.Peer{Name: node, Addr: at})
		g, err := membership.New(membership.Config{Name: node, Bind: at.String(), Profile: membership.WAN, Key: []byte("a key")})
		if err != nil {
			b.Fatal(err)
		}
		gossips = append(gossips, g)
	}
	var speakers []*Speaker
	done := make(chan error, 3)
	for i, g := range gossips {
		metrics, err := NewMetrics(prometheus.NewRegistry())
		if err != nil {
			b.Fatal(err)
		}
		pulse := NewPulse(nil)
		s := New(Config{Node: peers[i].Name, Metrics: metrics, Membership: g, Pulse: pulse, StateDir: b.TempDir(), Logger: log.NewNopLogger(),
			Announcer: layer2.New(layer2.Config{Network: void{}, Metrics: metrics, Awake: pulse.Awake}),
			NodeEvent: func(_, _, _, _, _ string) {},
			Links: quietLinks{{Name: "eth0", Index: 2, MAC: macOf(peers[i].Name), Up: true, Carrier: true, Ether: true,
				Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.250/8")}}}})
		speakers = append(speakers, s)
		go func() { done <- s.Run(ctx) }()
		g.SetPeers(peers)
		o := seen.observed()
		o.Speakers = nil
		s.Observe(o)
	}
	await := func(what string, ok func() bool) {
		for end := time.Now().Add(time.Minute); !ok(); <-time.After(5 * time.Millisecond) {
			if time.Now().After(end) {
				b.Fatalf("not %s within a minute", what)
			}
		}
	}
	announced := func(want int) func() bool {
		return func() bool {
			for _, s := range speakers {
				s.mu.Lock()
				n := 0
				for v := range s.verdicts.All() {
					if v.Reason == placement.NoEndpoint && v.Claim.Phase == placement.Announcing {
						n++
					}
				}
				s.mu.Unlock()
				if n != want {
					return false
				}
			}
			return true
		}
	}
	await("announced", announced(10_000))
	<-time.After(12 * time.Second) // all has been said several times
	idleSince, idle := time.Now(), processorTime()
	<-time.After(10 * time.Second)
	rate := float64(processorTime()-idle) / float64(time.Since(idleSince))
	tell := func(i int, comes bool) {
		name := fmt.Sprintf("new%05d", i)
		changed := map[string]*corev1.Service{"default/" + name: nil}
		if comes {
			s := assigned(name, numbered(20_000+i))
			changed["default/"+name] = &s
		}
		for _, s := range speakers {
			s.Observe(kube.Observed{Services: maps.Clone(changed)})
		}
		<-time.After(50 * time.Millisecond)
	}
	begin, spent, events := time.Now(), processorTime(), 0
	for b.Loop() {
		tell(events, true)
		if events >= 20 { // a second later
			tell(events-20, false)
		}
		events++
	}
	for i := range 20 {
		tell(events-20+i, false)
	}
	used := float64(processorTime()-spent) - rate*float64(time.Since(begin))
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(used/float64(2*events)/3000, "us/event")
	b.ReportMetric(rate*1000/3, "idle-ms/s")
	await("announced as before", announced(10_000))
	cancel()
	for range speakers {
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}
