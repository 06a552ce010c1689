package cli

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/daemon"
)

// cluster is an API server with these objects.
func cluster(t *testing.T, objects ...client.Object) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := v1beta1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
}

// runIn carries a command line out in a cluster.
func runIn(api client.Client, args ...string) (string, int) {
	var out bytes.Buffer
	code := Main(context.Background(), args, &out, &out, func(string, string) (client.Client, string, error) {
		return api, "default", nil
	})
	return out.String(), code
}

// healthy is a good installation with one pool, one advertisement and one Service; the tests spoil it.
type healthy struct {
	crds       []*unstructured.Unstructured
	deployment appsv1.Deployment
	lease      coordinationv1.Lease
	daemons    appsv1.DaemonSet
	pod        corev1.Pod
	pool       v1beta1.IPAddressPool
	ad         v1beta1.L2Advertisement
	service    corev1.Service
}

func aHealthyOne(t *testing.T) *healthy {
	t.Helper()
	crds, err := definitions()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range crds {
		c.Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Established", "status": "True"}}}
	}
	two, holder, seconds, now := int32(2), "pod-1", int32(15), metav1.NowMicro()
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "lanyard"}}
	ready := []metav1.Condition{{Type: v1beta1.ConditionReady, Status: metav1.ConditionTrue, Reason: "InForce"}}
	h := &healthy{crds: crds}
	h.deployment.Name, h.deployment.Namespace = "lanyard-controller", "lanyard-system"
	h.deployment.Spec = appsv1.DeploymentSpec{Replicas: &two, Selector: selector}
	h.deployment.Status = appsv1.DeploymentStatus{AvailableReplicas: 2, UpdatedReplicas: 2}
	h.lease.Name, h.lease.Namespace = "lanyard-controller-0123abcd", "lanyard-system"
	h.lease.Spec = coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, RenewTime: &now}
	h.daemons.Name, h.daemons.Namespace = "lanyard-speaker", "lanyard-system"
	h.daemons.Spec.Selector = selector
	h.daemons.Status = appsv1.DaemonSetStatus{DesiredNumberScheduled: 3, NumberReady: 3, UpdatedNumberScheduled: 3}
	h.pod.Name, h.pod.Namespace, h.pod.Labels, h.pod.Spec.NodeName = "speaker-x", "lanyard-system", selector.MatchLabels, "n1"
	h.pool.Name, h.pool.Status.Conditions = "lan", ready
	h.ad.Name, h.ad.Status.Conditions = "lan", ready
	h.service.Name, h.service.Namespace, h.service.Spec.Type = "web", "default", corev1.ServiceTypeLoadBalancer
	h.service.Status.Conditions = []metav1.Condition{
		{Type: v1beta1.ConditionIPAssigned, Status: metav1.ConditionTrue}, {Type: v1beta1.ConditionAnnounced, Status: metav1.ConditionTrue}}
	return h
}

func (h *healthy) cluster(t *testing.T) client.Client {
	t.Helper()
	objects := []client.Object{&h.deployment, &h.lease, &h.daemons, &h.pod, &h.pool, &h.ad, &h.service}
	for _, c := range h.crds {
		objects = append(objects, c)
	}
	return cluster(t, slices.DeleteFunc(objects, func(o client.Object) bool { return o.GetName() == "" })...)
}

func TestCheck(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(*healthy)
		code  int
		lines []string
	}{
		"healthy": {func(*healthy) {}, 0, []string{
			"✔ CRDs: all 5 are there and current", "✔ controller: 2 of 2 pods available",
			"✔ leader: pod-1 holds the lease lanyard-controller-0123abcd", "✔ speakers: ready on 3 of 3 nodes",
			"✔ pools: all 1 in force", "✔ advertisements: all 1 in force", "✔ Services: 1, and none waits",
		}},
		"a CRD is missing": {func(h *healthy) { h.crds = h.crds[1:] }, 1, []string{"✘ CRDs: ipaddresspools.lanyard.dev is missing;", "1 of 7 checks"}},
		"a CRD of an older version": {func(h *healthy) {
			_ = unstructured.SetNestedField(h.crds[0].Object, "Namespaced", "spec", "scope")
		}, 1, []string{"✘ CRDs: ipaddresspools.lanyard.dev is of another version;"}},
		"a CRD not established": {func(h *healthy) { delete(h.crds[0].Object, "status") }, 1, []string{"is not established"}},
		"no controller":         {func(h *healthy) { h.deployment.Name = "" }, 1, []string{"✘ controller: read the Deployment lanyard-system/lanyard-controller"}},
		"half a controller":     {func(h *healthy) { h.deployment.Status.AvailableReplicas = 1 }, 0, []string{"! controller: 1 of 2 pods available"}},
		"nobody leads":          {func(h *healthy) { *h.lease.Spec.HolderIdentity = "" }, 1, []string{"✘ leader: nobody holds the lease"}},
		"the leader is gone": {func(h *healthy) {
			h.lease.Spec.RenewTime.Time = h.lease.Spec.RenewTime.Add(-time.Hour)
		}, 1, []string{"✘ leader: the lease lanyard-controller-0123abcd of pod-1 was renewed 1h0m"}},
		"a speaker waits": {func(h *healthy) {
			h.daemons.Status.NumberReady = 2
			h.pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{
				Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}}}
		}, 1, []string{"✘ speakers: ready on 2 of 3 nodes; speaker-x on n1: ContainerCreating"}},
		"no pool": {func(h *healthy) { h.pool.Name = "" }, 0, []string{"! pools: there is no IPAddressPool"}},
		"a pool refused": {func(h *healthy) {
			h.pool.Status.Conditions = []metav1.Condition{{Type: v1beta1.ConditionReady, Status: metav1.ConditionFalse, Reason: "Overlap", Message: "with b"}}
		}, 1, []string{"✘ pools: 1 of 1 not in force: lan: Overlap with b"}},
		"a pool changed": {func(h *healthy) { h.pool.Generation = 2 }, 1, []string{"no controller has looked at its latest change"}},
		"a stranger": {func(h *healthy) {
			h.pool.Status.Quarantined = []v1beta1.QuarantinedAddress{{Address: "10.0.0.7"}}
		}, 0, []string{"! pools: a stranger on the LAN uses 10.0.0.7 in lan"}},
		"no advertisement": {func(h *healthy) { h.ad.Name = "" }, 0, []string{"! advertisements: there is no L2Advertisement"}},
		"a Service waits": {func(h *healthy) {
			h.service.Status.Conditions[0] = metav1.Condition{Type: v1beta1.ConditionIPAssigned, Status: metav1.ConditionFalse, Reason: "PoolExhausted"}
		}, 0, []string{"! Services: 1 of 1 wait or are not announced: default/web PoolExhausted"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := aHealthyOne(t)
			tc.spoil(h)
			got, code := runIn(h.cluster(t), "check")
			if code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			for _, line := range tc.lines {
				if !strings.Contains(got, line) {
					t.Errorf("%q is not in\n%s", line, got)
				}
			}
		})
	}
}

func TestCRDs(t *testing.T) {
	daemon.Version = "v1.2.0"
	defer func() { daemon.Version = "" }()
	printed, code := runIn(nil, "crds")
	if code != 0 || strings.Count(printed, "\n---\n") != 4 || strings.Count(printed, "lanyard.dev/version: v1.2.0\n") != 5 {
		t.Errorf("exit code %d, printed\n%.2000s", code, printed)
	}
	api := cluster(t)
	apply := func(want string) {
		t.Helper()
		if got, code := runIn(api, "crds", "--apply"); code != 0 || strings.Count(got, want) != 5 {
			t.Errorf("exit code %d, want %q five times, got\n%s", code, want, got)
		}
	}
	apply("created")
	apply("unchanged")
	daemon.Version = "v1.3.0"
	apply("updated")
	daemon.Version = "v1.2.9"
	apply("kept: it is that of v1.3.0, newer than this program's (v1.2.9)")
	if got, code := runIn(api, "check"); code != 1 || !strings.Contains(got, "CRDs: ipaddresspools.lanyard.dev is not established") {
		t.Errorf("check: exit code %d\n%s", code, got)
	}
}
