package labtest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
)

// Words that Kubernetes has for nodes which should not serve load balancers.
const (
	ExcludeLabel    = "node.kubernetes.io/exclude-from-external-load-balancers"
	AutoscalerTaint = "ToBeDeletedByClusterAutoscaler"
)

// Services makes n dual-stack Services, for pools with exactly that many addresses, and returns their addresses.
func (c *Cluster) Services(t *testing.T, name string, n int, spec ...string) (ips []netip.Addr) {
	t.Helper()
	for i := range n {
		c.Create(t, ServiceYAML(fmt.Sprintf("%s-%d", name, i), append(spec, DualStack)...))
	}
	for i := range n {
		ips = append(ips, c.Assigned(t, fmt.Sprintf("%s-%d", name, i), 2)...)
	}
	return ips
}

// Label sets a label of a node until the test ends.
func (c *Cluster) Label(t *testing.T, node, key, value string) {
	t.Helper()
	c.setLabel(t, node, key, fmt.Sprintf("%q", value))
}

// Unlabel takes it away now.
func (c *Cluster) Unlabel(t *testing.T, node, key string) {
	t.Helper()
	c.setLabel(t, node, key, "null")
}

func (c *Cluster) setLabel(t *testing.T, node, key, value string) {
	t.Helper()
	set := func(ctx context.Context, value string) error {
		return c.patchNode(ctx, node, fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, key, value))
	}
	Must(t, set(Within(t, 10*time.Second), value))
	Afterwards(t, func(ctx context.Context) error { return set(ctx, "null") })
}

// Taint puts a taint on a node until the test ends or Untaint takes it away.
func (c *Cluster) Taint(t *testing.T, node, key string) {
	t.Helper()
	taint := corev1.Taint{Key: key, Value: "test", Effect: corev1.TaintEffectNoSchedule}
	Must(t, c.retaint(Within(t, 10*time.Second), node, key, taint))
	Afterwards(t, func(ctx context.Context) error { return c.retaint(ctx, node, key) })
}

// Untaint takes a taint away now.
func (c *Cluster) Untaint(t *testing.T, node, key string) {
	t.Helper()
	Must(t, c.retaint(Within(t, 10*time.Second), node, key))
}

// retaint replaces the taints of a key.
func (c *Cluster) retaint(ctx context.Context, node, key string, by ...corev1.Taint) error {
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		n, err := c.Client().CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		n.Spec.Taints = append(slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == key }), by...)
		_, err = c.Client().CoreV1().Nodes().Update(ctx, n, metav1.UpdateOptions{})
		return err
	})
}

// NetworkUnavailable says of a node's network that it does not work, until the test ends, or that it does.
func (c *Cluster) NetworkUnavailable(t *testing.T, node string, unavailable bool) {
	t.Helper()
	set := func(ctx context.Context, status string) error {
		patch := fmt.Sprintf(`{"status":{"conditions":[{"type":"NetworkUnavailable","status":%q,"reason":"Test"}]}}`, status)
		return c.patchNode(ctx, node, patch, "status")
	}
	if !unavailable {
		Must(t, set(Within(t, 10*time.Second), "False"))
		return
	}
	Must(t, set(Within(t, 10*time.Second), "True"))
	Afterwards(t, func(ctx context.Context) error { return set(ctx, "False") })
}

func (c *Cluster) patchNode(ctx context.Context, node, patch string, subresource ...string) error {
	_, err := c.Client().CoreV1().Nodes().Patch(ctx, node, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, subresource...)
	return err
}

// Events lists the events on a Service, each as "TYPE REASON: NOTE".
func (c *Cluster) Events(t *testing.T, name string) []string {
	t.Helper()
	return c.EventsSince(t, time.Time{}, "Service", name)
}

// EventsSince lists the events on an object of the namespace default, or of none, that happened since a time, for the first
// time or again.
func (c *Cluster) EventsSince(t *testing.T, since time.Time, kind, name string) (lines []string) {
	t.Helper()
	list, err := c.Client().EventsV1().Events(metav1.NamespaceDefault).List(Within(t, 10*time.Second), metav1.ListOptions{})
	Must(t, err)
	for _, e := range list.Items {
		if e.Regarding.Kind == kind && e.Regarding.Name == name && !lastSeen(e).Before(since.Truncate(time.Second)) {
			lines = append(lines, fmt.Sprintf("%s %s: %s", e.Type, e.Reason, e.Note))
		}
	}
	return lines
}

// lastSeen is when an event last happened; the older of the two ways to say that counts in whole seconds.
func lastSeen(e eventsv1.Event) time.Time {
	last := e.EventTime.Time
	if old := e.DeprecatedLastTimestamp.Time; old.After(last) {
		last = old
	}
	if e.Series != nil && e.Series.LastObservedTime.After(last) {
		last = e.Series.LastObservedTime.Time
	}
	return last
}
