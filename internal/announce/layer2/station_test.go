package layer2

import (
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	xarp "github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	xndp "github.com/mdlayher/ndp"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// station is a neighbour on the LAN that asks, listens and remembers. It speaks through the libraries
// rather than through the code under test, over any wire that carries frames.
type station struct {
	t    testing.TB
	mac  placement.MAC
	ip   map[Family]netip.Addr
	wire io.ReadWriteCloser
	done chan struct{}

	mu        sync.Mutex
	heard     []frame
	cache     map[netip.Addr]placement.MAC
	solicited map[netip.Addr]bool // that were answered for
	uses      map[netip.Addr]bool // besides ip
}

// frame is what a station makes of one that it heard.
type frame struct {
	raw     []byte
	dst     placement.MAC
	ip      netip.Addr // that is said to be at mac
	mac     placement.MAC
	unasked bool
}

func newStation(t testing.TB, mac placement.MAC, v4, v6 string, wire io.ReadWriteCloser) *station {
	s := &station{
		t:     t,
		mac:   mac,
		ip:    map[Family]netip.Addr{IPv4: netip.MustParseAddr(v4), IPv6: netip.MustParseAddr(v6)},
		wire:  wire,
		done:  make(chan struct{}),
		cache: make(map[netip.Addr]placement.MAC),

		solicited: make(map[netip.Addr]bool),
		uses:      make(map[netip.Addr]bool),
	}
	go s.listen()
	t.Cleanup(func() { _ = wire.Close(); <-s.done })
	return s
}

func (s *station) listen() {
	defer close(s.done)
	buf := make([]byte, frameSize)
	for {
		n, err := s.wire.Read(buf)
		if err != nil {
			return
		}
		s.reply(buf[:n])
		if f, ok := s.understand(slices.Clone(buf[:n])); ok {
			s.mu.Lock()
			s.heard = append(s.heard, f)
			s.cache[f.ip] = f.mac
			s.solicited[f.ip] = s.solicited[f.ip] || !f.unasked
			s.mu.Unlock()
		}
	}
}

// understand reads frames of others that say where an address is: ARP replies and announcements, and
// neighbour advertisements.
func (s *station) understand(raw []byte) (f frame, ok bool) {
	var e ethernet.Frame
	if e.UnmarshalBinary(raw) != nil || placement.MAC(e.Source) == s.mac {
		return f, false
	}
	f = frame{raw: raw, dst: placement.MAC(e.Destination)}
	switch e.EtherType {
	case ethernet.EtherTypeARP:
		var p xarp.Packet
		if p.UnmarshalBinary(e.Payload) != nil {
			return f, false
		}
		f.ip, f.mac = p.SenderIP, placement.MAC(p.SenderHardwareAddr)
		f.unasked = f.dst == broadcast
		return f, p.Operation == xarp.OperationReply || p.SenderIP == p.TargetIP
	case ethernet.EtherTypeIPv6:
		if len(e.Payload) < ipv6Len || e.Payload[6] != icmpv6 {
			return f, false
		}
		m, err := xndp.ParseMessage(e.Payload[ipv6Len:])
		na, isNA := m.(*xndp.NeighborAdvertisement)
		if err != nil || !isNA || len(na.Options) != 1 {
			return f, false
		}
		f.ip, f.mac = na.TargetAddress, placement.MAC(na.Options[0].(*xndp.LinkLayerAddress).Addr)
		f.unasked = f.dst == allNodes && !na.Solicited
		return f, true
	}
	return f, false
}

// use has the station use an address, or not.
func (s *station) use(ip netip.Addr, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uses[ip] = is
}

// claim is what a host sends that has just been given ip.
func (s *station) claim(t testing.TB, ip netip.Addr) []byte {
	t.Helper()
	if ip.Is4() {
		return arpFrame(t, s.mac, placement.MAC{}, ip, ip)
	}
	return advertisement(t, s.mac, allNodes, ip, allNodesIP, false)
}

// reply answers who asks for an address that the station uses.
func (s *station) reply(raw []byte) {
	var e ethernet.Frame
	if e.UnmarshalBinary(raw) != nil || placement.MAC(e.Source) == s.mac {
		return
	}
	var p xarp.Packet
	switch {
	case e.EtherType == ethernet.EtherTypeARP && p.UnmarshalBinary(e.Payload) == nil:
		if p.Operation == xarp.OperationRequest && s.has(p.TargetIP) {
			p, err := xarp.NewPacket(xarp.OperationReply, s.mac[:], p.TargetIP, p.SenderHardwareAddr, p.SenderIP)
			check(s.t, err)
			payload, err := p.MarshalBinary()
			check(s.t, err)
			_, _ = s.wire.Write(etherFrame(s.t, s.mac, placement.MAC(e.Source), ethernet.EtherTypeARP, payload))
		}
	case e.EtherType == ethernet.EtherTypeIPv6 && len(e.Payload) > ipv6Len && e.Payload[6] == icmpv6:
		m, err := xndp.ParseMessage(e.Payload[ipv6Len:])
		if ns, is := m.(*xndp.NeighborSolicitation); err == nil && is && s.has(ns.TargetAddress) {
			_, _ = s.wire.Write(advertisement(s.t, s.mac, allNodes, ns.TargetAddress, allNodesIP, false))
		}
	}
}

func (s *station) has(ip netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.uses[ip]
}

// advertisement is a neighbour advertisement as the library writes it.
func advertisement(t testing.TB, src, dst placement.MAC, target, to netip.Addr, solicited bool) []byte {
	t.Helper()
	body, err := xndp.MarshalMessageChecksum(&xndp.NeighborAdvertisement{
		Solicited: solicited, Override: true, TargetAddress: target,
		Options: []xndp.Option{&xndp.LinkLayerAddress{Direction: xndp.Target, Addr: src[:]}},
	}, target, to)
	check(t, err)
	return etherFrame(t, src, dst, ethernet.EtherTypeIPv6, ipv6Packet(target, to, 255, body))
}

// request is a frame that asks for ip, to dst or, if that is zero, to everybody who may have it.
func (s *station) request(t testing.TB, ip netip.Addr, dst placement.MAC) []byte {
	t.Helper()
	if ip.Is4() {
		return arpFrame(t, s.mac, dst, s.ip[IPv4], ip)
	}
	return ndpFrame(t, s.mac, dst, s.ip[IPv6], ip)
}

func arpFrame(t testing.TB, src, dst placement.MAC, source, ip netip.Addr) []byte {
	t.Helper()
	p, err := xarp.NewPacket(xarp.OperationRequest, src[:], source, make([]byte, 6), ip)
	check(t, err)
	payload, err := p.MarshalBinary()
	check(t, err)
	if dst == (placement.MAC{}) {
		dst = broadcast
	}
	return etherFrame(t, src, dst, ethernet.EtherTypeARP, payload)
}

func ndpFrame(t testing.TB, src, dst placement.MAC, source, ip netip.Addr) []byte {
	t.Helper()
	to := ip
	if dst == (placement.MAC{}) {
		var err error
		to, err = xndp.SolicitedNodeMulticast(ip)
		check(t, err)
		b := to.As16()
		dst = placement.MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}
	}
	ns := &xndp.NeighborSolicitation{TargetAddress: ip}
	if !source.IsUnspecified() {
		ns.Options = []xndp.Option{&xndp.LinkLayerAddress{Direction: xndp.Source, Addr: src[:]}}
	}
	body, err := xndp.MarshalMessageChecksum(ns, source, to)
	check(t, err)
	return etherFrame(t, src, dst, ethernet.EtherTypeIPv6, ipv6Packet(source, to, 255, body))
}

func ipv6Packet(source, dest netip.Addr, hops byte, body []byte) []byte {
	b := []byte{0x60, 0, 0, 0, byte(len(body) >> 8), byte(len(body)), 58, hops}
	b = append(b, source.AsSlice()...)
	b = append(b, dest.AsSlice()...)
	return append(b, body...)
}

func etherFrame(t testing.TB, src, dst placement.MAC, kind ethernet.EtherType, payload []byte) []byte {
	t.Helper()
	e := ethernet.Frame{Destination: dst[:], Source: src[:], EtherType: kind, Payload: payload}
	b, err := e.MarshalBinary()
	check(t, err)
	return b
}

func (s *station) send(t testing.TB, raw []byte) {
	t.Helper()
	_, err := s.wire.Write(raw)
	check(t, err)
}

// patience is how long a station waits for an answer. In a bubble it costs nothing; elsewhere a station
// that gives up too early is asked again by those who expect an answer.
const patience = 60 * time.Millisecond

// ask sends a request and returns the answer to it.
func (s *station) ask(t testing.TB, request []byte, ip netip.Addr) (f frame, ok bool) {
	t.Helper()
	mark := s.count()
	s.send(t, request)
	for end := time.Now().Add(patience); time.Now().Before(end) && !ok; time.Sleep(time.Millisecond) {
		f, ok = s.answerSince(mark, ip)
	}
	return f, ok
}

func (s *station) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.heard)
}

func (s *station) answerSince(mark int, ip netip.Addr) (frame, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.heard[mark:] {
		if f.ip == ip && !f.unasked {
			return f, true
		}
	}
	return frame{}, false
}

// unasked returns the frames that nobody asked for; those for ip only, if that is valid.
func (s *station) unasked(ip netip.Addr) (list []frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.heard {
		if f.unasked && (f.ip == ip || !ip.IsValid()) {
			list = append(list, f)
		}
	}
	return list
}

// String lists where the station believes each address to be.
func (s *station) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, ip := range slices.SortedFunc(maps.Keys(s.cache), netip.Addr.Compare) {
		fmt.Fprintf(&b, "%s is at %s\n", ip, s.cache[ip])
	}
	return b.String()
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
