package allocation

import "testing"

// sharingKey: Services of one key have one address, in both families; a port clash waits, or spills if asked to.
func sharingKey(t *testing.T, c *cluster) {
	c.pool(t, "share", "addresses: [10.20.0.1-10.20.0.9, 'fd20::1-fd20::9']")
	c.service(t, "web", sharing("k"), port(80), require())
	c.expect(t, "web", "10.20.0.1 fd20::1 True Assigned")
	c.service(t, "dns", sharing("k"), port(53), require(six, four))
	c.expect(t, "dns", "fd20::1 10.20.0.1 True Assigned")
	c.service(t, "mail", sharing("k"), port(25))
	c.expect(t, "mail", "10.20.0.1 True Assigned")
	c.service(t, "alone", port(8080))
	c.expect(t, "alone", "10.20.0.2 True Assigned")

	c.service(t, "clash", sharing("k"), port(80))
	c.expect(t, "clash", "False SharingConflict")
	c.says(t, "clash", "SharingConflict", "default/web uses port 80/TCP too", "lanyard.dev/sharing-spill")
	c.service(t, "spill", sharing("k"), port(80), annotation("lanyard.dev/sharing-spill", "true"))
	c.expect(t, "spill", "10.20.0.3 True Assigned")
	c.delete(t, "Service", "web")
	c.expect(t, "clash", "10.20.0.1 True Assigned")
	c.keeps(t, "dns", "fd20::1 10.20.0.1 True Assigned")
}

// sharingNamespaces: the key alone does not open an address to another namespace; both have to name the other.
func sharingNamespaces(t *testing.T, c *cluster) {
	c.pool(t, "share", "addresses: [10.20.1.1-10.20.1.9]")
	with := func(namespaces string) change { return annotation("lanyard.dev/sharing-namespaces", namespaces) }
	c.service(t, "blue/a", sharing("k"), port(1))
	c.expect(t, "blue/a", "10.20.1.1 True Assigned")
	c.service(t, "green/b", sharing("k"), port(2), with("blue"))
	c.expect(t, "green/b", "False SharingConflict")
	c.says(t, "green/b", "SharingConflict", "blue/a", "name each other's namespace")
	c.edit(t, "blue/a", with("green"))
	c.expect(t, "green/b", "10.20.1.1 True Assigned")
	c.keeps(t, "blue/a", "10.20.1.1 True Assigned")
	c.service(t, "c", sharing("k"), port(3), with("*"))
	c.expect(t, "c", "False SharingConflict")
}

// sharingLocal: two Services that serve only from the node they are announced on must have the same backends.
func sharingLocal(t *testing.T, c *cluster) {
	c.pool(t, "share", "addresses: [10.20.2.1-10.20.2.9]")
	c.service(t, "a", sharing("k"), port(1), local, selecting("one"))
	c.expect(t, "a", "10.20.2.1 True Assigned")
	c.service(t, "same", sharing("k"), port(2), local, selecting("one"))
	c.expect(t, "same", "10.20.2.1 True Assigned")
	c.service(t, "other", sharing("k"), port(3), local, selecting("two"))
	c.expect(t, "other", "False SharingConflict")
	c.says(t, "other", "SharingConflict", "other backends", "Local")
	c.edit(t, "other", toCluster)
	c.expect(t, "other", "10.20.2.1 True Assigned")
}

// sharingChanges: policy, selector, port and key of one of those who share are looked at again; the others stay.
func sharingChanges(t *testing.T, c *cluster) {
	c.pool(t, "share", "addresses: [10.20.3.1-10.20.3.9]")
	spill := annotation("lanyard.dev/sharing-spill", "true")
	c.service(t, "a", sharing("k"), port(1), local, selecting("one"))
	c.expect(t, "a", "10.20.3.1 True Assigned")
	c.service(t, "b", sharing("k"), port(2), toCluster, selecting("two"), spill)
	c.expect(t, "b", "10.20.3.1 True Assigned")
	c.edit(t, "b", local)
	c.expect(t, "b", "10.20.3.2 True Assigned")
	c.edit(t, "b", selecting("one"))
	c.keeps(t, "b", "10.20.3.2 True Assigned") // nothing moves that need not
	c.keeps(t, "a", "10.20.3.1 True Assigned")

	c.service(t, "c", sharing("k"), port(3))
	c.expect(t, "c", "10.20.3.1 True Assigned")
	c.edit(t, "c", port(1))
	c.says(t, "a", "Assigned")
	c.expect(t, "c", "10.20.3.2 True Assigned")
	c.edit(t, "c", sharing("own"))
	c.expect(t, "c", "10.20.3.3 True Assigned")
	c.edit(t, "c", sharing(""))
	c.keeps(t, "c", "10.20.3.3 True Assigned")
}
