package lab_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

var free = []netip.Addr{netip.MustParseAddr("10.77.0.240"), netip.MustParseAddr("fd77::240")}

// testStrangers: what a stranger does and says is seen on another port of the switch, and ends with it.
func testStrangers(t *testing.T, l *lab.Lab) {
	capture, err := l.Capture("n1", "eth0")
	must(t, err)
	defer capture.Stop()
	mac, err := l.Host("c1").NIC("eth0").MAC()
	must(t, err)
	must(t, l.Squat("c1", free...))
	for _, ip := range free {
		answered(t, l, ip, "c1")
		if claims := capture.Claims(ip); len(claims) > 0 {
			t.Errorf("a stranger that was only asked by another client was heard: %v", claims)
		}
		must(t, l.Proclaim("c1", ip))
		claim, err := capture.Wait(within(t, 5*time.Second), func(f lab.Frame) bool { return f.Claims(ip) })
		must(t, err)
		if claim.Claimant().String() != mac.String() || claim.Dst[0]&1 == 0 || (ip.Is6() && (!claim.Override || claim.Solicited || claim.HopLimit != 255)) {
			t.Errorf("the stranger's claim is %v", claim)
		}
		testQuestions(t, l, ip)
	}
	must(t, l.Unsquat("c1", free...))
	for _, ip := range free {
		answered(t, l, ip)
	}
}

// testQuestions: a kernel defends what it has against a probe, and answers a question that is put to it alone.
func testQuestions(t *testing.T, l *lab.Lab, ip netip.Addr) {
	t.Helper()
	capture, err := l.Capture("c1", "eth0")
	must(t, err)
	defer capture.Stop()
	answers := func(f lab.Frame) bool { return !f.Outgoing && f.Claims(ip) && f.Kind != lab.ARPRequest }
	must(t, l.ProbeFor("c2", ip))
	probe, err := capture.Wait(within(t, 5*time.Second), func(f lab.Frame) bool { return f.Outgoing && f.Target == ip && f.Sender.IsUnspecified() })
	must(t, err)
	if probe.Kind == lab.NeighborSolicitation && probe.SenderMAC != nil {
		t.Errorf("the probe has a source link-layer address: %v", probe)
	}
	_, err = capture.Wait(within(t, 5*time.Second), answers)
	must(t, err)

	mac, err := l.Host("c1").NIC("eth0").MAC()
	must(t, err)
	before := len(capture.Frames(answers))
	must(t, l.AskUnicast("c2", ip, mac))
	eventually(t, 5*time.Second, func() error { return more(capture, answers, before) })
}

// testCarefulStranger: a host that asks first takes what is free, and not what another host has.
func testCarefulStranger(t *testing.T, l *lab.Lab) {
	taken, err := l.TakeAskingFirst(within(t, 10*time.Second), "c2", free[1])
	must(t, err)
	if taken {
		t.Error("the kernel of c2 believes that a free address is taken")
	}
	must(t, l.Unsquat("c2", free[1]))
	must(t, l.Squat("c1", free[1]))
	taken, err = l.TakeAskingFirst(within(t, 10*time.Second), "c2", free[1])
	must(t, err)
	if !taken {
		t.Error("the kernel of c2 believes that the address of c1 is free")
	}
	must(t, l.Unsquat("c2", free[1]))
	must(t, l.Unsquat("c1", free[1]))
}

// answered waits until these hosts alone answer c2 for an address.
func answered(t *testing.T, l *lab.Lab, ip netip.Addr, want ...string) {
	t.Helper()
	eventually(t, 5*time.Second, func() error {
		answers, err := l.WhoHas("c2", ip, 200*time.Millisecond)
		must(t, err)
		var hosts []string
		for _, a := range answers {
			hosts = append(hosts, a.Host)
		}
		slices.Sort(hosts)
		if !slices.Equal(hosts, want) {
			return fmt.Errorf("%s is answered for by %v, want %v", ip, hosts, want)
		}
		return nil
	})
}

// more is an error unless a capture has more than so many frames of a kind.
func more(c *lab.Capture, filter func(lab.Frame) bool, than int) error {
	if n := len(c.Frames(filter)); n <= than {
		return fmt.Errorf("%d frames, want more than %d", n, than)
	}
	return nil
}
