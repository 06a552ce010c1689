package membership

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-kit/log"
)

// world is some members on one testLAN.
type world struct {
	tb    testing.TB
	lan   *testLAN
	key   []byte
	label string
	peers []Peer
	nodes []*node // those of interest
	all   []*node // those ever run
}

type node struct {
	*Gossip
	peer Peer
	log  *logBook
	stop context.CancelFunc
	done chan struct{}
}

func newWorld(tb testing.TB) *world { return &world{tb: tb, lan: newTestLAN()} }

func testPeer(i int) Peer {
	addr := netip.AddrFrom4([4]byte{10, 0, byte(i / 250), byte(1 + i%250)})
	return Peer{Name: fmt.Sprintf("n%02d", i), Addr: netip.AddrPortFrom(addr, 7946)}
}

// start runs n members that have each other as peers, and waits until all see all.
func (w *world) start(n int) {
	w.tb.Helper()
	for i := range n {
		w.peers = append(w.peers, testPeer(i))
	}
	for _, p := range w.peers {
		w.nodes = append(w.nodes, w.run(p, nil))
	}
	for _, m := range w.nodes {
		m.SetPeers(w.peers)
	}
	w.await(time.Minute, w.nodes...)
}

// run starts one member without peers; change may alter its configuration.
func (w *world) run(p Peer, change func(*Config)) *node {
	w.tb.Helper()
	book := &logBook{}
	cfg := Config{
		Name: p.Name, Key: w.key, Label: w.label, Logger: book.logger(), Transport: w.lan.plug(p.Addr),
	}
	if change != nil {
		change(&cfg)
	}
	n := launch(w.tb, cfg, p, book)
	w.all = append(w.all, n)
	return n
}

func launch(tb testing.TB, cfg Config, p Peer, book *logBook) *node {
	tb.Helper()
	g, err := New(cfg)
	if err != nil {
		tb.Fatalf("New: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &node{Gossip: g, peer: p, log: book, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(n.done)
		if err := g.Run(ctx); err != nil {
			tb.Errorf("Run of %s: %v", cfg.Name, err)
		}
	}()
	return n
}

// end stops a member as SIGTERM does and waits for it.
func (n *node) end() {
	n.stop()
	<-n.done
}

// close ends all members and waits for them.
func (w *world) close() {
	for _, n := range w.all {
		n.stop()
	}
	for _, n := range w.all {
		<-n.done
	}
}

func namesOf(nodes []*node) []string {
	var names []string
	for _, n := range nodes {
		names = append(names, n.peer.Name)
	}
	slices.Sort(names)
	return names
}

// await waits until every given member sees exactly the given members.
func (w *world) await(within time.Duration, nodes ...*node) time.Duration {
	w.tb.Helper()
	begin := time.Now()
	want := namesOf(nodes)
	for _, n := range nodes {
		awaitMembers(w.tb, n, within-time.Since(begin), want)
	}
	return time.Since(begin)
}

func awaitMembers(tb testing.TB, n *node, within time.Duration, want []string) {
	tb.Helper()
	awaitThat(tb, n, within, fmt.Sprintf("%v", want), func() bool { return slices.Equal(n.Members(), want) })
}

// awaitThat waits until what a member sees fulfils a condition.
func awaitThat(tb testing.TB, n *node, within time.Duration, want string, ok func() bool) {
	tb.Helper()
	timer := time.NewTimer(within)
	defer timer.Stop()
	for !ok() {
		select {
		case <-n.Changed():
		case <-timer.C:
			if !ok() {
				tb.Fatalf("%s sees %v, want %s\nits log:\n%s", n.peer.Name, n.Members(), want, n.log)
			}
			return
		}
	}
}

// logBook keeps a member's log.
type logBook struct {
	mu  sync.Mutex
	buf bytes.Buffer
	hit chan struct{}
}

func (b *logBook) logger() log.Logger {
	b.hit = make(chan struct{}, 1)
	return log.NewLogfmtLogger(b)
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer signal(b.hit)
	return b.buf.Write(p)
}

func (b *logBook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// count returns how many lines hold all the words.
func (b *logBook) count(words ...string) int {
	n := 0
	for line := range strings.Lines(b.String()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			n++
		}
	}
	return n
}

// await waits for a line that holds all the words.
func (b *logBook) await(tb testing.TB, within time.Duration, words ...string) {
	tb.Helper()
	timer := time.NewTimer(within)
	defer timer.Stop()
	for b.count(words...) == 0 {
		select {
		case <-b.hit:
		case <-timer.C:
			tb.Fatalf("no line with %q in\n%s", words, b)
		}
	}
}
