package kubelet

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
	"github.com/lanyard-lb/lanyard/e2etest/labtest"
)

const previousChart = "e2etest/kind/testdata/lanyard-0.1.0.tgz"

// TestUpgrade goes from the chart before to this one, restarts everything, and goes back, while clients ask for Services of all
// kinds. Nothing may be lost and no address may change.
func TestUpgrade(t *testing.T) {
	c := attach(t)
	c.helm(t, "install", "lanyard", previousChart, "--namespace", lab.Namespace, "--create-namespace", "--wait")
	c.together(t)
	c.Pool(t, "lan", pools)
	c.Advertise(t, "lan")
	for i, node := range c.Nodes() {
		c.RunWeb(t, node, fmt.Sprintf("web-%d", i+1))
	}
	services := map[string]string{"cluster": "Cluster", "local": "Local"}
	for name, policy := range services {
		c.serve(t, name, "web", labtest.DualStack, "externalTrafficPolicy: "+policy)
	}
	var ips []netip.Addr
	had := map[string][]netip.Addr{}
	for name := range services {
		had[name] = c.Assigned(t, name, 2)
		ips = append(ips, had[name]...)
	}
	t.Logf("owners: %v", c.Owners(t, ips...))
	if c.crdHas(t, "ignoreSubnets") {
		t.Fatal("the CRD of the chart before has the new field already")
	}

	steps := []struct {
		what, image string
		do          func(t *testing.T)
	}{
		{"helm upgrade", version, func(t *testing.T) {
			c.helm(t, "upgrade", "lanyard", "charts/lanyard", "--namespace", lab.Namespace, "--wait")
		}},
		{"rollout restart of the speakers", version, func(t *testing.T) {
			c.shell(t, "kubectl", "-n", lab.Namespace, "rollout", "restart", "daemonset/lanyard-speaker")
		}},
		{"rollout restart of the controllers", version, func(t *testing.T) {
			c.shell(t, "kubectl", "-n", lab.Namespace, "rollout", "restart", "deployment/lanyard-controller")
		}},
		{"helm rollback", previousVersion, func(t *testing.T) {
			c.helm(t, "rollback", "lanyard", "1", "--namespace", lab.Namespace, "--wait")
		}},
	}
	for _, s := range steps {
		before := c.productPods(t, lab.Namespace)
		flows := c.load(t, ips...)
		begun := time.Now()
		s.do(t)
		c.rolledOut(t)
		c.together(t)
		t.Logf("%s took %v", s.what, time.Since(begun).Round(100*time.Millisecond))
		flows.lossless(t, s.what)

		for name, pod := range c.productPods(t, lab.Namespace) {
			_, stayed := before[name]
			if restarted := strings.Contains(s.what, "helm") || strings.Contains(s.what, pod.Labels["app.kubernetes.io/component"]); stayed == restarted {
				t.Errorf("after %s: pod %s was there before: %t", s.what, name, stayed)
			}
			if image := pod.Spec.Containers[0].Image; !strings.HasSuffix(image, ":"+s.image) {
				t.Errorf("after %s: pod %s runs %s, want %s", s.what, name, image, s.image)
			}
		}
		for name, want := range had {
			if ips := c.Assigned(t, name, 2); fmt.Sprint(ips) != fmt.Sprint(want) {
				t.Errorf("after %s: Service %s has %v, and had %v", s.what, name, ips, want)
			}
		}
		c.Owners(t, ips...)
		if !c.crdHas(t, "ignoreSubnets") {
			t.Errorf("after %s the CRD has no field ignoreSubnets", s.what)
		}
	}
}

// crdHas tells whether the CRD of L2Advertisement has a field in its spec.
func (c *cluster) crdHas(t *testing.T, field string) bool {
	t.Helper()
	out, err := c.Kubectl(within(t, 20*time.Second), "get", "crd", "l2advertisements.lanyard.dev",
		"-o", "jsonpath={.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties."+field+"}")
	must(t, err)
	return out != ""
}
