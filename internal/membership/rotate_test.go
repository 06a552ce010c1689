package membership

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// keysOf returns the installed keys by their names in secrets, the primary first.
func keysOf(n *node, secrets ...string) string {
	var names []string
	for _, k := range n.keys.installed() {
		for _, s := range secrets {
			if keys, _ := parseKeys([]byte(s)); keys[0] == k {
				names = append(names, s)
			}
		}
	}
	return strings.Join(names, " ")
}

// A cluster changes its keys while its members see each new file at times of their own. Nobody must lose
// a member, nor get a packet that it can't read.
func TestRotation(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files []string
	}{
		{"new one in front, then the old one out", []string{"new\nold\n", "new\n"}},
		{"new one behind, then in front, then alone", []string{"old\nnew", "new\nold", "new"}},
		{"replaced", []string{"new"}},
		{"replaced twice in short order", []string{"newer", "new"}},
		{"twice, the old one in the middle", []string{"newer\nold", "new\nold\nnewer", "new\nnewer", "new"}},
	} {
		for _, size := range []int{2, 5} {
			t.Run(fmt.Sprintf("%s, %d", tt.name, size), func(t *testing.T) {
				t.Parallel()
				seed := *firstSeed
				inBubble(t, func(t *testing.T, w *world) { rotate(t, w, size, tt.files, seed) })
				if t.Failed() {
					t.Logf("seed %d", seed)
				}
			})
		}
	}
}

func rotate(t *testing.T, w *world, size int, files []string, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	w.key = []byte("old\n")
	w.start(size)
	<-time.After(5 * time.Second)
	before := losses(w.nodes)
	for _, f := range files {
		var late sync.WaitGroup
		for _, n := range w.nodes {
			delay := time.Duration(rng.IntN(90_000)) * time.Millisecond
			late.Go(func() {
				<-time.After(delay)
				if err := n.SetKeys([]byte(f)); err != nil {
					t.Errorf("SetKeys: %v", err)
				}
			})
		}
		late.Wait()
		<-time.After(time.Duration(rng.IntN(30)) * time.Second)
	}
	<-time.After(20 * time.Second)
	for _, n := range w.nodes {
		if got := keysOf(n, "old", "newer", "new"); got != "new" {
			t.Errorf("%s has the keys %q, want the new one:\n%s", n.peer.Name, got, n.log)
		}
		if n.log.count("could decrypt") > 0 {
			t.Errorf("%s could not read something:\n%s", n.peer.Name, n.log)
		}
	}
	if lost := losses(w.nodes) - before; lost > 0 {
		t.Errorf("members were lost %d times", lost)
	}
	w.await(0, w.nodes...)
}

// Who starts while the keys change finds the others, whichever of the keys they use.
func TestJoinDuringRotation(t *testing.T) {
	for _, tt := range []struct{ theirs, ours, reason string }{
		{"old", "new\nold", "the others have not seen the new file"},
		{"new", "new\nold", "the others have not only seen it, but the next one too"},
		{"new\nold", "new", "our file is early"},
		{"b\na", "c\nb\na", "three"},
		{"b", "c\nb\na", "the one in the middle"},
	} {
		inBubble(t, func(t *testing.T, w *world) {
			w.key = []byte(tt.theirs)
			w.start(3)
			<-time.After(20 * time.Second)
			joiner := w.run(testPeer(3), func(c *Config) { c.Key = []byte(tt.ours) })
			w.nodes = append(w.nodes, joiner)
			for _, n := range w.nodes {
				n.SetPeers(append(w.peers, testPeer(3)))
			}
			t.Logf("%s: %v", tt.reason, w.await(12*time.Second, w.nodes...))
			<-time.After(time.Minute)
			w.await(0, w.nodes...)
		})
	}
}

// A member that never tells of the new key is waited for, but not for ever.
func TestRotationGoesAhead(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.key = []byte("old")
		w.start(3)
		<-time.After(3 * time.Second)
		for _, n := range w.nodes[1:] {
			if err := n.SetKeys([]byte("new")); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(rotatePatience - 10*time.Second)
		w.await(0, w.nodes...)
		if got := keysOf(w.nodes[1], "old", "new"); got != "old new" {
			t.Errorf("before: %q", got)
		}
		<-time.After(20 * time.Second)
		if got := keysOf(w.nodes[1], "old", "new"); got != "new old" {
			t.Errorf("after: %q", got)
		}
		if err := w.nodes[0].SetKeys([]byte("new")); err != nil { // late
			t.Fatal(err)
		}
		w.await(time.Minute, w.nodes...)
	})
}

func TestSetKeysRefuses(t *testing.T) {
	g, err := New(Config{Name: "a", Key: []byte("# of the year 2026\n\none\n two \none\n")})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Gossip: g}
	if got := keysOf(n, "one", "two"); got != "two one" { // the last one first, until others are there
		t.Errorf("keys %q", got)
	}
	for _, bad := range []string{"", " \n", "# comment\n", manyKeys()} {
		if err := g.SetKeys([]byte(bad)); err == nil {
			t.Errorf("the content %q was taken", bad)
		}
	}
	if got := keysOf(n, "one", "two"); got != "two one" {
		t.Errorf("faulty content left the keys %q", got)
	}
	open, err := New(Config{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if err := open.SetKeys([]byte("one")); !errors.Is(err, errNoKeys) {
		t.Errorf("keys where there were none: %v", err)
	}
}

func manyKeys() string {
	var b strings.Builder
	for i := range keysMost + 1 {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}

func TestWatchKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write := func(s string) {
		if err := os.WriteFile(path+".new", []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		book := &logBook{}
		logger := book.logger()
		var got []string
		set := func(b []byte) error {
			got = append(got, string(b))
			if string(b) == "bad" {
				return errors.New("that is bad")
			}
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() {
			if err := WatchKeyFile(ctx, path, time.Second, set, logger); err != nil {
				t.Error(err)
			}
		})
		<-time.After(1500 * time.Millisecond) // no file yet
		for _, s := range []string{"one", "bad", "bad", "two", "one"} {
			write(s)
			<-time.After(3 * time.Second)
		}
		cancel()
		done.Wait()
		if want := "one bad two one"; strings.Join(got, " ") != want {
			t.Errorf("set %q, want %q", got, want)
		}
		if book.count("no such file") != 1 || book.count("that is bad") != 1 {
			t.Errorf("log:\n%s", book)
		}
	})
}
