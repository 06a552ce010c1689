package layer2

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lanyard-lb/lanyard/internal/announce"
	"github.com/lanyard-lb/lanyard/internal/announce/announcetest"
	"github.com/lanyard-lb/lanyard/internal/netnstest"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

func farOff() time.Time { return time.Now().Add(time.Hour) }

// newInKernel answers until it is told otherwise. Kernels that cannot are skipped.
func newInKernel(t testing.TB, ns *netnstest.NS) (k *InKernel) {
	t.Helper()
	ns.Do(t, func() {
		var err error
		if k, err = NewInKernel(); err != nil {
			t.Skipf("this kernel does not answer: %v", err)
		}
	})
	k.AnswerUntil(farOff())
	return k
}

// kernelWorld is the same world with a node that answers in the kernel.
type kernelWorld struct {
	*vethWorld
	kernel *InKernel
}

func (w kernelWorld) Announcer() announce.Announcer {
	return inside{w.t, w.node, New(Config{InKernel: w.kernel})}
}

func TestContractInKernel(t *testing.T) {
	announcetest.Run(t, func(t *testing.T, test func(*testing.T, announcetest.World)) {
		w := newVethWorld(t)
		test(t, kernelWorld{w, newInKernel(t, w.node)})
	})
}

// answeringNode is a node that answers in the kernel, while its socket answers only if awake, and a neighbour.
type answeringNode struct {
	*lan
	kernel    *InKernel
	awake     atomic.Bool
	counts    counter
	announcer inside
	neighbour *station
}

func newAnsweringNode(t *testing.T, ips ...netip.Addr) *answeringNode {
	n := &answeringNode{lan: newLAN(t, 1)}
	n.kernel = newInKernel(t, n.nodes[0])
	n.awake.Store(true)
	n.announcer = n.announcerWith(0, Config{InKernel: n.kernel, Awake: n.awake.Load, Metrics: &n.counts}, ips...)
	n.neighbour = listenAt(t, n.client, "eth0")
	return n
}

// answered reports whether the node answers a plain request.
func (n *answeringNode) answered(ip netip.Addr) bool {
	n.t.Helper()
	_, ok := n.neighbour.ask(n.t, n.neighbour.request(n.t, ip, placement.MAC{}), ip)
	return ok
}

func TestANeighbourResolvesUsInTheKernel(t *testing.T) {
	n := newAnsweringNode(t, vip4, vip6)
	n.awake.Store(false) // the socket is silent
	for _, ip := range []netip.Addr{vip4, vip6} {
		n.resolved(ip, 0, netlink.NUD_REACHABLE)
		n.setNeigh(ip, netlink.NUD_PROBE, n.mac(0))
		if !poll(func() bool { s, _ := n.client.Neigh(t, "eth0", ip.String()); return s == netlink.NUD_REACHABLE }) {
			state, mac := n.client.Neigh(t, "eth0", ip.String())
			t.Errorf("after probing, client has %s at %s in state %#x", ip, mac, state)
		}
	}
}

func TestARequestIsAnsweredAndCountedOnce(t *testing.T) {
	for _, ip := range []netip.Addr{vip4, vip6} {
		n := newAnsweringNode(t, ip)
		const asks = 20
		for range asks {
			if !n.answered(ip) {
				t.Fatalf("%s is not answered", ip)
			}
		}
		if !poll(func() bool { return n.counts.now().answered >= asks }) {
			t.Errorf("%s: %d answers counted, want %d", ip, n.counts.now().answered, asks)
		}
		n.neighbour.mu.Lock()
		heard := 0
		for _, f := range n.neighbour.heard {
			if f.ip == ip && !f.unasked {
				heard++
			}
		}
		n.neighbour.mu.Unlock()
		if got := n.counts.now().answered; heard != asks || got != asks {
			t.Errorf("%s: %d answers to %d requests, %d counted", ip, heard, asks, got)
		}
	}
}

func TestTheKernelAnswersWhileItMay(t *testing.T) {
	n := newAnsweringNode(t, vip4, vip6)
	n.awake.Store(false) // the socket is silent
	for _, ip := range []netip.Addr{vip4, vip6} {
		n.kernel.AnswerUntil(farOff())
		if !n.answered(ip) {
			t.Errorf("%s is not answered", ip)
		}
		n.kernel.AnswerUntil(time.Now().Add(50 * time.Millisecond))
		if !poll(func() bool { return !n.answered(ip) }) {
			t.Errorf("%s is still answered", ip)
		}
		n.awake.Store(true)
		if !n.answered(ip) {
			t.Errorf("%s is not answered by the socket", ip)
		}
		n.awake.Store(false)
	}
}

// What is another's address meanwhile is not answered for in the kernel either; a claim of it is heard.
func TestTheKernelFollowsTheStandings(t *testing.T) {
	n := newAnsweringNode(t, vip4, vip6)
	check(t, n.announcer.Set(n.want(0, vip6)))
	if n.answered(vip4) || !n.answered(vip6) {
		t.Error("vip4 is answered after it was withdrawn, or vip6 is not")
	}
	check(t, n.announcer.Set(n.probing(placement.ProbeFirst, 1, vip4, vip6)))
	if n.answered(vip4) {
		t.Error("vip4 is answered while it is probed")
	}
	if !poll(func() bool { return n.answered(vip4) && n.answered(vip6) }) {
		t.Error("they are not answered after the probe")
	}
	n.neighbour.use(vip4, true)
	n.neighbour.send(t, arpFrame(t, n.neighbour.mac, placement.MAC{}, vip4, vip4))
	if !poll(func() bool { return n.counts.now().strangers > 0 }) {
		t.Error("a stranger's claim is not heard")
	}
}

func TestAnsweringInTheKernelNeedsCapabilities(t *testing.T) {
	node := netnstest.New(t)
	newInKernel(t, node)
	done := make(chan error, 1)
	go node.Do(t, func() {
		// Of this thread only, which ends with the goroutine.
		const raw = 1 << unix.CAP_NET_RAW
		sets := [2]unix.CapUserData{{Effective: raw, Permitted: raw}}
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &sets[0]); err != nil {
			t.Errorf("drop capabilities: %v", err)
		}
		_, err := NewInKernel()
		done <- err
	})
	if err := <-done; err == nil {
		t.Error("NewInKernel needs no capability")
	}
}

// A program that cannot be told any more what to leave alone answers nothing: sockets do.
func TestAProgramThatCannotBeToldIsSilent(t *testing.T) {
	p := newAnswers(t, IPv4, map[netip.Addr]bool{vip4: true})
	request := arpFrame(t, them, placement.MAC{}, host4, vip4)
	if p.run(request) == nil {
		t.Fatal("not answered")
	}
	check(t, p.program.tables.held.Close())
	p.program.hold(other4, true)
	if p.run(request) == nil {
		t.Error("what it cannot be told to answer silences it")
	}
	if p.program.drop(vip4); p.run(request) != nil {
		t.Error("still answered")
	}
	if p.program.kernel.AnswerUntil(farOff()); p.run(request) != nil {
		t.Error("answered again")
	}
}
