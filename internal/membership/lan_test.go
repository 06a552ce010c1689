package membership

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// testLAN is a network in memory, without delay. It obeys what a LAN does: packets to nobody or across a
// cut vanish, connections to nobody are refused, and across a cut they time out.
type testLAN struct {
	mu    sync.Mutex
	hosts map[string]*lanPort  // by address and port
	side  map[netip.Addr]int   // hosts on different sides don't hear each other
	mute  func(to string) bool // packets to these get lost, connections don't
	// trouble, if set, says for each packet when it arrives, once or more often; never is a loss.
	trouble func() []time.Duration
	largest int // the longest packet seen
	// keeps has packets across a cut arrive when it heals, if that is within three seconds: so long a kernel asks for the MAC
	// address of a neighbour.
	keeps bool
	kept  []keptPacket
	// meter, if set, counts what the hosts on side 0 send, whether it arrives or not.
	meter *meter
}

func newTestLAN() *testLAN {
	return &testLAN{hosts: make(map[string]*lanPort), side: make(map[netip.Addr]int)}
}

// plug adds a host; the address must be free.
func (l *testLAN) plug(at netip.AddrPort) *lanPort {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hosts[at.String()] != nil {
		panic("address already in use: " + at.String())
	}
	p := &lanPort{lan: l, at: at, packets: make(chan *memberlist.Packet, 4096), streams: make(chan net.Conn, 128)}
	l.hosts[at.String()] = p
	return p
}

// move puts hosts on a side of the cut; all begin on side 0.
func (l *testLAN) move(side int, addrs ...netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range addrs {
		l.side[a] = side
	}
}

// heal puts all hosts on one side.
func (l *testLAN) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.side)
	for _, k := range l.kept {
		if time.Since(k.Timestamp) < 3*time.Second {
			k.to.arrive(k.Packet)
		}
	}
	l.kept = nil
}

type keptPacket struct {
	*memberlist.Packet
	to *lanPort
}

// keep takes a packet that does not come across the cut.
func (l *testLAN) keep(k keptPacket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keeps {
		l.kept = append(l.kept, k)
	}
}

// find returns who listens at an address; cut tells that we don't reach it.
func (l *testLAN) find(from *lanPort, to string) (p *lanPort, cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	addr := netip.MustParseAddrPort(to)
	return l.hosts[to], l.side[from.at.Addr()] != l.side[addr.Addr()]
}

// metered returns what counts the traffic of a host; nil if nothing does.
func (l *testLAN) metered(from *lanPort) *meter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.side[from.at.Addr()] != 0 {
		return nil
	}
	return l.meter
}

type lanPort struct {
	lan     *testLAN
	at      netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
}

var _ memberlist.NodeAwareTransport = (*lanPort)(nil)

func (p *lanPort) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return p.at.Addr().AsSlice(), int(p.at.Port()), nil
}

func (p *lanPort) PacketCh() <-chan *memberlist.Packet { return p.packets }
func (p *lanPort) StreamCh() <-chan net.Conn           { return p.streams }

func (p *lanPort) WriteTo(b []byte, addr string) (time.Time, error) {
	now := time.Now()
	if m := p.lan.metered(p); m != nil {
		m.packet(b)
	}
	dest, cut := p.lan.find(p, addr)
	if dest == nil || (p.lan.mute != nil && p.lan.mute(addr)) {
		return now, nil
	}
	if cut {
		p.lan.keep(keptPacket{p.packet(b, now), dest})
		return now, nil
	}
	for _, delay := range p.lan.delays(len(b)) {
		packet := p.packet(b, now)
		if delay == 0 {
			dest.arrive(packet)
		} else {
			time.AfterFunc(delay, func() { packet.Timestamp = time.Now(); dest.arrive(packet) })
		}
	}
	return now, nil
}

func (p *lanPort) packet(b []byte, now time.Time) *memberlist.Packet {
	return &memberlist.Packet{Buf: append([]byte(nil), b...), From: net.UDPAddrFromAddrPort(p.at), Timestamp: now}
}

func (l *testLAN) largestPacket() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.largest
}

// disturb has packets arrive when trouble says.
func (l *testLAN) disturb(trouble func() []time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trouble = trouble
}

// delays tells when a packet of that size arrives.
func (l *testLAN) delays(size int) []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.largest = max(l.largest, size)
	if l.trouble == nil {
		return []time.Duration{0}
	}
	return l.trouble()
}

func (p *lanPort) arrive(packet *memberlist.Packet) {
	select {
	case p.packets <- packet:
	default: // its queue is full
	}
}

func (p *lanPort) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return p.WriteTo(b, a.Addr)
}

func (p *lanPort) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	dest, cut := p.lan.find(p, addr)
	if cut {
		<-time.After(timeout)
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("i/o timeout")}
	}
	if dest != nil {
		ours, theirs := net.Pipe()
		if m := p.lan.metered(p); m != nil {
			ours, theirs = m.connected(ours, theirs)
		}
		select {
		case dest.streams <- theirs:
			return ours, nil
		default:
		}
	}
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("connect: %w", syscall.ECONNREFUSED)}
}

func (p *lanPort) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return p.DialTimeout(a.Addr, timeout)
}

// Shutdown frees the address. Connections that nobody took are closed, as the kernel does.
func (p *lanPort) Shutdown() error {
	p.lan.mu.Lock()
	delete(p.lan.hosts, p.at.String())
	p.lan.mu.Unlock()
	for {
		select {
		case c := <-p.streams:
			_ = c.Close()
		default:
			return nil
		}
	}
}
