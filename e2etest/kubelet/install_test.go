package kubelet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
	"github.com/lanyard-lb/lanyard/e2etest/labtest"
)

// block is a marked block of code in a page of Markdown: <!-- install: helm --> and then the fence.
type block struct{ name, language, text string }

var marked = regexp.MustCompile("(?ms)^ *<!-- ([a-z]+): ([a-z ]+) -->\n *```([a-z]+)\n(.*?)^ *```$")

// blocks reads those of a topic from a page of the repository, by name.
func (c *cluster) blocks(t *testing.T, page, topic string) map[string]block {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(c.root, page))
	must(t, err)
	found := map[string]block{}
	for _, m := range marked.FindAllStringSubmatch(string(raw), -1) {
		if m[1] == topic {
			found[m[2]] = block{name: m[2], language: m[3], text: m[4]}
		}
	}
	return found
}

// do does what a block says: runs shell commands, or applies YAML.
func (c *cluster) do(t *testing.T, b block, replace ...string) {
	t.Helper()
	if b.text == "" {
		t.Fatal("the page has no block of that name")
	}
	text := strings.NewReplacer(replace...).Replace(b.text)
	switch b.language {
	case "sh":
		out := c.shell(t, "bash", "-euc", text)
		t.Logf("block %s:\n%s", b.name, out)
	case "yaml":
		must(t, c.Apply(within(t, 20*time.Second), text))
	default:
		t.Fatalf("block %q has the language %q", b.name, b.language)
	}
}

// TestReadme does what the README's section on installing says, as it stands there, and then asks for a page. Only the addresses
// are those of the network here.
func TestReadme(t *testing.T) {
	for _, way := range []string{"helm", "kustomize"} {
		t.Run(way, func(t *testing.T) {
			c := attach(t)
			b := c.blocks(t, "README.md", "install")
			afterwards(t, func(ctx context.Context) error { return c.forget(ctx, t, way) })
			c.do(t, b[way])
			c.do(t, b["pools"], "192.168.10.200-192.168.10.250", "10.77.0.200-10.77.0.219", "fd00:10::200-fd00:10::2ff", "fd77::200-fd77::213")
			c.deploy(t, "web", 2, 1)
			c.do(t, b["service"])
			afterwards(t, func(ctx context.Context) error { return c.Remove(ctx, "Service", "web") })
			c.do(t, b["look"])

			c.servesWeb(t)
		})
	}
}

// servesWeb checks that the Service web has an address of each family, and that both clients get a page from each.
func (c *cluster) servesWeb(t *testing.T) {
	t.Helper()
	ips := c.Assigned(t, "web", 2)
	owners := c.Owners(t, ips...)
	for _, ip := range ips {
		for _, client := range c.Clients() {
			reply := c.Fetch(t, client, ip)
			t.Logf("%s> curl %s, which is at %s: pod=%s node=%s", client, lab.URL(ip, lab.HTTPPort), owners[ip], reply.Pod, reply.Node)
			must(t, c.Resolved(client, ip, owners[ip]))
		}
	}
}

// forget removes an installation, and what an uninstall keeps.
func (c *cluster) forget(ctx context.Context, t *testing.T, way string) error {
	if way == "helm" {
		_, err := c.run(ctx, t, "helm", "uninstall", "lanyard", "--namespace", lab.Namespace, "--wait", "--ignore-not-found")
		return err
	}
	// Pools first, while somebody is there to let them go.
	_, err := c.run(ctx, t, "bash", "-euc", `
		kubectl delete --ignore-not-found crd ipaddresspools.lanyard.dev --timeout=30s
		kubectl delete --ignore-not-found -k config --timeout=60s`)
	return err
}

// TestAnyOrder applies the objects of the kustomize installation one by one in an order drawn by lot. Nothing refuses one for the lack
// of another, except the API server itself when a namespace is missing; no kind of Lanyard's own is among them.
func TestAnyOrder(t *testing.T) {
	c := attach(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	objects := labtest.Decode(t, c.shell(t, "kubectl", "kustomize", "config"))
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(objects), func(i, j int) { objects[i], objects[j] = objects[j], objects[i] })
	afterwards(t, func(ctx context.Context) error { return c.forget(ctx, t, "kustomize") })

	var order []string
	for round := 1; len(objects) > 0; round++ {
		if round > 3 {
			t.Fatalf("%d objects are still refused: %v", len(objects), objects)
		}
		var refused []string
		left := objects[:0:0]
		for _, o := range objects {
			raw, err := o.MarshalJSON()
			must(t, err)
			file := filepath.Join(t.TempDir(), "object.json")
			must(t, os.WriteFile(file, raw, 0o600))
			_, err = c.Kubectl(within(t, 20*time.Second), "apply", "--server-side", "-f", file)
			name := o.GetKind() + " " + o.GetName()
			switch {
			case err == nil:
				order = append(order, name)
			case strings.Contains(err.Error(), `namespaces "`+lab.Namespace+`" not found`), strings.Contains(err.Error(), "no matches for kind"):
				refused = append(refused, name)
				left = append(left, o)
			default:
				t.Fatalf("%s is refused, and not for the lack of a namespace or kind: %v", name, err)
			}
		}
		t.Logf("round %d: refused for want of the namespace: %s", round, strings.Join(refused, ", "))
		objects = left
	}
	t.Logf("applied: %s", strings.Join(order, ", "))
	c.rolledOut(t)
	c.together(t)
	c.Pool(t, "lan", pools)
	c.Advertise(t, "lan")
	c.deploy(t, "web", 2, 1)
	c.serve(t, "web", "web", labtest.DualStack)
	c.servesWeb(t)
}

// TestConfigurationFirst gives the cluster kinds and objects before anybody is there who reads them: a GitOps tool does it in whatever
// order it likes.
func TestConfigurationFirst(t *testing.T) {
	c := attach(t)
	must(t, applyAll(within(t, time.Minute), c, "charts/lanyard/crds"))
	afterwards(t, func(ctx context.Context) error { return c.forget(ctx, t, "helm") })
	c.Create(t, labtest.PoolYAML("lan", pools, true))
	c.Create(t, labtest.AdvertisementYAML("lan", "ipAddressPools: [lan]"))
	c.deploy(t, "web", 2, 1)
	c.serve(t, "web", "web", labtest.DualStack)
	if ips := labtest.Ingress(c.Service(t, "web")); len(ips) > 0 {
		t.Fatalf("somebody else gave the Service %v", ips)
	}
	c.helm(t, "install", "lanyard", "charts/lanyard", "--namespace", lab.Namespace, "--create-namespace", "--wait")
	c.Judged(t, "IPAddressPool", "lan", metav1.ConditionTrue, "InForce")
	c.servesWeb(t)
}

func applyAll(ctx context.Context, c *cluster, folder string) error {
	if _, err := c.Kubectl(ctx, "apply", "--server-side", "-f", filepath.Join(c.root, folder)); err != nil {
		return fmt.Errorf("apply %s: %w", folder, err)
	}
	_, err := c.Kubectl(ctx, "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
	return err
}
