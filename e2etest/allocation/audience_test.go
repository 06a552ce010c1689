package allocation

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func audienceNamespaces(t *testing.T, c *cluster) {
	c.pool(t, "names", "addresses: [10.33.0.1-10.33.0.9], serviceAllocation: {namespaces: [green]}")
	c.pool(t, "selected", "addresses: [10.33.1.1-10.33.1.9], serviceAllocation: {namespaceSelectors: [{matchLabels: {team: blue}}]}")
	c.service(t, "green/a")
	c.expect(t, "green/a", "10.33.0.1 True Assigned")
	c.service(t, "blue/a")
	c.expect(t, "blue/a", "10.33.1.1 True Assigned")
	c.service(t, "a")
	c.expect(t, "a", "False PoolNotAllowed")
	c.says(t, "a", "PoolNotAllowed", "pool names: its serviceAllocation does not match", "pool selected: its serviceAllocation does not match")
	c.service(t, "asks", fromPool("names"))
	c.expect(t, "asks", "False PoolNotAllowed")
	c.service(t, "names-it", addresses("10.33.0.7"))
	c.expect(t, "names-it", "False PoolNotAllowed")

	// A namespace is labelled later; whoever has an address keeps it when the label goes again.
	c.patch(t, "Namespace", "default", `{"metadata":{"labels":{"team":"blue"}}}`)
	c.expect(t, "a", "10.33.1.2 True Assigned")
	c.patch(t, "Namespace", "default", `{"metadata":{"labels":{"team":null}}}`)
	c.untilRefused(t, "b")
	c.keeps(t, "a", "10.33.1.2 True Assigned")
}

// untilRefused makes Services until one is told PoolNotAllowed: nothing else shows that the controller has heard of a
// namespace's change.
func (c *cluster) untilRefused(t *testing.T, prefix string) {
	t.Helper()
	n := 0
	eventually(t, patience, func() error {
		name := fmt.Sprint(prefix, n)
		n++
		c.service(t, name)
		var told []metav1.Condition
		eventually(t, patience, func() error {
			if told = c.read(t, name).Status.Conditions; len(told) == 0 {
				return fmt.Errorf("Service %s has no condition", name)
			}
			return nil
		})
		if told[0].Reason != "PoolNotAllowed" {
			return fmt.Errorf("Service %s is told %s, want PoolNotAllowed", name, told[0].Reason)
		}
		return nil
	})
}

func audienceLabels(t *testing.T, c *cluster) {
	c.pool(t, "both", "addresses: [10.34.0.1-10.34.0.9], serviceAllocation: {namespaces: [blue], serviceSelectors: [{matchLabels: {tier: front}}, {matchLabels: {tier: edge}}]}")
	c.service(t, "blue/front", labelled("tier", "front"))
	c.expect(t, "blue/front", "10.34.0.1 True Assigned")
	c.service(t, "blue/edge", labelled("tier", "edge"))
	c.expect(t, "blue/edge", "10.34.0.2 True Assigned")
	c.service(t, "blue/none")
	c.expect(t, "blue/none", "False PoolNotAllowed")
	c.service(t, "green/front", labelled("tier", "front"))
	c.expect(t, "green/front", "False PoolNotAllowed")
	c.edit(t, "blue/none", labelled("tier", "edge"))
	c.expect(t, "blue/none", "10.34.0.3 True Assigned")
	c.edit(t, "blue/front", labelled("tier", "back"))
	c.keeps(t, "blue/front", "10.34.0.1 True Assigned")
}

// audienceNobody: selectors that match nothing serve nobody, also when they are asked for.
func audienceNobody(t *testing.T, c *cluster) {
	c.pool(t, "nobody", "addresses: [10.35.0.1-10.35.0.9], serviceAllocation: {namespaceSelectors: [{matchLabels: {team: nobody}}]}")
	c.service(t, "a")
	c.expect(t, "a", "False PoolNotAllowed")
	c.service(t, "asks", fromPool("nobody"))
	c.expect(t, "asks", "False PoolNotAllowed")
	c.service(t, "by-address", addresses("10.35.0.3"))
	c.expect(t, "by-address", "False PoolNotAllowed")
	c.patch(t, "Namespace", "green", `{"metadata":{"labels":{"team":"nobody"}}}`)
	c.service(t, "green/a")
	c.expect(t, "green/a", "10.35.0.1 True Assigned")
	c.patch(t, "Namespace", "green", `{"metadata":{"labels":{"team":"green"}}}`)
}

// priority: the lower number first, for pools with an audience or without; ties and none by name.
func priority(t *testing.T, c *cluster) {
	c.pool(t, "a-none", "addresses: [10.36.0.1]")
	c.pool(t, "b-none", "addresses: [10.36.1.1]")
	c.pool(t, "c-zero", "addresses: [10.36.2.1], serviceAllocation: {priority: 0}")
	c.pool(t, "d-twenty", "addresses: [10.36.3.1], serviceAllocation: {priority: 20}")
	c.pool(t, "e-ten", "addresses: [10.36.4.1], serviceAllocation: {priority: 10, namespaces: [default]}")
	for _, s := range [][2]string{
		{"s1", "10.36.4.1"}, {"s2", "10.36.3.1"}, {"s3", "10.36.0.1"}, {"s4", "10.36.1.1"}, {"s5", "10.36.2.1"},
	} {
		c.service(t, s[0])
		c.expect(t, s[0], s[1]+" True Assigned")
	}
}
