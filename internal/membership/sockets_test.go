package membership

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// The tests here use sockets on the loopback, in real time.

// onLoopback runs a member on a port of the kernel's choice and waits until it listens.
func onLoopback(t *testing.T, name, key string) *node {
	t.Helper()
	book := &logBook{}
	cfg := Config{Name: name, Bind: "127.0.0.1:0", Logger: book.logger()}
	if key != "" {
		cfg.Key = []byte(key)
	}
	n := launch(t, cfg, Peer{Name: name}, book)
	t.Cleanup(n.end)
	awaitThat(t, n, 10*time.Second, "itself", func() bool { return slices.Contains(n.Members(), name) })
	n.peer.Addr, _ = n.roster.addr(name)
	return n
}

func TestSockets(t *testing.T) {
	var nodes []*node
	var peers []Peer
	for _, name := range []string{"a", "b", "c"} {
		n := onLoopback(t, name, "secret")
		nodes, peers = append(nodes, n), append(peers, n.peer)
	}
	for _, n := range nodes {
		n.SetPeers(peers)
	}
	w := &world{tb: t, nodes: nodes}
	w.await(10*time.Second, nodes...)

	begin := time.Now()
	nodes[0].end()
	w.await(10*time.Second, nodes[1:]...)
	t.Logf("one left, and the others knew, in %v", time.Since(begin))
	assertFree(t, nodes[0].peer.Addr)

	// It comes back on another port.
	again := onLoopback(t, "a", "secret")
	again.SetPeers([]Peer{peers[1]})
	w.await(10*time.Second, again, nodes[1], nodes[2])

	for _, n := range []*node{again, nodes[1], nodes[2]} {
		n.end()
		assertFree(t, n.peer.Addr)
	}
	assertNoMemberlist(t)
}

func TestSocketsOtherKey(t *testing.T) {
	a, b, c := onLoopback(t, "a", "secret"), onLoopback(t, "b", "Secret"), onLoopback(t, "c", "")
	a.SetPeers([]Peer{b.peer, c.peer})
	c.SetPeers([]Peer{a.peer})
	a.log.await(t, 10*time.Second, "can't join peer", "peer=b", "addr="+b.peer.Addr.String(), "wrong key?")
	a.log.await(t, 10*time.Second, "can't join peer", "peer=c", "addr="+c.peer.Addr.String(), "wrong key?")
	c.log.await(t, 10*time.Second, "can't join peer", "peer=a", "addr="+a.peer.Addr.String(), "wrong key?")
	for _, n := range []*node{a, b, c} {
		awaitMembers(t, n, 0, []string{n.peer.Name})
	}
}

// The peer takes the connection and says nothing: Run must not wait for it.
func TestRunEndsWhileAPeerHangs(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	a := onLoopback(t, "a", "")
	a.SetPeers([]Peer{{Name: "silent", Addr: netip.MustParseAddrPort(silent.Addr().String())}})
	conn, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in, err := net.Dial("tcp", a.peer.Addr.String()) // and one that hangs the other way
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	begin := time.Now()
	a.end()
	if took := time.Since(begin); took > Fast.memberlistConfig().TCPTimeout*3/4 {
		t.Errorf("Run went on for %v", took)
	}
	assertNoMemberlist(t)
}

func TestRunSaysWhatIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	g, err := New(Config{Name: "a", Bind: taken.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	err = g.Run(context.Background())
	if err == nil || !strings.Contains(err.Error(), "listen on "+taken.Addr().String()) {
		t.Errorf("Run: %v", err)
	}
	if got := g.Members(); len(got) != 0 {
		t.Errorf("members %v", got)
	}
}

func TestRunWithoutAnyAddress(t *testing.T) {
	g, err := New(Config{Name: "a", Bind: ":0"})
	if err != nil {
		t.Fatal(err)
	}
	g.hostAddr = func() ([]hostAddr, error) { return nil, nil }
	if err := g.Run(context.Background()); !errors.Is(err, errNoAdvertise) {
		t.Errorf("Run: %v, want errNoAdvertise", err)
	}
}

// assertFree fails unless both protocols can listen on the address.
func assertFree(t *testing.T, addr netip.AddrPort) {
	t.Helper()
	l, err := net.Listen("tcp", addr.String())
	if err != nil {
		t.Errorf("after Run: %v", err)
	} else {
		l.Close()
	}
	p, err := net.ListenPacket("udp", addr.String())
	if err != nil {
		t.Errorf("after Run: %v", err)
	} else {
		p.Close()
	}
}

// assertNoMemberlist fails if a goroutine of memberlist's, or of ours under it, is left. A probe that was
// under way when Run returned has time to end.
func assertNoMemberlist(t *testing.T) {
	t.Helper()
	var stacks bytes.Buffer
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		stacks.Reset()
		if err := pprof.Lookup("goroutine").WriteTo(&stacks, 1); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(stacks.String(), "hashicorp/memberlist") {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Errorf("left running:\n%s", stacks.String())
}

// openSockets listens on an address on a port of the kernel's choice until the test ends.
func openSockets(tb testing.TB, host string) *sockets {
	tb.Helper()
	addr, _ := netip.ParseAddr(host)
	s, err := listen(addr, 0, io.Discard)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Shutdown() })
	return s
}

func TestSocketsOfAnyFamily(t *testing.T) {
	for _, tt := range []struct{ bind, to string }{
		{"", "127.0.0.1"}, {"", "::1"}, {"127.0.0.1", "127.0.0.1"}, {"::1", "::1"}, {"127.0.0.1", "::ffff:127.0.0.1"},
	} {
		a, b := openSockets(t, tt.bind), openSockets(t, tt.bind)
		to := memberlist.Address{Addr: net.JoinHostPort(tt.to, strconv.Itoa(b.port()))}
		if _, err := a.WriteToAddress([]byte("hello"), to); err != nil {
			t.Errorf("from %q to %s: %v", tt.bind, tt.to, err)
			continue
		}
		p := <-b.PacketCh()
		want := netip.AddrPortFrom(netip.MustParseAddr(tt.to).Unmap(), uint16(a.port()))
		if string(p.Buf) != "hello" || p.From.String() != want.String() {
			t.Errorf("from %q to %s: %q from %s, want it from %s", tt.bind, tt.to, p.Buf, p.From, want)
		}
	}
}

// A packet that nobody takes, or one that says nothing, holds nobody up.
func TestSocketsShutDown(t *testing.T) {
	a, b := openSockets(t, "127.0.0.1"), openSockets(t, "127.0.0.1")
	for _, text := range []string{"", "one", "two"} {
		if _, err := a.WriteTo([]byte(text), b.udp.LocalAddr().String()); err != nil {
			t.Fatal(err)
		}
	}
	if p := <-b.PacketCh(); string(p.Buf) != "one" {
		t.Errorf("got %q", p.Buf)
	}
	conn, err := a.DialTimeout(b.tcp.Addr().String(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = b.Shutdown(), a.Shutdown()
	if _, err := a.DialTimeout(b.tcp.Addr().String(), time.Second); err == nil {
		t.Error("connected after Shutdown")
	}
}

// What arrives takes as much memory as there is of it, and some for the sender's address.
func BenchmarkPacketsReceived(b *testing.B) {
	from, to := openSockets(b, "127.0.0.1"), openSockets(b, "127.0.0.1")
	text, addr := make([]byte, 100), to.udp.LocalAddr().String()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := from.WriteTo(text, addr); err != nil {
			b.Fatal(err)
		}
		<-to.PacketCh()
	}
}

func TestPacketsTakeLittleMemory(t *testing.T) {
	const packets, each = 1000, 2 << 10
	from, to := openSockets(t, "127.0.0.1"), openSockets(t, "127.0.0.1")
	text, addr := make([]byte, 100), to.udp.LocalAddr().String()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range packets {
		if _, err := from.WriteTo(text, addr); err != nil {
			t.Fatal(err)
		}
		<-to.PacketCh()
	}
	runtime.ReadMemStats(&after)
	if took := (after.TotalAlloc - before.TotalAlloc) / packets; took > each {
		t.Errorf("a packet of %d bytes takes %d bytes of memory, want at most %d", len(text), took, each)
	}
}
