package suite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// TestL2StatusObject is about what the API server makes of a ServiceL2Status by itself: what kubectl shows of it, that it
// goes with its Service, and that speakers may write it.
func TestL2StatusObject(t *testing.T) {
	t.Parallel()
	c := install(t, lab.Options{Nodes: -1, Clients: -1})
	c.Create(t, serviceYAML("web"))
	service, err := c.Resource("Service").Get(within(t, 10*time.Second), "web", metav1.GetOptions{})
	must(t, err)
	must(t, c.Apply(within(t, 20*time.Second), l2StatusYAML("web", string(service.GetUID()))))

	shown, err := c.Kubectl(within(t, 20*time.Second), "get", "l2status", "web")
	must(t, err)
	for _, word := range []string{"10.77.0.200,fd77::200", "left,right", "eth0", "02:00:00:00:00:01", "ARP,NDP", "Announcing", "3d"} {
		if !strings.Contains(shown, word) {
			t.Errorf("kubectl get l2status does not show %q:\n%s", word, shown)
		}
	}
	t.Run("speakers may", func(t *testing.T) { speakersMay(t, c) })
	c.Delete(t, "Service", "web")
	eventually(t, time.Minute, func() error {
		left, err := c.Kubectl(t.Context(), "get", "l2status", "--no-headers", "--ignore-not-found")
		if err == nil && left != "" {
			err = errors.New("it is still there: " + left)
		}
		return err
	})
}

func l2StatusYAML(name, uid string) string {
	since := time.Now().Add(-80 * time.Hour).UTC().Format(time.RFC3339)
	return fmt.Sprintf(`apiVersion: lanyard.dev/v1beta1
kind: ServiceL2Status
metadata:
  name: %s
  ownerReferences: [{apiVersion: v1, kind: Service, name: %[1]s, uid: %s}]
status:
  addresses: 10.77.0.200,fd77::200
  nodes: left,right
  interfaces: eth0
  macs: "02:00:00:00:00:01"
  protocols: ARP,NDP
  phases: Announcing
  since: %s
  announcements:
  - {address: 10.77.0.200, node: left, protocol: ARP, phase: Announcing, interfaces: [{name: eth0, mac: "02:00:00:00:00:01"}]}
  - {address: "fd77::200", node: right, protocol: NDP, phase: Announcing}
`, name, uid, since)
}

func speakersMay(t *testing.T, c *cluster) {
	account := fmt.Sprintf("system:serviceaccount:%s:%s", lab.Namespace, lab.SpeakerService)
	can := func(ctx context.Context, what string) bool {
		args := append([]string{"auth", "can-i", "--as", account, "-n", "default"}, strings.Fields(what)...)
		answer, err := c.Kubectl(ctx, args...)
		return err == nil && strings.TrimSpace(answer) == "yes" // the exit status of a "no" is 1
	}
	for what, want := range map[string]bool{
		"patch services --subresource=status":                   true,
		"patch ipaddresspools.lanyard.dev --subresource=status": true,
		"create servicel2statuses.lanyard.dev":                  true,
		"patch servicel2statuses.lanyard.dev":                   true,
		"delete servicel2statuses.lanyard.dev":                  true,
		"list servicel2statuses.lanyard.dev":                    true,
		"create events.events.k8s.io":                           true,
		"patch services":                                        false,
		"patch ipaddresspools.lanyard.dev":                      false,
		"patch nodes":                                           false,
		"get secrets":                                           false,
		"delete ipallocationrecords.lanyard.dev":                false,
	} {
		if got := can(within(t, 20*time.Second), what); got != want {
			t.Errorf("a speaker may %s: %v, want %v", what, got, want)
		}
	}
}
