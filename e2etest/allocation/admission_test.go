package allocation

import (
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// refusals: what can never work is refused by the API server itself, and the message names the field.
func refusals(t *testing.T, c *cluster) {
	const never = "must not contain unspecified, loopback, link-local, multicast or broadcast addresses"
	for _, tc := range []struct{ spec, field, says string }{
		{"addresses: [127.0.0.1]", "spec.addresses[0]", never},
		{"addresses: [10.70.0.1, 127.0.0.0/8]", "spec.addresses[1]", never},
		{"addresses: [126.255.255.255-127.0.0.1]", "spec.addresses[0]", never},
		{"addresses: ['::1']", "spec.addresses[0]", never},
		{"addresses: [224.0.0.0/24]", "spec.addresses[0]", never},
		{"addresses: [239.1.2.3-239.1.2.4]", "spec.addresses[0]", never},
		{"addresses: ['ff02::1']", "spec.addresses[0]", never},
		{"addresses: [169.254.1.0/24]", "spec.addresses[0]", never},
		{"addresses: ['fe80::1-fe80::2']", "spec.addresses[0]", never},
		{"addresses: [0.0.0.0]", "spec.addresses[0]", never},
		{"addresses: ['::']", "spec.addresses[0]", never},
		{"addresses: [255.255.255.255]", "spec.addresses[0]", never},
		{"addresses: [0.0.0.0/0]", "spec.addresses[0]", never},
		{"addresses: ['::/0']", "spec.addresses[0]", never},
		{"addresses: [1.0.0.0-254.0.0.0]", "spec.addresses[0]", never},
		{"addresses: [10.70.0.1-10.70.0.0]", "spec.addresses[0]", "must not be above its last"},
		{"addresses: ['10.70.0.1-fd70::1']", "spec.addresses[0]", "must be of one family"},
		{"addresses: [10.70.0.1], excludedAddresses: [ten]", "spec.excludedAddresses[0]", "must be a CIDR"},
		{"addresses: [10.70.0.1], subnets: [10.70.0.1]", "spec.subnets[0]", "must be a CIDR"},
		{"addresses: [10.70.0.1], strategy: Random", "spec.strategy", "supported values"},
		{"addresses: [10.70.0.1], onShrink: Drop", "spec.onShrink", "supported values"},
		{"addresses: [10.70.0.1], retain: soon", "spec.retain", "should match"},
		{"addresses: [10.70.0.1], retain: 100000h", "spec.retain", "must be at most 87600h"},
		{"addresses: [10.70.0.1], limits: {addressesPerNamespace: 0}", "spec.limits.addressesPerNamespace", "greater than or equal to 1"},
		{"addresses: [10.70.0.1], serviceAllocation: {priority: -1}", "spec.serviceAllocation.priority", "greater than or equal to 0"},
	} {
		t.Run(tc.spec, func(t *testing.T) { c.refused(t, poolYAML("bad", tc.spec), tc.field, tc.says) })
	}
	for _, tc := range []struct{ spec, field, says string }{
		{"addresses: [10.70.0.0/24]", "spec.addresses[0]", "must be a single address"},
		{"ipv4: 1", "spec", "needs a pool"},
		{"pool: a", "spec", "must ask for something"},
		{"pool: a, ipv4: 33", "spec.ipv4", "less than or equal to 32"},
	} {
		t.Run("reservation of "+tc.spec, func(t *testing.T) { c.refused(t, reservationYAML("bad", tc.spec), tc.field, tc.says) })
	}
}

// refused checks that the API server calls an object invalid, in the field and with the words given.
func (c *cluster) refused(t *testing.T, text, field, says string) {
	t.Helper()
	o := decode(t, text)[0]
	client, _ := c.resource(o.GetKind(), fullName(o))
	_, err := client.Create(within(t, 10*time.Second), o, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if !apierrors.IsInvalid(err) {
		t.Fatalf("the API server says %v, want that the object is invalid", err)
	}
	if !strings.Contains(err.Error(), field+":") || !strings.Contains(err.Error(), says) {
		t.Errorf("the message does not have %q and %q:\n%v", field, says, err)
	}
}
