package link

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lanyard-lb/lanyard/internal/netnstest"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// recorder keeps what a watcher in a namespace told.
type recorder struct {
	mu    sync.Mutex
	lists [][]placement.Interface
}

func (r *recorder) add(list []placement.Interface) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lists = append(r.lists, list)
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.lists)
}

// find returns the interface as last told; ok is false if it is not there.
func (r *recorder) find(name string) (placement.Interface, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lists) == 0 {
		return placement.Interface{}, false
	}
	last := r.lists[len(r.lists)-1]
	i := slices.IndexFunc(last, func(i placement.Interface) bool { return i.Name == name })
	if i < 0 {
		return placement.Interface{}, false
	}
	return last[i], true
}

// await polls until the interface is as the condition wants it.
func (r *recorder) await(t *testing.T, what, name string, cond func(i placement.Interface, there bool) bool) placement.Interface {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if i, there := r.find(name); cond(i, there) {
			return i
		}
	}
	i, there := r.find(name)
	t.Fatalf("%s: last told %+v (there: %v)", what, i, there)
	return i
}

// watch runs a watcher in the namespace until the test ends; before is called on its thread first.
func watch(t *testing.T, ns *netnstest.NS, before func()) *recorder {
	t.Helper()
	r := &recorder{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		var err error
		ns.Do(t, func() {
			before()
			err = New(nil).Run(ctx, r.add)
		})
		done <- err
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	r.await(t, "first list", "lo", func(_ placement.Interface, there bool) bool { return there })
	return r
}

func suitable(i placement.Interface, there bool) bool { return there && i.Suitable() }

func has(prefixes ...string) func(placement.Interface, bool) bool {
	return func(i placement.Interface, there bool) bool {
		for _, p := range prefixes {
			there = there && slices.Contains(i.Subnets, netip.MustParsePrefix(p))
		}
		return there
	}
}

func TestWatchFollowsTheKernel(t *testing.T) {
	ns, peer := netnstest.New(t), netnstest.New(t)
	r := watch(t, ns, func() {})
	lo, _ := r.find("lo")
	if lo.Ether || lo.Suitable() || !lo.Up || lo.Index != 1 || !has("127.0.0.1/8", "::1/128")(lo, true) {
		t.Errorf("loopback told as %+v", lo)
	}

	netnstest.Veth(t, ns, "eth0", peer, "far0")
	first := r.await(t, "appears", "eth0", suitable)

	ns.AddAddr(t, "eth0", "10.1.0.5/24")
	ns.AddAddr(t, "eth0", "fd00:1::5/64")
	got := r.await(t, "addresses added", "eth0", has("10.1.0.5/24", "fd00:1::5/64"))
	if !slices.IsSortedFunc(got.Subnets, comparePrefix) {
		t.Errorf("subnets not sorted: %v", got.Subnets)
	}
	ns.DelAddr(t, "eth0", "10.1.0.5/24")
	ns.DelAddr(t, "eth0", "fd00:1::5/64")
	r.await(t, "addresses deleted", "eth0", func(i placement.Interface, there bool) bool {
		return there && !has("10.1.0.5/24")(i, there) && !has("fd00:1::5/64")(i, there)
	})

	peer.Down(t, "far0")
	r.await(t, "carrier lost", "eth0", func(i placement.Interface, there bool) bool {
		return there && i.Up && !i.Carrier && !i.Suitable()
	})
	peer.Up(t, "far0")
	r.await(t, "carrier back", "eth0", suitable)
	ns.Down(t, "eth0")
	r.await(t, "down", "eth0", func(i placement.Interface, there bool) bool { return there && !i.Up })
	ns.Up(t, "eth0")
	r.await(t, "up", "eth0", suitable)

	ns.SetMAC(t, "eth0", "02:00:00:00:00:77")
	r.await(t, "MAC changed", "eth0", func(i placement.Interface, _ bool) bool {
		return i.MAC == placement.MAC{2, 0, 0, 0, 0, 0x77}
	})
	ns.Rename(t, "eth0", "lan0")
	got = r.await(t, "renamed", "lan0", suitable)
	if _, still := r.find("eth0"); still || got.Index != first.Index {
		t.Errorf("after renaming: eth0 there: %v, index %d, want %d", still, got.Index, first.Index)
	}
	ns.Delete(t, "lan0")
	r.await(t, "vanishes", "lan0", func(_ placement.Interface, there bool) bool { return !there })
}

func TestWatchTellsWhoIsEnslaved(t *testing.T) {
	ns, peer := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, ns, "eth0", peer, "far0")
	r := watch(t, ns, func() {})
	ns.Bridge(t, "br0", "eth0")
	r.await(t, "port of a bridge", "eth0", func(i placement.Interface, there bool) bool { return there && i.Master })
	r.await(t, "bridge", "br0", suitable)
	ns.Enslave(t, "eth0", "")
	r.await(t, "released", "eth0", suitable)
}

func TestAVRFPortIsNotEnslaved(t *testing.T) {
	const vrf, bridge = 7, 8
	kinds := map[int]string{vrf: "vrf", bridge: "bridge"}
	for _, c := range []struct {
		master int
		want   bool
		reason string
	}{
		{0, false, "stands alone"},
		{vrf, false, "a VRF's port keeps its own traffic"},
		{bridge, true, "the bridge carries the traffic"},
		{99, true, "a master that is not listed yet may be anything"},
	} {
		if got := describe(&netlink.LinkAttrs{MasterIndex: c.master}, kinds).Master; got != c.want {
			t.Errorf("master %d: enslaved %v, want %v: %s", c.master, got, c.want, c.reason)
		}
	}
}

func TestDescribe(t *testing.T) {
	const running = unix.IFF_UP | unix.IFF_LOWER_UP | unix.IFF_RUNNING | unix.IFF_BROADCAST
	mac := []byte{2, 0, 0, 0, 0, 1}
	for _, c := range []struct {
		name     string
		attrs    netlink.LinkAttrs
		suitable bool
	}{
		{"ethernet", netlink.LinkAttrs{EncapType: "ether", RawFlags: running, HardwareAddr: mac}, true},
		{"down", netlink.LinkAttrs{EncapType: "ether", RawFlags: running &^ unix.IFF_UP, HardwareAddr: mac}, false},
		{"no carrier", netlink.LinkAttrs{EncapType: "ether", RawFlags: running &^ unix.IFF_LOWER_UP, HardwareAddr: mac}, false},
		{"dormant", netlink.LinkAttrs{EncapType: "ether", RawFlags: running &^ unix.IFF_RUNNING, HardwareAddr: mac}, false},
		{"no ARP", netlink.LinkAttrs{EncapType: "ether", RawFlags: running | unix.IFF_NOARP, HardwareAddr: mac}, false},
		{"point to point", netlink.LinkAttrs{EncapType: "ether", RawFlags: running | unix.IFF_POINTOPOINT, HardwareAddr: mac}, false},
		{"no broadcast", netlink.LinkAttrs{EncapType: "ether", RawFlags: running &^ unix.IFF_BROADCAST, HardwareAddr: mac}, false},
		{"tunnel", netlink.LinkAttrs{EncapType: "ipip", RawFlags: running, HardwareAddr: mac[:4]}, false},
		{"infiniband", netlink.LinkAttrs{EncapType: "infiniband", RawFlags: running, HardwareAddr: make([]byte, 20)}, false},
	} {
		if got := describe(&c.attrs, nil); got.Suitable() != c.suitable {
			t.Errorf("%s: %+v suitable: %v, want %v", c.name, got, got.Suitable(), c.suitable)
		}
	}
}

func TestPeerAddressesBringTheNetworkOfThePeer(t *testing.T) {
	a, err := netlink.ParseAddr("10.0.0.1/32")
	if err != nil {
		t.Fatal(err)
	}
	peer, err := netlink.ParseAddr("10.9.0.0/24")
	if err != nil {
		t.Fatal(err)
	}
	a.Peer = peer.IPNet
	want := []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("10.9.0.0/24")}
	if got := prefixes(*a); !slices.Equal(got, want) {
		t.Errorf("prefixes %v, want %v", got, want)
	}
}

func TestABurstIsToldInFewCalls(t *testing.T) {
	ns := netnstest.New(t)
	r := watch(t, ns, func() {})
	const events = 200
	ns.Do(t, func() {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			t.Fatal(err)
		}
		for n := range events {
			ip := netip.AddrFrom4([4]byte{127, 1, 0, byte(n)})
			a, _ := netlink.ParseAddr(netip.PrefixFrom(ip, 32).String())
			if err := netlink.AddrAdd(lo, a); err != nil {
				t.Fatal(err)
			}
		}
	})
	r.await(t, "all addresses", "lo", func(i placement.Interface, _ bool) bool { return len(i.Subnets) == events+2 })
	if n := r.count(); n > events/4 {
		t.Errorf("%d calls for %d changes", n, events)
	}
}

func TestWatchNeedsNoCapability(t *testing.T) {
	ns, peer := netnstest.New(t), netnstest.New(t)
	r := watch(t, ns, func() {
		// Of this thread only; the thread ends with the watcher.
		var none [2]unix.CapUserData
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		if err := unix.Capset(&header, &none[0]); err != nil {
			t.Errorf("drop capabilities: %v", err)
		}
	})
	netnstest.Veth(t, ns, "eth0", peer, "far0")
	r.await(t, "appears", "eth0", suitable)
}

func TestChangesAreToldSoonAndTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		dirty := make(chan struct{}, 1)
		var told []time.Duration
		start := time.Now()
		go func() {
			_ = follow(ctx, dirty, func() error { told = append(told, time.Since(start)); return nil })
		}()
		time.Sleep(time.Second) // one change alone, at 1 s
		dirty <- struct{}{}
		time.Sleep(time.Second)
		for range 24 { // a storm from 2 s to 2.12 s
			dirty <- struct{}{}
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(time.Second)
		cancel()
		synctest.Wait()
		if len(told) < 4 || told[0] != 0 || told[1] != time.Second+quiet || told[2] != 2*time.Second+patient {
			t.Errorf("told at %v, want 0, 1s+%v, 2s+%v", told, quiet, patient)
		}
		if len(told) > 6 {
			t.Errorf("told %d times: %v", len(told), told)
		}
	})
}

func TestOverrunIsAChangeAndOtherErrorsEndTheSession(t *testing.T) {
	broken := errors.New("broken")
	results := []error{syscall.ENOBUFS, broken}
	dirty := make(chan struct{}, 1)
	err := pump(t.Context(), dirty, func() error {
		next := results[0]
		results = results[1:]
		return next
	})
	if !errors.Is(err, broken) || len(dirty) != 1 {
		t.Errorf("pump returned %v with %d marks, want %v with 1", err, len(dirty), broken)
	}
}
