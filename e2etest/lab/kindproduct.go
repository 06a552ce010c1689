package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// release is what a test wants of the product: what becomes values of the chart.
type release struct {
	tag                         string // of the images
	controllerArgs, speakerArgs []string
}

// Labels of nodes: whoever has one runs the controller or a speaker. So each starts where and when a test says.
const (
	runsController = "lab.lanyard.dev/controller"
	runsSpeaker    = "lab.lanyard.dev/speaker"
)

const releaseName = "lanyard"

// values are those of the chart.
func (r release) values() map[string]any {
	one := func(label string) map[string]string { return map[string]string{label: "yes"} }
	return map[string]any{
		"image":    map[string]any{"tag": r.tag},
		"logLevel": "debug",
		"controller": map[string]any{"replicas": 1, "extraArgs": r.controllerArgs, "nodeSelector": one(runsController),
			"tolerations": []map[string]string{{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}}},
		"speaker": map[string]any{"extraArgs": r.speakerArgs, "nodeSelector": one(runsSpeaker), "tolerateControlPlane": false,
			"maxUnavailable": "100%"},
		"crds": map[string]any{"upgrade": map[string]any{"enabled": false}}, // the lab's upgrades change flags alone
	}
}

// install installs the chart. The pods wait until a node is labelled for them.
func (k *onKind) install(ctx context.Context) error { return k.upgrade(ctx) }

func (k *onKind) upgrade(ctx context.Context) error {
	values, err := json.Marshal(k.installs.values())
	if err != nil {
		return fmt.Errorf("encode the chart's values: %w", err)
	}
	return k.Chart().Upgrade(ctx, string(values))
}

// startController starts the controller on the control plane's node.
func (k *onKind) startController(ctx context.Context, host, name string, args []string) (*Process, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	find := k.podOn(Namespace, "app.kubernetes.io/component=controller", controlPlane)
	p := k.Process(host, name)
	if p == nil {
		if host != controlPlane {
			return nil, fmt.Errorf("start a controller on %s: on kind it runs on the control plane", host)
		}
		var err error
		if p, err = k.contain(host, name, AsNobody, &contained{host: host, program: "controller", pod: find,
			halt: k.freezeKubelet(host, unix.SIGSTOP), resume: k.freezeKubelet(host, unix.SIGCONT)}); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(p.Kill(), k.labelNode(ctx, host, runsController, "null"), k.removeController(ctx)); err != nil {
		return nil, err
	}
	k.installs.controllerArgs = args
	if err := errors.Join(k.upgrade(ctx), k.labelNode(ctx, host, runsController, `"yes"`)); err != nil {
		return nil, err
	}
	if err := k.freezeKubelet(host, unix.SIGCONT)(ctx); err != nil {
		return nil, err
	}
	return p, k.waitContainer(ctx, "Deployment", p, find)
}

// removeController removes the Deployment and all that came of it: changed while no pod of it can be ready, it would hold on to one
// with the flags of before until one with the new flags is.
func (k *onKind) removeController(ctx context.Context) error {
	apps, background := k.Client().AppsV1(), metav1.DeletePropagationBackground
	err := apps.Deployments(Namespace).Delete(ctx, "lanyard-controller", metav1.DeleteOptions{PropagationPolicy: &background})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove the controller's Deployment: %w", err)
	}
	var fault error
	err = poll(ctx, 50*time.Millisecond, func() bool {
		sets, listErr := apps.ReplicaSets(Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=controller"})
		fault = errors.Join(listErr, k.removePods(ctx, "controller"))
		return fault == nil && len(sets.Items) == 0
	})
	if err != nil {
		return fmt.Errorf("wait for the controller's ReplicaSets to go: %w: %w", err, fault)
	}
	return k.removePods(ctx, "controller")
}

// startSpeaker starts the speaker of a node, all speakers anew if the flags are others than before.
func (k *onKind) startSpeaker(ctx context.Context, node string, args []string) (*Process, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	find := k.podOn(Namespace, "app.kubernetes.io/component=speaker", node)
	p := k.Process(node, "speaker")
	if p == nil {
		var err error
		if p, err = k.contain(node, "speaker", AsRootNetRaw, &contained{host: node, program: "speaker", pod: find,
			halt: k.freezeKubelet(node, unix.SIGSTOP), resume: k.freezeKubelet(node, unix.SIGCONT)}); err != nil {
			return nil, err
		}
	}
	if !slices.Equal(k.installs.speakerArgs, args) {
		k.installs.speakerArgs = args
		if err := k.upgrade(ctx); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(k.labelNode(ctx, node, runsSpeaker, `"yes"`), k.freezeKubelet(node, unix.SIGCONT)(ctx)); err != nil {
		return nil, err
	}
	return p, k.waitContainer(ctx, "DaemonSet", p, find)
}

// waitContainer waits until the pod of a process has the present template's flags, and its container runs.
func (k *onKind) waitContainer(ctx context.Context, workload string, p *Process, find func(context.Context) (*corev1.Pod, error)) error {
	var fault error
	err := poll(ctx, 50*time.Millisecond, func() bool {
		fault = k.runsAsTold(ctx, workload, find)
		return fault == nil && p.Alive()
	})
	if err != nil {
		return fmt.Errorf("wait for %s on %s to run: %w: %w", p.Name, p.Host.Hostname, err, fault)
	}
	return nil
}

func (k *onKind) runsAsTold(ctx context.Context, workload string, find func(context.Context) (*corev1.Pod, error)) error {
	var template corev1.PodTemplateSpec
	if workload == "Deployment" {
		d, err := k.Client().AppsV1().Deployments(Namespace).Get(ctx, "lanyard-controller", metav1.GetOptions{})
		if err != nil {
			return err
		}
		template = d.Spec.Template
	} else {
		d, err := k.Client().AppsV1().DaemonSets(Namespace).Get(ctx, SpeakerService, metav1.GetOptions{})
		if err != nil {
			return err
		}
		template = d.Spec.Template
	}
	pod, err := find(ctx)
	if err != nil {
		return err
	}
	if !slices.Equal(pod.Spec.Containers[0].Args, template.Spec.Containers[0].Args) {
		return fmt.Errorf("pod %s has other flags yet", pod.Name)
	}
	if s := pod.Status.ContainerStatuses; len(s) == 0 || s[0].State.Running == nil {
		return fmt.Errorf("pod %s does not run yet: %s %+v", pod.Name, pod.Status.Phase, s)
	}
	return nil
}

// labelNode sets a label of a host's node; the value is JSON.
func (k *onKind) labelNode(ctx context.Context, host, label, value string) error {
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, label, value)
	_, err := k.Client().CoreV1().Nodes().Patch(ctx, k.containerOf(host).Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("label node %s: %w", host, err)
	}
	return nil
}

// removePods removes the pods of a component, whose processes have ended, from the API at once.
func (k *onKind) removePods(ctx context.Context, component string) error {
	pods, now := k.Client().CoreV1().Pods(Namespace), int64(0)
	list, err := pods.List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=" + component})
	if err != nil {
		return fmt.Errorf("list the pods of the %s: %w", component, err)
	}
	for _, pod := range list.Items {
		err := pods.Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("remove pod %s: %w", pod.Name, err)
		}
	}
	return nil
}

// served: a speaker serves its metrics on its node's address and its probes on its loopback; the controller both in its pod.
func (k *onKind) served(ctx context.Context, host string, port int) (*Host, string, error) {
	h := k.Host(host)
	switch {
	case h.Role == NodeRole && port == HealthPort:
		return h, fmt.Sprintf("127.0.0.1:%d", port), nil
	case h.Role == NodeRole:
		return h, fmt.Sprintf("%s:%d", h.Addr4(), port), nil
	}
	pod, err := k.podOn(Namespace, "app.kubernetes.io/component=controller", host)(ctx)
	if err != nil {
		return nil, "", err
	}
	if pod.Status.PodIP == "" {
		return nil, "", fmt.Errorf("pod %s has no address yet", pod.Name)
	}
	return h, fmt.Sprintf("%s:%d", pod.Status.PodIP, port), nil
}
