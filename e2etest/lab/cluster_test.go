package lab_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// TestCluster runs the stories that need a control plane in one lab, one after another.
func TestCluster(t *testing.T) {
	for _, mode := range []lab.ProxyMode{lab.NFTables, lab.IPTables} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			l := lab.New(t, lab.Options{Nodes: 2, Clients: 1, Proxy: mode, NodeGracePeriod: 3 * time.Second})
			ctx := within(t, time.Minute)
			must(t, l.Apply(ctx, webService))
			for i, node := range l.Nodes() {
				must(t, l.RunPod(ctx, node, fmt.Sprintf("web-%d", i+1), web))
			}
			t.Run("services", func(t *testing.T) { testServices(t, l) })
			if mode == lab.IPTables {
				return
			}
			t.Run("pods", func(t *testing.T) { testPods(t, l) })
			t.Run("flow", func(t *testing.T) { testFlow(t, l) })
			t.Run("dead node", func(t *testing.T) { testDeadNode(t, l) })
			t.Run("API server", func(t *testing.T) { testAPIServer(t, l) })
			t.Run("privileges", func(t *testing.T) { testPrivileges(t, l) })
			t.Run("users", func(t *testing.T) { testUsers(t, l) })
		})
	}
}

// testServices reaches both pods by cluster IP from a node and by node port from the client, over HTTP and UDP.
func testServices(t *testing.T, l *lab.Lab) {
	service, err := l.Client().CoreV1().Services("default").Get(within(t, 5*time.Second), "web", metav1.GetOptions{})
	must(t, err)
	for _, ip := range service.Spec.ClusterIPs {
		reachBoth(t, l, "n1", netip.MustParseAddr(ip), 80, 7)
	}
	bothFamilies(t, l, "n2", func(t *testing.T, ip netip.Addr) { reachBoth(t, l, "c1", ip, 30080, 30007) })
}

func reachBoth(t *testing.T, l *lab.Lab, from string, ip netip.Addr, httpPort, echoPort int) {
	t.Helper()
	ask := map[string]func() (lab.Reply, error){
		"HTTP": func() (lab.Reply, error) { return l.HTTPGet(from, lab.URL(ip, httpPort), time.Second) },
		"UDP": func() (lab.Reply, error) {
			return l.UDPEcho(from, netip.AddrPortFrom(ip, uint16(echoPort)), time.Second)
		},
	}
	for protocol, ask := range ask {
		nodes := map[string]string{}
		eventually(t, 10*time.Second, func() error {
			reply, err := ask()
			if err != nil {
				return err
			}
			nodes[reply.Pod] = reply.Node
			if nodes["web-1"] != "n1" || nodes["web-2"] != "n2" {
				return fmt.Errorf("%s to %s from %s: only %v answered", protocol, ip, from, nodes)
			}
			return nil
		})
	}
}

// testPods checks that readiness and termination reach the EndpointSlices, and that pods end.
func testPods(t *testing.T, l *lab.Lab) {
	ctx := within(t, 30*time.Second)
	must(t, l.CreatePod(ctx, lab.Pod{Name: "web-3", Node: "n1", Labels: web, Grace: 2 * time.Second, Unready: true}))
	eventually(t, 5*time.Second, func() error { return endpointIs(ctx, l, "web-3", false, false) })
	must(t, l.SetPodReady(ctx, "default", "web-3", true))
	eventually(t, 5*time.Second, func() error { return endpointIs(ctx, l, "web-3", true, false) })
	deleted := make(chan error)
	go func() { deleted <- l.DeletePod(ctx, "default", "web-3") }()
	eventually(t, 5*time.Second, func() error { return endpointIs(ctx, l, "web-3", true, true) })
	must(t, <-deleted)
	must(t, l.AddHostPod(ctx, "default", "n2", "daemon", nil))
	pod, err := l.Client().CoreV1().Pods("default").Get(ctx, "daemon", metav1.GetOptions{})
	must(t, err)
	if pod.Status.PodIPs[0].IP != "10.77.0.12" || pod.Status.PodIPs[1].IP != "fd77::12" {
		t.Errorf("host pod has addresses %v, want those of its node", pod.Status.PodIPs)
	}
}

// endpointIs looks for the pod in the IPv6 slice: serving says what is wanted while it terminates, ready before.
func endpointIs(ctx context.Context, l *lab.Lab, pod string, serving, terminating bool) error {
	slices, err := l.Client().DiscoveryV1().EndpointSlices("default").List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=web"})
	if err != nil {
		return err
	}
	for _, s := range slices.Items {
		for _, e := range s.Endpoints {
			if s.AddressType == discoveryv1.AddressTypeIPv6 && e.TargetRef.Name == pod {
				if *e.Conditions.Serving == serving && *e.Conditions.Terminating == terminating && *e.NodeName == "n1" {
					return nil
				}
				return fmt.Errorf("endpoint of %s: %+v", pod, e)
			}
		}
	}
	return fmt.Errorf("no endpoint of %s", pod)
}

// testFlow pulls the node's cable for a while and finds the gap in both kinds of flow.
func testFlow(t *testing.T, l *lab.Lab) {
	node := l.Host("n1").Addr4()
	http := l.HTTPFlow("c1", lab.URL(node, 30080), lab.FlowOptions{})
	udp, err := l.UDPFlow("c1", netip.AddrPortFrom(node, 30007), lab.FlowOptions{})
	must(t, err)
	ctx := within(t, 30*time.Second)
	for _, f := range []*lab.Flow{http, udp} {
		_, err := f.WaitAnswer(ctx)
		must(t, err)
		f.Reset()
	}
	must(t, l.Unplug("n1"))
	begun := time.Now()
	eventually(t, 5*time.Second, func() error {
		if g := udp.Gap(); g < 700*time.Millisecond {
			return fmt.Errorf("gap is %v", g)
		}
		return nil
	})
	must(t, l.Plug("n1"))
	out := time.Since(begun)
	for name, f := range map[string]*lab.Flow{"HTTP": http, "UDP": udp} {
		_, err := f.WaitAnswer(ctx)
		must(t, err)
		r := f.Stop()
		t.Logf("%s, unplugged for %v: %v", name, out, r)
		if gap := r.Gap.Duration(); gap < out-50*time.Millisecond || gap > out+2500*time.Millisecond {
			t.Errorf("%s: a gap of %v, unplugged for %v", name, gap, out)
		}
		if r.Lost < 20 || r.Answered < 1 || r.Sent != r.Lost+r.Answered+r.Pending {
			t.Errorf("%s: the account does not add up: %v", name, r)
		}
	}
}

// testDeadNode kills all that runs on a node: the control plane must find out by itself.
func testDeadNode(t *testing.T, l *lab.Lab) {
	ctx := within(t, 30*time.Second)
	must(t, l.FreezeHost("n2"))
	must(t, l.WaitNodeReady(ctx, "n2", false))
	must(t, l.ThawHost("n2"))
	must(t, l.WaitNodeReady(ctx, "n2", true))
	// The agent's successor serves the pods at the same addresses.
	before := podIP(t, l, "web-2")
	must(t, l.Process("n2", "agent").Restart())
	eventually(t, 10*time.Second, func() error {
		_, err := l.HTTPGet("n2", lab.URL(before, lab.HTTPPort), time.Second)
		return err
	})
	if after := podIP(t, l, "web-2"); after != before {
		t.Errorf("pod moved from %s to %s when its agent restarted", before, after)
	}
}

func podIP(t *testing.T, l *lab.Lab, name string) netip.Addr {
	t.Helper()
	pod, err := l.Client().CoreV1().Pods("default").Get(t.Context(), name, metav1.GetOptions{})
	must(t, err)
	return netip.MustParseAddr(pod.Status.PodIP)
}

// testAPIServer stops the API server: what runs goes on, and data is there when it comes back.
func testAPIServer(t *testing.T, l *lab.Lab) {
	ctx := within(t, time.Minute)
	must(t, l.StopAPIServer())
	if _, err := l.Client().CoreV1().Namespaces().List(ctx, metav1.ListOptions{}); err == nil {
		t.Error("the API server answers while it is stopped")
	}
	_, err := l.HTTPGet("c1", lab.URL(l.Host("n1").Addr6(), 30080), 3*time.Second)
	must(t, err)
	must(t, l.StartAPIServer(ctx))
	podIP(t, l, "web-1")
	out, err := l.Kubectl(ctx, "version", "-o", "yaml")
	must(t, err)
	if strings.Count(out, "gitVersion: v1.") != 2 {
		t.Errorf("kubectl and the API server do not both tell a version:\n%s", out)
	}
}

// testUsers checks that kubeconfigs carry the identity they were made for.
func testUsers(t *testing.T, l *lab.Lab) {
	ctx := within(t, 20*time.Second)
	_, err := l.Client().CoreV1().ServiceAccounts("default").Create(ctx,
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot"}}, metav1.CreateOptions{})
	must(t, err)
	account, err := l.ServiceAccountKubeconfig(ctx, "default", "robot")
	must(t, err)
	person, err := l.KubeconfigFor("jane", "qa")
	must(t, err)
	for path, want := range map[string]string{account: "system:serviceaccount:default:robot", person: "jane"} {
		out, err := l.Kubectl(ctx, "--kubeconfig", path, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
		must(t, err)
		if out != want {
			t.Errorf("kubeconfig of %s acts as %q", want, out)
		}
		if out, err := l.Kubectl(ctx, "--kubeconfig", path, "get", "secrets"); err == nil {
			t.Errorf("%s may read secrets: %s", want, out)
		}
	}
}
