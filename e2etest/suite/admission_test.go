package suite

import (
	"fmt"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// TestAdmission is about what the API server refuses by itself, with the CRDs alone, and what it lets pass.
func TestAdmission(t *testing.T) {
	t.Parallel()
	c := install(t, lab.Options{Nodes: -1, Clients: -1})
	t.Run("bad pools", func(t *testing.T) { badPools(t, c) })
	t.Run("good pools", func(t *testing.T) { goodPools(t, c) })
	t.Run("bad advertisements", func(t *testing.T) { badAdvertisements(t, c) })
	t.Run("good advertisements", func(t *testing.T) { goodAdvertisements(t, c) })
	t.Run("a bad edit changes nothing", func(t *testing.T) { badEdit(t, c) })
}

func badPools(t *testing.T, c *cluster) {
	const first, second = "spec.addresses[0]", "spec.addresses[1]"
	for _, tc := range []struct{ name, addresses, field, says string }{
		{"octet out of range", "[10.0.0.300/24]", first, "CIDR"},
		{"prefix too long", "[10.0.0.0/33]", first, "CIDR"},
		{"prefix too long, IPv6", "['fd00::/129']", first, "CIDR"},
		{"reversed", "[10.0.0.9-10.0.0.8]", first, "first"},
		{"reversed in the first octet", "[11.0.0.0-10.255.255.255]", first, "first"},
		{"reversed, IPv6", "['fd00::10-fd00::f']", first, "first"},
		{"reversed in the first group, IPv6", "['fd01::-fd00:ffff::']", first, "first"},
		{"mixed families", "['10.0.0.1-fd00::1']", first, "family"},
		{"mixed families, the other way", "['fd00::1-10.0.0.1']", first, "family"},
		{"no address", "[]", "spec.addresses", "at least 1"},
		{"text", "[the-lan]", first, "CIDR"},
		{"a word", "[lan]", first, "CIDR"},
		{"range without an end", "[10.0.0.1-]", first, "CIDR"},
		{"range of three", "[10.0.0.1-10.0.0.2-10.0.0.3]", first, "CIDR"},
		{"range of CIDRs", "[10.0.0.0/24-10.0.1.0/24]", first, "CIDR"},
		{"the second of two", "[10.0.0.0/24, 10.0.1]", second, "CIDR"},
		{"a host name", "[lb.example.com]", first, "CIDR"},
		{"a zone", "['fe80::1%eth0']", first, "CIDR"},
	} {
		t.Run(tc.name, func(t *testing.T) { c.refused(t, poolYAML("bad", tc.addresses, true), tc.field, tc.says) })
	}
	t.Run("no spec", func(t *testing.T) {
		c.refused(t, "apiVersion: lanyard.dev/v1beta1\nkind: IPAddressPool\nmetadata: {name: bad}\n", "spec", "Required")
	})
}

// refused checks that the API server calls an object invalid, in the field and with the word given, and that this reaches
// a user of kubectl.
func (c *cluster) refused(t *testing.T, text, field, says string) {
	t.Helper()
	o := decode(t, text)[0]
	_, err := c.Resource(o.GetKind()).Create(within(t, 10*time.Second), o, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if !apierrors.IsInvalid(err) {
		t.Fatalf("the API server says %v, want that the object is invalid", err)
	}
	if !strings.Contains(err.Error(), field+":") || !strings.Contains(err.Error(), says) {
		t.Errorf("the message does not have %q and %q:\n%v", field, says, err)
	}
	t.Log(err)
}

func goodPools(t *testing.T, c *cluster) {
	for i, addresses := range []string{
		"[10.1.0.0/24]", "[10.1.1.0/32]", "[10.1.2.1-10.1.2.9]", "['10.1.3.1 - 10.1.3.9']", "[10.1.4.7]", "[10.1.5.7-10.1.5.7]",
		"[10.1.6.255-10.1.7.0]", "['fd01::/64']", "['fd02::1']", "['fd03::1-fd03::ffff']", "['fd04::ffff - fd04:0:0:1::']",
		"['fd05::a-fd05::00B']", "[10.1.8.0/30, 10.1.8.4-10.1.8.5, 10.1.8.6, 'fd06::/120']",
	} {
		t.Run(addresses, func(t *testing.T) { c.Pool(t, fmt.Sprint("good-", i), addresses) })
	}
}

func badAdvertisements(t *testing.T, c *cluster) {
	for _, tc := range []struct{ name, spec, field string }{
		{"a broken pattern", `interfaces: ["eth[0"]`, "spec.interfaces[0]"},
		{"a slash", "interfaces: [eth0, net/eth1]", "spec.interfaces[1]"},
		{"a blank", `interfaces: ["eth0 eth1"]`, "spec.interfaces[0]"},
		{"a backslash", `interfaces: ['eth\*']`, "spec.interfaces[0]"},
		{"an empty name", `interfaces: [""]`, "spec.interfaces[0]"},
		{"a name twice", "interfaces: [eth0, eth0]", "spec.interfaces[1]"},
		{"a pool twice", "ipAddressPools: [a, a]", "spec.ipAddressPools[1]"},
		{"a weight too low", "preferredNodeSelectors: [{weight: 0, preference: {}}]", "spec.preferredNodeSelectors[0].weight"},
		{"a weight too high", "preferredNodeSelectors: [{weight: 1, preference: {}}, {weight: 101, preference: {}}]", "spec.preferredNodeSelectors[1].weight"},
		{"no weight", "preferredNodeSelectors: [{preference: {}}]", "spec.preferredNodeSelectors[0].weight"},
		{"no preference", "preferredNodeSelectors: [{weight: 1}]", "spec.preferredNodeSelectors[0].preference"},
		{"an unknown policy", "noEndpoints: Reject", "spec.noEndpoints"},
	} {
		t.Run(tc.name, func(t *testing.T) { c.refused(t, advertisementYAML("bad", tc.spec), tc.field, "") })
	}
}

func goodAdvertisements(t *testing.T, c *cluster) {
	c.Pool(t, "named", "[10.2.0.0/24]")
	for _, spec := range []string{"{}", "interfaces: [eth0]", `interfaces: ["eth*", "en?s0", "br-lan.12", "*"]`, "ipAddressPools: [named]",
		"serviceSelectors: [{matchLabels: {app: web}}, {}]", "preferredNodeSelectors: [{weight: 1, preference: {}}, {weight: 100, preference: {matchLabels: {rack: a}}}]",
		"{ignoreSubnets: true, noEndpoints: Withdraw}"} {
		t.Run(spec, func(t *testing.T) {
			c.Create(t, advertisementYAML("good", spec))
			c.Judged(t, "L2Advertisement", "good", metav1.ConditionTrue, "InForce")
		})
	}
	t.Run("defaults", func(t *testing.T) {
		c.Create(t, advertisementYAML("good", "ipAddressPools: [named]"))
		o, err := c.Resource("L2Advertisement").Get(within(t, 10*time.Second), "good", metav1.GetOptions{})
		must(t, err)
		spec, _ := o.Object["spec"].(map[string]any)
		if spec["ignoreSubnets"] != false || spec["noEndpoints"] != "Announce" {
			t.Errorf("the spec is %v, want ignoreSubnets false and noEndpoints Announce", spec)
		}
	})
	t.Run("an unknown pool", func(t *testing.T) {
		c.Create(t, advertisementYAML("good", "ipAddressPools: [named, nowhere]"))
		if says := c.Judged(t, "L2Advertisement", "good", metav1.ConditionTrue, "UnknownPool"); !strings.Contains(says, "spec.ipAddressPools[1]") || !strings.Contains(says, "nowhere") {
			t.Errorf("the message %q does not name the field and the pool", says)
		}
	})
}

// badEdit: an edit that is refused leaves the pool in force, and kubectl shows the user why.
func badEdit(t *testing.T, c *cluster) {
	c.Pool(t, "edited", "[10.3.0.1]")
	err := c.Apply(within(t, 20*time.Second), poolYAML("edited", "[10.3.0.9-10.3.0.1]", true))
	if err == nil || !strings.Contains(err.Error(), "spec.addresses[0]") || !strings.Contains(err.Error(), "must not be above its last") {
		t.Errorf("kubectl apply of a reversed range: %v", err)
	}
	c.Create(t, serviceYAML("edited"))
	if ip := c.Address(t, "edited"); ip.String() != "10.3.0.1" {
		t.Errorf("the address is %s, want 10.3.0.1", ip)
	}
}
