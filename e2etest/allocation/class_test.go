package allocation

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
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

// preconditions: the API server refuses a write to what was seen too late also if it would change nothing. The
// controller relies on that before it lets addresses go.
func preconditions(t *testing.T, c *cluster) {
	c.service(t, "a", class("example.com/other"))
	seen := c.read(t, "a")
	c.edit(t, "a", labelled("some", "label"))
	write := func(s *corev1.Service) error {
		patch := fmt.Sprintf(`{"metadata":{"uid":%q,"resourceVersion":%q},"status":{"conditions":[{"$patch":"delete","type":"lanyard.dev/IPAssigned"}]}}`,
			s.UID, s.ResourceVersion)
		_, err := c.Client().CoreV1().Services(s.Namespace).Patch(within(t, 10*time.Second), s.Name, types.StrategicMergePatchType,
			[]byte(patch), metav1.PatchOptions{}, "status")
		return err
	}
	if err := write(seen); !apierrors.IsConflict(err) {
		t.Errorf("a write to an old version that changes nothing gives %v, want a conflict", err)
	}
	now := c.read(t, "a")
	must(t, write(now))
	if again := c.read(t, "a"); again.ResourceVersion != now.ResourceVersion {
		t.Errorf("a write that changes nothing makes version %s of %s", again.ResourceVersion, now.ResourceVersion)
	}
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

// allowLease lets controllers of a class lead, as docs/allocation.md says, and returns the name of the lease.
func (c *cluster) allowLease(t *testing.T, class string) string {
	t.Helper()
	sum := sha256.Sum256([]byte(class))
	name := "lanyard-controller-" + hex.EncodeToString(sum[:4])
	c.apply(t, fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: %[1]s, namespace: %[2]s}
rules:
- {apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [%[1]s], verbs: [get, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: %[1]s, namespace: %[2]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: %[1]s}
subjects:
- {kind: ServiceAccount, name: lanyard-controller, namespace: %[2]s}
`, name, lab.Namespace))
	return name
}

// TestTwoClasses: two Lanyards with different classes, one pool, and bursts of Services of both. No address is ever in two
// statuses, nobody is deprived of one, both go on, and when all is quiet the pool's status is.
func TestTwoClasses(t *testing.T) {
	const theirs, each = "example.com/theirs", 150
	lab.Need(t, lab.PlacedControllers)
	c := install(t, lab.Options{Nodes: 2, Clients: -1})
	lease := c.allowLease(t, theirs)
	first := c.startOn(t, "n1")
	second := c.startOn(t, "n2", "--lb-class="+theirs)
	for _, p := range []*lab.Process{first, second} {
		eventually(t, patience, func() error { return c.leads(p) })
	}
	if _, err := c.Client().CoordinationV1().Leases(lab.Namespace).Get(within(t, 10*time.Second), lease, metav1.GetOptions{}); err != nil {
		t.Errorf("the lease of the second one: %v", err)
	}
	c.noPools(t)
	c.pool(t, "both", "addresses: [10.82.0.0-10.82.1.255]")
	watch := c.watchAddresses(t)
	many := make(chan []string, 2)
	go func() { many <- c.createMany(t, "ours", each, nil) }()
	go func() { many <- c.createMany(t, "theirs", each, nil, class(theirs)) }()
	names := slices.Concat(<-many, <-many)
	begun := time.Now()
	watch.until(t, 60*time.Second, func() error { return watch.haveAddresses(names) })
	t.Logf("all %d have an address %v after the last was made", len(names), time.Since(begun).Round(time.Millisecond))
	c.expectDistinct(t, names)
	c.recordsAgree(t, names)
	eventually(t, 60*time.Second, func() error { return c.assignedOf(t, "both", 2*each) })

	// What one lets go the other gives, when it has looked.
	wanted := ingress(c.read(t, "theirs-007"))[0]
	c.service(t, "wants", addresses(wanted))
	c.says(t, "wants", "AddressInUse", "default/theirs-007, a Service of class "+theirs)
	c.delete(t, "Service", "theirs-007")
	eventually(t, 60*time.Second, func() error { return c.has(t, "wants", wanted+" True Assigned") })

	// At rest.
	eventually(t, 60*time.Second, func() error { return c.assignedOf(t, "both", 2*each) })
	c.quiet(t, "both", 10*time.Second, 3)
	for _, name := range names {
		if moved := watch.changesOf(name); name != "default/theirs-007" && moved != 1 {
			t.Errorf("the addresses of %s have changed %d times, want once", name, moved)
		}
	}
	for _, p := range []*lab.Process{first, second} {
		if !p.Alive() {
			t.Errorf("the controller on %s has ended", p.Host.Hostname)
		}
	}
}

// assignedOf returns nil when a pool says that so many addresses of it are assigned.
func (c *cluster) assignedOf(t *testing.T, pool string, want int) error {
	var have poolCounts
	must(t, c.get(t, "IPAddressPool", pool, &have))
	if have.Status.IPv4.Assigned != fmt.Sprint(want) {
		return fmt.Errorf("pool %s says that %s are assigned, want %d", pool, have.Status.IPv4.Assigned, want)
	}
	return nil
}

// quiet sees to it that a pool is written at most so many times for a while.
func (c *cluster) quiet(t *testing.T, pool string, span time.Duration, most int) {
	t.Helper()
	versions := map[string]bool{}
	throughout(t, span, func() error {
		var have conditioned
		if err := c.get(t, "IPAddressPool", pool, &have); err != nil {
			return err
		}
		versions[have.Metadata.ResourceVersion] = true
		if len(versions) > most+1 {
			return fmt.Errorf("pool %s was written %d times", pool, len(versions)-1)
		}
		return nil
	})
	t.Logf("pool %s was written %d times in %v", pool, len(versions)-1, span)
}

// lbClass: a controller with a class serves exactly that class, and lets go of what is no longer of it. What another one
// has given stays.
func lbClass(t *testing.T, c *cluster) {
	c.pool(t, "a", "addresses: [10.44.0.1-10.44.0.9]")
	c.service(t, "classless")
	c.expect(t, "classless", "10.44.0.1 True Assigned")
	c.stop(t)
	c.service(t, "ours", class("example.com/ours"))
	c.service(t, "theirs", class("example.com/theirs"))
	c.service(t, "none")
	c.allowLease(t, "example.com/ours")
	c.start(t, "--lb-class=example.com/ours")
	defer func() { c.stop(t); c.start(t) }()
	c.expect(t, "ours", "10.44.0.2 True Assigned")
	c.keeps(t, "theirs", "")
	c.keeps(t, "none", "")
	c.keeps(t, "classless", "10.44.0.1 True Assigned")
	c.edit(t, "ours", clusterIP)
	c.expect(t, "ours", "")
	c.service(t, "next", class("example.com/ours"))
	c.expect(t, "next", "10.44.0.2 True Assigned")
	c.edit(t, "ours", class("example.com/ours"))
	c.expect(t, "ours", "10.44.0.3 True Assigned")
	c.keeps(t, "classless", "10.44.0.1 True Assigned")
}
