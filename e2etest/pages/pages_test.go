package pages

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
	"github.com/lanyard-lb/lanyard/e2etest/labtest"
)

const root = "../.." // of the repository

// operator is somebody with a cluster and the pages.
type operator struct {
	*labtest.Cluster
	programs string // folder with kubectl and its plugin
}

func newOperator(t *testing.T) *operator {
	t.Helper()
	lab.Need(t, lab.NodeFiles) // nor may a cluster that others use lose what is taken away here
	o := &operator{labtest.Serve(t, lab.Options{Nodes: 2, Clients: 1}), t.TempDir()}
	bin, err := filepath.Abs(root + "/bin")
	labtest.Must(t, err)
	for name, program := range map[string]string{"kubectl": "controlplane", "kubectl-lanyard": "kubectl-lanyard"} {
		labtest.Must(t, os.Symlink(filepath.Join(bin, program), filepath.Join(o.programs, name)))
	}
	return o
}

// block is the commands after a mark on a page, as in <!-- uninstall: rest -->.
func block(t *testing.T, page, mark string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", page))
	labtest.Must(t, err)
	_, after, found := strings.Cut(string(text), "<!-- "+mark+" -->\n")
	if !found {
		t.Fatalf("docs/%s has no mark %q", page, mark)
	}
	_, after, _ = strings.Cut(after, "```sh\n")
	commands, _, found := strings.Cut(after, "```")
	if !found {
		t.Fatalf("docs/%s has no commands after the mark %q", page, mark)
	}
	return commands
}

// run runs commands in a folder, and stops at the first that fails.
func (o *operator) run(t *testing.T, dir, commands string) string {
	t.Helper()
	cmd := exec.CommandContext(labtest.Within(t, 3*time.Minute), "env", "PATH="+o.programs+":"+os.Getenv("PATH"), "KUBECONFIG="+o.Kubeconfig(),
		"bash", "-ec", commands)
	cmd.Dir = dir
	out, err := o.Host("cp").Output(cmd)
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, commands, out)
	}
	return out
}

// serve has a Service served, whose address keeps its pool from vanishing.
func (o *operator) serve(t *testing.T) {
	t.Helper()
	for _, manifest := range []string{labtest.PoolYAML("lan", "[10.77.0.200-10.77.0.203]", true), labtest.AdvertisementYAML("lan"), labtest.ServiceYAML("web")} {
		labtest.Must(t, o.Apply(labtest.Within(t, 20*time.Second), manifest))
	}
	o.Owners(t, o.Assigned(t, "web", 1)...)
	labtest.Eventually(t, 10*time.Second, func() error {
		pool, err := o.Resource("IPAddressPool").Get(t.Context(), "lan", metav1.GetOptions{})
		if err == nil && len(pool.GetFinalizers()) == 0 {
			err = errors.New("the pool in use has no finalizer")
		}
		return err
	})
}

// left lists what of Lanyard there is still in the cluster.
func (o *operator) left(t *testing.T) string {
	t.Helper()
	out, err := o.Kubectl(labtest.Within(t, 20*time.Second), "get", "crd,namespace", "-o", "name")
	labtest.Must(t, err)
	var of []string
	for line := range strings.Lines(out) {
		if strings.Contains(line, "lanyard") {
			of = append(of, strings.TrimSpace(line))
		}
	}
	return strings.Join(of, " ")
}

func (o *operator) stop(t *testing.T) {
	t.Helper()
	labtest.Must(t, o.Process("cp", "controller").Kill())
	for _, node := range o.Nodes() {
		labtest.Must(t, o.Speaker(node).Kill())
	}
}

// TestUninstall goes by docs/uninstall.md while all runs.
func TestUninstall(t *testing.T) {
	o := newOperator(t)
	o.serve(t)
	o.run(t, t.TempDir(), `kubectl -n default patch service web --type=merge -p '{"spec":{"type":"ClusterIP"}}'`)
	labtest.Must(t, o.namesNothing(t, "web"))
	o.run(t, t.TempDir(), block(t, "uninstall.md", "uninstall: objects"))
	o.stop(t)
	o.run(t, t.TempDir(), block(t, "uninstall.md", "uninstall: rest"))
	labtest.Eventually(t, 30*time.Second, func() error {
		if left := o.left(t); left != "" {
			return errors.New("there is still " + left)
		}
		return nil
	})
}

// TestUninstallWithoutController goes by docs/uninstall.md when nothing of Lanyard runs any more, a pool is in use, and its
// deletion hangs already.
func TestUninstallWithoutController(t *testing.T) {
	o := newOperator(t)
	o.serve(t)
	o.stop(t)
	_, err := o.Kubectl(labtest.Within(t, 20*time.Second), "delete", "ippool", "lan", "--wait=false")
	labtest.Must(t, err)
	o.run(t, t.TempDir(), block(t, "uninstall.md", "uninstall: no controller"))
	labtest.Eventually(t, 30*time.Second, func() error {
		if left := o.left(t); left != "" {
			return errors.New("there is still " + left)
		}
		return nil
	})
	if s := o.Service(t, "web"); len(labtest.Ingress(s)) != 1 {
		t.Errorf("the Service names %v", labtest.Ingress(s))
	}
	o.run(t, t.TempDir(), strings.ReplaceAll(block(t, "uninstall.md", "uninstall: service"), "NAME", "web"))
	labtest.Must(t, o.namesNothing(t, "web"))
	o.Delete(t, "Service", "web")
	labtest.Eventually(t, 5*time.Second, func() error {
		_, err := o.Client().CoreV1().Services(metav1.NamespaceDefault).Get(t.Context(), "web", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("the Service is still there"), err)
	})
}

// namesNothing waits until a Service names no address and has no condition of Lanyard.
func (o *operator) namesNothing(t *testing.T, name string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return labtest.Poll(ctx, func() error {
		s := o.Service(t, name)
		if len(s.Status.LoadBalancer.Ingress) > 0 || labtest.ConditionOf(s, labtest.IPAssigned) != nil || labtest.ConditionOf(s, "lanyard.dev/Announced") != nil {
			return errors.New("the Service still has an address or a condition of Lanyard")
		}
		return nil
	})
}

// TestRotation goes by docs/upgrade.md; that speakers do as it says with such keys is shown by the suite layer2.
func TestRotation(t *testing.T) {
	o := newOperator(t)
	keys := func() []string {
		secret, err := o.Client().CoreV1().Secrets(lab.Namespace).Get(t.Context(), "lanyard-gossip", metav1.GetOptions{})
		labtest.Must(t, err)
		return strings.Split(string(secret.Data["key"]), "\n")
	}
	before := keys()
	o.run(t, t.TempDir(), block(t, "upgrade.md", "rotate: both"))
	both := keys()
	if len(before) != 1 || len(both) != 2 || both[1] != before[0] || both[0] == before[0] {
		t.Fatalf("%d keys became %d; the old one is the second: %v", len(before), len(both), len(both) == 2 && both[1] == before[0])
	}
	o.run(t, t.TempDir(), "new='"+both[0]+"'\n"+block(t, "upgrade.md", "rotate: new"))
	if after := keys(); len(after) != 1 || after[0] != both[0] {
		t.Errorf("after the last step there are %d keys, the new one: %v", len(after), after[0] == both[0])
	}
}

// TestSupportBundle gathers what docs/troubleshooting.md says, and looks that no secret is in it.
func TestSupportBundle(t *testing.T) {
	o := newOperator(t)
	o.serve(t)
	secret, err := o.Client().CoreV1().Secrets(lab.Namespace).Get(t.Context(), "lanyard-gossip", metav1.GetOptions{})
	labtest.Must(t, err)
	dir := t.TempDir()
	// A command of it may fail, as it may on a cluster that is not well: the lab has no pods' logs.
	o.run(t, dir, "set +e\n"+block(t, "troubleshooting.md", "support: bundle"))
	bundle := unpack(t, filepath.Join(dir, "lanyard-support.tar.gz"))
	for file, has := range map[string]string{
		"check.txt": "CRDs", "cluster.yaml": "kind: IPAddressPool", "namespaced.yaml": "kind: ServiceL2Status", "records.yaml": "default",
		"services.json": "lanyard.dev/IPAssigned", "events.txt": "Assigned", "crds.txt": "ipaddresspools.lanyard.dev", "installation.yaml": "kind: Lease",
	} {
		if !strings.Contains(bundle["lanyard-support/"+file], has) {
			t.Errorf("%s has no %q: %.300s", file, has, bundle["lanyard-support/"+file])
		}
	}
	for file, text := range bundle {
		if strings.Contains(text, string(secret.Data["key"])) || strings.Contains(text, "kind: Secret") {
			t.Errorf("%s has a secret", file)
		}
	}
}

func unpack(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	labtest.Must(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	labtest.Must(t, err)
	files := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		labtest.Must(t, err)
		text, err := io.ReadAll(r)
		labtest.Must(t, err)
		files[h.Name] = string(text)
	}
}
