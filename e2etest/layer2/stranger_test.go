package layer2

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
	"github.com/lanyard-lb/lanyard/e2etest/labtest"
)

// stranger is a host that is none of ours and uses addresses of our pools: W-09, row T24.
const stranger = "c3"

// TestStranger has a host on the LAN that uses what the pools hold, before us and after us.
func TestStranger(t *testing.T) {
	c := serve(t, lab.Options{Nodes: 2, Clients: 3}, "--conflict-recheck=1s")
	t.Run("there before, and another address will do", func(t *testing.T) { beforeUs(t, c) })
	t.Run("there before, on the very address asked for", func(t *testing.T) { askedFor(t, c) })
	t.Run("a second cluster with the same pool", func(t *testing.T) { samePool(t, c) })
	t.Run("one that comes later", func(t *testing.T) { afterUs(t, c) })
	t.Run("one that asks first", func(t *testing.T) { asksFirst(t, c) })
}

// squat has the stranger use addresses until the test ends or leave is called.
func (c *cluster) squat(t *testing.T, ips ...netip.Addr) (leave func()) {
	t.Helper()
	must(t, c.Squat(stranger, ips...))
	gone := false
	leave = func() {
		if !gone {
			gone = true
			must(t, c.Unsquat(stranger, ips...))
		}
	}
	t.Cleanup(leave)
	return leave
}

func addrs(list ...string) (ips []netip.Addr) {
	for _, a := range list {
		ips = append(ips, netip.MustParseAddr(a))
	}
	return ips
}

// quarantined is what a pool says of an address that a stranger uses.
type quarantined struct {
	Address, MAC, Interface, Node string
	Since, Checked                *metav1.Time
	Held                          bool
}

func (c *cluster) quarantine(t *testing.T, pool string) (list []quarantined) {
	t.Helper()
	o, err := c.Resource("IPAddressPool").Get(within(t, 10*time.Second), pool, metav1.GetOptions{})
	must(t, err)
	raw, err := o.MarshalJSON()
	must(t, err)
	var have struct {
		Status struct{ Quarantined []quarantined }
	}
	must(t, json.Unmarshal(raw, &have))
	return have.Status.Quarantined
}

// inQuarantine waits until a pool has these addresses in quarantine and no others, each for the stranger's sake.
func (c *cluster) inQuarantine(t *testing.T, pool string, ips ...netip.Addr) {
	t.Helper()
	mac, err := c.Host(stranger).NIC("eth0").MAC()
	must(t, err)
	eventually(t, 15*time.Second, func() (err error) {
		list := c.quarantine(t, pool)
		if len(list) != len(ips) {
			return fmt.Errorf("pool %s has in quarantine %+v, want %v", pool, list, ips)
		}
		for _, q := range list {
			if ip, parseErr := netip.ParseAddr(q.Address); parseErr != nil || !slices.Contains(ips, ip) || !strings.EqualFold(q.MAC, mac.String()) ||
				q.Interface != "eth0" || !slices.Contains(c.Nodes(), q.Node) || q.Since == nil {
				err = errors.Join(err, fmt.Errorf("in quarantine is %+v, want one of %v with the MAC %s, on eth0 of a node, with its time", q, ips, mac))
			}
		}
		return err
	})
}

// beforeUs: of two addresses per family a stranger has one. No node says a word of it, it is quarantined, and the first
// Service has the other in the end; the second waits until the stranger has gone.
func beforeUs(t *testing.T, c *cluster) {
	taken, free := addrs("10.77.0.200", "fd77::200"), addrs("10.77.0.201", "fd77::201")
	leave := c.squat(t, taken...)
	flooded, begun := c.flood(t), time.Now()
	c.Pool(t, "before", "[10.77.0.200-10.77.0.201, fd77::200-fd77::201]")
	c.Advertise(t, "before")
	c.Create(t, serviceYAML("first", dualStack))
	c.has(t, "first", free...)
	c.Create(t, serviceYAML("second", dualStack))
	c.Decided(t, "second", metav1.ConditionFalse, "PoolExhausted")
	c.inQuarantine(t, "before", taken...)
	c.owners4and6(t, free)
	for _, node := range c.Nodes() {
		flooded.unclaimed(t, node, begun, taken...)
	}

	leave()
	c.has(t, "second", taken...)
	c.owners4and6(t, taken)
	c.inQuarantine(t, "before")
	c.announced(t, "second", metav1.ConditionTrue, "NoEndpoint")
}

// has waits until a Service has these addresses.
func (c *cluster) has(t *testing.T, name string, ips ...netip.Addr) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		s := c.Service(t, name)
		if have := ingress(s); !slices.Equal(have, ips) {
			return fmt.Errorf("Service %s has %v, %+v, want %v", name, have, labtest.ConditionOf(s, labtest.IPAssigned), ips)
		}
		return nil
	})
}

// owners4and6 waits until nodes, and they alone, answer for the addresses.
func (c *cluster) owners4and6(t *testing.T, ips []netip.Addr) {
	t.Helper()
	c.OwnedBy(t, 15*time.Second, c.Nodes(), ips...)
}

// askedFor: a Service that asks for the very addresses keeps them and is told why nobody announces them; when the stranger has
// left, they are.
func askedFor(t *testing.T, c *cluster) {
	ips := addrs("10.77.0.202", "fd77::202")
	leave := c.squat(t, ips...)
	flooded, begun := c.flood(t), time.Now()
	c.Pool(t, "asked", "[10.77.0.202-10.77.0.203, fd77::202-fd77::203]")
	c.Advertise(t, "asked")
	c.Create(t, serviceYAML(annotated("asked", "lanyard.dev/addresses", "10.77.0.202,fd77::202"), dualStack))
	mac, err := c.Host(stranger).NIC("eth0").MAC()
	must(t, err)
	said := c.announced(t, "asked", metav1.ConditionFalse, "AddressConflict")
	if !strings.Contains(strings.ToLower(said.Message), mac.String()) {
		t.Errorf("the message does not name the stranger, %s: %s", mac, said.Message)
	}
	c.has(t, "asked", ips...)
	c.taken(t, "asked", mac.String(), ips...)
	for _, node := range c.Nodes() {
		flooded.unclaimed(t, node, begun, ips...)
	}
	leave()
	c.owners4and6(t, ips)
	c.announced(t, "asked", metav1.ConditionTrue, "NoEndpoint")
	c.reported(t, "asked", ips...)
}

// taken waits until the ServiceL2Status of a Service says that a stranger has the addresses.
func (c *cluster) taken(t *testing.T, name, mac string, ips ...netip.Addr) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		have, err := c.l2status(t, name)
		for _, ip := range ips {
			a, missing := have.of(ip)
			if err = errors.Join(err, missing); missing == nil && (a.Phase != "Taken" || !strings.EqualFold(a.Rival, mac)) {
				err = errors.Join(err, fmt.Errorf("of %s is said %+v, want that %s has taken it", ip, a, mac))
			}
		}
		return err
	})
}

// samePool: another cluster has our whole pool in use already. We notice before we have said a word.
func samePool(t *testing.T, c *cluster) {
	theirs := addrs("10.77.0.210", "10.77.0.211", "10.77.0.212", "fd77::210", "fd77::211", "fd77::212")
	leave := c.squat(t, theirs...)
	flooded, begun := c.flood(t), time.Now()
	c.Pool(t, "theirs", "[10.77.0.210-10.77.0.212, fd77::210-fd77::212]")
	c.Advertise(t, "theirs")
	c.Create(t, serviceYAML("web-1", dualStack))
	c.Create(t, serviceYAML("web-2", dualStack))
	c.inQuarantine(t, "theirs", theirs...)
	for _, name := range []string{"web-1", "web-2"} {
		c.Decided(t, name, metav1.ConditionFalse, "PoolExhausted")
	}
	for _, node := range c.Nodes() {
		flooded.unclaimed(t, node, begun, theirs...)
	}
	leave()
	for _, name := range []string{"web-1", "web-2"} {
		c.owners4and6(t, c.Assigned(t, name, 2))
	}
}

// afterUs: a stranger comes when we have announced. We keep the address, say so once and not in a quarrel, and tell the users.
func afterUs(t *testing.T, c *cluster) {
	c.Pool(t, "after", "[10.77.0.220, fd77::220]")
	c.Advertise(t, "after")
	c.Create(t, serviceYAML("after", dualStack))
	ips := c.Assigned(t, "after", 2)
	owners := c.Owners(t, ips...)
	flooded := c.flood(t)
	flooded.quiet(t, ips...)
	before := c.conflicts(t)

	leave := c.squat(t, ips...)
	came := time.Now()
	for range 4 {
		for _, ip := range ips {
			must(t, c.Proclaim(stranger, ip))
		}
		c.notAQuarrel(t, flooded, came, owners)
	}
	said := c.announced(t, "after", metav1.ConditionTrue, "AddressConflict")
	mac, err := c.Host(stranger).NIC("eth0").MAC()
	must(t, err)
	if !strings.Contains(strings.ToLower(said.Message), mac.String()) {
		t.Errorf("the message does not name the stranger, %s: %s", mac, said.Message)
	}
	if now := c.conflicts(t); now < before+2 {
		t.Errorf("the metric counts %v conflicts with strangers, %v before; want one more of each family", now, before)
	}
	c.told(t, "after", "Warning AddressConflict:", "")
	for _, ip := range ips {
		if hosts, err := c.Ask("c1", ip); err != nil || !slices.Contains(hosts, owners[ip]) {
			t.Errorf("%s of %s is answered by %v (%v)", ip, owners[ip], hosts, err)
		}
	}
	leave()
	c.announced(t, "after", metav1.ConditionTrue, "NoEndpoint")
}

// notAQuarrel waits until each address was defended and checks, for half a second, that this was once only: RFC 5227 section 2.4
// allows one defence in ten seconds.
func (c *cluster) notAQuarrel(t *testing.T, w *wire, since time.Time, owners map[netip.Addr]string) {
	t.Helper()
	defended := func(ip netip.Addr) []lab.Frame { return w.announcements(ip, since, owners[ip]) }
	for ip := range owners {
		eventually(t, 2*time.Second, func() error {
			if len(defended(ip)) == 0 {
				return fmt.Errorf("%s did not defend %s against the stranger:\n%s", owners[ip], ip, w)
			}
			return nil
		})
	}
	throughout(t, 500*time.Millisecond, func() error {
		for ip := range owners {
			if frames := defended(ip); len(frames) > 1 && time.Since(since) < 10*time.Second {
				return fmt.Errorf("%s was defended more than once in %v: %s", ip, time.Since(since), lines(frames))
			}
		}
		return nil
	})
}

// conflicts counts those with strangers over all nodes.
func (c *cluster) conflicts(t *testing.T) (sum float64) {
	t.Helper()
	for _, node := range c.Nodes() {
		n, err := c.MetricSum(t.Context(), node, "lanyard_layer2_conflicts_total", `by="stranger"`)
		must(t, err)
		sum += n
	}
	return sum
}

// asksFirst: a host that asks whether an address of ours is in use, by an ARP probe or by Duplicate Address Detection, is told
// so by the owner, and its kernel leaves the address alone.
func asksFirst(t *testing.T, c *cluster) {
	c.Pool(t, "probed", "[10.77.0.230, fd77::230]")
	c.Advertise(t, "probed")
	c.Create(t, serviceYAML("probed", dualStack))
	ips := c.Assigned(t, "probed", 2)
	owners := c.Owners(t, ips...)
	port := c.port(t, stranger, "eth0")
	port.quiet(t, ips...)
	for _, ip := range ips {
		asked := time.Now()
		must(t, c.ProbeFor(stranger, ip))
		_, err := port.Wait(within(t, 2*time.Second), func(f lab.Frame) bool {
			return f.Outgoing && f.Time.After(asked) && f.Claims(ip) && c.HostByMAC(f.Claimant()) == owners[ip]
		})
		must(t, err)
	}
	t.Cleanup(func() { _ = c.Unsquat(stranger, ips[1]) })
	taken, err := c.TakeAskingFirst(within(t, 10*time.Second), stranger, ips[1])
	must(t, err)
	if !taken {
		t.Errorf("the kernel of %s has taken %s, which %s owns", stranger, ips[1], owners[ips[1]])
	}
	if now := c.Owners(t, ips...); now[ips[0]] != owners[ips[0]] || now[ips[1]] != owners[ips[1]] {
		t.Errorf("the owners were %v and are %v now", owners, now)
	}
}
