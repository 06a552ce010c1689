package suite

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// TestAnswers looks at addresses the way clients on the LAN do, while nothing breaks.
func TestAnswers(t *testing.T) {
	c := serve(t, lab.Options{Nodes: 3, Clients: 2})
	t.Run("both families carry traffic", func(t *testing.T) { carryTraffic(t, c) })
	t.Run("one MAC address per IP, over all nodes", func(t *testing.T) { oneMAC(t, c) })
	t.Run("a deleted Service falls silent and makes room", func(t *testing.T) { deletedService(t, c) })
	t.Run("another type releases the address", func(t *testing.T) { typeChange(t, c) })
	t.Run("an edited Service is announced anew", func(t *testing.T) { familyChange(t, c) })
	t.Run("another class is left alone", func(t *testing.T) { otherClass(t, c) })
	t.Run("a status of somebody else is left alone", func(t *testing.T) { otherStatus(t, c) })
	t.Run("a status of somebody else that comes meanwhile is left alone", func(t *testing.T) { otherStatusMeanwhile(t, c) })
}

// carryTraffic: clients find the address without help, get pages and echoes, and their kernels have the owner's MAC: row T1 of the
// list in layer2/doc.go.
func carryTraffic(t *testing.T, c *cluster) {
	c.Pool(t, "lan", "[10.77.0.200-10.77.0.201, fd77::200-fd77::201]")
	c.Advertise(t, "lan")
	c.RunWeb(t, c.Node(3), "web-1")
	c.Create(t, serviceYAML("web", dualStack))
	for _, ip := range c.Assigned(t, "web", 2) {
		owner := c.Owner(t, ip)
		for _, client := range c.Clients() {
			must(t, c.FlushNeighbours(client))
			if err := c.Resolved(client, ip, owner); err == nil {
				t.Fatalf("the neighbour table of %s has %s although it was emptied", client, ip)
			}
			if reply := c.Fetch(t, client, ip); reply.Pod != "web-1" {
				t.Errorf("%s is answered by %+v, want pod web-1", ip, reply)
			}
			if reply, err := c.UDPEcho(client, netip.AddrPortFrom(ip, lab.EchoPort), time.Second); err != nil || reply.Pod != "web-1" {
				t.Errorf("echo from %s to %s: %+v, %v", client, ip, reply, err)
			}
			if err := c.Resolved(client, ip, owner); err != nil {
				t.Error(err)
			}
		}
	}
}

// oneMAC: with thirty Services of two addresses each, exactly one node answers for each address, again and again and
// whoever asks, and no node owns too few or too many.
func oneMAC(t *testing.T, c *cluster) {
	c.Pool(t, "thirty", "[10.77.0.210-10.77.0.239, fd77::210/123]")
	c.Advertise(t, "thirty")
	var ips []netip.Addr
	for i := range 30 {
		c.Create(t, serviceYAML(fmt.Sprint("thirty-", i), dualStack))
	}
	for i := range 30 {
		ips = append(ips, c.Assigned(t, fmt.Sprint("thirty-", i), 2)...)
	}
	if different := slices.Compact(slices.SortedFunc(slices.Values(ips), netip.Addr.Compare)); len(different) != 60 {
		t.Fatalf("the 60 addresses of 30 Services are %v", different)
	}
	share := map[string]int{}
	for _, owner := range c.Owners(t, ips...) {
		share[owner]++
	}
	t.Logf("addresses by owner: %v", share)
	for _, node := range c.Nodes() {
		if share[node] < 8 || share[node] > 35 {
			t.Errorf("of 60 addresses %s owns %d: %v", node, share[node], share)
		}
	}
	for range 10 {
		for _, ip := range ips[:2] {
			for _, client := range c.Clients() {
				if answers, err := c.WhoHas(client, ip, 100*time.Millisecond); err != nil || len(answers) != 1 {
					t.Errorf("one question of %s for %s has the answers %v, %v; want one", client, ip, answers, err)
				}
			}
		}
	}
}

// deletedService: with nobody waiting, the address is answered for a second at most; with somebody waiting, that Service
// gets it.
func deletedService(t *testing.T, c *cluster) {
	c.Pool(t, "only", "[10.77.0.202, fd77::202]")
	c.Advertise(t, "only")
	c.Create(t, serviceYAML("first", dualStack))
	ips := c.Assigned(t, "first", 2)
	c.Owners(t, ips...)

	c.Delete(t, "Service", "first")
	t.Logf("answered for %v after the deletion", c.lastAnswer(t, time.Now(), ips...))
	c.Silent(t, time.Second, ips...)

	c.Create(t, serviceYAML("second", dualStack))
	c.Assigned(t, "second", 2)
	c.Create(t, serviceYAML("third", dualStack))
	c.Decided(t, "third", metav1.ConditionFalse, "PoolExhausted")
	c.Delete(t, "Service", "second")
	if have := c.Assigned(t, "third", 2); !slices.Equal(have, ips) {
		t.Errorf("the third Service has %v, want %v", have, ips)
	}
	c.Owners(t, ips...)
}

// lastAnswer asks for addresses for two seconds, each every 50 ms, and returns when the last question that was answered
// had been asked. It fails if that is more than a second after begun.
func (c *cluster) lastAnswer(t *testing.T, begun time.Time, ips ...netip.Addr) time.Duration {
	t.Helper()
	last := make([]time.Duration, len(ips))
	var group errgroup.Group
	for i, ip := range ips {
		group.Go(func() error {
			for time.Since(begun) < 2*time.Second {
				at := time.Since(begun)
				answers, err := c.WhoHas("c1", ip, 50*time.Millisecond)
				if err != nil {
					return err
				}
				if len(answers) > 0 {
					last[i] = at
				}
			}
			return nil
		})
	}
	must(t, group.Wait())
	if slices.Max(last) > time.Second {
		t.Errorf("%v are answered until %v after, want less than a second", ips, last)
	}
	return slices.Max(last)
}

// typeChange: a Service that is made a ClusterIP gives its address up to one that waits for it, and while none does,
// nobody answers.
func typeChange(t *testing.T, c *cluster) {
	c.Pool(t, "single", "[10.77.0.203]")
	c.Advertise(t, "single")
	c.Create(t, serviceYAML("changing"))
	ip := c.Address(t, "changing")
	c.Owner(t, ip)
	c.Patch(t, "Service", "changing", `{"spec":{"type":"ClusterIP"}}`)
	t.Logf("answered for %v after the change", c.lastAnswer(t, time.Now(), ip))
	c.Silent(t, time.Second, ip)
	eventually(t, 5*time.Second, func() error {
		if s := c.Service(t, "changing").Status; len(s.LoadBalancer.Ingress)+len(s.Conditions) > 0 {
			return fmt.Errorf("the status is still %+v", s)
		}
		return nil
	})
	c.Create(t, serviceYAML("taker"))
	if have := c.Address(t, "taker"); have != ip {
		t.Errorf("the next Service has %s, want %s", have, ip)
	}
	c.Owner(t, ip)

	c.Patch(t, "Service", "changing", `{"spec":{"type":"LoadBalancer"}}`)
	c.Decided(t, "changing", metav1.ConditionFalse, "PoolExhausted")
	c.Patch(t, "Service", "taker", `{"spec":{"type":"NodePort"}}`)
	if have := c.Address(t, "changing"); have != ip {
		t.Errorf("the Service that waited has %s, want %s", have, ip)
	}
	c.Owner(t, ip)
}

// familyChange: a Service that wants one more family is announced in that, and one less, silent in that; the address of
// the other family stays where it is.
func familyChange(t *testing.T, c *cluster) {
	c.Pool(t, "families", "[10.77.0.205, fd77::205]")
	c.Advertise(t, "families")
	c.Create(t, serviceYAML("families", "ipFamilyPolicy: SingleStack"))
	four := c.Address(t, "families")
	owner := c.Owner(t, four)
	c.Patch(t, "Service", "families", `{"spec":{"ipFamilyPolicy":"RequireDualStack","ipFamilies":["IPv4","IPv6"]}}`)
	both := c.Assigned(t, "families", 2)
	if both[0] != four || !both[1].Is6() {
		t.Fatalf("the addresses are %v, want %s and one of IPv6", both, four)
	}
	c.Owners(t, both...)
	c.Patch(t, "Service", "families", `{"spec":{"ipFamilyPolicy":"SingleStack","ipFamilies":["IPv4"],"clusterIPs":["`+
		c.Service(t, "families").Spec.ClusterIP+`"]}}`)
	if left := c.Address(t, "families"); left != four {
		t.Fatalf("the address is %s, want %s as before", left, four)
	}
	c.Silent(t, 2*time.Second, both[1])
	if now := c.Owner(t, four); now != owner {
		t.Errorf("%s moved from %s to %s although only the other family changed", four, owner, now)
	}
}

// otherClass: a Service of another load balancer's class is neither written to nor announced, whatever its status says.
func otherClass(t *testing.T, c *cluster) {
	c.Pool(t, "ours", "[10.77.0.206-10.77.0.207]")
	c.Advertise(t, "ours")
	c.Create(t, serviceYAML("theirs", "loadBalancerClass: example.com/other"))
	theirs := netip.MustParseAddr("10.77.0.207")
	version := c.writeIngress(t, "theirs", theirs)
	c.Create(t, serviceYAML("ours"))
	c.Owner(t, c.Address(t, "ours"))
	c.untouched(t, "theirs", version)
	c.Silent(t, 0, theirs)
	c.Patch(t, "Service", "theirs", `{"spec":{"type":"ClusterIP"}}`) // leaves our reach altogether
	c.Create(t, serviceYAML("ours-2"))
	c.Address(t, "ours-2")
	for _, condition := range c.Service(t, "theirs").Status.Conditions {
		t.Errorf("the Service of another class has the condition %+v", condition)
	}
}

// otherStatus: a Service that no class gives to anybody has an address that somebody else wrote, before we knew of the
// Service, and that no pool contains.
func otherStatus(t *testing.T, c *cluster) {
	c.Pool(t, "known", "[10.77.0.208]")
	c.Create(t, advertisementYAML("everything", "{}"))
	controller := c.Process("cp", "controller")
	must(t, controller.Term())
	_, err := controller.Wait(within(t, 20*time.Second))
	t.Cleanup(func() {
		if !controller.Alive() {
			_ = controller.Restart()
		}
	})
	must(t, err)
	c.Create(t, serviceYAML("stranger"))
	ip := netip.MustParseAddr("10.77.0.240")
	version := c.writeIngress(t, "stranger", ip)
	must(t, controller.Restart())
	c.Create(t, serviceYAML("known"))
	c.Owner(t, c.Address(t, "known"))
	c.untouched(t, "stranger", version)
	c.Silent(t, 0, ip)
}

// otherStatusMeanwhile is the same with statuses that are written while the controller decides on the Services: it is
// held so that it learns of each Service and of its status in quick succession.
func otherStatusMeanwhile(t *testing.T, c *cluster) {
	c.Pool(t, "tempting", "[10.77.0.240-10.77.0.250]")
	controller := c.Process("cp", "controller")
	must(t, controller.Freeze())
	t.Cleanup(func() { _ = controller.Thaw() })
	versions := map[string]string{}
	for i := range 10 {
		name := fmt.Sprint("stranger-", i)
		c.Create(t, serviceYAML(name))
		versions[name] = c.writeIngress(t, name, lab.Addr4(0, 220+i))
	}
	must(t, controller.Thaw())
	c.Create(t, serviceYAML("ours"))
	c.Address(t, "ours")
	for name, version := range versions {
		if s := c.Service(t, name); s.ResourceVersion != version {
			t.Errorf("Service %s was written to: its status is %+v", name, s.Status)
		}
	}
}

// writeIngress puts an address into a Service's status, as another load balancer would, and returns the resource version.
func (c *cluster) writeIngress(t *testing.T, name string, ip netip.Addr) string {
	t.Helper()
	s := c.Service(t, name)
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: ip.String()}}
	s, err := c.Client().CoreV1().Services(s.Namespace).UpdateStatus(within(t, 10*time.Second), s, metav1.UpdateOptions{})
	must(t, err)
	return s.ResourceVersion
}

// untouched checks that nobody has written to a Service since, nor recorded an event on it.
func (c *cluster) untouched(t *testing.T, name, version string) {
	t.Helper()
	throughout(t, time.Second, func() error {
		s := c.Service(t, name)
		if s.ResourceVersion != version {
			return fmt.Errorf("Service %s was written to: its status is %+v", name, s.Status)
		}
		if events := c.Events(t, name); len(events) > 0 {
			return errors.New(strings.Join(events, "; "))
		}
		return nil
	})
}
