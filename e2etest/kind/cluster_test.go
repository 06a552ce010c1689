package kind

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/netspace"
)

// needCluster is for tests that run against the cluster that is up.
func needCluster(t *testing.T) *Cluster {
	t.Helper()
	if os.Getenv("LANYARD_GROUND") != "kind" {
		t.Skip("runs with LANYARD_GROUND=kind, against what make kind-up made")
	}
	c, err := Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNothingLeavesTheNetwork(t *testing.T) {
	c := needCluster(t)
	nodes, err := c.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	worker := nodes[1].Name
	// A web server behind this machine, where the gateway would send it.
	const name = "kind-outside"
	outside, err := netspace.Create(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := outside.Close(); err != nil {
			t.Error(err)
		}
		if err := netspace.Delete(name); err != nil {
			t.Error(err)
		}
	})
	for _, args := range []string{
		"link add kind-out type veth peer name eth0 netns " + name,
		"address add 10.76.0.1/24 dev kind-out", "address add fd76::1/64 dev kind-out nodad", "link set kind-out up",
		"-n " + name + " address add 10.76.0.2/24 dev eth0", "-n " + name + " address add fd76::2/64 dev eth0 nodad",
		"-n " + name + " link set eth0 up",
		"-n " + name + " route add default via 10.76.0.1", "-n " + name + " route add default via fd76::1",
	} {
		if err := command(t.Context(), nil, nil, "ip", strings.Fields(args)...); err != nil {
			t.Fatal(err)
		}
	}
	for _, address := range []string{"10.76.0.2:80", "[fd76::2]:80"} {
		listener, err := outside.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		go func() { _ = http.Serve(listener, http.NotFoundHandler()) }()
		// From here the server answers, so it is the fence that a node does not get past.
		conn, err := net.DialTimeout("tcp", address, 3*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		out, err := exec.CommandContext(t.Context(), "docker", "exec", worker, "curl", "-sS", "-m", "5", "http://"+address).CombinedOutput()
		if err == nil || !bytes.Contains(out, []byte("Connection refused")) && !bytes.Contains(out, []byte("Couldn't connect")) {
			t.Errorf("node %s asks %s: got %s (%v), want that it is refused", worker, address, out, err)
		}
	}
}

func TestNodeComesBack(t *testing.T) {
	c := needCluster(t)
	ctx := t.Context()
	nodes, err := c.Nodes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	was := nodes[len(nodes)-1]
	for _, leave := range []struct {
		how  string
		take func(context.Context, string) error
		give func(context.Context, string) error
	}{
		{"stopped", c.Stop, c.Start}, {"killed", c.Kill, c.Start}, {"paused", c.Pause, c.Unpause},
	} {
		if err := leave.take(ctx, was.Name); err != nil {
			t.Fatal(err)
		}
		// Docker would hand out the addresses of a node that is away.
		thief, err := docker(ctx, "run", "--detach", "--rm", "--network", Network, "--entrypoint", "/bin/sleep", was.Image, "60")
		if err != nil {
			t.Fatal(err)
		}
		err = leave.give(ctx, was.Name)
		if _, rmErr := docker(ctx, "rm", "--force", thief); rmErr != nil {
			t.Error(rmErr)
		}
		if err != nil {
			t.Fatalf("%s: %v", leave.how, err)
		}
		if err := c.waitReady(ctx); err != nil {
			t.Fatalf("%s: %v", leave.how, err)
		}
		is, err := c.Node(ctx, was.Name)
		if err != nil {
			t.Fatal(err)
		}
		if is.IPv4 != was.IPv4 || is.IPv6 != was.IPv6 {
			t.Errorf("%s: the node came back at %s instead of %s", leave.how, is.addresses(), was.addresses())
		}
		if leave.how != "paused" && is.PID == was.PID {
			t.Errorf("%s: it is process %d, as before", leave.how, is.PID)
		}
		if is.Image == ownImage {
			routes, err := c.Exec(ctx, was.Name, "sh", "-c", "ip route; ip -6 route")
			if err != nil {
				t.Fatal(err)
			}
			got := 0
			for route := range strings.Lines(routes) {
				if strings.Contains(route, " via ") && (strings.HasPrefix(route, "10.244.") || strings.HasPrefix(route, "fd00:10:244:")) {
					got++
				}
			}
			if got != 2*workers {
				t.Errorf("%s: %d routes to other nodes' pods instead of %d:\n%s", leave.how, got, 2*workers, routes)
			}
		}
	}
}

func TestPodProcess(t *testing.T) {
	c := needCluster(t)
	client, err := c.client()
	if err != nil {
		t.Fatal(err)
	}
	pods, err := client.CoreV1().Pods("kube-system").List(t.Context(), metav1.ListOptions{LabelSelector: "k8s-app=kube-proxy"})
	if err != nil {
		t.Fatal(err)
	}
	if len(pods.Items) != workers+1 {
		t.Fatalf("%d kube-proxies on %d nodes", len(pods.Items), workers+1)
	}
	for _, pod := range pods.Items {
		pid, err := c.PodProcess(t.Context(), pod.Namespace, pod.Name, "kube-proxy")
		if err != nil {
			t.Fatal(err)
		}
		node, err := c.Node(t.Context(), pod.Spec.NodeName)
		if err != nil {
			t.Fatal(err)
		}
		mine, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err != nil {
			t.Fatal(err)
		}
		if theirs, err := os.Readlink(node.NetNS()); err != nil || mine != theirs {
			t.Errorf("kube-proxy of %s (%d) is in %s and its node in %s (%v)", node.Name, pid, mine, theirs, err)
		}
		command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if name, _, _ := strings.Cut(string(command), "\x00"); err != nil || filepath.Base(name) != "kube-proxy" {
			t.Errorf("process %d of %s is %q (%v)", pid, pod.Name, command, err)
		}
	}
}

func TestLoadImage(t *testing.T) {
	c := needCluster(t)
	ctx := t.Context()
	const image = "lanyard.test/empty:1"
	dir := t.TempDir()
	l := layer{path: filepath.Join(dir, "layer")}
	var err error
	l.sum, err = writeTo(l.path, func(w io.Writer) error {
		a := newArchive(w)
		return errors.Join(a.content("hello", []byte("hello")), a.Close())
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := writeImage(filepath.Join(dir, "image.tar"), []layer{l}, []string{image}, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.LoadImage(ctx, filepath.Join(dir, "image.tar")); err != nil {
		t.Fatal(err)
	}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		list, err := c.Exec(ctx, n.Name, "ctr", "-n", "k8s.io", "images", "list", "--quiet", "name=="+image)
		if err != nil || list != image {
			t.Errorf("node %s lists %q (%v)", n.Name, list, err)
		}
		if _, err := c.Exec(ctx, n.Name, "ctr", "-n", "k8s.io", "images", "rm", image); err != nil {
			t.Error(err)
		}
	}
}

func TestAuditLog(t *testing.T) {
	c := needCluster(t)
	client, err := c.client()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("audit-%d", os.Getpid())
	if _, err := client.CoreV1().ConfigMaps("default").Get(t.Context(), name, metav1.GetOptions{}); err == nil {
		t.Fatalf("there is a config map %s", name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err = poll(ctx, 200*time.Millisecond, func() error {
		var log bytes.Buffer
		if err := c.AuditLog(ctx, &log); err != nil {
			return err
		}
		if !strings.Contains(log.String(), "/api/v1/namespaces/default/configmaps/"+name) {
			return fmt.Errorf("the audit log knows nothing of config map %s", name)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
