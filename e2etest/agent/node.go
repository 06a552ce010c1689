package agent

import (
	"context"
	"fmt"
	"os"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const leaseNamespace = "kube-node-lease"

// heart keeps the Node object and its Lease as a kubelet would.
type heart struct {
	Config
	client kubernetes.Interface
	lease  *coordinationv1.Lease
}

// run beats until the context ends. A beat that fails is tried again at the next; each has a heartbeat's time.
func (h *heart) run(ctx context.Context) error {
	tick := time.NewTicker(h.Heartbeat)
	defer tick.Stop()
	failing := false
	for {
		err := h.beat(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if failing != (err != nil) {
			failing = err != nil
			fmt.Fprintf(os.Stderr, "%s heartbeat of %s: %v\n", time.Now().Format(time.TimeOnly), h.Node, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (h *heart) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, h.Heartbeat)
	defer cancel()
	node, err := h.client.CoreV1().Nodes().Get(ctx, h.Node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		node, err = h.client.CoreV1().Nodes().Create(ctx, h.object(), metav1.CreateOptions{})
	}
	if err != nil {
		return err
	}
	if setStatus(node, h.Addresses[0].String(), h.Addresses[1].String()) {
		if _, err := h.client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	return h.renew(ctx)
}

func (h *heart) object() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: h.Node, Labels: map[string]string{
			corev1.LabelHostname: h.Node, corev1.LabelOSStable: "linux"}},
		Spec: corev1.NodeSpec{PodCIDR: h.PodCIDRs[0].String(),
			PodCIDRs: []string{h.PodCIDRs[0].String(), h.PodCIDRs[1].String()}},
	}
}

// conditions are what a healthy node says of itself.
var conditions = map[corev1.NodeConditionType]corev1.ConditionStatus{
	corev1.NodeReady:              corev1.ConditionTrue,
	corev1.NodeNetworkUnavailable: corev1.ConditionFalse,
	corev1.NodeMemoryPressure:     corev1.ConditionFalse,
	corev1.NodeDiskPressure:       corev1.ConditionFalse,
	corev1.NodePIDPressure:        corev1.ConditionFalse,
}

// setStatus brings the status to what a healthy node has and tells whether anything changed. NetworkUnavailable belongs to
// the network and is left as it is once set: a test may say that it is True.
func setStatus(node *corev1.Node, v4, v6 string) (changed bool) {
	now := metav1.Now()
	have := map[corev1.NodeConditionType]*corev1.NodeCondition{}
	for i := range node.Status.Conditions {
		have[node.Status.Conditions[i].Type] = &node.Status.Conditions[i]
	}
	for kind, status := range conditions {
		c := have[kind]
		if c != nil && (c.Status == status || kind == corev1.NodeNetworkUnavailable) {
			continue
		}
		changed = true
		wanted := corev1.NodeCondition{Type: kind, Status: status, Reason: "LabAgent", LastHeartbeatTime: now, LastTransitionTime: now}
		if c != nil {
			*c = wanted
			continue
		}
		node.Status.Conditions = append(node.Status.Conditions, wanted)
	}
	if len(node.Status.Addresses) == 0 {
		changed = true
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: v4},
			{Type: corev1.NodeInternalIP, Address: v6}, {Type: corev1.NodeHostName, Address: node.Name}}
		node.Status.Capacity = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"),
			corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("250")}
		node.Status.Allocatable = node.Status.Capacity
		node.Status.NodeInfo = corev1.NodeSystemInfo{KubeletVersion: "lab-agent", OperatingSystem: "linux", OSImage: "network namespace"}
	}
	return changed
}

// renew renews the node's Lease, from which the control plane tells a live node from a dead one.
func (h *heart) renew(ctx context.Context) error {
	leases := h.client.CoordinationV1().Leases(leaseNamespace)
	now := metav1.NowMicro()
	if h.lease == nil {
		lease, err := leases.Get(ctx, h.Node, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			seconds := int32(40)
			lease, err = leases.Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: h.Node},
				Spec: coordinationv1.LeaseSpec{HolderIdentity: &h.Node, LeaseDurationSeconds: &seconds, RenewTime: &now}}, metav1.CreateOptions{})
		}
		if err != nil {
			return err
		}
		h.lease = lease
	}
	lease := h.lease.DeepCopy()
	lease.Spec.RenewTime = &now
	lease, err := leases.Update(ctx, lease, metav1.UpdateOptions{})
	h.lease = lease
	if err != nil {
		h.lease = nil // read it anew
	}
	return err
}
