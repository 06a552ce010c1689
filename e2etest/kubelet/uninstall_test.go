package kubelet

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
	"github.com/lanyard-lb/lanyard/e2etest/labtest"
)

// threeOfEach are values with a pool of three addresses of each family, and its advertisement.
const threeOfEach = `
pools: {lan: {spec: {addresses: [10.77.0.200-10.77.0.202, "fd77::200-fd77::202"]}}}
advertisements: {lan: {spec: {ipAddressPools: [lan]}}}
`

// TestUninstall: `helm uninstall` takes away what runs, leaves nothing on the nodes, and keeps what Services need to get their
// addresses back. Nobody needs Lanyard to get rid of a Service.
func TestUninstall(t *testing.T) {
	c := attach(t)
	for i, node := range c.Nodes() {
		c.RunWeb(t, node, fmt.Sprintf("web-%d", i+1))
	}
	before := map[string]labtest.Traces{}
	for _, node := range c.Nodes() {
		c.Settled(t, node)
		before[node] = c.traces(t, node)
	}
	chart := c.Chart()
	must(t, chart.Upgrade(within(t, time.Minute), threeOfEach))
	c.rolledOut(t)
	c.together(t)
	names := []string{"one", "two", "three"}
	had := map[string][]netip.Addr{}
	var ips []netip.Addr
	for _, name := range names {
		c.serve(t, name, "web", labtest.DualStack)
		had[name] = c.Assigned(t, name, 2)
		ips = append(ips, had[name]...)
	}
	t.Logf("owners: %v", c.Owners(t, ips...))
	for _, ip := range ips {
		c.Fetch(t, "c1", ip)
	}

	c.helm(t, "uninstall", "lanyard", "--namespace", lab.Namespace, "--wait")
	c.Silent(t, 5*time.Second, ips...)
	t.Run("nothing is left on the nodes", func(t *testing.T) {
		for _, node := range c.Nodes() {
			// Kubelets take their time to remove the folders of pods that are gone.
			eventually(t, time.Minute, func() error {
				now := c.traces(t, node)
				if err := now.Compare(before[node], now.Names()...); err != nil {
					return fmt.Errorf("on %s: %w", node, err)
				}
				return nil
			})
		}
	})
	t.Run("what is left in the cluster", func(t *testing.T) {
		for kind, want := range map[string]string{
			"crd":                             "ipaddresspools.lanyard.dev ipallocationrecords.lanyard.dev ipreservations.lanyard.dev l2advertisements.lanyard.dev servicel2statuses.lanyard.dev",
			"ipaddresspools.lanyard.dev":      "lan",
			"l2advertisements.lanyard.dev":    "lan",
			"clusterroles,rolebindings":       "",
			"clusterrolebindings,roles":       "",
			"pods,deployments,daemonsets":     "",
			"services,poddisruptionbudgets":   "",
			"secrets":                         "lanyard-gossip", // with it speakers that come back hear those of before
			"jobs,configmaps":                 "",
			"serviceaccounts":                 "",
			"endpointslices":                  "",
			"leases.coordination.k8s.io":      "lanyard-controller",
			"controllerrevisions.apps":        "",
			"validatingwebhookconfigurations": "",
		} {
			if have := c.ours(t, kind); have != want {
				t.Errorf("left of %s: %q, want %q", kind, have, want)
			}
		}
	})
	t.Run("a Service goes without Lanyard", func(t *testing.T) {
		for _, name := range names {
			if f := c.Service(t, name).Finalizers; len(f) > 0 && strings.Contains(strings.Join(f, " "), "lanyard") {
				t.Errorf("Service %s has the finalizers %v", name, f)
			}
		}
		must(t, c.Remove(within(t, 5*time.Second), "Service", "three"))
	})

	must(t, chart.Upgrade(within(t, time.Minute), threeOfEach))
	c.rolledOut(t)
	c.together(t)
	t.Run("addresses come back", func(t *testing.T) {
		for _, name := range names[:2] {
			if ips := c.Assigned(t, name, 2); fmt.Sprint(ips) != fmt.Sprint(had[name]) {
				t.Errorf("Service %s has %v, and had %v", name, ips, had[name])
			}
			c.Owners(t, had[name]...)
			for _, ip := range had[name] {
				c.Fetch(t, "c1", ip)
			}
		}
		// The controllers before could not give the lease up, for their rights had gone: it is 15 s until somebody leads.
		begun := time.Now()
		c.serve(t, "four", "web", labtest.DualStack)
		eventually(t, 30*time.Second, func() error {
			if s := c.Service(t, "four"); len(labtest.Ingress(s)) != 2 {
				return fmt.Errorf("Service four has %v, and the condition %v", labtest.Ingress(s), labtest.ConditionOf(s, labtest.IPAssigned))
			}
			return nil
		})
		t.Logf("%v until a new Service has its addresses", time.Since(begun).Round(100*time.Millisecond))
		if ips := c.Assigned(t, "four", 2); fmt.Sprint(ips) != fmt.Sprint(had["three"]) {
			t.Errorf("Service four has %v, want what was free: %v", ips, had["three"])
		}
	})
	steps := c.blocks(t, "docs/uninstall.md", "uninstall")
	t.Run("all of it, without the controller", func(t *testing.T) {
		must(t, chart.Uninstall(within(t, time.Minute)))
		c.do(t, steps["no controller"])
		c.nothingLeft(t)
		c.do(t, steps["service"], "NAME", "one")
		if s := c.Service(t, "one"); len(labtest.Ingress(s)) > 0 || len(s.Status.Conditions) > 0 {
			t.Errorf("Service one has the status %v", s.Status)
		}
		for _, name := range []string{"one", "two", "four"} {
			must(t, c.Remove(within(t, 5*time.Second), "Service", name))
		}
	})
	t.Run("all of it, while the controller runs", func(t *testing.T) {
		must(t, chart.Upgrade(within(t, time.Minute), threeOfEach))
		c.rolledOut(t)
		c.serve(t, "five", "web", labtest.DualStack)
		c.Assigned(t, "five", 2)
		must(t, c.Remove(within(t, 5*time.Second), "Service", "five"))
		c.do(t, steps["objects"])
		must(t, chart.Uninstall(within(t, time.Minute)))
		c.do(t, steps["rest"])
		c.nothingLeft(t)
	})
}

// nothingLeft checks that neither kinds nor the namespace are there any more.
func (c *cluster) nothingLeft(t *testing.T) {
	t.Helper()
	if have := c.ours(t, "crd"); have != "" {
		t.Errorf("kinds that are left: %s", have)
	}
	eventually(t, time.Minute, func() error {
		namespace, err := c.Client().CoreV1().Namespaces().Get(t.Context(), lab.Namespace, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, fmt.Errorf("namespace %s is still there: %v", lab.Namespace, namespace.Status))
	})
}

// ours lists the names of objects that are Lanyard's: those that its names or labels say so of, and all that is in its namespace but
// what every namespace has.
func (c *cluster) ours(t *testing.T, kinds string) string {
	t.Helper()
	var names []string
	for _, kind := range strings.Split(kinds, ",") {
		out, err := c.Kubectl(within(t, 20*time.Second), "get", kind, "-n", lab.Namespace, "-o", "name")
		must(t, err)
		for _, line := range strings.Fields(out) {
			resource, name, _ := strings.Cut(line, "/")
			switch {
			case resource == "secret" && strings.HasPrefix(name, "sh.helm.release"), name == "kube-root-ca.crt", name == "default" && resource == "serviceaccount":
			case strings.Contains(line, "lanyard"), resource == "pod", resource == "ipaddresspool.lanyard.dev":
				names = append(names, name)
			}
		}
	}
	return strings.Join(names, " ")
}

// traces looks at a node's network, and at its files and mounts. Left out is what belongs to the container runtime: images and what it
// has unpacked of them, and logs, which stay until the kubelet cleans up.
func (c *cluster) traces(t *testing.T, node string) labtest.Traces {
	t.Helper()
	seen := c.Traces(t, node)
	for name, command := range map[string]string{
		"files": `find / /run /var -xdev \( -path /proc -o -path /sys -o -path /tmp -o -path /var/lib/containerd -o -path /var/log ` +
			`-o -path /run/containerd -o -path /run/systemd -o -path /run/log \) -prune -o -print | sort`,
		"mounts": "cut -d' ' -f2,3 /proc/1/mounts | sort",
	} {
		out, err := c.kind.Exec(within(t, 30*time.Second), node, "sh", "-c", command)
		must(t, err)
		seen[name] = out
	}
	return seen
}
