package kubelet

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
	"github.com/lanyard-lb/lanyard/e2etest/labtest"
)

// other are the values of a second release, for a class of its own: its speakers need other ports.
const other = `
loadBalancerClass: example.com/other
speaker: {gossip: {port: 7956}, metrics: {port: 7482}, health: {port: 7483}}
`

const (
	otherName      = "second"
	otherNamespace = "lanyard-other"
)

// TestClasses runs two releases side by side, each for a class of Services, and takes one away. The gossip key is made at run time,
// and can be changed while clients ask.
func TestClasses(t *testing.T) {
	c := attach(t)
	second := *c.Chart()
	second.Name, second.Namespace = otherName, otherNamespace
	t.Run("templates", func(t *testing.T) {
		for _, chart := range []*lab.Chart{c.Chart(), &second} {
			one, err := chart.Template(within(t, time.Minute), other, threeOfEach)
			must(t, err)
			two, err := chart.Template(within(t, time.Minute), other, threeOfEach)
			must(t, err)
			if one != two || !strings.Contains(one, "kind: DaemonSet") {
				t.Errorf("two renders of %s differ, or are none:\n%s\n%s", chart.Name, one, two)
			}
			if strings.Contains(one, "kind: Secret\n") {
				t.Errorf("%s renders a Secret:\n%s", chart.Name, one)
			}
		}
	})
	c.install(t)
	must(t, second.Upgrade(within(t, time.Minute), other))
	c.shell(t, "kubectl", "-n", otherNamespace, "rollout", "status", "deployment/lanyard-controller", "daemonset/lanyard-speaker", "--timeout=120s")
	for i, node := range c.Nodes() {
		c.RunWeb(t, node, fmt.Sprintf("web-%d", i+1))
	}
	c.serve(t, "plain", "web", labtest.DualStack)
	c.serve(t, "classy", "web", labtest.DualStack, "loadBalancerClass: example.com/other")
	c.serve(t, "foreign", "web", labtest.DualStack, "loadBalancerClass: example.com/nobody")
	plain, classy := c.Assigned(t, "plain", 2), c.Assigned(t, "classy", 2)
	all := append(append([]netip.Addr{}, plain...), classy...)
	t.Logf("plain %v, classy %v, owners %v", plain, classy, c.Owners(t, all...))
	for _, ip := range all {
		c.Fetch(t, "c1", ip)
	}
	if s := c.Service(t, "foreign"); len(labtest.Ingress(s)) > 0 || len(s.Status.Conditions) > 0 {
		t.Errorf("a Service of another class got %v", s.Status)
	}

	t.Run("each release has a key of its own", func(t *testing.T) {
		one, two := c.gossipKey(t, lab.Namespace), c.gossipKey(t, otherNamespace)
		if one == two || len(one) < 24 || len(two) < 24 {
			t.Errorf("the keys have %d and %d characters and are equal: %t", len(one), len(two), one == two)
		}
	})
	t.Run("a new key", func(t *testing.T) { c.rotate(t, plain) })
	t.Run("one release goes", func(t *testing.T) {
		flows := c.load(t, plain...)
		must(t, second.Uninstall(within(t, time.Minute)))
		c.Silent(t, 5*time.Second, classy...)
		c.Owners(t, plain...)
		flows.lossless(t, "uninstall of the other release")
		c.together(t)
	})
}

func (c *cluster) gossipKey(t *testing.T, namespace string) string {
	t.Helper()
	s, err := c.Client().CoreV1().Secrets(namespace).Get(within(t, 10*time.Second), "lanyard-gossip", metav1.GetOptions{})
	must(t, err)
	return string(s.Data["key"])
}

// rotate replaces the gossip key while clients ask. Then one speaker starts with the new key alone, and the others hear it.
func (c *cluster) rotate(t *testing.T, ips []netip.Addr) {
	flows := c.load(t, ips...)
	key := base64.StdEncoding.EncodeToString([]byte(time.Now().Format("rotated on 2006-01-02 at 15:04:05"))[:32])
	patch, err := json.Marshal(map[string]any{"stringData": map[string]string{"key": key + "\n"}})
	must(t, err)
	_, err = c.Client().CoreV1().Secrets(lab.Namespace).Patch(within(t, 10*time.Second), "lanyard-gossip", types.MergePatchType, patch, metav1.PatchOptions{})
	must(t, err)
	for _, node := range append(c.Nodes(), "lanyard-control-plane") {
		// Kubelets refresh what they mount when they look after a pod: within a minute or so, or when it changes.
		speaker := c.speakerOn(t, node)
		_, err := c.Kubectl(within(t, 10*time.Second), "-n", lab.Namespace, "annotate", "--overwrite", "pod", speaker.Name, "lanyard.test/look=now")
		must(t, err)
		eventually(t, 2*time.Minute, func() error {
			mounted, err := c.kind.Exec(t.Context(), node, "cat", fmt.Sprintf("/var/lib/kubelet/pods/%s/volumes/kubernetes.io~secret/gossip/key", speaker.UID))
			if err == nil && strings.TrimSpace(mounted) != key {
				err = errors.New("the new key is not mounted yet")
			}
			return err
		})
	}
	c.together(t)
	speaker := c.speakerOn(t, c.Node(1))
	c.shell(t, "kubectl", "-n", lab.Namespace, "delete", "pod", speaker.Name)
	c.rolledOut(t)
	c.together(t)
	c.Owners(t, ips...)
	flows.lossless(t, "change of the gossip key, and start of a speaker with the new one")
}

// speakerOn is the pod of a node's speaker.
func (c *cluster) speakerOn(t *testing.T, node string) corev1.Pod {
	t.Helper()
	for _, p := range c.productPods(t, lab.Namespace) {
		if p.Spec.NodeName == node && p.Labels["app.kubernetes.io/component"] == "speaker" {
			return p
		}
	}
	t.Fatalf("there is no speaker on %s", node)
	return corev1.Pod{}
}
