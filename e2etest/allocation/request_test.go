package allocation

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// askingForPools is row T7 of the list in layer2/doc.go: by annotation, also pools that serve nobody by themselves, in the order of the list.
func askingForPools(t *testing.T, c *cluster) {
	c.pool(t, "auto", "addresses: [10.21.0.0/28]")
	c.pool(t, "manual", "addresses: [10.21.1.1, 'fd21:1::1'], autoAssign: false")
	c.pool(t, "manual-2", "addresses: [10.21.2.1-10.21.2.2], autoAssign: false")
	c.service(t, "any")
	c.expect(t, "any", "10.21.0.0 True Assigned")
	c.service(t, "one", fromPool("manual"))
	c.expect(t, "one", "10.21.1.1 True Assigned")
	c.service(t, "list", fromPool("manual, manual-2"))
	c.expect(t, "list", "10.21.2.1 True Assigned")
	c.service(t, "six", fromPool("manual"), singleStack(six))
	c.expect(t, "six", "fd21:1::1 True Assigned")
	c.service(t, "full", fromPool("manual"))
	c.expect(t, "full", "False PoolExhausted")
	c.says(t, "full", "PoolExhausted", "pool manual: has no free IPv4 address")
	c.service(t, "nowhere", fromPool("nowhere"))
	c.expect(t, "nowhere", "False NoPool")
	c.says(t, "nowhere", "NoPool", "pool nowhere: there is none of that name")
	c.pool(t, "nowhere", "addresses: [10.21.3.1], autoAssign: false")
	c.expect(t, "nowhere", "10.21.3.1 True Assigned")
	c.edit(t, "any", fromPool("manual-2"))
	c.expect(t, "any", "10.21.2.2 True Assigned")
	c.keeps(t, "list", "10.21.2.1 True Assigned")
}

// askingForAddresses: any number of each family, from several pools, also by spec.loadBalancerIP.
func askingForAddresses(t *testing.T, c *cluster) {
	c.pool(t, "a", "addresses: [10.22.0.0/28, 'fd22::/124']")
	c.pool(t, "b", "addresses: [10.22.1.0/28], autoAssign: false")
	c.service(t, "many", addresses("10.22.1.3, 10.22.0.5, fd22::7, fd22::8"), require())
	c.expect(t, "many", "10.22.1.3 10.22.0.5 fd22::7 fd22::8 True Assigned")
	c.service(t, "half", addresses("fd22::9"), require())
	c.expect(t, "half", "10.22.0.0 fd22::9 True Assigned")
	c.service(t, "field", func(s *corev1.Service) { s.Spec.LoadBalancerIP = "10.22.0.9" })
	c.expect(t, "field", "10.22.0.9 True Assigned")
	c.service(t, "outside", addresses("10.99.0.1"))
	c.expect(t, "outside", "False AddressNotInPool")
	c.says(t, "outside", "AddressNotInPool", "10.99.0.1")
	c.service(t, "otherpool", addresses("10.22.0.12"), fromPool("b"))
	c.expect(t, "otherpool", "False AddressNotInPool")
	c.says(t, "otherpool", "AddressNotInPool", "it is in pool a, which is not asked for")
}

// addressInUse: who asks for an address that somebody has waits for it, and is served when it is free.
func addressInUse(t *testing.T, c *cluster) {
	c.pool(t, "a", "addresses: [10.23.0.1-10.23.0.9]")
	c.service(t, "has", addresses("10.23.0.5"))
	c.expect(t, "has", "10.23.0.5 True Assigned")
	c.service(t, "wants", addresses("10.23.0.5"))
	c.expect(t, "wants", "False AddressInUse")
	c.says(t, "wants", "AddressInUse", "10.23.0.5", "used by default/has")
	c.nextSecond(t)
	c.service(t, "wants-too", addresses("10.23.0.5"))
	c.says(t, "wants-too", "AddressInUse", "10.23.0.5", "used by default/has")
	c.service(t, "any")
	c.expect(t, "any", "10.23.0.1 True Assigned")
	c.delete(t, "Service", "has")
	c.expect(t, "wants", "10.23.0.5 True Assigned")
	c.says(t, "wants-too", "AddressInUse", "10.23.0.5", "used by default/wants") // and not by who has gone
	c.keeps(t, "any", "10.23.0.1 True Assigned")
}

// changedWish: until another address can be had the old one stays; then it changes and the old one is free.
func changedWish(t *testing.T, c *cluster) {
	c.pool(t, "a", "addresses: [10.24.0.1-10.24.0.3]")
	c.service(t, "holder", addresses("10.24.0.3"))
	c.expect(t, "holder", "10.24.0.3 True Assigned")
	c.service(t, "mover")
	c.expect(t, "mover", "10.24.0.1 True Assigned")
	c.edit(t, "mover", addresses("10.24.0.3"))
	c.expect(t, "mover", "10.24.0.1 True AddressInUse")
	c.edit(t, "mover", addresses("10.99.0.1"))
	c.expect(t, "mover", "10.24.0.1 True AddressNotInPool")
	c.edit(t, "mover", addresses("10.24.0.3"))
	c.expect(t, "mover", "10.24.0.1 True AddressInUse")
	c.delete(t, "Service", "holder")
	c.expect(t, "mover", "10.24.0.3 True Assigned")
	c.counted(t, "a", "3/1/2 //") // the old one is free once the status no longer names it
	c.service(t, "next")
	c.expect(t, "next", "10.24.0.1 True Assigned")
	c.edit(t, "mover", addresses(""))
	c.keeps(t, "mover", "10.24.0.3 True Assigned")
}

// aliases: MetalLB's annotations do the same, under both of its prefixes; those of Lanyard win.
func aliases(t *testing.T, c *cluster) {
	c.pool(t, "a", "addresses: [10.25.0.1-10.25.0.9, 'fd25::/124']")
	c.pool(t, "b", "addresses: [10.25.1.1-10.25.1.9], autoAssign: false")
	for prefix, ip := range map[string]string{"metallb.io/": "10.25.0.5", "metallb.universe.tf/": "10.25.0.6"} {
		t.Run(prefix, func(t *testing.T) {
			c.service(t, "ips", annotation(prefix+"loadBalancerIPs", ip+",fd25::5"), require())
			c.expect(t, "ips", ip+" fd25::5 True Assigned")
			c.service(t, "pool", annotation(prefix+"address-pool", "b"), annotation(prefix+"allow-shared-ip", "k"), port(1))
			c.expect(t, "pool", "10.25.1.1 True Assigned")
			c.service(t, "shared", annotation(prefix+"allow-shared-ip", "k"), annotation(prefix+"address-pool", "b"), port(2))
			c.expect(t, "shared", "10.25.1.1 True Assigned")
			c.service(t, "both", annotation(prefix+"loadBalancerIPs", "10.25.1.9"), addresses("10.25.1.2"))
			c.expect(t, "both", "10.25.1.2 True Assigned")
		})
	}
}

// malformed: what cannot be read is told by the name that it was written under, and takes nothing away.
func malformed(t *testing.T, c *cluster) {
	c.pool(t, "a", "addresses: [10.26.0.1-10.26.0.9]")
	for _, tc := range []struct{ name, key, value, says string }{
		{"word", "lanyard.dev/addresses", "10.26.0.300", `annotation lanyard.dev/addresses: "10.26.0.300"`},
		{"alias", "metallb.universe.tf/loadBalancerIPs", "lan", `annotation metallb.universe.tf/loadBalancerIPs: "lan"`},
		{"zone", "lanyard.dev/addresses", "fe80::1%eth0", "annotation lanyard.dev/addresses"},
		{"range", "lanyard.dev/addresses", "10.26.0.1-10.26.0.2", "annotation lanyard.dev/addresses"},
		{"family", "lanyard.dev/addresses", "fd26::1", "annotation lanyard.dev/addresses: fd26::1 is of a family that is not in spec.ipFamilies"},
		{"spill", "lanyard.dev/sharing-spill", "maybe", "annotation lanyard.dev/sharing-spill"},
		{"reassign", "lanyard.dev/reassign", "yes please", "annotation lanyard.dev/reassign"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c.service(t, "bad", annotation(tc.key, tc.value))
			c.expect(t, "bad", "False InvalidRequest")
			c.says(t, "bad", "InvalidRequest", tc.says)
		})
	}
	c.service(t, "twice", addresses("10.26.0.7"), func(s *corev1.Service) { s.Spec.LoadBalancerIP = "10.26.0.8" })
	c.says(t, "twice", "InvalidRequest", "lanyard.dev/addresses", "spec.loadBalancerIP")
	c.service(t, "good")
	c.expect(t, "good", "10.26.0.1 True Assigned")
	c.edit(t, "good", addresses("oops"))
	c.expect(t, "good", "10.26.0.1 True InvalidRequest")
	c.edit(t, "good", addresses(""))
	c.expect(t, "good", "10.26.0.1 True Assigned")
}
