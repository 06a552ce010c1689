package layer2

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lanyard-lb/lanyard/internal/announce"
	"github.com/lanyard-lb/lanyard/internal/announce/announcetest"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

func TestContractInMemory(t *testing.T) {
	announcetest.Run(t, func(t *testing.T, test func(*testing.T, announcetest.World)) {
		synctest.Test(t, func(t *testing.T) { test(t, newFakeWorld(t)) })
	})
}

func TestContractOverVeth(t *testing.T) {
	announcetest.Run(t, func(t *testing.T, test func(*testing.T, announcetest.World)) {
		test(t, newVethWorld(t))
	})
}

// lans are what both worlds have in common: a station on each LAN, by the name of the node's interface.
type lans struct {
	t        testing.TB
	stations map[string]*station
}

func (l lans) Answers(ip netip.Addr) (names []string) {
	for name, s := range l.stations {
		if _, ok := s.ask(l.t, s.request(l.t, ip, placement.MAC{}), ip); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (l lans) Unasked() (n int) {
	for _, s := range l.stations {
		n += len(s.unasked(netip.Addr{}))
	}
	return n
}

func (l lans) Occupy(name string, ip netip.Addr) placement.MAC {
	s := l.stations[name]
	s.use(ip, true)
	s.send(l.t, s.claim(l.t, ip))
	return s.mac
}

func (l lans) Vacate(name string, ip netip.Addr) { l.stations[name].use(ip, false) }

func (l lans) Settle() { time.Sleep(repeats[len(repeats)-1] + 200*time.Millisecond) }

func (l lans) Address(n int) netip.Addr { return testAddr(n) }

// testAddr is the n-th address that tests announce.
func testAddr(n int) netip.Addr {
	if n%2 == 0 {
		return netip.AddrFrom4([4]byte{10, 77, byte(n >> 9), byte(n>>1) + 100})
	}
	return netip.MustParseAddr(fmt.Sprintf("fd77::a:%x", n))
}

type fakeWorld struct {
	lans
	node       *fakeNode
	interfaces []placement.Interface
}

// newFakeWorld is a node with eth0 and eth1 on a segment each.
func newFakeWorld(t testing.TB) *fakeWorld {
	w := &fakeWorld{
		lans: lans{t: t, stations: make(map[string]*station)},
		node: &fakeNode{segments: make(map[int]*segment), broken: make(map[int]bool), room: 1},
	}
	for n, name := range []string{"eth0", "eth1"} {
		ifi := suitable(name, n+2)
		seg := newSegment(t)
		far := placement.MAC{2, 0, 0, 0, 1, byte(n)}
		w.node.segments[ifi.Index] = seg
		w.interfaces = append(w.interfaces, ifi)
		w.stations[name] = newStation(t, far, "10.77.0.1", "fd77::1", seg.attach(far, nil))
	}
	return w
}

func suitable(name string, index int) placement.Interface {
	return placement.Interface{
		Name: name, Index: index, MAC: placement.MAC{2, 0, 0, 0, 0, byte(index)},
		Up: true, Carrier: true, Ether: true,
	}
}

func (w *fakeWorld) Announcer() announce.Announcer { return New(Config{Network: w.node}) }

func (w *fakeWorld) Interfaces() []placement.Interface { return slices.Clone(w.interfaces) }

func (w *fakeWorld) Break(name string) { w.node.set(w.index(name), true) }

func (w *fakeWorld) Repair(name string) { w.node.set(w.index(name), false) }

func (w *fakeWorld) index(name string) int {
	i := slices.IndexFunc(w.interfaces, func(i placement.Interface) bool { return i.Name == name })
	return w.interfaces[i].Index
}
