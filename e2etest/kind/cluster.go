package kind

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// Name is the cluster's name; its nodes are called lanyard-control-plane, lanyard-worker, lanyard-worker2, ...
const Name = "lanyard"

const (
	workers   = 3
	nodeGrace = 10 * time.Second // after its last sign of life a node turns NotReady
	auditLog  = "/var/log/kubernetes/audit.log"
)

// Options say what cluster to make. The zero value is a cluster of our own image with kube-proxy in nftables mode.
type Options struct {
	// NodeImage is a stock node image to use as it is, such as kindest/node:v1.37.0. Empty means an image made here.
	NodeImage string
	// Proxy is the kube-proxy mode; empty means nftables.
	Proxy lab.ProxyMode
	// Out receives progress, a line per step; nil means none.
	Out io.Writer
}

func (o Options) withDefaults() (Options, error) {
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.Proxy == "" {
		o.Proxy = lab.NFTables
	}
	if o.Proxy != lab.NFTables && o.Proxy != lab.IPTables {
		return o, fmt.Errorf("kube-proxy mode %q: want %s or %s", o.Proxy, lab.NFTables, lab.IPTables)
	}
	return o, nil
}

func (o Options) image() string {
	if o.NodeImage == "" {
		return ownImage
	}
	return o.NodeImage
}

// Cluster is the kind cluster of this machine.
type Cluster struct {
	dir string // what we keep of it: bin/kind of the repository
}

// Open finds the cluster that Up made. It fails if there is none.
func Open(ctx context.Context) (*Cluster, error) {
	c, err := here()
	if err != nil {
		return nil, err
	}
	nodes, err := c.Nodes(ctx)
	if err == nil && len(nodes) == 0 {
		err = errors.New("it has no nodes")
	}
	if err != nil {
		return nil, fmt.Errorf("there is no kind cluster %s (make kind-up): %w", Name, err)
	}
	return c, nil
}

func here() (*Cluster, error) {
	root, err := lab.RepoRoot()
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: filepath.Join(root, "bin", "kind")}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make %s: %w", c.dir, err)
	}
	return c, nil
}

func (c *Cluster) path(name string) string { return filepath.Join(c.dir, name) }

// bin is a binary of the repository.
func (c *Cluster) bin(name string) string { return filepath.Join(filepath.Dir(c.dir), name) }

// Kubeconfig is the path of an administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return c.path("kubeconfig") }

// Kubectl is the path of a kubectl of the cluster's version.
func (c *Cluster) Kubectl() string { return c.path("bin/kubectl") }

// Config is an administrator's access to the API server.
func (c *Cluster) Config() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("kubeconfig of kind cluster %s: %w", Name, err)
	}
	return config, nil
}

func (c *Cluster) client() (kubernetes.Interface, error) {
	config, err := c.Config()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

// AuditLog writes to w what the API server has logged of its requests: a JSON object of kind Event
// (audit.k8s.io/v1, level Metadata) on each line.
func (c *Cluster) AuditLog(ctx context.Context, w io.Writer) error {
	if err := command(ctx, nil, w, "docker", "exec", controlPlane, "cat", auditLog); err != nil {
		return fmt.Errorf("audit log of kind cluster %s: %w", Name, err)
	}
	return nil
}
