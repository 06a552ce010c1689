package allocation

import (
	"context"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// restarts: over five restarts, three of them by kill -9, nobody's address changes and nobody's status is written.
func restarts(t *testing.T, c *cluster) {
	c.pool(t, "r", "addresses: [10.71.0.1-10.71.0.40]")
	const many = 20
	want := map[string]string{}
	for i := range many {
		name := fmt.Sprint("s", i)
		c.service(t, name)
	}
	for i := range many {
		name := fmt.Sprint("s", i)
		eventually(t, patience, func() error {
			if s := c.read(t, name); conditionOf(s) != nil && conditionOf(s).Reason == "Assigned" {
				want[name] = show(s) + s.ResourceVersion
				return nil
			}
			return fmt.Errorf("%s has no address", name)
		})
	}
	for round := range 5 {
		if round%2 == 0 {
			must(t, c.controller.Kill())
			must(t, c.freeLease(within(t, 10*time.Second)))
		} else {
			c.stop(t)
		}
		c.start(t)
		probe := fmt.Sprint("probe-", round)
		c.service(t, probe)
		eventually(t, patience, func() error {
			if len(ingress(c.read(t, probe))) == 0 {
				return fmt.Errorf("%s has no address", probe)
			}
			return nil
		})
		for name, w := range want {
			if s := c.read(t, name); show(s)+s.ResourceVersion != w {
				t.Errorf("after restart %d, %s has %s (version %s), want %s", round, name, show(s), s.ResourceVersion, w)
			}
		}
	}
}

// freeLease ends the term of a leader that cannot do so itself, so that the test need not wait for its end.
func (c *cluster) freeLease(ctx context.Context) error {
	return c.Client().CoordinationV1().Leases(lab.Namespace).Delete(ctx, "lanyard-controller", metav1.DeleteOptions{})
}

// whileDown: what changed while nobody looked is found out at the start.
func whileDown(t *testing.T, c *cluster) {
	c.pool(t, "d", "addresses: [10.72.0.1-10.72.0.3]")
	c.service(t, "retyped")
	c.expect(t, "retyped", "10.72.0.1 True Assigned")
	c.service(t, "deleted")
	c.expect(t, "deleted", "10.72.0.2 True Assigned")
	c.service(t, "wiped")
	c.expect(t, "wiped", "10.72.0.3 True Assigned")
	for i := range 3 {
		c.service(t, fmt.Sprint("waits-", i))
		c.expect(t, fmt.Sprint("waits-", i), "False PoolExhausted")
	}
	c.stop(t)
	c.edit(t, "retyped", clusterIP)
	c.delete(t, "Service", "deleted")
	c.writeStatus(t, "wiped")
	c.start(t)
	c.expect(t, "wiped", "10.72.0.3 True Assigned")
	c.expect(t, "retyped", "")
	c.expect(t, "waits-0", "10.72.0.2 True Assigned") // which is free at once; the other only when it has been given up
	c.expect(t, "waits-1", "10.72.0.1 True Assigned")
	if conflicts := c.metric(t, "lanyard_allocation_conflicts_total"); conflicts != 0 {
		t.Errorf("%v conflicts are counted, where nobody has done anything wrong", conflicts)
	}
	c.expect(t, "waits-2", "False PoolExhausted")
}

// duplicates: what others wrote twice is reported at the start; the older Service keeps it, the other gets a new one.
func duplicates(t *testing.T, c *cluster) {
	before := c.metric(t, "lanyard_allocation_conflicts_total")
	c.stop(t)
	c.service(t, "older")
	c.nextSecond(t)
	c.service(t, "younger")
	c.service(t, "green/younger")
	for _, name := range []string{"younger", "older", "green/younger"} {
		c.writeStatus(t, name, "10.73.0.5")
	}
	c.apply(t, poolYAML("dup", "addresses: [10.73.0.1-10.73.0.9]"))
	c.start(t)
	c.expect(t, "older", "10.73.0.5 True Assigned")
	c.expect(t, "younger", "10.73.0.1 True Assigned")
	c.expect(t, "green/younger", "10.73.0.2 True Assigned")
	c.told(t, "older", "Assigned=1 DuplicateAddress=1")
	c.told(t, "younger", "Assigned=1 DuplicateAddress=1")
	if now := c.metric(t, "lanyard_allocation_conflicts_total"); now != 1 {
		t.Errorf("lanyard_allocation_conflicts_total is %v after %v in the process before, want 1", now, before)
	}
}

// recreated: a Service that is deleted and made again, over and over, as fast as it goes, loses no address of the pool.
func recreated(t *testing.T, c *cluster) {
	c.pool(t, "q", "addresses: [10.74.0.1-10.74.0.2]")
	for range 30 {
		must(t, c.createService(within(t, 10*time.Second), "quick"))
		c.deleteLater(t, "Service", "quick")
	}
	c.service(t, "quick")
	c.service(t, "other")
	eventually(t, patience, func() error {
		a, b := ingress(c.read(t, "quick")), ingress(c.read(t, "other"))
		if len(a) != 1 || len(b) != 1 || a[0] == b[0] {
			return fmt.Errorf("quick has %v and other has %v (%v, %v)", a, b, conditionOf(c.read(t, "quick")), conditionOf(c.read(t, "other")))
		}
		return nil
	})
}
