package speaker

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

func TestLinked(t *testing.T) {
	pooled, gossips := linkOf("n1", true)[1].Subnets[:1], linkOf("n1", true)[1].Subnets[1:]
	eth0 := func(change func(*placement.Interface)) placement.Interface {
		i := linkOf("n1", true)[1]
		change(&i)
		return i
	}
	off := func(i *placement.Interface) { i.Carrier = false }
	bridge := linkOf("n1", true)[0]
	for name, tc := range map[string]struct {
		interfaces []placement.Interface
		want       bool
	}{
		"plugged in":                    {linkOf("n1", true), true},
		"a bridge for pods alone":       {linkOf("n1", false), false},
		"down":                          {[]placement.Interface{bridge, eth0(func(i *placement.Interface) { i.Up = false })}, false},
		"gossip by what is no Ethernet": {[]placement.Interface{eth0(func(i *placement.Interface) { i.Ether = false })}, true},
		"gossip elsewhere, the LAN off": {[]placement.Interface{bridge, eth0(func(i *placement.Interface) { off(i); i.Subnets = pooled })}, false},
		"gossip elsewhere, the LAN on":  {[]placement.Interface{bridge, eth0(func(i *placement.Interface) { i.Subnets = pooled })}, true},
		"gossip's is off, the LAN on":   {[]placement.Interface{eth0(func(i *placement.Interface) { off(i); i.Subnets = gossips }), eth0(func(i *placement.Interface) { i.Subnets = pooled })}, true},
		"the LAN's is off, gossip's on": {[]placement.Interface{eth0(func(i *placement.Interface) { off(i); i.Subnets = pooled }), eth0(func(i *placement.Interface) { i.Subnets = gossips })}, true},
		"no subnet tells":               {[]placement.Interface{eth0(func(i *placement.Interface) { i.Subnets = []netip.Prefix{netip.MustParsePrefix("192.168.1.5/24")} })}, true},
		"no subnet tells, all is off":   {[]placement.Interface{eth0(func(i *placement.Interface) { off(i); i.Subnets = nil })}, false},
		"a pool is part of the subnet":  {[]placement.Interface{bridge, eth0(func(i *placement.Interface) { off(i); i.Subnets = []netip.Prefix{netip.MustParsePrefix("10.0.0.5/16")} })}, false},
		"another's address is not its":  {[]placement.Interface{bridge, eth0(func(i *placement.Interface) { off(i); i.Subnets = linkOf("n2", true)[1].Subnets[1:] })}, true},
	} {
		k := cluster(0, "n1", "n2").facts()
		s := &Speaker{Config: Config{Node: "n1"}, observed: &k, interfaces: tc.interfaces}
		for range 2 {
			if got := s.linked(); got != tc.want {
				t.Errorf("%s: %v", name, got)
			}
		}
		s.observed = nil
		if got := s.linked(); got != (tc.interfaces[0].Suitable() || len(tc.interfaces) > 1 && tc.interfaces[1].Suitable()) {
			t.Errorf("%s, and nothing is known of the cluster: %v", name, got)
		}
	}
}

// TestBackOnTheLAN: who is back takes nothing from those that it sees, or hears of, only later.
func TestBackOnTheLAN(t *testing.T) {
	for _, tc := range []struct {
		name  string
		early time.Duration // so long before it loses the LAN it misses the others
		first []string      // whom it sees at once
		told  bool          // n3 has told of itself by then
	}{
		{"alone", 0, []string{"n1"}, true},
		{"one of them", 0, []string{"n1", "n2"}, true},
		{"both", 0, []string{"n1", "n2", "n3"}, false},
		{"alone, as just before", 3 * time.Second, []string{"n1"}, true},
	} {
		for fifths := range 7 {
			late := time.Duration(fifths) * settlingBack / 5
			t.Run(fmt.Sprint(tc.name, " for ", late), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { backOnTheLAN(t, tc.early, tc.first, tc.told, late) })
			})
		}
	}
}

func backOnTheLAN(t *testing.T, early time.Duration, first []string, told bool, late time.Duration) {
	t.Helper()
	l := newLAN()
	speakers := map[string]*Speaker{}
	all := []string{"n1", "n2", "n3"}
	for _, node := range all {
		s, stop := l.start(t, node)
		defer stop()
		s.Observe(cluster(12, all...).observed())
		speakers[node] = s
	}
	l.alive(all...)
	time.Sleep(5 * time.Second)
	l.sees("n1", "n1")
	l.sees("n2", "n2", "n3")
	l.sees("n3", "n2", "n3")
	time.Sleep(early)
	speakers["n1"].setInterfaces(linkOf("n1", false))
	time.Sleep(5 * time.Second)
	before := l.String()
	if before == "" || strings.Contains(before, "n1") {
		t.Fatalf("while n1 has no LAN: %q", before)
	}
	l.hides("n1", "n3", !told)
	l.sees("n1", first...)
	speakers["n1"].setInterfaces(linkOf("n1", true))
	for waited := time.Duration(0); waited < late; waited += settlingBack / 30 {
		time.Sleep(settlingBack / 30)
		if now := l.String(); now != before && waited < settlingBack-settlingBack/15 {
			t.Fatalf("after %v:\n%s, was\n%s", waited, now, before)
		}
	}
	l.hides("n1", "n3", false)
	l.alive(all...)
	time.Sleep(5 * time.Second)
	if now := l.String(); now != before {
		t.Errorf("in the end:\n%s, was\n%s", now, before)
	}
}

// TestBackWithoutTheDead: who is back does not wait for one that was not there before, though the API server lists it.
func TestBackWithoutTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		speakers := map[string]*Speaker{}
		for _, node := range []string{"n1", "n2"} {
			s, stop := l.start(t, node)
			defer stop()
			s.Observe(cluster(4, "n1", "n2", "dead").observed())
			speakers[node] = s
		}
		l.alive("n1", "n2")
		time.Sleep(5 * time.Second)
		before := l.String()
		for node, s := range speakers {
			s.setInterfaces(linkOf(node, false))
			l.sees(node, node)
		}
		time.Sleep(5 * time.Second)
		if now := l.String(); now != "" || before == "" {
			t.Fatalf("without LAN: %q, before %q", now, before)
		}
		l.alive("n1", "n2")
		for node, s := range speakers {
			s.setInterfaces(linkOf(node, true))
		}
		synctest.Wait()
		if now := l.String(); now != before {
			t.Errorf("back: %q, before %q", now, before)
		}
	})
}

// announcesAfter checks that nothing is announced until a time is over.
func (l *lan) announcesAfter(t *testing.T, d time.Duration, want string) {
	t.Helper()
	time.Sleep(d - time.Nanosecond)
	synctest.Wait()
	if now := l.String(); now != "" {
		t.Errorf("too soon: %q", now)
	}
	time.Sleep(time.Nanosecond)
	synctest.Wait()
	if now := l.String(); now != want {
		t.Errorf("after %v: %q, want %q", d, now, want)
	}
}

// TestBackAlone: who is back, and whose peers have died, announces what they had.
func TestBackAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		s, stop := l.start(t, "n1")
		defer stop()
		s.Observe(cluster(1, "n1", "n2").observed())
		l.alive("n1", "n2")
		l.mu.Lock()
		l.reports["n2"] = placement.Report{}
		l.mu.Unlock()
		time.Sleep(5 * time.Second)
		s.setInterfaces(linkOf("n1", false))
		l.sees("n1", "n1")
		time.Sleep(5 * time.Second)
		s.setInterfaces(linkOf("n1", true))
		l.announcesAfter(t, settlingBack, "10.0.0.0 n1")
	})
}

// TestStartsBeforeTheLAN: who has had no LAN yet does not wait as long as who comes back to it.
func TestStartsBeforeTheLAN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		s, stop := l.start(t, "n1")
		defer stop()
		synctest.Wait()
		s.setInterfaces(linkOf("n1", false))
		s.Observe(cluster(1, "n1", "dead").observed())
		time.Sleep(time.Minute)
		s.setInterfaces(linkOf("n1", true))
		l.announcesAfter(t, settling, "10.0.0.0 n1")
	})
}

// TestLeavesWhileItWaits: who is back, and to leave before it has heard from its peers, has nothing to wait for.
func TestLeavesWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		s, stop := l.start(t, "n1")
		s.Observe(cluster(2, "n1", "n2").observed())
		n2, stop2 := l.start(t, "n2")
		defer stop2()
		n2.Observe(cluster(2, "n1", "n2").observed())
		l.alive("n1", "n2")
		time.Sleep(5 * time.Second)
		s.setInterfaces(linkOf("n1", false))
		l.sees("n1", "n1")
		l.sees("n2", "n2")
		time.Sleep(5 * time.Second)
		s.setInterfaces(linkOf("n1", true))
		time.Sleep(settlingBack / 2)
		began := time.Now()
		stop()
		if took := time.Since(began); took >= parting {
			t.Errorf("it took %v", took)
		}
		if now := l.String(); now != "10.0.0.0 n2, 10.0.0.1 n2" {
			t.Errorf("afterwards: %q", now)
		}
	})
}
