package layer2

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
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
		k, err = NewInKernel()
		if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EPERM) {
			t.Skipf("this kernel does not answer: %v", err)
		}
		check(t, err)
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
	n := newAnsweringNode(t, vip4, other4, vip6)
	check(t, n.announcer.Set(n.want(0, other4, vip6)))
	if n.answered(vip4) || !n.answered(other4) || !n.answered(vip6) {
		t.Error("vip4 is answered after it was withdrawn, or the others are not")
	}
	check(t, n.announcer.Set(n.probing(placement.ProbeFirst, 1, vip4, vip6)))
	if n.answered(vip4) {
		t.Error("vip4 is answered while it is probed")
	}
	check(t, n.announcer.Set(n.probing(placement.NoProbe, 1, vip4, vip6)))
	n.awake.Store(false)
	if !n.answered(vip4) {
		t.Error("the kernel does not answer what is announced after all")
	}
	n.awake.Store(true)
	check(t, n.announcer.Set(n.probing(placement.ProbeFirst, 2, vip4, vip6)))
	n.awake.Store(true)
	if !poll(func() bool { return n.announcer.Standings()[0].Phase == placement.Announcing }) {
		t.Error("the probe has no end")
	}
	n.awake.Store(false) // the socket is silent
	if !n.answered(vip4) || !n.answered(vip6) {
		t.Error("the kernel does not answer after the probe")
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
	if err := <-done; !errors.Is(err, unix.EPERM) {
		t.Errorf("without capabilities: %v, want %v", err, unix.EPERM)
	}
}

// A program that cannot be told something answers nothing any more: sockets do.
func TestAProgramThatCannotBeToldIsSilent(t *testing.T) {
	for name, tell := range map[string]func(p *answers) error{
		"hold": func(p *answers) error {
			for i := range mostInKernel {
				if err := p.program.hold(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), false); err != nil {
					return err
				}
			}
			return nil
		},
		"drop": func(p *answers) error {
			check(t, p.program.tables.held.Close())
			return p.program.drop(other4)
		},
	} {
		p := newAnswers(t, IPv4, map[netip.Addr]bool{vip4: true})
		if !p.askedBy(host4, vip4) {
			t.Errorf("%s: not answered before", name)
		}
		if err := tell(p); err == nil || p.askedBy(host4, vip4) {
			t.Errorf("%s: %v; answered: %v", name, err, p.askedBy(host4, vip4))
		}
		if p.program.kernel.AnswerUntil(farOff()); p.askedBy(host4, vip4) {
			t.Errorf("%s: answered again", name)
		}
	}
}

// Until a program knows all that is held, it answers nothing: who claims something of it might ask.
func TestAProgramBeginsWhenItKnowsAll(t *testing.T) {
	p := newAnswers(t, IPv4, nil)
	var a *answering
	p.node.Do(t, func() {
		var err error
		a, err = p.program.kernel.attach(describe(t, p.node, "eth0"), IPv4)
		check(t, err)
	})
	defer a.close()
	check(t, a.hold(vip4, true))
	a.kernel.AnswerUntil(farOff())
	p.program = a
	if p.askedBy(host4, vip4) {
		t.Error("answered before it began")
	}
	if a.begin(); !p.askedBy(host4, vip4) {
		t.Error("not answered although it has begun")
	}
}

// What is meant for a VLAN on top of the interface is not for the interface, nor is what is sent to a MAC address that it has
// got since; and whatever else runs there lets us answer.
func TestWhoseFramesAreAnswered(t *testing.T) {
	n := newAnsweringNode(t, vip4)
	n.awake.Store(false) // the socket is silent
	plain := n.neighbour.request(t, vip4, placement.MAC{})
	tagged := slices.Concat(plain[:12], []byte{0x81, 0, 0, 5}, plain[12:])
	if _, ok := n.neighbour.ask(t, tagged, vip4); ok {
		t.Error("a request in another VLAN is answered")
	}
	n.nodes[0].SetMAC(t, "eth0", third.String())
	if _, ok := n.neighbour.ask(t, n.neighbour.request(t, vip4, third), vip4); ok {
		t.Error("a request to another MAC address is answered with the one before")
	}
	other, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}}) // TCX_PASS: no program after it is asked
	check(t, err)
	defer func() { check(t, other.Close()) }()
	m := newAnsweringNode(t)
	m.awake.Store(false)
	m.nodes[0].Do(t, func() {
		l, err := link.AttachTCX(link.TCXOptions{Interface: describe(t, m.nodes[0], "eth0").Index, Program: other, Attach: ebpf.AttachTCXIngress})
		check(t, err)
		t.Cleanup(func() { _ = l.Close() })
	})
	check(t, m.announcer.Set(m.want(0, vip4)))
	if !m.answered(vip4) {
		t.Error("not answered beside another program")
	}
}

// A program that cannot be told something is replaced by another, not at once.
func TestTheKernelAnswersAgain(t *testing.T) {
	n := newAnsweringNode(t, vip4, other4)
	a := n.announcer.Announcer.(*Announcer)
	first := func() *responder {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.responders[key{"eth0", IPv4}]
	}
	inKernel := func() bool {
		n.awake.Store(false)
		defer n.awake.Store(true)
		return n.answered(vip4)
	}
	if !inKernel() {
		t.Fatal("the kernel does not answer")
	}
	r := first()
	check(t, r.program.tables.held.Close())
	want := n.want(0, vip4)
	check(t, n.announcer.Set(want))
	if inKernel() || !n.answered(vip4) {
		t.Error("the kernel answers although it cannot be told of all, or the socket does not")
	}
	if check(t, n.announcer.Set(want)); inKernel() {
		t.Error("tried again at once")
	}
	a.mu.Lock()
	r.enlistAt = time.Now()
	a.mu.Unlock()
	if check(t, n.announcer.Set(want)); !inKernel() || first() != r {
		t.Error("the kernel does not answer again")
	}
}

func TestShifted(t *testing.T) {
	for offsets, want := range map[string]bool{
		"monotonic           0         0\nboottime            0         0\n": false,
		"monotonic           0         0\nboottime           10         0\n": false,
		"monotonic        1000         0\nboottime            0         0\n": true,
		"monotonic           0         1\nboottime            0         0\n": true,
		"": false,
	} {
		if got := shifted(offsets); got != want {
			t.Errorf("%q: %v, want %v", offsets, got, want)
		}
	}
}

// An address that is announced already comes to another interface.
func TestTheKernelAnswersOnAnotherInterface(t *testing.T) {
	w := newVethWorld(t)
	var awake atomic.Bool
	awake.Store(true)
	runs := New(Config{InKernel: newInKernel(t, w.node), Awake: awake.Load})
	a := inside{t, w.node, runs}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	defer func() { cancel(); check(t, <-done) }()
	if !poll(func() bool { runs.mu.Lock(); defer runs.mu.Unlock(); return runs.running != nil }) {
		t.Fatal("announcer does not run")
	}
	want := announce.Want{Interfaces: w.interfaces, Announcements: []*placement.Announcement{
		{IP: vip4, Interfaces: []string{"eth0"}}, {IP: other4, Interfaces: []string{"eth1"}},
	}}
	check(t, a.Set(want))
	want.Announcements = []*placement.Announcement{{IP: vip4, Interfaces: []string{"eth0", "eth1"}}, want.Announcements[1]}
	check(t, a.Set(want))
	awake.Store(false)
	if got := w.Answers(vip4); !slices.Equal(got, []string{"eth0", "eth1"}) {
		t.Errorf("answered in the kernel on %q", got)
	}
}
