package kubelet

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/e2etest/labtest"
)

// farTooLong is how long nobody may wait when a node dies. It takes about half a second; a busy machine may need more.
const farTooLong = 3 * time.Second

// TestNodes takes the node that owns an address away in all the ways that nodes go, under load, and gives it back.
func TestNodes(t *testing.T) {
	c := attach(t)
	c.install(t)
	c.serve(t, "web", "web", labtest.DualStack)
	ips := c.Assigned(t, "web", 2)

	t.Run("drain", func(t *testing.T) { c.drain(t, ips) })
	for _, way := range []struct {
		name string
		// away takes the node away, back gives it back.
		away, back func(ctx context.Context, node string) error
		// kernel tells that the node's kernel goes on meanwhile: it forwards, and has its routes.
		kernel bool
	}{
		{name: "kill", away: c.kind.Kill, back: c.kind.Start},
		{name: "stop", away: c.kind.Stop, back: c.kind.Start},
		{name: "pause", away: c.kind.Pause, back: c.kind.Unpause, kernel: true},
	} {
		t.Run(way.name, func(t *testing.T) {
			node, before := c.backendsElsewhere(t, ips)
			flows := c.load(t, ips...)
			afterwards(t, func(ctx context.Context) error { return c.giveBack(ctx, node, way.back) })
			begun := time.Now()
			must(t, way.away(within(t, time.Minute), node))
			t.Logf("docker took %v to %s %s", time.Since(begun).Round(time.Millisecond), way.name, node)
			c.OwnedBy(t, 10*time.Second, c.Others(node), ips...)
			after := c.Owners(t, ips...)
			if !way.kernel {
				must(t, c.WaitNodeReady(within(t, time.Minute), node, false))
			}
			for ip, r := range flows.ends(t, way.name+" of "+node) {
				switch moved := before[ip] == node; {
				case moved && r.Gap.Duration() > farTooLong:
					t.Errorf("%s, which %s owned: %s", ip, node, r)
				case moved && way.kernel && r.Lost > 0:
					t.Errorf("%s: %s froze, but its kernel goes on: %s", ip, node, r)
				case !moved && r.Lost > 0:
					t.Errorf("%s, which %s owned all the time: %s", ip, before[ip], r)
				case !moved && after[ip] != before[ip]:
					t.Errorf("%s was on %s and is on %s, and had nothing to do with %s", ip, before[ip], after[ip], node)
				}
			}

			flows = c.load(t, ips...)
			begun = time.Now()
			must(t, c.giveBack(within(t, 2*time.Minute), node, way.back))
			must(t, c.WaitNodeReady(within(t, time.Minute), node, true))
			c.together(t)
			t.Logf("%v until %s is Ready and all speakers see each other", time.Since(begun).Round(time.Millisecond), node)
			throughout(t, 2*time.Second, func() error {
				now, err := c.OwnersNow(ips...)
				if err == nil && !maps.Equal(now, after) {
					err = fmt.Errorf("%s took something back: the owners were %v and are %v", node, after, now)
				}
				return err
			})
			flows.lossless(t, "return of "+node)
			c.rolledOut(t)
		})
	}
}

// backendsElsewhere runs, until the test ends, a backend on every worker but the owner of the first address, which it returns, with
// the owners of all. So what is lost is lost on the way.
func (c *cluster) backendsElsewhere(t *testing.T, ips []netip.Addr) (owner string, owners map[netip.Addr]string) {
	t.Helper()
	owners = c.Owners(t, ips...)
	owner = owners[ips[0]]
	for _, node := range c.Others(owner) {
		c.RunWeb(t, node, "web-"+node)
	}
	t.Logf("owners: %v", owners)
	return owner, owners
}

// giveBack gives a node back, if it is away, and finds its namespaces again, if they are new.
func (c *cluster) giveBack(ctx context.Context, node string, back func(ctx context.Context, node string) error) error {
	n, err := c.kind.Node(ctx, node)
	if err != nil {
		return err
	}
	if n.Status != "running" {
		if err := back(ctx, node); err != nil || n.Status == "paused" {
			return err
		}
	}
	return c.Reattach(ctx, node)
}

// drain empties the node that owns an address, for a Service with externalTrafficPolicy Cluster and for one with Local, whose only
// pod is on that node.
func (c *cluster) drain(t *testing.T, ips []netip.Addr) {
	c.deploy(t, "lone", 1, 5)
	c.serve(t, "lone", "lone", "externalTrafficPolicy: Local")
	local := c.Address(t, "lone")
	node := c.nodesOf(t, "lone")[0]
	c.OwnedBy(t, 10*time.Second, []string{node}, local)
	// One address of the other Service has to be there, too.
	must(t, c.moveTo(within(t, 10*time.Second), "web", node))
	c.OwnedBy(t, 10*time.Second, []string{node}, ips...)
	for _, other := range c.Others(node) {
		c.RunWeb(t, other, "web-"+other)
	}

	flows := c.load(t, append([]netip.Addr{local}, ips...)...)
	afterwards(t, func(ctx context.Context) error {
		_, err := c.Kubectl(ctx, "uncordon", node)
		return err
	})
	must(t, c.moveTo(within(t, 10*time.Second), "web", "")) // a wish would stand against the cordon
	begun := time.Now()
	c.shell(t, "kubectl", "cordon", node)
	c.OwnedBy(t, 10*time.Second, c.Others(node), ips...)
	t.Logf("%v after the cordon %s has given away what others can have", time.Since(begun).Round(time.Millisecond), node)
	c.OwnedBy(t, time.Second, []string{node}, local)
	c.shell(t, "kubectl", "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s")
	eventually(t, 20*time.Second, func() error {
		if on := c.nodesOf(t, "lone"); slices.Contains(on, node) || len(on) == 0 {
			return fmt.Errorf("the pod is on %v", on)
		}
		return nil
	})
	c.OwnedBy(t, 10*time.Second, c.nodesOf(t, "lone"), local)
	c.shell(t, "kubectl", "uncordon", node)
	c.together(t)
	flows.lossless(t, "cordon, drain and uncordon of "+node)
}

// moveTo asks, by the annotation, for a Service's addresses to be on a node; without one it asks for nothing.
func (c *cluster) moveTo(ctx context.Context, service, node string) error {
	wish := "lanyard.dev/move-to=" + node
	if node == "" {
		wish = "lanyard.dev/move-to-"
	}
	_, err := c.Kubectl(ctx, "annotate", "--overwrite", "service", service, wish)
	return err
}
