package allocation

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// otherClass: a Service of another class, and one that is no load balancer, is none of our business.
func otherClass(t *testing.T, c *cluster) {
	c.pool(t, "a", "addresses: [10.42.0.1-10.42.0.9]")
	c.service(t, "foreign", class("example.com/other"))
	c.service(t, "written", class("example.com/other"))
	c.writeStatus(t, "written", "10.42.0.3", "203.0.113.7")
	c.service(t, "none", clusterIP)
	c.service(t, "ours")
	c.expect(t, "ours", "10.42.0.1 True Assigned")
	c.keeps(t, "foreign", "")
	c.keeps(t, "written", "10.42.0.3 203.0.113.7")
	c.keeps(t, "none", "")
	if conditions := c.read(t, "foreign").Status.Conditions; len(conditions) > 0 {
		t.Errorf("the Service of another class has the conditions %v", conditions)
	}

	// From ours to another class, by way of another type: the address is free, and no mark of ours is left.
	c.edit(t, "ours", clusterIP)
	c.expect(t, "ours", "")
	c.edit(t, "ours", class("example.com/other"))
	c.counted(t, "a", "9/0/9 //")
	c.service(t, "next")
	c.expect(t, "next", "10.42.0.1 True Assigned")
	c.keeps(t, "ours", "")
	c.edit(t, "ours", clusterIP)
	c.edit(t, "ours", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer })
	c.expect(t, "ours", "10.42.0.2 True Assigned")
}

// otherStatuses: what others wrote is adopted when a pool contains it, and left alone when none does; what we wrote is
// put right.
func otherStatuses(t *testing.T, c *cluster) {
	c.service(t, "cloud")
	c.expect(t, "cloud", "False NoPool")
	c.pool(t, "a", "addresses: [10.43.0.1-10.43.0.9]")
	c.expect(t, "cloud", "10.43.0.1 True Assigned")
	c.service(t, "other")
	c.expect(t, "other", "10.43.0.2 True Assigned")
	c.writeStatus(t, "cloud", "10.43.0.2")
	c.expect(t, "cloud", "10.43.0.1 True Assigned")
	c.writeStatus(t, "cloud")
	c.expect(t, "cloud", "10.43.0.1 True Assigned")
	c.writeStatus(t, "cloud", "203.0.113.7")
	c.expect(t, "cloud", "10.43.0.1 True Assigned")
	c.keeps(t, "other", "10.43.0.2 True Assigned")
}

// lbClass: a controller with a class serves exactly that class, and lets go of what is no longer of it.
func lbClass(t *testing.T, c *cluster) {
	c.pool(t, "a", "addresses: [10.44.0.1-10.44.0.9]")
	c.service(t, "classless")
	c.expect(t, "classless", "10.44.0.1 True Assigned")
	c.stop(t)
	c.service(t, "ours", class("example.com/ours"))
	c.service(t, "theirs", class("example.com/theirs"))
	c.service(t, "none")
	c.start(t, "--lb-class=example.com/ours")
	defer func() { c.stop(t); c.start(t) }()
	c.expect(t, "ours", "10.44.0.2 True Assigned") // at the start the other one stands in a status
	c.keeps(t, "theirs", "")
	c.keeps(t, "none", "")
	c.expect(t, "classless", "")
	c.edit(t, "ours", clusterIP)
	c.expect(t, "ours", "")
	c.service(t, "next", class("example.com/ours"))
	c.expect(t, "next", "10.44.0.1 True Assigned")
	c.edit(t, "ours", class("example.com/ours"))
	c.expect(t, "ours", "10.44.0.2 True Assigned")
}
