package lab

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/e2etest/agent"
)

// The ports on which every pod of the lab serves.
const (
	HTTPPort = agent.HTTPPort // answers "pod=web-1 node=n1 client=10.77.0.101:4242"
	EchoPort = agent.EchoPort // UDP: the same line, then the payload
)

// Pod describes a pod to run. The real control plane makes EndpointSlices of it; the node's agent gives it an address and
// a backend that serves on HTTPPort and EchoPort.
type Pod struct {
	Namespace string // empty means default
	Name      string
	Node      string
	Labels    map[string]string
	// HostNetwork gives the pod its node's addresses, and no backend.
	HostNetwork bool
	// Ports that the pod declares. What a Service calls by name has to be one of them.
	Ports []corev1.ContainerPort
	// Unready pods are reported as not ready; see SetPodReady.
	Unready bool
	// Grace is how long the pod serves on, terminating, after its deletion, in whole seconds.
	Grace time.Duration
}

// RunPod runs a pod on a node, in the namespace default, and waits until it is ready.
func (l *Lab) RunPod(ctx context.Context, node, name string, labels map[string]string) error {
	return l.CreatePod(ctx, Pod{Node: node, Name: name, Labels: labels})
}

// AddHostPod records a pod with its node's addresses and waits until it is ready. The lab runs nothing for it: it stands
// for a daemon that the test starts itself.
func (l *Lab) AddHostPod(ctx context.Context, namespace, node, name string, labels map[string]string) error {
	return l.CreatePod(ctx, Pod{Namespace: namespace, Node: node, Name: name, Labels: labels, HostNetwork: true})
}

// CreatePod runs a pod and waits until it is ready, or with Unready, until it runs.
func (l *Lab) CreatePod(ctx context.Context, p Pod) error {
	object := p.object()
	if _, err := l.Client().CoreV1().Pods(object.Namespace).Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create pod %s/%s: %w", object.Namespace, p.Name, err)
	}
	return l.waitPod(ctx, object.Namespace, p.Name, !p.Unready)
}

// SetPodReady changes what a pod's node reports of it, as a readiness probe would. The backend serves on.
func (l *Lab) SetPodReady(ctx context.Context, namespace, name string, ready bool) error {
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:"%t"}}}`, agent.ReadyAnnotation, ready)
	_, err := l.Client().CoreV1().Pods(namespace).Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("set pod %s/%s ready=%t: %w", namespace, name, ready, err)
	}
	return l.waitPod(ctx, namespace, name, ready)
}

// DeletePod deletes a pod and waits until it is gone, which takes as long as its Grace.
func (l *Lab) DeletePod(ctx context.Context, namespace, name string) error {
	pods := l.Client().CoreV1().Pods(namespace)
	if err := pods.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("delete pod %s/%s: %w", namespace, name, err)
	}
	err := poll(ctx, 20*time.Millisecond, func() bool {
		_, err := pods.Get(ctx, name, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	if err != nil {
		return fmt.Errorf("wait for pod %s/%s to be gone: %w", namespace, name, err)
	}
	return nil
}

func (l *Lab) waitPod(ctx context.Context, namespace, name string, ready bool) error {
	err := poll(ctx, 20*time.Millisecond, func() bool {
		pod, err := l.Client().CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		return err == nil && pod.Status.Phase == corev1.PodRunning && podReady(pod) == ready
	})
	if err != nil {
		return fmt.Errorf("wait for pod %s/%s to have Ready=%t: %w", namespace, name, ready, err)
	}
	return nil
}

func podReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func (p Pod) object() *corev1.Pod {
	namespace := p.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	grace, no := int64(p.Grace.Seconds()), false
	object := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: p.Name, Labels: p.Labels},
		Spec: corev1.PodSpec{NodeName: p.Node, HostNetwork: p.HostNetwork, TerminationGracePeriodSeconds: &grace,
			AutomountServiceAccountToken: &no,
			Containers:                   []corev1.Container{{Name: "backend", Image: "lab/backend", Ports: p.Ports}}},
	}
	if p.Unready {
		object.Annotations = map[string]string{agent.ReadyAnnotation: "false"}
	}
	return object
}
