package layer2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// segment is a fake Ethernet. It obeys the rules of a switch with MLD snooping: a frame reaches the port
// with its destination address, all ports if it is broadcast or for all nodes, and otherwise the members
// of its group. Nobody may send with another's address.
type segment struct {
	t     testing.TB
	mu    sync.Mutex
	ports []*port
	joins map[placement.MAC]map[netip.Addr]int // of each NIC, by group
}

func newSegment(t testing.TB) *segment {
	return &segment{t: t, joins: make(map[placement.MAC]map[netip.Addr]int)}
}

// port is one socket on one NIC. A socket without a protocol hears everything that comes by.
type port struct {
	*segment
	mac    placement.MAC
	proto  *protocol
	near   []Span
	frames chan []byte
	closed chan struct{}
	once   sync.Once
}

func (s *segment) attach(mac placement.MAC, proto *protocol) *port {
	p := &port{segment: s, mac: mac, proto: proto, near: everywhere, frames: make(chan []byte, 1<<16), closed: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ports = append(s.ports, p)
	return p
}

func (p *port) Read(b []byte) (int, error) {
	select {
	case f := <-p.frames:
		return copy(b, f), nil
	case <-p.closed:
		return 0, net.ErrClosed
	}
}

func (p *port) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.ports, p) {
		return 0, net.ErrClosed
	}
	if placement.MAC(b[6:]) != p.mac {
		p.t.Errorf("%s sends a frame as %s", p.mac, placement.MAC(b[6:]))
	}
	for _, other := range p.ports {
		if other.mac != p.mac && other.takes(b) {
			other.frames <- slices.Clone(b)
		}
	}
	return len(b), nil
}

func (p *port) takes(b []byte) bool {
	dst := placement.MAC(b)
	if p.proto == nil {
		return true
	}
	if group(dst) && dst != broadcast && dst != allNodes && !p.isMember(dst) {
		return false
	}
	return (group(dst) || dst == p.mac) && passes(p.proto.filter, b) && passesAny(p.proto.tails, p.near, b)
}

// isMember looks for a group that maps to the address, RFC 2464 section 7.
func (p *port) isMember(dst placement.MAC) bool {
	for g := range p.joins[p.mac] {
		b := g.As16()
		if dst == (placement.MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}) {
			return true
		}
	}
	return false
}

func passes(tests []test, b []byte) bool {
	for _, t := range tests {
		field := make([]byte, 4)
		if int(t.offset+t.size) > len(b) {
			return false
		}
		copy(field[4-t.size:], b[t.offset:t.offset+t.size])
		if v := binary.BigEndian.Uint32(field); v < t.low || v > t.high {
			return false
		}
	}
	return true
}

// passesAny reports whether one of the fields is in one of the spans.
func passesAny(offsets []uint32, near []Span, b []byte) bool {
	for _, offset := range offsets {
		for _, s := range near {
			if passes([]test{{offset: offset, size: 4, low: s.Low, high: s.High}}, b) {
				return true
			}
		}
	}
	return false
}

func (p *port) Close() error {
	p.once.Do(func() {
		close(p.closed)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ports = slices.DeleteFunc(p.ports, func(o *port) bool { return o == p })
	})
	return nil
}

// String lists the sockets and memberships of each NIC, in the order of their addresses.
func (s *segment) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	for _, p := range s.ports {
		switch {
		case p.proto == nil: // a station
		case p.proto == &arp:
			lines = append(lines, fmt.Sprintf("%s listens for ARP\n", p.mac))
		default:
			lines = append(lines, fmt.Sprintf("%s listens for NDP\n", p.mac))
		}
	}
	for mac, groups := range s.joins {
		for g := range groups {
			lines = append(lines, fmt.Sprintf("%s is member of %s\n", mac, g))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// fakeNode is a Network whose interfaces are plugged into segments, by interface index.
type fakeNode struct {
	segments map[int]*segment
	room     int // for memberships in one socket

	mu     sync.Mutex
	broken map[int]bool
}

var errBroken = errors.New("broken interface")

func (n *fakeNode) Listen(ifi placement.Interface, family Family) (Conn, error) {
	port, err := n.plug(ifi, family)
	return frames{port, port}, err
}

// frames makes a Conn of a port, or of what is around it.
type frames struct {
	io.ReadWriteCloser
	port *port
}

func (f frames) Narrow(near []Span) error {
	f.port.mu.Lock()
	defer f.port.mu.Unlock()
	f.port.near = slices.Clone(near)
	return nil
}

func (f frames) Serve(handle func(frame []byte)) error {
	buf := make([]byte, frameSize)
	for {
		n, err := f.Read(buf)
		if err != nil {
			return err
		}
		handle(buf[:n])
	}
}

func (n *fakeNode) plug(ifi placement.Interface, family Family) (*port, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.broken[ifi.Index] || n.segments[ifi.Index] == nil {
		return nil, errBroken
	}
	return n.segments[ifi.Index].attach(ifi.MAC, family.protocol()), nil
}

func (n *fakeNode) Member(ifi placement.Interface) (Member, error) {
	return &fakeMember{segment: n.segments[ifi.Index], mac: ifi.MAC, room: n.room}, nil
}

func (n *fakeNode) set(index int, broken bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broken[index] = broken
}

type fakeMember struct {
	*segment
	mac    placement.MAC
	room   int
	groups []netip.Addr
}

func (m *fakeMember) Join(g netip.Addr) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case slices.Contains(m.groups, g):
		return syscall.EADDRINUSE
	case len(m.groups) == m.room:
		return syscall.ENOMEM
	}
	m.groups = append(m.groups, g)
	if m.joins[m.mac] == nil {
		m.joins[m.mac] = make(map[netip.Addr]int)
	}
	m.joins[m.mac][g]++
	return nil
}

func (m *fakeMember) Leave(g netip.Addr) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.Index(m.groups, g)
	if i < 0 {
		return syscall.EADDRNOTAVAIL
	}
	m.groups = slices.Delete(m.groups, i, i+1)
	if m.joins[m.mac][g]--; m.joins[m.mac][g] == 0 {
		delete(m.joins[m.mac], g)
	}
	return nil
}

func (m *fakeMember) Close() error {
	for len(m.groups) > 0 {
		_ = m.Leave(m.groups[0])
	}
	return nil
}
