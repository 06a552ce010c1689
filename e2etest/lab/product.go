package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What the product is called in the cluster.
const (
	Namespace      = "lanyard-system"
	SpeakerService = "lanyard-speaker"
	GossipPort     = 7946

	controllerAccount = "lanyard-controller"
)

// InstallProduct installs the product and starts neither a controller nor a speaker.
func (l *Lab) InstallProduct(ctx context.Context) error { return l.ground.install(ctx) }

// StartController starts a controller, after InstallProduct, without capabilities and with debug logs. Later flags win, so
// extraArgs may replace any that the lab gives. One that runs under that name is ended first. In the lab's own namespaces
// it runs on the host, and name tells it from other controllers there; elsewhere both are but the name of its Process.
func (l *Lab) StartController(ctx context.Context, host, name string, extraArgs ...string) (*Process, error) {
	return l.ground.startController(ctx, host, name, extraArgs)
}

// StartSpeaker starts a speaker on a node with CAP_NET_RAW alone, or what Options.InKernel adds, gossiping on the node's IPv4
// address, with debug logs. Later flags win. When it returns the speaker runs with these flags; it need not be ready.
func (l *Lab) StartSpeaker(ctx context.Context, node string, extraArgs ...string) (*Process, error) {
	return l.ground.startSpeaker(ctx, node, extraArgs)
}

// installed are the files of config/ that the lab applies: all but the workloads, for its nodes have no kubelet.
var installed = []string{"namespace.yaml", "crd", "rbac/controller.yaml", "rbac/speaker.yaml", "workload/speaker-service.yaml"}

// install applies of config/ CRDs, namespace, RBAC and the speakers' headless Service, and records a speaker pod on each node, so
// that the Service's EndpointSlices hold the nodes' addresses. The controller and the speakers that are started later act
// under their own service accounts.
func (l *own) install(ctx context.Context) error {
	root, err := repoRoot()
	if err != nil {
		return err
	}
	apply := []string{"apply", "--server-side"}
	for _, file := range installed {
		apply = append(apply, "-f", filepath.Join(root, "config", file))
	}
	if _, err := l.Kubectl(ctx, apply...); err != nil {
		return fmt.Errorf("install the product: %w", err)
	}
	if _, err := l.Kubectl(ctx, "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"); err != nil {
		return fmt.Errorf("install the CRDs: %w", err)
	}
	for _, account := range []string{controllerAccount, SpeakerService} {
		if _, err := l.ServiceAccountKubeconfig(ctx, Namespace, account); err != nil {
			return err
		}
	}
	service, err := l.Client().CoreV1().Services(Namespace).Get(ctx, SpeakerService, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read the speakers' Service: %w", err)
	}
	for _, node := range l.Nodes() {
		if err := l.CreatePod(ctx, Pod{Namespace: Namespace, Node: node, Name: SpeakerService + "-" + node, Labels: service.Spec.Selector,
			HostNetwork: true, Ports: []corev1.ContainerPort{{Name: "gossip", ContainerPort: GossipPort, Protocol: corev1.ProtocolUDP}}}); err != nil {
			return err
		}
	}
	return nil
}

// startController starts bin/controller on a host, as an ordinary user.
func (l *own) startController(ctx context.Context, host, name string, extraArgs []string) (*Process, error) {
	args := append([]string{"--kubeconfig=" + l.accountPath(controllerAccount), "--namespace=" + Namespace, "--log-level=debug"}, extraArgs...)
	return l.startProduct(ctx, host, ProcessOptions{Name: name, Path: filepath.Join(l.opts.ProductDir, "controller"), Args: args, Privilege: AsNobody,
		Env: []string{"POD_NAMESPACE=" + Namespace, "POD_NAME=" + name}})
}

// startSpeaker starts bin/speaker on a node, as an ordinary user. Its state directory stays over restarts.
func (l *own) startSpeaker(ctx context.Context, node string, extraArgs []string) (*Process, error) {
	dir := l.speakerStateDir(node)
	// The speaker, an ordinary user, must be able to reach it.
	err := errors.Join(os.MkdirAll(filepath.Dir(dir), 0o755), os.MkdirAll(dir, 0o700), os.Chown(dir, nobody, nobody))
	if err != nil {
		return nil, fmt.Errorf("make the state directory of the speaker of %s: %w", node, err)
	}
	args := append([]string{"--kubeconfig=" + l.accountPath(SpeakerService), "--namespace=" + Namespace, "--log-level=debug",
		"--node-name=" + node, fmt.Sprintf("--gossip-bind-address=%s:%d", l.Host(node).Addr4(), GossipPort),
		"--state-dir=" + dir}, extraArgs...)
	privilege := AsNobodyNetRaw
	if l.opts.InKernel {
		privilege = AsNobodyInKernel
	}
	return l.startProduct(ctx, node, ProcessOptions{Name: "speaker", Path: filepath.Join(l.opts.ProductDir, "speaker"), Args: args,
		Privilege: privilege, Env: []string{"NODE_NAME=" + node, "POD_NAME=" + SpeakerService + "-" + node}})
}

// accountPath is the kubeconfig of one of the product's service accounts, which InstallProduct wrote.
func (l *own) accountPath(account string) string { return l.kubeconfigPath(Namespace + "-" + account) }

// speakerStateDir is where the speaker of a node keeps what must outlive it.
func (l *own) speakerStateDir(node string) string {
	return filepath.Join(l.stateDir, "speaker", node)
}

// startProduct starts a program of ours, or starts it again if it ended: a test need not know whether it ran before.
func (l *own) startProduct(ctx context.Context, host string, opts ProcessOptions) (*Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(opts.Path); err != nil {
		return nil, fmt.Errorf("start %s: it is not built: %w", opts.Name, err)
	}
	if p := l.Process(host, opts.Name); p != nil {
		if err := p.Kill(); err != nil {
			return nil, err
		}
		p.ProcessOptions = opts
		return p, p.start()
	}
	return l.Start(host, opts)
}
