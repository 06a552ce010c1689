package speaker

import (
	"net/netip"
	"testing"

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
