package kind

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const controlPlane = Name + "-control-plane"

// Node is a node's container, as it was when it was looked up.
type Node struct {
	Name         string // of the container and of the Kubernetes Node
	ControlPlane bool
	Status       string // of the container: running, paused, exited, ...
	PID          int    // of its systemd on this machine; 0 if it does not run
	Image        string
	IPv4, IPv6   netip.Addr
}

// inspected is what we read of `docker inspect`.
type inspected struct {
	Name  string
	State struct {
		Status string
		Pid    int
	}
	Config struct {
		Image  string
		Labels map[string]string
	}
	NetworkSettings struct {
		Networks map[string]struct{ IPAddress, GlobalIPv6Address string }
	}
}

// Nodes are all nodes, running or not, the control plane first.
func (c *Cluster) Nodes(ctx context.Context) ([]Node, error) {
	ids, err := docker(ctx, "ps", "--all", "--quiet", "--filter", "label=io.x-k8s.kind.cluster="+Name)
	if err != nil || ids == "" {
		return nil, err
	}
	raw, err := docker(ctx, append([]string{"inspect"}, strings.Fields(ids)...)...)
	if err != nil {
		return nil, err
	}
	return parseNodes([]byte(raw))
}

func parseNodes(raw []byte) ([]Node, error) {
	var containers []inspected
	if err := json.Unmarshal(raw, &containers); err != nil {
		return nil, fmt.Errorf("read docker inspect: %w", err)
	}
	var nodes []Node
	for _, container := range containers {
		n := Node{Name: strings.TrimPrefix(container.Name, "/"), Status: container.State.Status, PID: container.State.Pid, Image: container.Config.Image,
			ControlPlane: container.Config.Labels["io.x-k8s.kind.role"] == "control-plane"}
		// Both are empty while the container doesn't run.
		n.IPv4, _ = netip.ParseAddr(container.NetworkSettings.Networks[Network].IPAddress)
		n.IPv6, _ = netip.ParseAddr(container.NetworkSettings.Networks[Network].GlobalIPv6Address)
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b Node) int {
		if a.ControlPlane != b.ControlPlane {
			return map[bool]int{true: -1, false: 1}[a.ControlPlane]
		}
		return cmp.Or(cmp.Compare(len(a.Name), len(b.Name)), cmp.Compare(a.Name, b.Name))
	})
	return nodes, nil
}

// Node looks one node up.
func (c *Cluster) Node(ctx context.Context, name string) (Node, error) {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return Node{}, err
	}
	i := slices.IndexFunc(nodes, func(n Node) bool { return n.Name == name })
	if i < 0 {
		return Node{}, fmt.Errorf("kind cluster %s has no node %s", Name, name)
	}
	return nodes[i], nil
}

// NetNS is the path of the node's network namespace. It changes when the node starts again.
func (n Node) NetNS() string { return fmt.Sprintf("/proc/%d/ns/net", n.PID) }

// Exec runs a program on a node, waits for it, and returns its standard output; standard error is in the error.
func (c *Cluster) Exec(ctx context.Context, node string, args ...string) (string, error) {
	return docker(ctx, append([]string{"exec", node}, args...)...)
}

// Stop shuts a node down in order, as its power button would.
func (c *Cluster) Stop(ctx context.Context, node string) error {
	_, err := docker(ctx, "stop", "--time", "30", node)
	return err
}

// Kill ends a node at once, as a cut power line would.
func (c *Cluster) Kill(ctx context.Context, node string) error {
	_, err := docker(ctx, "kill", node)
	return err
}

// Pause freezes all that runs on a node. Its addresses stay in the kernel: it still answers ARP and forwards packets.
func (c *Cluster) Pause(ctx context.Context, node string) error {
	_, err := docker(ctx, "pause", node)
	return err
}

// Unpause lets a paused node go on.
func (c *Cluster) Unpause(ctx context.Context, node string) error {
	_, err := docker(ctx, "unpause", node)
	return err
}

// Start starts a node that was stopped or killed, and returns once its system is up and has its routes back; the kubelet
// may need longer. It fails if docker gave the node other addresses than it had.
func (c *Cluster) Start(ctx context.Context, node string) error {
	if _, err := docker(ctx, "start", node); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := poll(ctx, 200*time.Millisecond, func() error {
		// "degraded": some unit failed that may have nothing to do with Kubernetes.
		out, err := docker(ctx, "exec", node, "systemctl", "is-system-running")
		if out == "running" || out == "degraded" {
			return nil
		}
		return fmt.Errorf("node %s is %q: %w", node, out, err)
	})
	if err != nil {
		return err
	}
	n, err := c.Node(ctx, node)
	if err != nil {
		return err
	}
	if was, err := c.Exec(ctx, node, "cat", addressFile); err == nil && was != n.addresses() {
		return fmt.Errorf("node %s had the addresses %s, and docker gave it %s: make kind-down kind-up", node, was, n.addresses())
	}
	return nil
}

func (n Node) addresses() string { return fmt.Sprintf("%s %s", n.IPv4, n.IPv6) }
