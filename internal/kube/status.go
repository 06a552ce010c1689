package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ServiceStatus is the part of a Service's status that one component writes.
type ServiceStatus struct {
	// Ingress replaces the load-balancer status, unless it is to be left as it is.
	Ingress      []corev1.LoadBalancerIngress
	LeaveIngress bool
	// Condition is set; the conditions of others stay. With Remove, the condition of that type is removed.
	Condition metav1.Condition
	Remove    bool
}

// WriteServiceStatus patches the status of the Service as it was seen: when it has changed since, nothing is
// written and the error is a conflict (apierrors.IsConflict).
func (c *Cluster) WriteServiceStatus(ctx context.Context, seen *corev1.Service, s ServiceStatus) error {
	patch, err := servicePatch(seen, s)
	if err != nil {
		return err
	}
	target := metadataOf(corev1.SchemeGroupVersion.WithKind("Service"), seen.Namespace, seen.Name)
	err = c.manager.GetClient().Status().Patch(ctx, target, client.RawPatch(types.StrategicMergePatchType, patch))
	if err != nil {
		return fmt.Errorf("write the status of Service %s/%s: %w", seen.Namespace, seen.Name, err)
	}
	return nil
}

// metadataOf is the target of a patch whose answer nobody reads: the API server sends no more of the object than that.
func metadataOf(kind schema.GroupVersionKind, namespace, name string) *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	o.SetGroupVersionKind(kind)
	return o
}

func servicePatch(seen *corev1.Service, s ServiceStatus) ([]byte, error) {
	condition := any(s.Condition)
	if s.Remove {
		condition = map[string]string{"$patch": "delete", "type": s.Condition.Type}
	}
	status := map[string]any{"conditions": []any{condition}}
	if !s.LeaveIngress {
		status["loadBalancer"] = map[string]any{"ingress": s.Ingress}
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": seen.UID, "resourceVersion": seen.ResourceVersion},
		"status":   status,
	})
	if err != nil {
		return nil, fmt.Errorf("encode the status of Service %s/%s: %w", seen.Namespace, seen.Name, err)
	}
	return patch, nil
}

// WriteStatus replaces the fields of the status of an object of Lanyard's own that are given (null takes one
// away), as it was seen: when it has changed since, nothing is written and the error is a conflict
// (apierrors.IsConflict).
func (c *Cluster) WriteStatus(ctx context.Context, seen client.Object, status any) error {
	return c.merge(ctx, seen, map[string]any{}, map[string]any{"status": status}, c.manager.GetClient().Status().Patch)
}

// WriteFinalizers replaces the finalizers of an object of Lanyard's own, as it was seen; see WriteStatus.
func (c *Cluster) WriteFinalizers(ctx context.Context, seen client.Object, finalizers []string) error {
	patch := func(ctx context.Context, o client.Object, p client.Patch, _ ...client.SubResourcePatchOption) error {
		return c.manager.GetClient().Patch(ctx, o, p)
	}
	return c.merge(ctx, seen, map[string]any{"finalizers": finalizers}, map[string]any{}, patch)
}

func (c *Cluster) merge(ctx context.Context, seen client.Object, metadata, body map[string]any,
	patch func(context.Context, client.Object, client.Patch, ...client.SubResourcePatchOption) error) error {
	metadata["uid"], metadata["resourceVersion"] = seen.GetUID(), seen.GetResourceVersion()
	body["metadata"] = metadata
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode a change of %T %s: %w", seen, seen.GetName(), err)
	}
	kind, err := c.manager.GetClient().GroupVersionKindFor(seen)
	if err != nil {
		return fmt.Errorf("write %s: %w", seen.GetName(), err)
	}
	target := metadataOf(kind, seen.GetNamespace(), seen.GetName())
	if err := patch(ctx, target, client.RawPatch(types.MergePatchType, data)); err != nil {
		return fmt.Errorf("write %T %s: %w", seen, seen.GetName(), err)
	}
	return nil
}

// longestNote is how many bytes of a note an event may have.
const longestNote = 1024

// Of events that say that all is well so many are recorded at once, and per second from then on: each is a request, and
// the condition says the same. When many Services are given addresses at the same time, these come first.
const (
	goodNewsAtOnce    = 50
	goodNewsPerSecond = 10
)

// Events returns a function that records an event on an object. action is a verb in CamelCase. Notes that are
// too long for an event are cut. Of many Normal events in short time some are left out; Warnings never are.
func (c *Cluster) Events(component string) func(on client.Object, eventType, reason, action, note string) {
	recorder := c.manager.GetEventRecorder(component)
	limit := rate.NewLimiter(goodNewsPerSecond, goodNewsAtOnce)
	return func(on client.Object, eventType, reason, action, note string) {
		if eventType == corev1.EventTypeNormal && !limit.Allow() {
			return
		}
		recorder.Eventf(on, nil, eventType, reason, action, "%s", cut(note, longestNote))
	}
}

// NodeEvents is Events for Nodes, by name. The event has the name for the UID of its Node, as the kubelet's have.
func (c *Cluster) NodeEvents(component string) func(node, eventType, reason, action, note string) {
	record := c.Events(component)
	return func(node, eventType, reason, action, note string) {
		on := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node, UID: types.UID(node)}}
		record(on, eventType, reason, action, note)
	}
}

// cut shortens a text to a number of bytes, between two characters.
func cut(text string, most int) string {
	const mark = "..."
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-len(mark)], "") + mark
}
