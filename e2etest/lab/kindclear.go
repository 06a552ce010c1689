package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// clear removes from the cluster what a test before left: releases of the chart, objects of the product's kinds and the
// kinds themselves, all that is in the namespace default, namespaces, and what was said of nodes.
func (k *onKind) clear(ctx context.Context) error {
	if err := errors.Join(k.uninstallAll(ctx), k.clearDefault(ctx), k.clearNodes(ctx)); err != nil {
		return fmt.Errorf("clear the cluster: %w", err)
	}
	if err := errors.Join(k.removeKinds(ctx), k.removeNamespaces(ctx), k.killRemains(ctx)); err != nil {
		return fmt.Errorf("clear the cluster: %w", err)
	}
	return nil
}

// killRemains kills what still runs of pods that are gone: a speaker would hold its node's ports, and its addresses.
func (k *onKind) killRemains(ctx context.Context) error {
	for _, c := range k.containers() {
		for _, program := range []string{"speaker", "controller", "backend"} {
			err := poll(ctx, 20*time.Millisecond, func() bool {
				left := c.processes(program)
				for _, id := range left {
					_ = unix.Kill(id.PID, unix.SIGKILL) // it may have ended by now
				}
				return len(left) == 0
			})
			if err != nil {
				return fmt.Errorf("end the %s on %s: %w", program, c.Name, err)
			}
		}
	}
	return nil
}

// uninstallAll removes every release of the chart.
func (k *onKind) uninstallAll(ctx context.Context) error {
	out, err := k.Helm(ctx, "list", "--all-namespaces", "--output", "json")
	if err != nil {
		return err
	}
	var releases []struct{ Name, Namespace, Chart string }
	if err := json.Unmarshal([]byte(out), &releases); err != nil {
		return fmt.Errorf("read the list of releases: %w", err)
	}
	for _, r := range releases {
		if !strings.HasPrefix(r.Chart, "lanyard-") {
			continue
		}
		if _, err := k.Helm(ctx, "uninstall", "--no-hooks", "--namespace", r.Namespace, r.Name); err != nil {
			return err
		}
	}
	return nil
}

// clearDefault empties the namespace default.
func (k *onKind) clearDefault(ctx context.Context) error {
	core, now := k.Client().CoreV1(), int64(0)
	services, err := core.Services(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the Services: %w", err)
	}
	var faults []error
	for _, s := range services.Items {
		if s.Name != "kubernetes" {
			faults = append(faults, ignoreMissing(core.Services(s.Namespace).Delete(ctx, s.Name, metav1.DeleteOptions{})))
		}
	}
	return errors.Join(append(faults,
		core.Pods(metav1.NamespaceDefault).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{}),
		k.Client().EventsV1().Events(metav1.NamespaceDefault).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))...)
}

// clearNodes takes from nodes what only tests say of them: labels and taints that are not Kubernetes' own, and cordons.
func (k *onKind) clearNodes(ctx context.Context) error {
	nodes, err := k.Client().CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the nodes: %w", err)
	}
	var faults []error
	for _, n := range nodes.Items {
		labels := map[string]any{}
		for key := range n.Labels {
			domain, _, _ := strings.Cut(key, "/")
			if key == excludeLabel && !k.isControlPlaneNode(n.Name) || domain != "kubernetes.io" && !strings.HasSuffix(domain, ".kubernetes.io") {
				labels[key] = nil
			}
		}
		taints := slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool { return !strings.Contains(t.Key, "kubernetes.io/") })
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels},
			"spec": map[string]any{"unschedulable": false, "taints": taints}})
		if err == nil {
			_, err = k.Client().CoreV1().Nodes().Patch(ctx, n.Name, types.MergePatchType, patch, metav1.PatchOptions{})
		}
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// excludeLabel is on kind's control plane by itself.
const excludeLabel = "node.kubernetes.io/exclude-from-external-load-balancers"

func (k *onKind) isControlPlaneNode(name string) bool { return k.controlPlane().Name == name }

var crds = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// removeKinds removes the product's kinds and all objects of them, whoever wants to be asked first.
func (k *onKind) removeKinds(ctx context.Context) error {
	list, err := k.Dynamic().Resource(crds).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the kinds: %w", err)
	}
	for _, crd := range list.Items {
		plural, isOurs := strings.CutSuffix(crd.GetName(), ".lanyard.dev")
		if !isOurs {
			continue
		}
		kind := schema.GroupVersionResource{Group: "lanyard.dev", Version: "v1beta1", Resource: plural}
		if err := removeFinalizers(ctx, k.Dynamic().Resource(kind)); err != nil {
			return fmt.Errorf("release the %s: %w", plural, err)
		}
		if err := ignoreMissing(k.Dynamic().Resource(crds).Delete(ctx, crd.GetName(), metav1.DeleteOptions{})); err != nil {
			return fmt.Errorf("remove the kind %s: %w", plural, err)
		}
		if err := untilGone(ctx, k.Dynamic().Resource(crds), crd.GetName()); err != nil {
			return fmt.Errorf("remove the kind %s: %w", plural, err)
		}
	}
	return nil
}

func removeFinalizers(ctx context.Context, resource dynamic.NamespaceableResourceInterface) error {
	list, err := resource.List(ctx, metav1.ListOptions{})
	if err != nil {
		return ignoreMissing(err)
	}
	for _, o := range list.Items {
		if len(o.GetFinalizers()) == 0 {
			continue
		}
		_, err := resource.Namespace(o.GetNamespace()).Patch(ctx, o.GetName(), types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`),
			metav1.PatchOptions{})
		if ignoreMissing(err) != nil {
			return err
		}
	}
	return nil
}

// removeNamespaces removes all namespaces but those that the cluster has by itself.
func (k *onKind) removeNamespaces(ctx context.Context) error {
	namespaces := schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	list, err := k.Client().CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the namespaces: %w", err)
	}
	var removed []string
	for _, n := range list.Items {
		if n.Name == metav1.NamespaceDefault || n.Name == "local-path-storage" || strings.HasPrefix(n.Name, "kube-") {
			continue
		}
		removed = append(removed, n.Name)
		if err := ignoreMissing(k.Client().CoreV1().Namespaces().Delete(ctx, n.Name, metav1.DeleteOptions{})); err != nil {
			return fmt.Errorf("remove namespace %s: %w", n.Name, err)
		}
		if err := k.removePodsOf(ctx, n.Name); err != nil {
			return err
		}
	}
	for _, name := range removed {
		if err := untilGone(ctx, k.Dynamic().Resource(namespaces), name); err != nil {
			return fmt.Errorf("remove namespace %s: %w", name, err)
		}
	}
	return nil
}

// removePodsOf removes the pods of a namespace without waiting for them to end in good order.
func (k *onKind) removePodsOf(ctx context.Context, namespace string) error {
	now := int64(0)
	err := k.Client().CoreV1().Pods(namespace).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("remove the pods of namespace %s: %w", namespace, err)
	}
	return nil
}

func untilGone(ctx context.Context, client dynamic.ResourceInterface, name string) error {
	return poll(ctx, 50*time.Millisecond, func() bool {
		_, err := client.Get(ctx, name, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}

func ignoreMissing(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
