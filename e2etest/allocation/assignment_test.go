package allocation

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// whoWaits: one that found no address gets that of another which is deleted, or changes its type; the oldest first.
func whoWaits(t *testing.T, c *cluster) {
	c.pool(t, "one", "addresses: [10.30.0.1]")
	c.service(t, "first")
	c.expect(t, "first", "10.30.0.1 True Assigned")
	c.service(t, "second")
	c.expect(t, "second", "False PoolExhausted")
	c.service(t, "third")
	c.expect(t, "third", "False PoolExhausted")
	c.delete(t, "Service", "first")
	c.expect(t, "second", "10.30.0.1 True Assigned")
	c.keeps(t, "third", "False PoolExhausted")
	c.edit(t, "second", clusterIP)
	c.expect(t, "third", "10.30.0.1 True Assigned")
	c.expect(t, "second", "")
	c.patch(t, "Service", "second", `{"spec":{"type":"LoadBalancer"}}`)
	c.expect(t, "second", "False PoolExhausted")
	c.patch(t, "IPAddressPool", "one", `{"spec":{"addresses":["10.30.0.1","10.30.0.2"]}}`)
	c.expect(t, "second", "10.30.0.2 True Assigned")
}

// poolDeletion: a pool in use waits for its holders, gives nothing new, and goes with the last of them.
func poolDeletion(t *testing.T, c *cluster) {
	c.pool(t, "used", "addresses: [10.31.0.1-10.31.0.9]")
	c.service(t, "a")
	c.service(t, "b")
	c.expect(t, "a", "10.31.0.1 True Assigned")
	c.expect(t, "b", "10.31.0.2 True Assigned")
	c.finalized(t, "used")
	c.deleteLater(t, "IPAddressPool", "used")
	c.service(t, "late")
	c.expect(t, "late", "False PoolPaused")
	c.says(t, "late", "PoolPaused", "it is being deleted")
	c.keeps(t, "a", "10.31.0.1 True Assigned")
	c.finalized(t, "used")
	c.delete(t, "Service", "a")
	c.finalized(t, "used")
	c.keeps(t, "late", "False PoolPaused")
	c.delete(t, "Service", "b")
	client, name := c.resource("IPAddressPool", "used")
	eventually(t, patience, func() error { return gone(within(t, patience), client, name) })
	c.expect(t, "late", "False NoPool")
}

// finalized waits until a pool has the finalizer that keeps it.
func (c *cluster) finalized(t *testing.T, pool string) {
	t.Helper()
	eventually(t, patience, func() error {
		var have conditioned
		if err := c.get(t, "IPAddressPool", pool, &have); err != nil {
			return err
		}
		if !slices.Contains(have.Metadata.Finalizers, "lanyard.dev/in-use") {
			return errors.New("pool " + pool + " has the finalizers " + strings.Join(have.Metadata.Finalizers, " "))
		}
		return nil
	})
}

// poolVanishes: with its finalizer removed by hand a pool goes at once, and its holders keep what they have.
func poolVanishes(t *testing.T, c *cluster) {
	c.pool(t, "used", "addresses: [10.32.0.1-10.32.0.9]")
	c.service(t, "a")
	c.expect(t, "a", "10.32.0.1 True Assigned")
	c.finalized(t, "used")
	c.deleteLater(t, "IPAddressPool", "used")
	c.patch(t, "IPAddressPool", "used", `{"metadata":{"finalizers":null}}`)
	c.expect(t, "a", "10.32.0.1 True OutsidePool")
	c.service(t, "b")
	c.expect(t, "b", "False NoPool")
	c.pool(t, "renamed", "addresses: [10.32.0.0/28]")
	c.expect(t, "a", "10.32.0.1 True Assigned")
	c.expect(t, "b", "10.32.0.0 True Assigned")
	if !strings.Contains(conditionOf(c.read(t, "a")).Message, "pool renamed") {
		t.Errorf("the condition does not name the new pool: %s", conditionOf(c.read(t, "a")).Message)
	}
}
