package layer2

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
	"github.com/lanyard-lb/lanyard/e2etest/labtest"
)

// TestGossipKeys is about the keys of gossip: W-02.
func TestGossipKeys(t *testing.T) {
	lab.Need(t, lab.NodeFiles)
	c := &cluster{labtest.Install(t, lab.Options{Nodes: 3, Clients: 2})}
	g := &gossip{cluster: c, old: newKey(), young: newKey()}
	g.give(t, g.old)
	for _, node := range c.Nodes() {
		g.start(t, node)
	}
	c.AllTogether(t)
	g.services(t)
	t.Run("rotation", g.rotate)
	t.Run("a wrong key", g.wrongKey)
}

// TestGossipBlocked is about gossip that does not get through: W-02.
func TestGossipBlocked(t *testing.T) {
	g := &gossip{cluster: serve(t, lab.Options{Nodes: 3, Clients: 2})}
	g.services(t)
	g.blocked(t)
}

// services makes three Services of two addresses each.
func (g *gossip) services(t *testing.T) {
	t.Helper()
	g.Pool(t, "lan", "[10.77.0.200-10.77.0.202, fd77::200-fd77::202]")
	g.Advertise(t, "lan")
	g.ips = g.Services(t, "web", 3)
}

type gossip struct {
	*cluster
	old, young string
	ips        []netip.Addr
}

// newKey is a key as the controller makes them: 32 bytes in base64.
func newKey() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails
	return base64.StdEncoding.EncodeToString(raw)
}

// keyFile is the file of a node's keys: a mounted Secret's, on a real node.
func (g *gossip) keyFile(node string) string { return filepath.Join(g.StateDir(), "keys-"+node) }

// give puts keys into the files of all nodes, the primary first, each at once, as the kubelet does it.
func (g *gossip) give(t *testing.T, keys ...string) {
	t.Helper()
	for _, node := range g.Nodes() {
		g.giveOne(t, node, keys...)
	}
}

func (g *gossip) giveOne(t *testing.T, node string, keys ...string) {
	t.Helper()
	file := g.keyFile(node)
	must(t, os.WriteFile(file+".new", []byte(strings.Join(keys, "\n")+"\n"), 0o644))
	must(t, os.Rename(file+".new", file))
}

// start starts the speaker of a node with its keys.
func (g *gossip) start(t *testing.T, node string) {
	t.Helper()
	_, err := g.StartSpeaker(within(t, 20*time.Second), node, "--gossip-key-file="+g.keyFile(node))
	must(t, err)
}

// rotate changes the key in three steps: all know the new one, all use it, all forget the old one. Nobody restarts, nobody is
// missed, nothing moves. That it took effect is shown by who can join afterwards.
func (g *gossip) rotate(t *testing.T) {
	owners := g.Owners(t, g.ips...)
	pids := g.pids()
	flooded, begun := g.flood(t), time.Now()
	for _, keys := range [][]string{{g.old, g.young}, {g.young, g.old}, {g.young}} {
		g.give(t, keys...)
		g.undivided(t, 3*time.Second)
	}
	throughout(t, time.Second, func() error { return g.ownedAs(owners) })
	flooded.onlyFrom(t, owners, begun)
	if now := g.pids(); !slices.Equal(now, pids) {
		t.Errorf("the speakers were the processes %v and are %v now", pids, now)
	}
	g.stop(t, g.Node(3))
	must(t, g.Speaker(g.Node(3)).Restart())
	g.AllTogether(t)
}

func (g *gossip) pids() (pids []int) {
	for _, node := range g.Nodes() {
		pids = append(pids, g.Speaker(node).PID())
	}
	return pids
}

// undivided checks for a while that every speaker sees all.
func (g *gossip) undivided(t *testing.T, span time.Duration) {
	t.Helper()
	throughout(t, span, func() error {
		for _, node := range g.Nodes() {
			alive, err := g.Metric(t.Context(), node, `lanyard_speaker_members{state="alive"}`)
			if err == nil && int(alive) != len(g.Nodes()) {
				err = fmt.Errorf("%s sees %v speakers", node, alive)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// wrongKey: a speaker with a key that is no longer in use stays alone, and the node, the metrics and its readiness say so, until
// it has the right one.
func (g *gossip) wrongKey(t *testing.T) {
	g.stop(t, g.Node(3))
	begun := time.Now()
	g.giveOne(t, g.Node(3), g.old)
	g.start(t, g.Node(3))
	g.troubled(t, g.Node(3), begun)
	g.giveOne(t, g.Node(3), g.young)
	g.AllTogether(t)
	g.untroubled(t)
	g.Owners(t, g.ips...)
}

// blocked: the port of gossip of one node is closed by a firewall. It is as visible.
func (g *gossip) blocked(t *testing.T) {
	g.Owners(t, g.ips...)
	t.Cleanup(func() { _ = g.Heal() })
	begun := time.Now()
	for _, node := range g.Others(g.Node(3)) {
		must(t, g.PartGossip(g.Node(3), node))
	}
	g.troubled(t, g.Node(3), begun)
	must(t, g.Heal())
	g.AllTogether(t)
	g.untroubled(t)
	g.Owners(t, g.ips...)
}

// problems is the metric of what hinders gossip.
const problems = "lanyard_gossip_problems"

// troubled waits until it shows that a node's gossip does not get through: in its metrics and in those of another, by its
// readiness, and by an event on a Node since.
func (g *gossip) troubled(t *testing.T, node string, since time.Time) {
	t.Helper()
	for _, at := range []string{node, g.Node(1)} {
		eventually(t, 30*time.Second, func() error {
			n, err := g.MetricSum(t.Context(), at, problems)
			if err == nil && n == 0 {
				err = fmt.Errorf("%s sees no problem of gossip", at)
			}
			return err
		})
	}
	eventually(t, 30*time.Second, func() error {
		if g.Ready(t.Context(), node) == nil {
			return fmt.Errorf("the speaker of %s, which is alone, is ready", node)
		}
		return nil
	})
	eventually(t, 30*time.Second, func() error {
		for _, other := range g.Nodes() {
			for _, e := range g.EventsSince(t, since, "Node", other) {
				if strings.HasPrefix(e, "Warning ") && strings.Contains(strings.ToLower(e), "gossip") {
					t.Logf("event on %s: %s", other, e)
					return nil
				}
			}
		}
		return fmt.Errorf("no event on a Node warns of gossip")
	})
}

// untroubled waits until no node has a problem with gossip any more.
func (g *gossip) untroubled(t *testing.T) {
	t.Helper()
	for _, node := range g.Nodes() {
		g.counts(t, node, 0, problems)
	}
}
