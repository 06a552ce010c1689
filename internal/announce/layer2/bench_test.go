package layer2

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/lanyard-lb/lanyard/internal/announce"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// sink is a Network without neighbours.
type sink struct{}

func (sink) Listen(placement.Interface, Family) (Conn, error) {
	return sinkConn(make(chan struct{})), nil
}

func (sink) Member(placement.Interface) (Member, error) { return sinkMember{}, nil }

type sinkConn chan struct{}

func (c sinkConn) Serve(func([]byte)) error    { <-c; return net.ErrClosed }
func (c sinkConn) Write(b []byte) (int, error) { return len(b), nil }
func (c sinkConn) Narrow([]Span) error         { return nil }
func (c sinkConn) Close() error                { close(c); return nil }

type sinkMember struct{}

func (sinkMember) Join(netip.Addr) error  { return nil }
func (sinkMember) Leave(netip.Addr) error { return nil }
func (sinkMember) Close() error           { return nil }

func benchResponder(f Family, count int) *responder {
	a := New(Config{Network: sink{}})
	r := newResponder(placement.Interface{Name: "eth0", Index: 2, MAC: us}, f, a.cfg, a.book, nil)
	for i := range count {
		r.book.change(change{ip: numbered(f, i)})
		r.add(numbered(f, i))
	}
	r.conn = make(sinkConn)
	r.book.attach(r.fresh)
	return r
}

func numbered(f Family, i int) netip.Addr {
	if f == IPv4 {
		return netip.AddrFrom4([4]byte{10, 77, byte(i >> 8), byte(i)})
	}
	b := vip6.As16()
	b[14], b[15] = byte(i>>8), byte(i)
	return netip.AddrFrom16(b)
}

func BenchmarkReply(b *testing.B) {
	asker := newAsker()
	for _, f := range families {
		for _, count := range []int{1, 10000} {
			r := benchResponder(f, count)
			for name, ip := range map[string]netip.Addr{"held": numbered(f, 0), "ignored": numbered(f, 20000)} {
				frame, out := asker.request(b, ip, placement.MAC{}), make([]byte, 0, frameSize)
				b.Run(fmt.Sprintf("%s/%s/of=%d", f, name, count), func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						r.handle(frame, out)
					}
				})
			}
		}
	}
}

// newAsker is a neighbour whose own addresses nobody else holds.
func newAsker() *station {
	return &station{mac: them, ip: map[Family]netip.Addr{IPv4: netip.MustParseAddr("10.78.0.1"), IPv6: host6}}
}

func TestReplyingAndWatchingAllocateNothing(t *testing.T) {
	asker := newAsker()
	for _, f := range families {
		r := benchResponder(f, 2)
		out := make([]byte, 0, frameSize)
		for _, i := range []int{0, 9} {
			frame := asker.request(t, numbered(f, i), placement.MAC{})
			if n := testing.AllocsPerRun(100, func() { r.handle(frame, out) }); n > 0 {
				t.Errorf("%s: %v allocations for address %d", f, n, i)
			}
			rival := &station{t: t, mac: third}
			claim := rival.claim(t, numbered(f, i))
			if n := testing.AllocsPerRun(100, func() { r.handle(claim, out) }); n > 0 {
				t.Errorf("%s: %v allocations for a claim to address %d", f, n, i)
			}
		}
	}
}

// One address of many comes and goes, as when a Service does.
func BenchmarkSetOneOfMany(b *testing.B) {
	for _, count := range []int{100, 10000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			a := New(Config{Network: sink{}})
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan error)
			go func() { done <- a.Run(ctx) }()
			names := []string{"eth0", "eth1"}
			w := announce.Want{Interfaces: []placement.Interface{suitable("eth0", 2), suitable("eth1", 3)}}
			for i := range count {
				w.Announcements = append(w.Announcements, &placement.Announcement{IP: numbered(IPv4, i), Interfaces: names})
			}
			less := w
			less.Announcements = slices.Delete(slices.Clone(w.Announcements), count/2, count/2+1)
			check(b, a.Set(w))
			b.ReportAllocs()
			for b.Loop() {
				check(b, a.Set(less))
				check(b, a.Set(w))
			}
			cancel()
			check(b, <-done)
		})
	}
}

// firstConn is a sinkConn that counts the addresses of the frames written.
type firstConn struct {
	sinkConn
	sink *firstSink
}

type firstSink struct {
	sink
	mu   sync.Mutex
	seen map[netip.Addr]bool
	want int
	all  chan struct{} // closed once all have been seen
}

func (f *firstSink) Listen(placement.Interface, Family) (Conn, error) {
	return firstConn{make(sinkConn), f}, nil
}

func (c firstConn) Write(b []byte) (int, error) {
	c.sink.mu.Lock()
	defer c.sink.mu.Unlock()
	ip, _ := arpTarget(b)
	if !c.sink.seen[ip] {
		if c.sink.seen[ip] = true; len(c.sink.seen) == c.sink.want {
			close(c.sink.all)
		}
	}
	return len(b), nil
}

// The time from one Set of 5,000 addresses until the first frame for the last of them has left: announced,
// and probed.
func BenchmarkFirstFrames(b *testing.B) {
	const count = 5000
	for _, probe := range []placement.Probe{placement.NoProbe, placement.ProbeFirst} {
		b.Run(map[placement.Probe]string{placement.NoProbe: "announced", placement.ProbeFirst: "probed"}[probe], func(b *testing.B) {
			w := announce.Want{Interfaces: []placement.Interface{suitable("eth0", 2)}}
			for i := range count {
				w.Announcements = append(w.Announcements, &placement.Announcement{
					IP: numbered(IPv4, i), Interfaces: []string{"eth0"}, Probe: probe,
				})
			}
			for b.Loop() {
				network := &firstSink{seen: make(map[netip.Addr]bool), want: count, all: make(chan struct{})}
				a := New(Config{Network: network})
				ctx, cancel := context.WithCancel(b.Context())
				done := make(chan error)
				go func() { done <- a.Run(ctx) }()
				check(b, a.Set(w))
				<-network.all
				cancel()
				check(b, <-done)
			}
		})
	}
}
