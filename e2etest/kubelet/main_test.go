package kubelet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/kind"
	"github.com/lanyard-lb/lanyard/e2etest/lab"
	"github.com/lanyard-lb/lanyard/e2etest/labtest"
)

// What the suites have in common, by the names that this one calls it.
var (
	within     = labtest.Within
	afterwards = labtest.Afterwards
	must       = labtest.Must
	eventually = labtest.Eventually
	throughout = labtest.Throughout
)

// The versions of the chart here and of the one to upgrade from. What images they ask for is one build under both tags.
const (
	version         = "v0.2.0"
	previousVersion = "v0.1.0"
)

// pools are addresses that the tests may hand out.
const pools = "[10.77.0.200-10.77.0.219, fd77::200-fd77::213]"

// cluster is a kind cluster without the product, to begin with.
type cluster struct {
	*labtest.Cluster
	kind *kind.Cluster
	root string // of the repository
}

// attach finds the kind cluster, cleared, with two clients on its network and images for both versions of the chart.
func attach(t *testing.T) *cluster {
	t.Helper()
	if ground := lab.Ground(os.Getenv("LANYARD_GROUND")); ground != lab.OnKind {
		t.Skip("it needs kubelets: make e2e-kind (LANYARD_GROUND=kind)")
	}
	l := lab.New(t, lab.Options{Clients: 2})
	must(t, l.TagImages(within(t, time.Minute), version, previousVersion))
	found, err := kind.Open(within(t, 10*time.Second))
	must(t, err)
	root, err := lab.RepoRoot()
	must(t, err)
	c := &cluster{Cluster: &labtest.Cluster{Lab: l}, kind: found, root: root}
	t.Cleanup(func() {
		if t.Failed() {
			c.explain(t)
		}
	})
	return c
}

// explain logs what a person wants to see after a failure.
func (c *cluster) explain(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, command := range [][]string{
		{"get", "nodes,pods,services", "-A", "-o", "wide"},
		{"get", "servicel2statuses.lanyard.dev,ipaddresspools.lanyard.dev", "-A", "-o", "wide"},
		{"-n", lab.Namespace, "describe", "pods"},
		{"-n", lab.Namespace, "logs", "--prefix", "--tail=40", "-l", "app.kubernetes.io/name=lanyard", "--max-log-requests=20"},
	} {
		out, err := c.Kubectl(ctx, command...)
		t.Logf("--- kubectl %s\n%s%v", strings.Join(command, " "), out, err)
	}
}

// install installs the chart with its defaults, and a pool with an advertisement, and waits until all is well.
func (c *cluster) install(t *testing.T, flags ...string) {
	t.Helper()
	c.helm(t, append([]string{"install", "lanyard", "charts/lanyard", "--namespace", lab.Namespace, "--create-namespace", "--wait"}, flags...)...)
	c.together(t)
	c.Pool(t, "lan", pools)
	c.Advertise(t, "lan")
}

// helm runs helm in the repository.
func (c *cluster) helm(t *testing.T, args ...string) string {
	t.Helper()
	return c.shell(t, "helm", args...)
}

const clock = "15:04:05.000"

// shell runs a program in the repository as an administrator does: helm and kubectl are in the PATH.
func (c *cluster) shell(t *testing.T, program string, args ...string) string {
	t.Helper()
	begun := time.Now()
	ctx := within(t, 3*time.Minute)
	out, err := c.run(ctx, t, program, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s, %.1fs: %s %s", begun.Format(clock), time.Since(begun).Seconds(), program, strings.Join(args, " "))
	return out
}

func (c *cluster) run(ctx context.Context, t *testing.T, program string, args ...string) (string, error) {
	t.Helper()
	bin := c.programs(t)
	path := bin + ":" + os.Getenv("PATH")
	if linked := filepath.Join(bin, program); exists(linked) {
		program = linked
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Args[0] = filepath.Base(program)
	cmd.Dir = c.root
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig(), "PATH="+path, "HELM_CACHE_HOME="+bin, "HELM_CONFIG_HOME="+bin, "HELM_DATA_HOME="+bin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w:\n%s", filepath.Base(program), strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// programs makes a folder with the repository's own helm, kubectl and kubectl-lanyard.
func (c *cluster) programs(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(c.StateDir(), "programs")
	must(t, os.MkdirAll(dir, 0o755))
	for name, to := range map[string]string{"helm": "tools/helm", "kubectl": "kind/bin/kubectl",
		"kubectl-lanyard": "image/programs/" + runtime.GOARCH + "/kubectl-lanyard"} {
		to = filepath.Join(c.root, "bin", to)
		if have, err := os.Readlink(filepath.Join(dir, name)); err == nil && have == to {
			continue
		}
		_ = os.Remove(filepath.Join(dir, name))
		must(t, os.Symlink(to, filepath.Join(dir, name)))
	}
	return dir
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// speakers is how many there are with the chart's defaults: one on each worker, and one on the control plane.
const speakers = 4

// together waits until every speaker is ready and sees every other one.
func (c *cluster) together(t *testing.T) {
	t.Helper()
	for _, node := range c.Nodes() {
		eventually(t, 60*time.Second, func() error {
			alive, err := c.Metric(t.Context(), node, `lanyard_speaker_members{state="alive"}`)
			if err == nil && int(alive) != speakers {
				err = fmt.Errorf("%s sees %v speakers", node, alive)
			}
			return errors.Join(err, c.Ready(t.Context(), node))
		})
	}
}

// rolledOut waits until the product's pods are those of its workloads' present templates, and ready.
func (c *cluster) rolledOut(t *testing.T) {
	t.Helper()
	c.shell(t, "kubectl", "-n", lab.Namespace, "rollout", "status", "deployment/lanyard-controller", "daemonset/lanyard-speaker", "--timeout=120s")
}

// productPods lists the product's pods in a namespace that are not going away, by name.
func (c *cluster) productPods(t *testing.T, namespace string) map[string]corev1.Pod {
	t.Helper()
	list, err := c.Client().CoreV1().Pods(namespace).List(within(t, 10*time.Second), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=lanyard"})
	must(t, err)
	pods := map[string]corev1.Pod{}
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			pods[p.Name] = p
		}
	}
	return pods
}

// serve makes a Service for the pods of an app, which get port 80 and 7, and takes it away when the test ends; more are lines of its spec.
func (c *cluster) serve(t *testing.T, name, app string, more ...string) {
	t.Helper()
	c.Create(t, strings.Replace(labtest.ServiceYAML(name, more...), "{app: web}", "{app: "+app+"}", 1))
}

// deploy makes a Deployment of backends, labelled app=name, and takes it away when the test ends. Its pods serve on for grace
// seconds when they end. more are lines of the pods' spec.
func (c *cluster) deploy(t *testing.T, name string, replicas, grace int, more ...string) {
	t.Helper()
	text := fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: %[3]d
      containers:
      - name: backend
        image: ghcr.io/lanyard-lb/backend:%[4]s
        imagePullPolicy: Never
        env:
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        securityContext: {runAsUser: 0}
        readinessProbe: {periodSeconds: 1, failureThreshold: 1, httpGet: {path: /, port: 8080}}
      %[5]s
`, name, replicas, grace, version, strings.Join(more, "\n      "))
	must(t, c.Apply(within(t, 20*time.Second), text))
	afterwards(t, func(ctx context.Context) error {
		_, err := c.Kubectl(ctx, "delete", "deployment", name, "--ignore-not-found", "--wait=false")
		return err
	})
	c.shell(t, "kubectl", "rollout", "status", "deployment/"+name, "--timeout=60s")
}

// podsOf lists the pods of an app that are not going away.
func (c *cluster) podsOf(t *testing.T, app string) []corev1.Pod {
	t.Helper()
	list, err := c.Client().CoreV1().Pods(metav1.NamespaceDefault).List(within(t, 10*time.Second), metav1.ListOptions{LabelSelector: "app=" + app})
	must(t, err)
	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
}

// nodesOf lists the nodes of these pods, each once.
func (c *cluster) nodesOf(t *testing.T, app string) (nodes []string) {
	t.Helper()
	for _, p := range c.podsOf(t, app) {
		if !slices.Contains(nodes, p.Spec.NodeName) {
			nodes = append(nodes, p.Spec.NodeName)
		}
	}
	return nodes
}

// load is one flow to each of some addresses: a request every 5 ms.
type load map[netip.Addr]*lab.Flow

// load begins to ask from the client c1, and returns when answers come from everywhere.
func (c *cluster) load(t *testing.T, ips ...netip.Addr) load {
	t.Helper()
	l := load{}
	for _, ip := range ips {
		l[ip] = c.Flow(t, "c1", ip)
	}
	for _, f := range l {
		f.Reset()
	}
	return l
}

// ends ends the flows and returns their accounts, which it logs.
func (l load) ends(t *testing.T, during string) map[netip.Addr]lab.Report {
	t.Helper()
	reports := map[netip.Addr]lab.Report{}
	for _, ip := range slices.SortedFunc(maps.Keys(l), netip.Addr.Compare) {
		r := l[ip].Stop()
		reports[ip] = r
		t.Logf("%s: %s: of %d requests %d lost, longest time without an answer %v, from %s", during, ip, r.Sent, r.Lost,
			r.Gap.Duration().Round(time.Millisecond), r.Gap.From.Format(clock))
	}
	return reports
}

// lossless ends the flows; all requests must have been answered.
func (l load) lossless(t *testing.T, during string) {
	t.Helper()
	for ip, r := range l.ends(t, during) {
		if r.Lost > 0 || r.Answered == 0 {
			t.Errorf("%s: %s: %s", during, ip, r)
		}
	}
}
