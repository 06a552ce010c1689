package lab

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// startAgent starts the stand-in for the kubelet on the node with index i.
func (l *own) startAgent(node string, i int) error {
	kubeconfig, err := l.KubeconfigFor("system:node:"+node, "system:nodes")
	if err != nil {
		return err
	}
	h := l.Host(node)
	v4, v6 := podCIDRs(i)
	_, err = l.Start(node, ProcessOptions{Name: "agent", Path: l.program("lab"), Args: []string{"agent",
		"--prefix=" + l.Prefix, "--node=" + node, "--kubeconfig=" + kubeconfig,
		"--addresses=" + h.Addr4().String() + "," + h.Addr6().String(),
		"--pod-cidrs=" + v4.String() + "," + v6.String(),
		"--heartbeat=" + (l.opts.NodeGracePeriod / 5).String()}})
	return err
}

// WaitNodeReady waits until the control plane sees a node as Ready, or as not.
func (l *Lab) WaitNodeReady(ctx context.Context, node string, ready bool) error {
	err := poll(ctx, 50*time.Millisecond, func() bool {
		n, err := l.Client().CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		return err == nil && nodeReady(n) == ready
	})
	if err != nil {
		return fmt.Errorf("wait for node %s to have Ready=%t: %w", node, ready, err)
	}
	return nil
}

func nodeReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
