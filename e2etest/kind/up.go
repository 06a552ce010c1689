package kind

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"text/template"
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
		if err := errors.Join(c.linkKubectl(), c.connectPods(ctx)); err != nil {
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
	link := c.path("bin/kubectl")
	if err := os.MkdirAll(path.Dir(link), 0o755); err != nil {
		return err
	}
	if err := os.Symlink("../../node", link); !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// create makes the image, if none is named, and the cluster of it.
func (c *Cluster) create(ctx context.Context, opts Options) error {
	if opts.NodeImage == "" {
		if err := c.buildImage(ctx, opts.Out); err != nil {
			return err
		}
	}
	policy, err := files.ReadFile("files/audit-policy.yaml")
	if err != nil {
		return err
	}
	config, err := clusterConfig(configValues{Options: opts, AuditPolicy: c.path("audit-policy.yaml"), CgroupV1: cgroupV1()})
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(c.path("audit-policy.yaml"), policy, 0o644), os.WriteFile(c.path("cluster.yaml"), config, 0o644)); err != nil {
		return err
	}
	done := step(opts.Out, "creating kind cluster %s", Name)
	if err := c.kind(ctx, "create", "cluster", "--config", c.path("cluster.yaml"), "--kubeconfig", c.Kubeconfig(), "--retain", "-v1"); err != nil {
		// What failed can't be used: keep what the nodes said, and nothing else.
		if c.kind(ctx, "export", "logs", "--name", Name, c.path("failed")) == nil {
			err = fmt.Errorf("%w; the nodes' logs are in %s", err, c.path("failed"))
		}
		return errors.Join(err, c.kind(context.WithoutCancel(ctx), "delete", "cluster", "--name", Name, "--kubeconfig", c.Kubeconfig()))
	}
	done()
	return nil
}

// configValues are what the template of the cluster's configuration is filled with.
type configValues struct {
	Options
	AuditPolicy string
	CgroupV1    bool
}

func clusterConfig(v configValues) ([]byte, error) {
	parsed, err := template.New("cluster.yaml").Funcs(template.FuncMap{"dir": path.Dir}).ParseFS(files, "files/cluster.yaml")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = parsed.Execute(&out, map[string]any{
		"Name": Name, "Proxy": v.Proxy, "Image": v.image(), "OwnImage": v.NodeImage == "", "Workers": workers,
		"AuditPolicy": v.AuditPolicy, "AuditLog": auditLog, "NodeGrace": nodeGrace, "NodeBinary": nodeBinary, "CgroupV1": v.CgroupV1,
	})
	return out.Bytes(), err
}

// cgroupV1 tells whether this machine still has the first version of cgroups, which kubelets refuse unless told.
func cgroupV1() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err != nil
}

// kind runs kind, with our shim before docker. Its output goes to a log.
func (c *Cluster) kind(ctx context.Context, args ...string) error {
	program := c.bin("tools/kind")
	if _, err := os.Stat(program); err != nil {
		return fmt.Errorf("kind is not built: make bin/tools/kind (%w)", err)
	}
	log, err := os.OpenFile(c.path("kind.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "KIND_EXPERIMENTAL_PROVIDER=docker", "KIND_EXPERIMENTAL_DOCKER_NETWORK="+Network)
	shim, err := c.shim()
	if err != nil {
		return err
	}
	cmd.Env = append(cmd.Env, shim...)
	fmt.Fprintf(log, "\n%s kind %s\n", time.Now().Format(time.DateTime), strings.Join(args, " "))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("kind %s %s: %w, see the end of %s", args[0], args[1], err, log.Name())
	}
	return nil
}

// shim places the shim in a folder of its own and returns the environment that makes kind use it.
func (c *Cluster) shim() ([]string, error) {
	real, err := exec.LookPath("docker")
	if err != nil {
		return nil, err
	}
	script, err := files.ReadFile("files/docker")
	if err != nil {
		return nil, err
	}
	dir := c.path("shim")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(path.Join(dir, "docker"), script, 0o755)); err != nil {
		return nil, err
	}
	env := []string{"LANYARD_DOCKER=" + real, "LANYARD_ADDRESSES=" + nodeAddresses(), "PATH=" + dir + ":" + os.Getenv("PATH")}
	if !mayAllocateAll() {
		env = append(env, "LANYARD_UNPRIVILEGED=1")
	}
	return env, nil
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

// Down removes the cluster, its network with the fence, and a docker daemon that Up started, and puts back what they
// changed of this machine's settings. What was built stays, in bin/kind and as docker's image. If there is nothing to
// remove, that is no error.
func Down(ctx context.Context, out io.Writer) error {
	if err := needRoot(); err != nil {
		return err
	}
	c, err := here()
	if err != nil {
		return err
	}
	unlock, err := lockState(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := readState()
	if err != nil {
		return err
	}
	if _, err := docker(ctx, "version"); err == nil {
		if err := c.removeCluster(ctx, out); err != nil {
			return err
		}
	}
	// Where no daemon answers there is no container, but there may be a fence.
	if err := errors.Join(unfence(ctx), s.stopDaemon(ctx, out), s.putBack(), s.write()); err != nil {
		return err
	}
	for _, name := range []string{"kubeconfig", "cluster.yaml", "audit-policy.yaml"} {
		if err := os.Remove(c.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeCluster removes the nodes and the network.
func (c *Cluster) removeCluster(ctx context.Context, out io.Writer) error {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return err
	}
	if len(nodes) > 0 {
		if err := c.kind(ctx, "delete", "cluster", "--name", Name, "--kubeconfig", c.Kubeconfig()); err != nil {
			return err
		}
		fmt.Fprintf(out, "removed kind cluster %s\n", Name)
	}
	if _, err := docker(ctx, "network", "inspect", Network); err != nil {
		return nil
	}
	if _, err := docker(ctx, "network", "rm", Network); err != nil {
		return fmt.Errorf("the docker network %s and its fence stay: %w", Network, err)
	}
	return nil
}
