package layer2

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lanyard-lb/lanyard/internal/announce"
	"github.com/lanyard-lb/lanyard/internal/netnstest"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// These tests ask the kernel of a neighbouring client what it makes of us.

const (
	clientV4, clientV6 = "10.77.0.2/24", "fd77::2/64"
	reachable          = 5 * time.Second
)

func poll(cond func() bool) bool {
	for end := time.Now().Add(reachable); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if cond() {
			return true
		}
	}
	return cond()
}

// lan is a client and nodes on one switch. Each has an interface eth0.
type lan struct {
	t      *testing.T
	client *netnstest.NS
	nodes  []*netnstest.NS
}

func newLAN(t *testing.T, nodes int) *lan {
	l := &lan{t: t, client: netnstest.New(t)}
	wire := netnstest.New(t)
	plug := func(ns *netnstest.NS, port string) string {
		netnstest.Veth(t, ns, "eth0", wire, port)
		return port
	}
	ports := []string{plug(l.client, "client")}
	for i := range nodes {
		l.nodes = append(l.nodes, netnstest.New(t))
		ports = append(ports, plug(l.nodes[i], fmt.Sprint("node", i)))
	}
	wire.Bridge(t, "switch", ports...)
	l.client.AddAddr(t, "eth0", clientV4)
	l.client.AddAddr(t, "eth0", clientV6)
	return l
}

// announcer runs on a node until the test ends, holding ips on eth0.
func (l *lan) announcer(node int, ips ...netip.Addr) inside {
	l.t.Helper()
	return l.announcerWith(node, Config{}, ips...)
}

func (l *lan) announcerWith(node int, cfg Config, ips ...netip.Addr) inside {
	l.t.Helper()
	runs := New(cfg)
	a := inside{l.t, l.nodes[node], runs}
	check(l.t, a.Set(l.want(node, ips...)))
	ctx, cancel := context.WithCancel(l.t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	l.t.Cleanup(func() { cancel(); check(l.t, <-done) })
	if !poll(func() bool { runs.mu.Lock(); defer runs.mu.Unlock(); return runs.running != nil }) {
		l.t.Fatal("announcer does not run")
	}
	return a
}

func (l *lan) want(node int, ips ...netip.Addr) announce.Want {
	w := announce.Want{Interfaces: []placement.Interface{describe(l.t, l.nodes[node], "eth0")}}
	for _, ip := range ips {
		w.Announcements = append(w.Announcements, &placement.Announcement{IP: ip, Interfaces: []string{"eth0"}})
	}
	return w
}

func (l *lan) mac(node int) string { return describe(l.t, l.nodes[node], "eth0").MAC.String() }

// contact makes the client's kernel want to send to ip, whose place it must find out first.
func (l *lan) contact(ip netip.Addr) {
	l.client.Do(l.t, func() {
		link, err := netlink.LinkByName("eth0")
		check(l.t, err)
		_ = netlink.NeighDel(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: ip.AsSlice()})
		conn, err := net.Dial("udp", netip.AddrPortFrom(ip, 9).String())
		check(l.t, err)
		_, _ = conn.Write([]byte("hello"))
		_ = conn.Close()
	})
}

// resolved fails unless the client's kernel finds ip at the node.
func (l *lan) resolved(ip netip.Addr, node int, states int) {
	l.t.Helper()
	var state int
	var mac net.HardwareAddr
	if !poll(func() bool {
		if state, mac = l.client.Neigh(l.t, "eth0", ip.String()); state&states == 0 {
			l.contact(ip)
		}
		return state&states != 0 && mac.String() == l.mac(node)
	}) {
		l.t.Errorf("client has %s at %s in state %#x, want %s in %#x", ip, mac, state, l.mac(node), states)
	}
}

func TestTheKernelOfANeighbourResolvesUs(t *testing.T) {
	for _, ip := range []netip.Addr{vip4, vip6} {
		t.Run(FamilyOf(ip).String(), func(t *testing.T) {
			l := newLAN(t, 1)
			l.announcer(0, ip)
			l.resolved(ip, 0, netlink.NUD_REACHABLE)

			// A client that doubts its entry asks us alone, by unicast, and is content with the answer.
			l.setNeigh(ip, netlink.NUD_PROBE, l.mac(0))
			if !poll(func() bool { s, _ := l.client.Neigh(t, "eth0", ip.String()); return s == netlink.NUD_REACHABLE }) {
				state, mac := l.client.Neigh(t, "eth0", ip.String())
				t.Errorf("after probing, client has %s at %s in state %#x", ip, mac, state)
			}
		})
	}
}

// setNeigh overwrites an entry of the client's neighbour table.
func (l *lan) setNeigh(ip netip.Addr, state int, mac string) {
	l.t.Helper()
	l.client.Do(l.t, func() {
		hw, err := net.ParseMAC(mac)
		check(l.t, err)
		link, err := netlink.LinkByName("eth0")
		check(l.t, err)
		check(l.t, netlink.NeighSet(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, IP: ip.AsSlice(), State: state, HardwareAddr: hw,
		}))
	})
}

func TestATakeoverMovesTheClient(t *testing.T) {
	for _, ip := range []netip.Addr{vip4, vip6} {
		t.Run(FamilyOf(ip).String(), func(t *testing.T) {
			l := newLAN(t, 2)
			from, to := l.announcer(0, ip), l.announcer(1)
			l.resolved(ip, 0, netlink.NUD_REACHABLE)
			check(t, to.Set(l.want(1, ip)))
			check(t, from.Set(l.want(0)))
			// Without contact: it is our unsolicited announcement that moves the entry.
			if !poll(func() bool { _, mac := l.client.Neigh(t, "eth0", ip.String()); return mac.String() == l.mac(1) }) {
				_, mac := l.client.Neigh(t, "eth0", ip.String())
				t.Errorf("client has %s at %s, want %s", ip, mac, l.mac(1))
			}
		})
	}
}

func TestAHostThatTakesOurIPv6AddressIsTold(t *testing.T) {
	l := newLAN(t, 1)
	l.announcer(0, vip6)
	l.resolved(vip6, 0, netlink.NUD_REACHABLE)
	l.client.Sysctl(t, "net/ipv6/conf/eth0/accept_dad", "1")
	l.client.AddAddr(t, "eth0", vip6.String()+"/64")
	failed := func() (is bool) {
		l.client.Do(t, func() {
			link, err := netlink.LinkByName("eth0")
			check(t, err)
			addrs, err := netlink.AddrList(link, netlink.FAMILY_V6)
			check(t, err)
			for _, a := range addrs {
				is = is || a.IP.Equal(vip6.AsSlice()) && a.Flags&unix.IFA_F_DADFAILED != 0
			}
		})
		return is
	}
	if !poll(failed) {
		t.Error("duplicate address detection did not fail")
	}
}

func TestSolicitedNodeGroupsAreReallyJoined(t *testing.T) {
	const group = "ff0200000000000000000001ff0ab00c"
	l := newLAN(t, 1)
	node := l.nodes[0]
	a := l.announcer(0, vip6)
	joined := func() bool { return strings.Contains(node.Proc(t, "igmp6"), group) }
	if !poll(joined) {
		t.Fatalf("group not joined:\n%s", node.Proc(t, "igmp6"))
	}
	if !strings.Contains(node.Proc(t, "dev_mcast"), "3333ff0ab00c") {
		t.Error("the NIC does not let the group in")
	}
	check(t, a.Set(l.want(0, vip4)))
	if joined() {
		t.Error("group still joined after the address was withdrawn")
	}
	if udp := node.Proc(t, "udp6"); strings.Count(udp, "\n") > 1 {
		t.Errorf("a UDP port is open:\n%s", udp)
	}
}

func TestNoCapabilityButNetRawIsNeeded(t *testing.T) {
	l := newLAN(t, 1)
	a := New(Config{})
	check(t, a.Set(l.want(0, vip4, vip6)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go l.nodes[0].Do(t, func() {
		// Of this thread only, which opens the sockets and ends with Run.
		const raw = 1 << unix.CAP_NET_RAW
		sets := [2]unix.CapUserData{{Effective: raw, Permitted: raw}}
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &sets[0]); err != nil {
			t.Errorf("drop capabilities: %v", err)
		}
		done <- a.Run(ctx)
	})
	l.resolved(vip4, 0, netlink.NUD_REACHABLE)
	l.resolved(vip6, 0, netlink.NUD_REACHABLE)
	if !strings.Contains(l.nodes[0].Proc(t, "igmp6"), "01ff0ab00c") {
		t.Error("solicited-node group not joined")
	}
	cancel()
	check(t, <-done)
}

func TestAnsweringAgainAfterTheLinkWasDown(t *testing.T) {
	l := newLAN(t, 1)
	node := l.nodes[0]
	a := l.announcer(0, vip4, vip6)
	l.resolved(vip4, 0, netlink.NUD_REACHABLE)
	l.resolved(vip6, 0, netlink.NUD_REACHABLE)
	for _, told := range []bool{true, false} {
		node.Down(t, "eth0")
		if told {
			w := l.want(0, vip4, vip6)
			w.Interfaces[0].Up = false
			check(t, a.Set(w))
		}
		l.client.Down(t, "eth0") // forgets its neighbours
		node.Up(t, "eth0")
		l.client.Up(t, "eth0")
		l.client.AddAddr(t, "eth0", clientV6) // went with the link
		if told {
			check(t, a.Set(l.want(0, vip4, vip6)))
		}
		l.resolved(vip4, 0, netlink.NUD_REACHABLE)
		l.resolved(vip6, 0, netlink.NUD_REACHABLE)
		if !strings.Contains(node.Proc(t, "igmp6"), "01ff0ab00c") {
			t.Error("solicited-node group not joined")
		}
	}
}

func TestANewMACIsAnnounced(t *testing.T) {
	l := newLAN(t, 1)
	a := l.announcer(0, vip4, vip6)
	l.resolved(vip4, 0, netlink.NUD_REACHABLE)
	l.resolved(vip6, 0, netlink.NUD_REACHABLE)
	l.nodes[0].SetMAC(t, "eth0", "02:5e:00:00:00:99")
	check(t, a.Set(l.want(0, vip4, vip6)))
	for _, ip := range []netip.Addr{vip4, vip6} {
		if !poll(func() bool {
			_, mac := l.client.Neigh(t, "eth0", ip.String())
			return mac.String() == "02:5e:00:00:00:99"
		}) {
			t.Errorf("client did not learn the new MAC address of %s", ip)
		}
	}
}

func TestThousandsOfIPv6AddressesOnOneNIC(t *testing.T) {
	const count = 3000
	l := newLAN(t, 1)
	ips := make([]netip.Addr, count)
	for i := range ips {
		ips[i] = netip.MustParseAddr(fmt.Sprintf("fd77::b:%x", i))
	}
	a := l.announcer(0)
	started := time.Now()
	check(t, a.Set(l.want(0, ips...)))
	t.Logf("set %d addresses in %v", count, time.Since(started))

	client := listenAt(t, l.client, "eth0")
	if !poll(func() bool { return strings.Count(l.nodes[0].Proc(t, "igmp6"), "01ff0b") == count }) {
		t.Errorf("%d groups joined, want %d", strings.Count(l.nodes[0].Proc(t, "igmp6"), "01ff0b"), count)
	}
	missing := func() (list []netip.Addr) {
		client.mu.Lock()
		defer client.mu.Unlock()
		for _, ip := range ips {
			if !client.solicited[ip] {
				list = append(list, ip)
			}
		}
		return list
	}
	if !poll(func() bool {
		list := missing()
		for _, ip := range list[:min(len(list), 100)] {
			client.send(t, client.request(t, ip, placement.MAC{}))
		}
		return len(list) == 0
	}) {
		t.Errorf("%d addresses are not answered, first %s", len(missing()), missing()[0])
	}
}

// The socket must be woken for what asks or tells of addresses on its own interface only.
func TestTheFilterLetsOnlyNeighboursIn(t *testing.T) {
	w := newVethWorld(t)
	ifi, far := w.interfaces[0], w.stations["eth0"]
	w.node.Add(t, &netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{Name: "mac0", ParentIndex: ifi.Index}, Mode: netlink.MACVLAN_MODE_BRIDGE})
	w.node.Up(t, "mac0")
	onTop := describe(t, w.node, "mac0").MAC
	w.node.Do(t, func() {
		link, err := netlink.LinkByName("eth0")
		check(t, err)
		check(t, netlink.SetPromiscOn(link))
	})
	for _, f := range families {
		var ip = map[Family]netip.Addr{IPv4: vip4, IPv6: vip6}[f]
		last := far.request(t, ip, ifi.MAC)
		nearby := vip4.As4()
		for _, c := range []struct {
			name  string
			frame []byte
			in    bool
		}{
			{"to all", far.request(t, ip, placement.MAC{}), true},
			{"to us", patched(last, 6, 2, 1, 1, 1, 1, 1), true},
			{"to another, seen in promiscuous mode", far.request(t, ip, third), false},
			{"to an interface on top of ours", far.request(t, ip, onTop), false},
			{"ARP reply", arpGratuitousReply(nil, far.mac, vip4), f == IPv4},
			{"reverse ARP", patched(arpGratuitousReply(nil, far.mac, vip4), etherLen+6, 0, 3), false},
			{"neighbour advertisement", ndpUnsolicited(nil, far.mac, vip6), f == IPv6},
			{"router solicitation", patched(ndpUnsolicited(nil, far.mac, vip6), icmpStart, 133), false},
			{"redirect", patched(ndpUnsolicited(nil, far.mac, vip6), icmpStart, 137), false},
			{"of another code", patched(ndpUnsolicited(nil, far.mac, vip6), icmpStart+1, 1), false},
			{"for an address far from ours", far.request(t, distant(ip), placement.MAC{}), false},
			{"claim to an address far from ours", far.claim(t, distant(ip)), false},
			{"request of a host that has an address near ours", patched(far.request(t, distant(ip), placement.MAC{}), arpSenderIP, nearby[:]...), f == IPv4},
		} {
			var conn Conn
			w.node.Do(t, func() {
				var err error
				conn, err = kernel{}.Listen(ifi, f)
				check(t, err)
			})
			check(t, conn.Narrow([]Span{{0, 9}, {tail(ip) - 1, tail(ip)}, {tail(ip) + 1000, tail(ip) + 1001}}))
			far.send(t, c.frame)
			far.send(t, last) // is let in, and ends the wait
			let := make(chan string, 2)
			done := make(chan error)
			go func() { done <- conn.Serve(func(frame []byte) { let <- string(frame) }) }()
			if in := <-let == string(c.frame); in != c.in {
				t.Errorf("%s: %s: let in: %v, want %v", f, c.name, in, c.in)
			}
			check(t, conn.Close())
			if err := <-done; !errors.Is(err, net.ErrClosed) {
				t.Errorf("ends with %v", err)
			}
		}
	}
}

// distant is an address of the same family that lies between the spans of the filter's test.
func distant(ip netip.Addr) netip.Addr {
	b := ip.As16()
	binary.BigEndian.PutUint32(b[12:], tail(ip)+500)
	return netip.AddrFrom16(b).Unmap()
}

// A socket that always has a frame waiting is closed as promptly as any.
func TestClosingInTheMiddleOfAFlood(t *testing.T) {
	w := newVethWorld(t)
	far := w.stations["eth0"]
	for _, f := range families {
		var conn Conn
		w.node.Do(t, func() {
			var err error
			conn, err = kernel{}.Listen(w.interfaces[0], f)
			check(t, err)
		})
		request := far.request(t, map[Family]netip.Addr{IPv4: vip4, IPv6: vip6}[f], placement.MAC{})
		flooded, done := make(chan struct{}), make(chan error)
		n := 0
		go func() {
			done <- conn.Serve(func([]byte) {
				for range 4 { // so that the socket never runs dry
					far.send(t, request)
				}
				if n++; n == 1000 {
					close(flooded)
				}
			})
		}()
		far.send(t, request)
		<-flooded
		check(t, conn.Close())
		select {
		case err := <-done:
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: ends with %v", f, err)
			}
		case <-time.After(reachable):
			t.Fatalf("%s: still serves after %v", f, reachable)
		}
	}
}

// probing is want with the addresses probed in some way, in a round.
func (l *lan) probing(p placement.Probe, round uint64, ips ...netip.Addr) announce.Want {
	w := l.want(0, ips...)
	for i := range w.Announcements {
		w.Announcements[i].Probe, w.Announcements[i].Round = p, round
	}
	return w
}

// stands fails unless the only address of an announcer comes to stand as wanted, but for times.
func stands(t *testing.T, a announce.Announcer, want announce.Standing) {
	t.Helper()
	var got announce.Standing
	if !poll(func() bool {
		got = *a.Standings()[0]
		got.RivalAt, got.PeerAt = time.Time{}, time.Time{}
		return got == want
	}) {
		t.Errorf("stands as %+v\nwant %+v", got, want)
	}
}

func subnet(ip netip.Addr) string {
	if ip.Is4() {
		return ip.String() + "/24"
	}
	return ip.String() + "/64"
}

func TestAnAddressThatAKernelHoldsIsTakenUntilItLetsGo(t *testing.T) {
	for _, ip := range []netip.Addr{vip4, vip6} {
		t.Run(FamilyOf(ip).String(), func(t *testing.T) {
			l := newLAN(t, 1)
			l.client.AddAddr(t, "eth0", subnet(ip))
			holder := describe(t, l.client, "eth0").MAC
			a := l.announcer(0)
			check(t, a.Set(l.probing(placement.ProbeFirst, 1, ip)))
			stands(t, a, announce.Standing{IP: ip, Phase: placement.Taken, Rival: holder, RivalOn: "eth0"})
			check(t, a.Set(l.probing(placement.ProbeOnly, 2, ip)))
			stands(t, a, announce.Standing{IP: ip, Phase: placement.Taken, Rival: holder, RivalOn: "eth0"})

			l.client.DelAddr(t, "eth0", subnet(ip))
			check(t, a.Set(l.probing(placement.ProbeOnly, 3, ip)))
			stands(t, a, announce.Standing{IP: ip, Phase: placement.Free})
			check(t, a.Set(l.probing(placement.ProbeFirst, 4, ip)))
			stands(t, a, announce.Standing{IP: ip, Phase: placement.Announcing})
			l.resolved(ip, 0, netlink.NUD_REACHABLE)
		})
	}
}

func TestAStrangerThatTakesOurAddressIsToldOnce(t *testing.T) {
	for _, ip := range []netip.Addr{vip4, vip6} {
		t.Run(FamilyOf(ip).String(), func(t *testing.T) {
			l := newLAN(t, 2)
			var n counter
			a := l.announcerWith(0, Config{Metrics: &n}, ip)
			stands(t, a, announce.Standing{IP: ip, Phase: placement.Announcing})
			watcher := listenAt(t, l.client, "eth0")

			// A kernel that is told to tells of its addresses when its MAC address changes.
			stranger := l.nodes[1]
			stranger.Sysctl(t, "net/ipv4/conf/eth0/arp_notify", "1")
			stranger.Sysctl(t, "net/ipv6/conf/eth0/ndisc_notify", "1")
			stranger.AddAddr(t, "eth0", subnet(ip))
			rival := placement.MAC{0x02, 0x5e, 0, 0, 0, 0x77}
			for range 2 {
				rival[5]++
				stranger.SetMAC(t, "eth0", rival.String())
				stands(t, a, announce.Standing{IP: ip, Phase: placement.Announcing, Rival: rival, RivalOn: "eth0"})
			}
			if sums := n.now(); sums.defended != 1 || sums.strangers < 2 || sums.peers > 0 {
				t.Errorf("counted %+v, want one defence", sums)
			}
			defence := FamilyOf(ip).protocol().unsolicited[0](nil, describe(t, l.nodes[0], "eth0").MAC, ip)
			if !poll(func() bool { return len(watcher.seen(defence, time.Now())) > 0 }) {
				t.Error("the client has heard no defence")
			}
			w := l.want(0, ip)
			w.Peers = map[placement.MAC]bool{{0x02, 0x5e, 0, 0, 0, 0x80}: true}
			w.Announcements[0].Round = 1
			check(t, a.Set(w))
			stranger.SetMAC(t, "eth0", "02:5e:00:00:00:80")
			stands(t, a, announce.Standing{IP: ip, Phase: placement.Announcing, Peer: placement.MAC{0x02, 0x5e, 0, 0, 0, 0x80}})
		})
	}
}

// Two announcers that probe for the same address at the same time, and do not know each other, never both
// get it.
func TestTwoWhoProbeAtOnce(t *testing.T) {
	for _, ip := range []netip.Addr{vip4, vip6} {
		t.Run(FamilyOf(ip).String(), func(t *testing.T) {
			l := newLAN(t, 2)
			a, b := l.announcer(0), l.announcer(1)
			first, second := l.want(0, ip), l.want(1, ip)
			first.Announcements[0].Probe, second.Announcements[0].Probe = placement.ProbeFirst, placement.ProbeFirst
			check(t, a.Set(first))
			check(t, b.Set(second))
			var phases [2]placement.Phase
			if !poll(func() bool {
				phases = [2]placement.Phase{a.Standings()[0].Phase, b.Standings()[0].Phase}
				return phases[0] > placement.Probing && phases[1] > placement.Probing
			}) || phases[0] == phases[1] && phases[0] == placement.Announcing {
				t.Errorf("one is %s, the other %s", phases[0], phases[1])
			}
		})
	}
}
