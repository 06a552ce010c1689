package allocation

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// reservedAddresses: held used or not, for Services of the namespace that name the reservation.
func reservedAddresses(t *testing.T, c *cluster) {
	c.pool(t, "a", "addresses: [10.50.0.1-10.50.0.9, 'fd50::1-fd50::9']")
	c.reserve(t, "web", "addresses: [10.50.0.1, 'fd50::1']")
	c.holds(t, "web", "10.50.0.1 fd50::1")
	c.service(t, "any")
	c.expect(t, "any", "10.50.0.2 True Assigned")
	c.service(t, "thief", addresses("10.50.0.1"))
	c.expect(t, "thief", "False AddressInUse")
	c.says(t, "thief", "AddressInUse", "reserved by default/web")
	c.service(t, "green/web", reservation("web"))
	c.expect(t, "green/web", "False ReservationMissing")

	c.service(t, "web", reservation("web"), require())
	c.expect(t, "web", "10.50.0.1 fd50::1 True Assigned")
	c.service(t, "second", reservation("web"))
	c.expect(t, "second", "False ReservationFull")
	c.says(t, "second", "ReservationFull", "10.50.0.1", "default/web")
	c.delete(t, "Service", "second")
	c.delete(t, "Service", "web")
	c.service(t, "late")
	c.expect(t, "late", "10.50.0.3 True Assigned")
	c.service(t, "web", reservation("web"), require())
	c.expect(t, "web", "10.50.0.1 fd50::1 True Assigned")

	c.delete(t, "IPReservation", "web")
	c.expect(t, "web", "10.50.0.1 fd50::1 True ReservationMissing")
	c.keeps(t, "web", "10.50.0.1 fd50::1 True ReservationMissing")
	c.edit(t, "web", reservation(""))
	c.expect(t, "web", "10.50.0.1 fd50::1 True Assigned")
}

// reservedNumber: chosen once and kept, more when more are asked for, and those in use are let go last.
func reservedNumber(t *testing.T, c *cluster) {
	c.pool(t, "a", "addresses: [10.51.0.1-10.51.0.4, 'fd51::1-fd51::9']")
	c.service(t, "before")
	c.expect(t, "before", "10.51.0.1 True Assigned")
	c.reserve(t, "team", "pool: a, ipv4: 2, ipv6: 1")
	c.holds(t, "team", "10.51.0.2 10.51.0.3 fd51::1")
	c.service(t, "one", reservation("team"))
	c.expect(t, "one", "10.51.0.2 True Assigned")
	c.service(t, "two", reservation("team"))
	c.expect(t, "two", "10.51.0.3 True Assigned")
	c.delete(t, "Service", "one")
	c.unused(t, "team", "10.51.0.2")
	c.patch(t, "IPReservation", "team", `{"spec":{"ipv4":1}}`)
	c.holds(t, "team", "10.51.0.3 fd51::1")
	c.keeps(t, "two", "10.51.0.3 True Assigned")
	c.patch(t, "IPReservation", "team", `{"spec":{"ipv4":4}}`)
	c.judged(t, "IPReservation", "team", "Ready", "False PoolExhausted")
	c.holds(t, "team", "10.51.0.2 10.51.0.3 10.51.0.4 fd51::1")
	c.delete(t, "Service", "before")
	c.judged(t, "IPReservation", "team", "Ready", "True Assigned")
	c.holds(t, "team", "10.51.0.1 10.51.0.2 10.51.0.3 10.51.0.4 fd51::1")
	c.delete(t, "Service", "two")
	c.service(t, "again", reservation("team"), addresses("10.51.0.4"))
	c.expect(t, "again", "10.51.0.4 True Assigned")
	c.apply(t, reservationYAML("missing", "pool: nowhere, ipv4: 1"))
	message := c.judged(t, "IPReservation", "missing", "Ready", "False NoPool")
	if !strings.Contains(message, "nowhere") {
		t.Errorf("the message %q does not name the pool", message)
	}
}

const reserverRole = `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reserver, namespace: green}
rules:
- {apiGroups: [lanyard.dev], resources: [ipreservations], verbs: [create, get, list, update, delete]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reserver, namespace: green}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reserver}
subjects:
- {kind: Group, name: reservers, apiGroup: rbac.authorization.k8s.io}
`

// reservationRBAC: a Role says who may reserve, by its own resource.
func reservationRBAC(t *testing.T, c *cluster) {
	c.apply(t, reserverRole)
	for _, tc := range []struct{ group, namespace, want string }{
		{"reservers", "green", "yes"}, {"reservers", "blue", "no"}, {"developers", "green", "no"},
	} {
		eventually(t, 10*time.Second, func() error { // the authorizer learns of Roles a moment later
			out, err := c.Kubectl(within(t, 10*time.Second), "auth", "can-i", "create", "ipreservations.lanyard.dev", "-n", tc.namespace,
				"--as=somebody", "--as-group="+tc.group)
			if have := strings.TrimSpace(out); have != tc.want {
				return &unexpected{"group " + tc.group + " may reserve in " + tc.namespace, have, tc.want, err}
			}
			return nil
		})
	}
}

// unused waits until a reservation says that no Service uses one of its addresses.
func (c *cluster) unused(t *testing.T, reservation, ip string) {
	t.Helper()
	eventually(t, patience, func() error {
		var have struct {
			Status struct {
				Addresses []struct{ Address, Service string }
			}
		}
		if err := c.get(t, "IPReservation", reservation, &have); err != nil {
			return err
		}
		for _, a := range have.Status.Addresses {
			if a.Address == ip && a.Service == "" {
				return nil
			}
		}
		return fmt.Errorf("reservation %s has %+v, want %s unused", reservation, have.Status.Addresses, ip)
	})
}
