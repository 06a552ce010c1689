package kind

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// Up makes the cluster and what it needs that is missing: docker's daemon, the node image, the network. A cluster that is
// there already is used again, its nodes started if they are not running; if it was made with other options, that is
// an error. When Up returns, all nodes are Ready.
func Up(ctx context.Context, opts Options) (*Cluster, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := needRoot(); err != nil {
		return nil, err
	}
	c, err := here()
	if err != nil {
		return nil, err
	}
	unlock, err := lockState(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	s, err := readState()
	if err != nil {
		return nil, err
	}
	s.rememberSysctls()
	if err := errors.Join(s.write(), raiseInotify(), c.needDaemon(ctx, &s, opts.Out)); err != nil {
		return nil, err
	}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	if err := makeNetwork(ctx); err != nil {
		return nil, err
	}
	if len(nodes) == 0 {
		err = c.create(ctx, opts)
	} else {
		err = c.resume(ctx, nodes, opts)
	}
	if err != nil {
		return nil, err
	}
	if opts.NodeImage == "" {
		// The cluster may have been made from another checkout, so its programs may be missing in this one.
		if err := errors.Join(lab.BuildNode(ctx, opts.Out), c.linkKubectl(), c.connectPods(ctx)); err != nil {
			return nil, err
		}
	}
	done := step(opts.Out, "waiting for the nodes")
	if err := c.waitReady(ctx); err != nil {
		return nil, err
	}
	done()
	return c, nil
}

func needRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("needs root: the docker network's fence and the nodes' file system do; run it with sudo")
	}
	return nil
}

// linkKubectl makes the folder bin/kind/bin, for a PATH.
func (c *Cluster) linkKubectl() error {
	link := c.Kubectl()
	if err := os.MkdirAll(path.Dir(link), 0o755); err != nil {
		return err
	}
	if err := os.Symlink("../../node", link); !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// resume brings the nodes of a cluster that is there back to running.
func (c *Cluster) resume(ctx context.Context, nodes []Node, opts Options) error {
	fmt.Fprintf(opts.Out, "kind cluster %s is there already\n", Name)
	if nodes[0].Image != opts.image() {
		return otherOptions("node image", nodes[0].Image)
	}
	for _, n := range nodes {
		var err error
		switch n.Status {
		case "running":
		case "paused":
			err = c.Unpause(ctx, n.Name)
		default:
			fmt.Fprintf(opts.Out, "starting node %s, which is %s\n", n.Name, n.Status)
			err = c.Start(ctx, n.Name)
		}
		if err != nil {
			return err
		}
	}
	if err := c.kind(ctx, "export", "kubeconfig", "--name", Name, "--kubeconfig", c.Kubeconfig()); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return poll(ctx, 500*time.Millisecond, func() error {
		config, err := client.CoreV1().ConfigMaps("kube-system").Get(ctx, "kube-proxy", metav1.GetOptions{})
		if err == nil && proxyMode(config.Data["config.conf"]) != opts.Proxy {
			err = final(otherOptions("kube-proxy mode", string(proxyMode(config.Data["config.conf"]))))
		}
		return err
	})
}

func otherOptions(what, value string) error {
	return fmt.Errorf("kind cluster %s was made with %s %s: make kind-down before you ask for another", Name, what, value)
}

// proxyMode reads the mode in a kube-proxy configuration.
func proxyMode(config string) lab.ProxyMode {
	for line := range strings.Lines(config) {
		if mode, ok := strings.CutPrefix(line, "mode:"); ok {
			return lab.ProxyMode(strings.Trim(strings.TrimSpace(mode), `"`))
		}
	}
	return ""
}

// waitReady waits until every node and every kube-proxy is ready.
func (c *Cluster) waitReady(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	return poll(ctx, 500*time.Millisecond, func() error {
		nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		if len(nodes.Items) != workers+1 {
			return fmt.Errorf("there are %d nodes instead of %d", len(nodes.Items), workers+1)
		}
		for _, n := range nodes.Items {
			if !ready(&n) {
				return fmt.Errorf("node %s is not ready", n.Name)
			}
			// What is said of a node that just stopped may be old.
			lease, err := client.CoordinationV1().Leases("kube-node-lease").Get(ctx, n.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if lease.Spec.RenewTime == nil || lease.Spec.RenewTime.Time.Before(begun) {
				return fmt.Errorf("node %s has given no sign of life", n.Name)
			}
		}
		proxy, err := client.AppsV1().DaemonSets("kube-system").Get(ctx, "kube-proxy", metav1.GetOptions{})
		if err == nil && proxy.Status.NumberReady != workers+1 {
			err = fmt.Errorf("kube-proxy is ready on %d nodes of %d", proxy.Status.NumberReady, workers+1)
		}
		return err
	})
}

func ready(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}
