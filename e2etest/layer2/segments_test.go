package layer2

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// TestSegments has two LANs, of which n1 and n2 are in both and n3 is in the first only, with switches that pass multicast only
// to those who asked for it, as many real ones do: rows T9 and T24. Speakers gossip on the first. c1 and c3 are there, c2 is
// on the second.
func TestSegments(t *testing.T) {
	c := serve(t, lab.Options{Nodes: 3, Clients: 3, Segments: 2, MLDSnooping: true,
		Attach: map[string][]int{"n3": {0}, "c2": {1}, "c3": {1}}})
	c.RunWeb(t, "n3", "web-1")
	t.Run("the subnet decides", func(t *testing.T) { bySubnet(t, c) })
	t.Run("a subnet that no node has", func(t *testing.T) { foreignSubnet(t, c) })
	t.Run("subnets ignored", func(t *testing.T) { subnetsIgnored(t, c) })
	t.Run("interfaces by name", func(t *testing.T) { byInterface(t, c) })
	t.Run("carrier lost", func(t *testing.T) { carrierLost(t, c) })
	t.Run("an interface set down and up", func(t *testing.T) { flap(t, c) })
	t.Run("another MAC address", func(t *testing.T) { otherMAC(t, c) })
	t.Run("a late interface", func(t *testing.T) { lateInterface(t, c) })
}

// clientIn is a client in each segment.
var clientIn = []string{"c1", "c2"}

// on waits until one of the nodes, and nobody else, answers for an address in a segment, with the MAC address of its NIC there.
func (c *cluster) on(t *testing.T, segment int, nodes []string, ip netip.Addr) (node string) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		answers, err := c.WhoHas(clientIn[segment], ip, patience)
		if err != nil {
			return err
		}
		if len(answers) != 1 || !slices.Contains(nodes, answers[0].Host) {
			return fmt.Errorf("%s is answered in segment %d by %v, want one of %v", ip, segment, answers, nodes)
		}
		node = answers[0].Host
		return c.isNIC(node, segment, answers[0].MAC)
	})
	return node
}

func (c *cluster) isNIC(host string, segment int, mac net.HardwareAddr) error {
	for _, nic := range c.Host(host).NICs() {
		if nic.Segment != segment {
			continue
		}
		have, err := nic.MAC()
		if err == nil && have.String() != mac.String() {
			err = fmt.Errorf("%s answers with %s, want %s of its %s", host, mac, have, nic.Name)
		}
		return err
	}
	return fmt.Errorf("%s has no NIC in segment %d", host, segment)
}

// notOn checks for a while that nobody answers for the addresses in a segment, and that nobody has claimed them there.
func (c *cluster) notOn(t *testing.T, segment int, ips ...netip.Addr) {
	t.Helper()
	capture, err := c.CaptureSegment(segment)
	must(t, err)
	t.Cleanup(capture.Stop)
	throughout(t, time.Second, func() error {
		for _, ip := range ips {
			answers, err := c.WhoHas(clientIn[segment], ip, 100*time.Millisecond)
			if err == nil && len(answers) > 0 {
				err = fmt.Errorf("%s is answered in segment %d by %v, want nobody", ip, segment, answers)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	for _, ip := range ips {
		if claims := capture.Claims(ip); len(claims) > 0 {
			t.Errorf("%s is claimed in segment %d: %s", ip, segment, lines(claims))
		}
	}
}

// second makes a Service with addresses in the second LAN, and returns them.
func (c *cluster) second(t *testing.T, name, spec string) []netip.Addr {
	t.Helper()
	c.Pool(t, name, "[10.77.1.200, 'fd77:0:0:1::200']")
	c.Create(t, advertisementYAML(name, spec))
	c.Create(t, serviceYAML(name, dualStack))
	return c.Assigned(t, name, 2)
}

// bySubnet: an address is announced where its subnet is, and nowhere else.
func bySubnet(t *testing.T, c *cluster) {
	first := "[10.77.0.200, 'fd77::200']"
	c.Pool(t, "a-first", first)
	c.Create(t, advertisementYAML("all", "{}"))
	c.Create(t, serviceYAML("first", dualStack))
	ips := c.Assigned(t, "first", 2)
	for _, ip := range ips {
		c.on(t, 0, c.Nodes(), ip)
	}
	c.notOn(t, 1, ips...)
	c.Pool(t, "b-second", "[10.77.1.200, 'fd77:0:0:1::200']")
	c.Create(t, serviceYAML("second", dualStack))
	ips = c.Assigned(t, "second", 2)
	for _, ip := range ips {
		c.on(t, 1, []string{"n1", "n2"}, ip)
	}
	c.notOn(t, 0, ips...)
}

// foreignSubnet: an address whose subnet no node has is announced all the same, and the condition says that of it.
func foreignSubnet(t *testing.T, c *cluster) {
	c.Pool(t, "foreign", "[10.79.0.200, 'fd79::200']")
	c.Advertise(t, "foreign")
	c.Create(t, serviceYAML("foreign", dualStack))
	for _, ip := range c.Assigned(t, "foreign", 2) {
		c.on(t, 0, c.Nodes(), ip)
	}
	if said := c.announced(t, "foreign", metav1.ConditionTrue, "Announced"); !strings.Contains(said.Message, "subnet") {
		t.Errorf("the condition does not say that no node has the subnet: %+v", said)
	}
}

// subnetsIgnored: n3 has no NIC in the second LAN, and announces the address in the first if it is told to.
func subnetsIgnored(t *testing.T, c *cluster) {
	const onlyN3 = "nodeSelectors: [{matchLabels: {kubernetes.io/hostname: n3}}]"
	ips := c.second(t, "ignored", onlyN3+"\n  ignoreSubnets: true")
	for _, ip := range ips {
		c.on(t, 0, []string{"n3"}, ip)
	}
	c.Patch(t, "L2Advertisement", "ignored", `{"spec":{"ignoreSubnets":false,"nodeSelectors":[]}}`)
	for _, ip := range ips {
		c.on(t, 1, []string{"n1", "n2"}, ip)
	}
	eventually(t, 2*time.Second, func() error { return c.unansweredIn(0, ips...) }) // n3 cannot see its successor announce
	c.notOn(t, 0, ips...)
}

// byInterface: the interfaces of several advertisements add up, patterns match, and where none does the Service says so.
func byInterface(t *testing.T, c *cluster) {
	c.Pool(t, "named", "[10.79.0.201, 'fd79::201']")
	c.Advertise(t, "named", "interfaces: ['*1']", "nodeSelectors: [{matchLabels: {kubernetes.io/hostname: n1}}]")
	c.Create(t, serviceYAML("named", dualStack))
	ips := c.Assigned(t, "named", 2)
	for _, ip := range ips {
		c.on(t, 1, []string{"n1"}, ip)
	}
	c.notOn(t, 0, ips...)
	c.onlyInterfaces(t, "named", "eth1")
	c.Create(t, advertisementYAML("named-too", "ipAddressPools: [named]", "interfaces: ['*h0']",
		"nodeSelectors: [{matchLabels: {kubernetes.io/hostname: n1}}]"))
	for _, ip := range ips {
		c.on(t, 0, []string{"n1"}, ip)
		c.on(t, 1, []string{"n1"}, ip)
	}
	c.onlyInterfaces(t, "named", "eth0", "eth1")
	c.Delete(t, "L2Advertisement", "named-too")
	c.Patch(t, "L2Advertisement", "named", `{"spec":{"interfaces":["wlan?","nosuch"]}}`)
	for segment := range clientIn {
		eventually(t, 5*time.Second, func() error { return c.unansweredIn(segment, ips...) })
		c.notOn(t, segment, ips...)
	}
	c.announced(t, "named", metav1.ConditionFalse, "NoInterface")
	c.Patch(t, "L2Advertisement", "named", `{"spec":{"interfaces":["wlan?","eth0"]}}`)
	for _, ip := range ips {
		c.on(t, 0, []string{"n1"}, ip)
	}
	c.notOn(t, 1, ips...)
}

// onlyInterfaces waits until the ServiceL2Status of a Service names these interfaces for every address, and no others.
func (c *cluster) onlyInterfaces(t *testing.T, name string, want ...string) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		have, err := c.l2status(t, name)
		for _, a := range have.Status.Announcements {
			var names []string
			for _, ifi := range a.Interfaces {
				names = append(names, ifi.Name)
			}
			if !slices.Equal(slices.Sorted(slices.Values(names)), want) {
				err = errors.Join(err, fmt.Errorf("of %s are reported the interfaces %v, want %v", a.Address, names, want))
			}
		}
		if err == nil && len(have.Status.Announcements) == 0 {
			err = errors.New("nothing is reported")
		}
		return err
	})
}

func (c *cluster) unansweredIn(segment int, ips ...netip.Addr) (err error) {
	for _, ip := range ips {
		answers, askErr := c.WhoHas(clientIn[segment], ip, 100*time.Millisecond)
		if err = errors.Join(err, askErr); len(answers) > 0 {
			err = errors.Join(err, fmt.Errorf("%s is answered in segment %d by %v, want nobody", ip, segment, answers))
		}
	}
	return err
}

// carrierLost: the owner's one NIC in the second LAN loses its cable, while gossip goes on in the first. The other node has
// the addresses at once, and keeps them; with both cables gone nobody has, and the Service says why.
func carrierLost(t *testing.T, c *cluster) {
	ips := c.second(t, "carrier", "{}")
	both := []string{"n1", "n2"}
	first := c.on(t, 1, both, ips[0])
	other := both[1-slices.Index(both, first)]
	flow := c.Flow(t, "c3", ips[0])
	t.Cleanup(func() { _ = errors.Join(c.Host("n1").NIC("eth1").PutCable(), c.Host("n2").NIC("eth1").PutCable()) })
	must(t, c.Host(first).NIC("eth1").PullCable())
	for _, ip := range ips {
		c.on(t, 1, []string{other}, ip)
	}
	c.cameBack(t, flow, "carrier lost")
	must(t, c.Host(first).NIC("eth1").PutCable())
	c.carrier(t, first, "eth1")
	throughout(t, 2*time.Second, func() error {
		for _, ip := range ips {
			answers, err := c.WhoHas("c2", ip, 100*time.Millisecond)
			if err == nil && (len(answers) != 1 || answers[0].Host != other) {
				err = fmt.Errorf("%s is answered by %v, want %s, where it went", ip, answers, other)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	c.AllTogether(t) // gossip never ceased

	must(t, errors.Join(c.Host("n1").NIC("eth1").PullCable(), c.Host("n2").NIC("eth1").PullCable()))
	c.announced(t, "carrier", metav1.ConditionFalse, "NoInterface")
	must(t, c.Host(first).NIC("eth1").PutCable())
	for _, ip := range ips {
		c.on(t, 1, []string{first}, ip)
	}
	c.announced(t, "carrier", metav1.ConditionTrue, "Announced")
}

// cameBack logs and judges what a client missed.
func (c *cluster) cameBack(t *testing.T, flow *lab.Flow, what string) {
	t.Helper()
	if _, err := flow.WaitAnswer(within(t, outageLimit)); err != nil {
		t.Fatalf("%s: %v; %v", what, err, flow.Report())
	}
	report := flow.Stop()
	t.Logf("%s: %v", what, report)
	if report.Gap.Duration() > outageLimit {
		t.Errorf("%s: without an answer for %v", what, report.Gap.Duration())
	}
}

// carrier waits until a NIC has its carrier back: as on real hardware that takes a while.
func (c *cluster) carrier(t *testing.T, host, nic string) {
	t.Helper()
	eventually(t, 5*time.Second, func() error {
		link, err := c.Host(host).Netlink().LinkByName(nic)
		if err == nil && link.Attrs().RawFlags&0x10000 == 0 { // IFF_LOWER_UP
			err = fmt.Errorf("%s of %s has no carrier", nic, host)
		}
		return err
	})
}

// flap: the owner's NIC is set down and up. If no other node may have the addresses they come back with it, and the switch
// passes on what is asked of their groups.
func flap(t *testing.T, c *cluster) {
	ips := c.second(t, "flap", "nodeSelectors: [{matchLabels: {kubernetes.io/hostname: n1}}]")
	for _, ip := range ips {
		c.on(t, 1, []string{"n1"}, ip)
	}
	nic := c.Host("n1").NIC("eth1")
	t.Cleanup(func() { _ = nic.SetUp() })
	must(t, nic.SetDown())
	c.announced(t, "flap", metav1.ConditionFalse, "NoInterface")
	must(t, nic.SetUp())
	for _, ip := range ips {
		c.on(t, 1, []string{"n1"}, ip)
	}
}

// otherMAC: the owner's NIC gets another MAC address. It says so to everybody, and is asked and answers with that.
func otherMAC(t *testing.T, c *cluster) {
	ips := c.second(t, "mac", "nodeSelectors: [{matchLabels: {kubernetes.io/hostname: n2}}]")
	for _, ip := range ips {
		c.on(t, 1, []string{"n2"}, ip)
	}
	capture, err := c.CaptureSegment(1)
	must(t, err)
	t.Cleanup(capture.Stop)
	nic := c.Host("n2").NIC("eth1")
	old, err := nic.MAC()
	must(t, err)
	t.Cleanup(func() { _ = nic.SetMAC(old) })
	mac := net.HardwareAddr{2, 0x77, 1, 0xee, 0, 2}
	must(t, nic.SetMAC(mac))
	for _, ip := range ips {
		_, err := capture.Wait(within(t, 5*time.Second), func(f lab.Frame) bool {
			return f.Claims(ip) && f.Claimant().String() == mac.String() && f.Src.String() == mac.String() && f.Dst[0]&1 == 1
		})
		must(t, err)
		c.on(t, 1, []string{"n2"}, ip)
	}
}

// lateInterface: n3 gets a NIC in the second LAN while its speaker runs, and takes over when the others' are gone.
func lateInterface(t *testing.T, c *cluster) {
	ips := c.second(t, "late", "{}")
	for _, ip := range ips {
		c.on(t, 1, []string{"n1", "n2"}, ip)
	}
	_, err := c.Host("n3").AddNIC(1, lab.NICOptions{})
	must(t, err)
	t.Cleanup(func() { _ = errors.Join(c.Host("n1").NIC("eth1").PutCable(), c.Host("n2").NIC("eth1").PutCable()) })
	must(t, errors.Join(c.Host("n1").NIC("eth1").PullCable(), c.Host("n2").NIC("eth1").PullCable()))
	for _, ip := range ips {
		c.on(t, 1, []string{"n3"}, ip)
	}
}
