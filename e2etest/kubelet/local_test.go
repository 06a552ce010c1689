package kubelet

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/labtest"
)

// TestLocal moves pods of a Service with externalTrafficPolicy Local about: its addresses follow them, and clients' addresses
// stay what they are.
func TestLocal(t *testing.T) {
	c := attach(t)
	c.install(t)
	const app = "web"
	c.deploy(t, app, 1, 5)
	c.serve(t, app, app, labtest.DualStack, "externalTrafficPolicy: Local")
	ips := c.Assigned(t, app, 2)
	follow := func(t *testing.T, limit time.Duration) {
		t.Helper()
		begun := time.Now()
		c.OwnedBy(t, limit, c.nodesOf(t, app), ips...)
		t.Logf("%v until %v are on one of %v", time.Since(begun).Round(time.Millisecond), ips, c.nodesOf(t, app))
	}
	follow(t, 10*time.Second)
	for _, ip := range ips {
		if reply := c.Fetch(t, "c1", ip); reply.Client.Addr() != c.Host("c1").Addr(ip) {
			t.Errorf("the pod saw the client %s, want c1's own %s", reply.Client, c.Host("c1").Addr(ip))
		}
	}

	t.Run("healthCheckNodePort", func(t *testing.T) { c.healthChecks(t, app) })

	t.Run("the pod is sent to another node", func(t *testing.T) {
		was := c.nodesOf(t, app)[0]
		to := c.Others(was)[0]
		flows := c.load(t, ips...)
		c.shell(t, "kubectl", "patch", "deployment", app, "--type=merge", "-p",
			`{"spec":{"template":{"spec":{"nodeSelector":{"kubernetes.io/hostname":"`+to+`"}}}}}`)
		c.shell(t, "kubectl", "rollout", "status", "deployment/"+app, "--timeout=60s")
		eventually(t, 20*time.Second, func() error { return onlyOn(c.nodesOf(t, app), to) })
		follow(t, 10*time.Second)
		flows.lossless(t, "move of the pod from "+was+" to "+to)
	})

	t.Run("the pod is deleted", func(t *testing.T) {
		was := c.nodesOf(t, app)[0]
		to := c.Others(was)[0]
		// It may come back anywhere but here, and only when it is gone: no update, an accident.
		c.shell(t, "kubectl", "cordon", was)
		afterwards(t, func(ctx context.Context) error {
			_, err := c.Kubectl(ctx, "uncordon", was)
			return err
		})
		c.shell(t, "kubectl", "patch", "deployment", app, "--type=merge", "-p",
			`{"spec":{"strategy":{"type":"Recreate","rollingUpdate":null},"template":{"spec":{"nodeSelector":{"kubernetes.io/hostname":"`+to+`"}}}}}`)
		c.shell(t, "kubectl", "rollout", "status", "deployment/"+app, "--timeout=60s")
		eventually(t, 20*time.Second, func() error { return onlyOn(c.nodesOf(t, app), to) })
		follow(t, 10*time.Second)
		for _, ip := range ips {
			c.Fetch(t, "c1", ip)
		}
	})

	t.Run("three pods and one again", func(t *testing.T) {
		c.shell(t, "kubectl", "patch", "deployment", app, "--type=merge", "-p",
			`{"spec":{"strategy":{"type":"RollingUpdate"},"template":{"spec":{"nodeSelector":null,"topologySpreadConstraints":[{"maxSkew":1,`+
				`"topologyKey":"kubernetes.io/hostname","whenUnsatisfiable":"DoNotSchedule","labelSelector":{"matchLabels":{"app":"`+app+`"}}}]}}}}`)
		c.shell(t, "kubectl", "rollout", "status", "deployment/"+app, "--timeout=60s")
		follow(t, 20*time.Second)
		flows := c.load(t, ips...)
		before := c.Owners(t, ips...)
		c.shell(t, "kubectl", "scale", "deployment", app, "--replicas=3")
		c.shell(t, "kubectl", "rollout", "status", "deployment/"+app, "--timeout=60s")
		if on := c.nodesOf(t, app); len(on) != 3 {
			t.Errorf("the pods are on %v, want three nodes: the test is blind", on)
		}
		if now := c.Owners(t, ips...); fmt.Sprint(now) != fmt.Sprint(before) {
			t.Errorf("more pods moved the addresses from %v to %v", before, now)
		}
		c.shell(t, "kubectl", "scale", "deployment", app, "--replicas=1")
		eventually(t, 20*time.Second, func() error {
			if pods := c.podsOf(t, app); len(pods) != 1 {
				return fmt.Errorf("there are %d pods", len(pods))
			}
			return nil
		})
		follow(t, 10*time.Second)
		flows.lossless(t, "scaling to 3 and to 1")
	})

	t.Run("the pod is not ready, and another one is", func(t *testing.T) {
		c.shell(t, "kubectl", "scale", "deployment", app, "--replicas=2")
		c.shell(t, "kubectl", "rollout", "status", "deployment/"+app, "--timeout=60s")
		eventually(t, 20*time.Second, func() error { // those of before are gone, too
			list, err := c.Client().CoreV1().Pods(metav1.NamespaceDefault).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + app})
			if err == nil && len(list.Items) != 2 {
				err = fmt.Errorf("there are %d pods", len(list.Items))
			}
			return err
		})
		owner := c.Owner(t, ips[0])
		pods := c.podsOf(t, app)
		sick := pods[slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Spec.NodeName == owner })]
		begun := time.Now()
		must(t, c.SetPodReady(within(t, 20*time.Second), sick.Namespace, sick.Name, false))
		c.OwnedBy(t, 10*time.Second, c.Others(owner), ips...)
		t.Logf("%v after its pod was asked to be unready, %s has nothing any more", time.Since(begun).Round(time.Millisecond), owner)
		for _, ip := range ips {
			if reply := c.Fetch(t, "c1", ip); reply.Pod == sick.Name {
				t.Errorf("%s is answered by %s, which is not ready", ip, reply.Pod)
			}
		}
		now := c.Owners(t, ips...)
		must(t, c.SetPodReady(within(t, 20*time.Second), sick.Namespace, sick.Name, true))
		throughout(t, 2*time.Second, func() error {
			if again, err := c.OwnersNow(ips...); err != nil || fmt.Sprint(again) != fmt.Sprint(now) {
				return fmt.Errorf("%s took something back: the owners were %v and are %v, %w", owner, now, again, err)
			}
			return nil
		})
	})
}

// onlyOn is an error unless the nodes are just one.
func onlyOn(nodes []string, want string) error {
	if len(nodes) != 1 || nodes[0] != want {
		return fmt.Errorf("the pods are on %v, want %s", nodes, want)
	}
	return nil
}

// healthChecks asks every node, as a load balancer outside would, whether it has a pod of a Service; only those may be owners.
func (c *cluster) healthChecks(t *testing.T, service string) {
	port := c.Service(t, service).Spec.HealthCheckNodePort
	if port == 0 {
		t.Fatal("the Service has no healthCheckNodePort")
	}
	have := c.nodesOf(t, service)
	for _, node := range c.Nodes() {
		want := http.StatusServiceUnavailable
		if slices.Contains(have, node) {
			want = http.StatusOK
		}
		for _, ip := range []netip.Addr{c.Host(node).Addr4(), c.Host(node).Addr6()} {
			eventually(t, 10*time.Second, func() error {
				got, err := c.status("c1", "http://"+net.JoinHostPort(ip.String(), strconv.Itoa(int(port)))+"/healthz")
				if err == nil && got != want {
					err = fmt.Errorf("%s at %s says %d of Service %s, want %d; its pods are on %v", node, ip, got, service, want, have)
				}
				return err
			})
		}
	}
}

// status is that of a page which a client asks for.
func (c *cluster) status(client, url string) (int, error) {
	transport := &http.Transport{DialContext: c.Host(client).DialContext, DisableKeepAlives: true}
	answer, err := (&http.Client{Transport: transport, Timeout: 2 * time.Second}).Get(url)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}
