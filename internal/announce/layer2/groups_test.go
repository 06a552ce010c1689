package layer2

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// newFakeGroups are the groups of a fake NIC with so much room in each socket.
func newFakeGroups(t *testing.T, room int) (*groups, *segment) {
	seg := newSegment(t)
	node := &fakeNode{segments: map[int]*segment{2: seg}, room: room}
	return newGroups(func() (Member, error) { return node.Member(suitable("eth0", 2)) }), seg
}

func TestAddressesShareAGroup(t *testing.T) {
	g, seg := newFakeGroups(t, 10)
	a, b := netip.MustParseAddr("fd77::1:2:3"), netip.MustParseAddr("fd88::1:2:3")
	const joined = "02:00:00:00:00:02 is member of ff02::1:ff02:3\n"
	for _, step := range []struct {
		do   func(netip.Addr)
		ip   netip.Addr
		want string
	}{
		{g.add, a, joined}, {g.add, b, joined}, {g.remove, a, joined}, {g.remove, b, ""}, {g.add, a, joined},
	} {
		step.do(step.ip)
		check(t, g.sync())
		if got := seg.String(); got != step.want {
			t.Errorf("memberships:\n%swant:\n%s", got, step.want)
		}
	}
	g.close()
	if got := seg.String(); got != "" {
		t.Errorf("left after close:\n%s", got)
	}
}

// Whatever is added and removed, the memberships are those of the addresses, in no more sockets than can
// be needed.
func TestGroupsFollowAddressesAtRandom(t *testing.T) {
	const room = 3
	random := rand.New(rand.NewPCG(1, 2))
	g, seg := newFakeGroups(t, room)
	held := make(map[netip.Addr]bool)
	for range 300 {
		for range 1 + random.IntN(8) {
			ip := netip.MustParseAddr(fmt.Sprintf("fd77::%x:0:%x", random.IntN(2), random.IntN(20)))
			if held[ip] {
				g.remove(ip)
			} else {
				g.add(ip)
			}
			held[ip] = !held[ip]
		}
		check(t, g.sync())
		want := make(map[netip.Addr]int)
		for ip, is := range held {
			if is {
				want[solicitedGroup(ip)] = 1
			}
		}
		got := seg.joins[suitable("eth0", 2).MAC]
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("member of\n%v, want\n%v", got, want)
		}
		if len(g.sockets) > (20+room-1)/room+1 {
			t.Fatalf("%d sockets for %d groups", len(g.sockets), len(want))
		}
	}
}

func TestGroupsThatFailAreTriedAgain(t *testing.T) {
	fail := true
	g, seg := newFakeGroups(t, 10)
	open := g.open
	g.open = func() (Member, error) {
		if fail {
			return nil, errBroken
		}
		return open()
	}
	g.add(netip.MustParseAddr("fd77::1"))
	g.add(netip.MustParseAddr("fd77::2"))
	if err := g.sync(); !errors.Is(err, errBroken) {
		t.Errorf("sync: %v, want %v", err, errBroken)
	}
	g.remove(netip.MustParseAddr("fd77::2"))
	fail = false
	check(t, g.sync())
	if got, want := seg.String(), "02:00:00:00:00:02 is member of ff02::1:ff00:1\n"; got != want {
		t.Errorf("memberships:\n%swant:\n%s", got, want)
	}
}
