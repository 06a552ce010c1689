package lab_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// TestNetwork runs the stories that need only hosts on a LAN.
func TestNetwork(t *testing.T) {
	t.Parallel()
	l := lab.New(t, lab.Options{Nodes: 2, Clients: 2, NoCluster: true})
	bothFamilies(t, l, "n1", func(t *testing.T, ip netip.Addr) {
		t.Run("eyes", func(t *testing.T) { testEyes(t, l, ip) })
		t.Run("unplug", func(t *testing.T) { testUnplug(t, l, ip) })
		t.Run("parted gossip", func(t *testing.T) { testPartedGossip(t, l, ip) })
		t.Run("switch faults", func(t *testing.T) { testSwitchFaults(t, l, ip) })
	})
	t.Run("two owners", func(t *testing.T) { testTwoOwners(t, l) })
	t.Run("strangers", func(t *testing.T) { testStrangers(t, l) })
	t.Run("a careful stranger", func(t *testing.T) { testCarefulStranger(t, l) })
	flooded(t, l, true)
	t.Run("MAC changes", func(t *testing.T) { testMAC(t, l) })
}

// serve echoes UDP on a host until the test ends, and ask tells whether an answer comes.
func serve(t *testing.T, l *lab.Lab, host string, at netip.AddrPort) {
	t.Helper()
	conn, err := l.Host(host).ListenPacket("udp", at.String())
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buffer := make([]byte, 100)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(buffer[:n], from)
		}
	}()
}

func ask(l *lab.Lab, host string, to netip.AddrPort) error {
	conn, err := l.Host(host).DialContext(context.Background(), "udp", to.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(200 * time.Millisecond))
	if _, err := conn.Write([]byte("x")); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 100))
	return err
}

// testEyes resolves an address by the client's kernel and finds the same in its table, on the wire, and by WhoHas.
func testEyes(t *testing.T, l *lab.Lab, ip netip.Addr) {
	mac, err := l.Host("n1").NIC("eth0").MAC()
	must(t, err)
	must(t, l.FlushNeighbours("c1"))
	if n, ok, err := l.Neighbour("c1", ip); err != nil || ok {
		t.Errorf("after the flush c1 still knows %v (%v)", n, err)
	}
	capture, err := l.Capture("c1", "eth0")
	must(t, err)
	defer capture.Stop()
	at := netip.AddrPortFrom(ip, 9)
	serve(t, l, "n1", at)
	eventually(t, 5*time.Second, func() error { return ask(l, "c1", at) })

	n, ok, err := l.Neighbour("c1", ip)
	if err != nil || !ok || n.MAC.String() != mac.String() || n.NIC != "eth0" {
		t.Errorf("c1 believes %+v (%t, %v), want %s", n, ok, err, mac)
	}
	reply, err := capture.Wait(within(t, 5*time.Second), func(f lab.Frame) bool {
		return f.Claims(ip) && (f.Kind == lab.ARPReply || f.Kind == lab.NeighborAdvertisement)
	})
	must(t, err)
	if reply.Claimant().String() != mac.String() || !reply.Outgoing || time.Since(reply.Time) > time.Minute || time.Since(reply.Time) < 0 {
		t.Errorf("captured %v, want a reply by %s towards c1", reply, mac)
	}
	_, err = capture.Wait(within(t, 5*time.Second), func(f lab.Frame) bool {
		return f.Kind == lab.UDP && f.DstPort == 9 && f.Target == ip && !f.Outgoing
	})
	must(t, err)

	answers, err := l.WhoHas("c2", ip, 200*time.Millisecond)
	must(t, err)
	if len(answers) != 1 || answers[0].MAC.String() != mac.String() || answers[0].Host != "n1" || answers[0].In <= 0 {
		t.Errorf("WhoHas %s: %v, want n1 alone", ip, answers)
	}
	if n, ok, err := l.Neighbour("c2", ip); err != nil || ok {
		t.Errorf("WhoHas left %v in c2's table (%v)", n, err)
	}
	nobody := netip.MustParseAddr("10.77.0.250")
	if answers, err := l.WhoHas("c2", nobody, 50*time.Millisecond); err != nil || len(answers) != 0 {
		t.Errorf("WhoHas %s: %v, %v; want none", nobody, answers, err)
	}
}

func testUnplug(t *testing.T, l *lab.Lab, ip netip.Addr) {
	at := netip.AddrPortFrom(ip, 10)
	serve(t, l, "n1", at)
	eventually(t, 5*time.Second, func() error { return ask(l, "c1", at) })
	must(t, l.Unplug("n1"))
	link, err := l.Host("n1").Netlink().LinkByName("eth0")
	must(t, err)
	if link.Attrs().RawFlags&0x10000 != 0 || link.Attrs().Flags&net.FlagUp == 0 { // IFF_LOWER_UP
		t.Errorf("unplugged NIC has flags %x, want up without carrier", link.Attrs().RawFlags)
	}
	if ask(l, "c1", at) == nil {
		t.Error("n1 answers though it is unplugged")
	}
	must(t, l.Plug("n1"))
	eventually(t, 5*time.Second, func() error { return ask(l, "c1", at) })
	must(t, l.Host("n1").NIC("eth0").SetDown())
	if ask(l, "c1", at) == nil {
		t.Error("n1 answers though its NIC is down")
	}
	must(t, l.Host("n1").NIC("eth0").SetUp())
	eventually(t, 5*time.Second, func() error { return ask(l, "c1", at) })
}

// testSwitchFaults checks for each fault what it stops, what it lets through, and that it ends.
func testSwitchFaults(t *testing.T, l *lab.Lab, ip netip.Addr) {
	at, other := netip.AddrPortFrom(ip, 11), netip.AddrPortFrom(ip, 12)
	serve(t, l, "n1", at)
	serve(t, l, "n1", other)
	reaches := func(from string, to netip.AddrPort) bool { return ask(l, from, to) == nil }
	for _, c := range []struct {
		name                      string
		set, end                  func() error
		client1, client2, another bool // what still works: c1, c2, and c1 to another port
	}{
		{"mute", func() error { return l.Mute("n1") }, func() error { return l.Unmute("n1") }, false, false, false},
		{"drop", func() error { return l.Drop("c1", "n1") }, func() error { return l.Undrop("c1", "n1") }, false, true, false},
		{"drop the way back", func() error { return l.Drop("n1", "c1") }, func() error { return l.Undrop("n1", "c1") }, false, true, false},
		{"part", func() error { return l.Part("n1", "c2") }, func() error { return l.Unpart("n1", "c2") }, true, false, true},
		{"lose all", func() error { return l.Lose("c1", "n1", 100) }, func() error { return l.Lose("c1", "n1", 0) }, false, true, false},
		{"block a port", func() error { return l.Block("c1", "n1", "udp", 11) }, func() error { return l.Unblock("c1", "n1", "udp", 11) }, false, true, true},
		{"heal", func() error { return l.Mute("c1") }, l.Heal, false, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, from := range []string{"c1", "c2"} {
				eventually(t, 5*time.Second, func() error { return ask(l, from, at) })
			}
			must(t, c.set())
			if got := []bool{reaches("c1", at), reaches("c2", at), reaches("c1", other)}; !slices.Equal(got, []bool{c.client1, c.client2, c.another}) {
				t.Errorf("c1, c2 and another port reach n1: %v, want %t %t %t", got, c.client1, c.client2, c.another)
			}
			must(t, c.end())
			eventually(t, 5*time.Second, func() error { return ask(l, "c1", at) })
		})
	}
	must(t, l.Lose("c1", "n1", 50))
	lost := 0
	for range 40 {
		if !reaches("c1", at) {
			lost++
		}
	}
	must(t, l.Heal())
	if lost < 6 || lost > 34 {
		t.Errorf("lost %d of 40 at 50 percent", lost)
	}
}

// testPartedGossip: two hosts reach each other, but not the port of gossip; others do.
func testPartedGossip(t *testing.T, l *lab.Lab, ip netip.Addr) {
	gossip, other := netip.AddrPortFrom(ip, lab.GossipPort), netip.AddrPortFrom(ip, 12)
	serve(t, l, "n1", gossip)
	serve(t, l, "n1", other)
	reached := func() error { return ask(l, "c1", gossip) }
	eventually(t, 5*time.Second, reached)
	must(t, l.PartGossip("c1", "n1"))
	if reached() == nil {
		t.Error("c1 reaches the port of gossip on n1")
	}
	must(t, errors.Join(ask(l, "c1", other), ask(l, "c2", gossip)))
	must(t, l.UnpartGossip("c1", "n1"))
	eventually(t, 5*time.Second, reached)
}

// testTwoOwners puts one address on two hosts: both answers are seen.
func testTwoOwners(t *testing.T, l *lab.Lab) {
	for _, ip := range []string{"10.77.0.200/24", "fd77::200/64"} {
		shared := netip.MustParsePrefix(ip)
		for _, host := range []string{"n1", "n2"} {
			must(t, l.Host(host).NIC("eth0").AddAddr(shared))
		}
		answered(t, l, shared.Addr(), "n1", "n2")
		for _, host := range []string{"n1", "n2"} {
			must(t, l.Host(host).NIC("eth0").RemoveAddr(shared))
		}
	}
}

func testMAC(t *testing.T, l *lab.Lab) {
	mac := net.HardwareAddr{2, 1, 2, 3, 4, 5}
	must(t, l.Host("n2").NIC("eth0").SetMAC(mac))
	answers, err := l.WhoHas("c1", l.Host("n2").Addr4(), 200*time.Millisecond)
	must(t, err)
	if len(answers) != 1 || answers[0].MAC.String() != mac.String() || l.HostByMAC(mac) != "n2" {
		t.Errorf("after the change %v answer, HostByMAC says %q", answers, l.HostByMAC(mac))
	}
}

// flooded checks whether the switch passes a question to a multicast group on to hosts that are not in it.
func flooded(t *testing.T, l *lab.Lab, want bool) {
	t.Helper()
	capture, err := l.Capture("n1", "eth0")
	must(t, err)
	defer capture.Stop()
	mac, err := l.Host("c1").NIC("eth0").MAC()
	must(t, err)
	number := 0
	eventually(t, 20*time.Second, func() error {
		number++
		stranger := netip.MustParseAddr(fmt.Sprintf("fd77::aa:%x", number))
		if _, err := l.WhoHas("c1", stranger, 20*time.Millisecond); err != nil {
			return err
		}
		got := len(capture.Frames(func(f lab.Frame) bool {
			return f.Kind == lab.NeighborSolicitation && f.Target == stranger && f.Src.String() == mac.String()
		})) > 0
		if got != want {
			return fmt.Errorf("n1 got the question for %s: %t, want %t", stranger, got, want)
		}
		return nil
	})
}

// TestSegments builds two segments, with a host in one, in both, and twice in one, and adds a NIC late.
func TestSegments(t *testing.T) {
	t.Parallel()
	l := lab.New(t, lab.Options{Nodes: 2, Clients: 2, Segments: 2, NoCluster: true, MLDSnooping: true,
		Attach: map[string][]int{"c2": {1}, "n2": {0, 0}}})
	onSecond := netip.AddrPortFrom(lab.Addr6(1, 11), 9)
	serve(t, l, "n1", onSecond)
	eventually(t, 10*time.Second, func() error { return ask(l, "c2", onSecond) })
	if ask(l, "c1", onSecond) == nil {
		t.Error("c1 reaches the second segment, though it has no NIC there")
	}
	flooded(t, l, false)
	if nic := l.Host("n2").NIC("eth1"); nic.Segment != 0 || nic.Port != "n2.1" {
		t.Errorf("second NIC of n2: %+v", nic)
	}
	nic, err := l.Host("c1").AddNIC(1, lab.NICOptions{})
	must(t, err)
	if nic.Name != "eth1" {
		t.Errorf("late NIC is called %s", nic.Name)
	}
	eventually(t, 10*time.Second, func() error { return ask(l, "c1", onSecond) })
}
