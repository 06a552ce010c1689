package allocation

import "testing"

// preferDualStack: a pool with both families before two pools; one family rather than none; the missing one is added
// when it can be had, and nothing moves for it.
func preferDualStack(t *testing.T, c *cluster) {
	c.pool(t, "a-four", "addresses: [10.40.0.1-10.40.0.9]")
	c.service(t, "alone", prefer())
	c.expect(t, "alone", "10.40.0.1 True FamilyUnavailable")
	c.says(t, "alone", "FamilyUnavailable", "10.40.0.1 from pool a-four", "no IPv6 address")
	c.service(t, "alone-six", prefer(six, four))
	c.expect(t, "alone-six", "10.40.0.2 True FamilyUnavailable")
	c.service(t, "strict", require())
	c.expect(t, "strict", "False FamilyUnavailable")
	c.pool(t, "b-both", "addresses: [10.40.1.1-10.40.1.9, 'fd40::1-fd40::9']")
	c.expect(t, "alone", "10.40.0.1 fd40::1 True Assigned")
	c.expect(t, "alone-six", "fd40::2 10.40.0.2 True Assigned")
	c.expect(t, "strict", "10.40.1.1 fd40::3 True Assigned")
	c.service(t, "whole", prefer())
	c.expect(t, "whole", "10.40.1.2 fd40::4 True Assigned")
	c.service(t, "single")
	c.expect(t, "single", "10.40.0.3 True Assigned")
}

// familyChanges: between the policies, and from one family to two and back, an address that is still asked for stays.
func familyChanges(t *testing.T, c *cluster) {
	c.pool(t, "four", "addresses: [10.41.0.1-10.41.0.9]")
	c.service(t, "s", prefer())
	c.expect(t, "s", "10.41.0.1 True FamilyUnavailable")
	c.edit(t, "s", require())
	c.expect(t, "s", "10.41.0.1 False FamilyUnavailable")
	c.edit(t, "s", prefer())
	c.expect(t, "s", "10.41.0.1 True FamilyUnavailable")
	c.pool(t, "six", "addresses: ['fd41::1-fd41::9']")
	c.expect(t, "s", "10.41.0.1 fd41::1 True Assigned")
	c.edit(t, "s", require())
	c.expect(t, "s", "10.41.0.1 fd41::1 True Assigned")
	c.edit(t, "s", singleStack(four))
	c.expect(t, "s", "10.41.0.1 True Assigned")
	c.service(t, "six", singleStack(six))
	c.expect(t, "six", "fd41::1 True Assigned")
	c.edit(t, "s", prefer(four, six))
	c.expect(t, "s", "10.41.0.1 fd41::2 True Assigned")
}
