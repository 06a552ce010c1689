package kubelet

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
	"github.com/lanyard-lb/lanyard/e2etest/labtest"
	"github.com/lanyard-lb/lanyard/e2etest/rights"
)

// unused are the rights that may go unused here, as "ACCOUNT VERB RESOURCE", and why they are granted.
var unused = map[string]string{
	"lanyard-controller get services":               "when a Service comes back under the name of one that holds its address, before that is let go",
	"lanyard-controller patch events":               "what happens again within minutes is counted in the event that is there",
	"lanyard-controller get ipallocationrecords":    "only after a write that was refused, or whose outcome is unknown",
	"lanyard-speaker patch events":                  "the same",
	"lanyard-speaker create servicel2statuses":      "asked for within the request, when what is applied does not exist yet",
	"lanyard-crds create customresourcedefinitions": "asked for within the patch that makes one which is missing",
	"lanyard-crds patch customresourcedefinitions":  "the same; the release before has made them all",
	"lanyard-check list pods":                       "only while a workload is not well, to say why",
}

// mayGoUnused tells why a right is granted that nothing used, or "".
func mayGoUnused(account string, r rights.Right, all []rights.Right) string {
	watches := slices.ContainsFunc(all, func(o rights.Right) bool { return o.Verb == "watch" && o.Group == r.Group && o.Resource == r.Resource })
	if r.Verb == "list" && watches {
		return "API servers that do not stream lists want to be asked for one before the watch"
	}
	return unused[account+" "+r.Verb+" "+r.Resource]
}

// TestRights compares what the chart's service accounts and containers may do with what they do: by the API server's audit log, of all
// that ran on this cluster so far, and by what the kernel says of the processes.
func TestRights(t *testing.T) {
	c := attach(t)
	c.install(t)
	c.useAll(t)

	t.Run("API", func(t *testing.T) {
		var log bytes.Buffer
		must(t, c.kind.AuditLog(within(t, time.Minute), &log))
		accounts := c.accounts(t)
		if len(accounts) != 4 {
			t.Errorf("the chart has the service accounts %v, want those of controller, speaker, crds and check", slices.Sorted(maps.Keys(accounts)))
		}
		for _, name := range slices.Sorted(maps.Keys(accounts)) {
			used, err := rights.Used(whileWhole(t, log.Bytes(), name), "system:serviceaccount:"+lab.Namespace+":"+name)
			must(t, err)
			rows := rights.Compare(accounts[name], used)
			t.Logf("what %s may do, and what it did\n%s", name, rights.Table(rows))
			for _, row := range rows {
				right := fmt.Sprintf("%s %s %s", name, row.Verb, row.Resource)
				switch {
				case row.Refused:
					t.Errorf("%s was refused, %d times", right, row.Used)
				case row.Used == 0 && mayGoUnused(name, row.Right, accounts[name]) == "":
					t.Errorf("%s (group %q, namespace %q) is granted and never used", right, row.Group, row.Namespace)
				case row.Used == 0:
					t.Logf("%s was not used: %s", right, mayGoUnused(name, row.Right, accounts[name]))
				}
			}
		}
	})
	t.Run("kernel", func(t *testing.T) {
		seen := map[string]int{}
		for name, pod := range c.productPods(t, lab.Namespace) {
			component := pod.Labels["app.kubernetes.io/component"]
			for _, container := range pod.Spec.Containers {
				pid, err := c.kind.PodProcess(within(t, 10*time.Second), pod.Namespace, name, container.Name)
				must(t, err)
				seen[component]++
				harmless(t, name, pid, confinements[component])
			}
		}
		if seen["controller"] != 2 || seen["speaker"] != speakers {
			t.Errorf("containers looked at: %v", seen)
		}
	})
}

// useAll has everything done that Lanyard does: what makes use of its rights.
func (c *cluster) useAll(t *testing.T) {
	t.Helper()
	for i, node := range c.Nodes() {
		c.RunWeb(t, node, fmt.Sprintf("web-%d", i+1))
	}
	must(t, c.Apply(within(t, 20*time.Second), `apiVersion: lanyard.dev/v1beta1
kind: IPReservation
metadata: {name: shop, namespace: default}
spec: {addresses: [10.77.0.219]}
`))
	c.serve(t, "web", "web", labtest.DualStack)
	ips := c.Assigned(t, "web", 2)
	c.Owners(t, ips...)
	// A stranger has an address that is about to be handed out: it is quarantined.
	stranger := lab.Addr4(0, 203)
	must(t, c.Squat("c2", stranger))
	c.Create(t, strings.Replace(labtest.ServiceYAML("taken"), "metadata: {name: taken}",
		"metadata: {name: taken, annotations: {lanyard.dev/addresses: "+stranger.String()+"}}", 1))
	eventually(t, 20*time.Second, func() error {
		out, err := c.Kubectl(t.Context(), "get", "ippool", "lan", "-o", "jsonpath={.status.quarantined}")
		if err == nil && !strings.Contains(out, stranger.String()) {
			err = fmt.Errorf("the pool has quarantined %q", out)
		}
		return err
	})
	must(t, c.Unsquat("c2", stranger))
	c.Delete(t, "Service", "taken")
	// A Service that wants no address any more has no status of ours either.
	c.Patch(t, "Service", "web", `{"spec":{"type":"ClusterIP"}}`)
	eventually(t, 20*time.Second, func() error {
		left, err := c.Resource("ServiceL2Status").List(t.Context(), metav1.ListOptions{})
		if err == nil && len(left.Items) > 0 {
			err = fmt.Errorf("there is still the ServiceL2Status %s", left.Items[0].GetName())
		}
		return err
	})
	c.Delete(t, "Service", "web")
	// An upgrade finds a kind missing, and the others to be brought up to date.
	_, err := c.Kubectl(within(t, 30*time.Second), "delete", "crd", "ipreservations.lanyard.dev")
	must(t, err)
	_, err = c.Kubectl(within(t, 30*time.Second), "patch", "crd", "l2advertisements.lanyard.dev", "--type=json",
		"-p", `[{"op":"remove","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/ignoreSubnets"}]`)
	must(t, err)
	c.helm(t, "upgrade", "lanyard", "charts/lanyard", "--namespace", lab.Namespace, "--wait")
	if !c.crdHas(t, "ignoreSubnets") {
		t.Error("the upgrade has not brought the CRD up to date")
	}
	t.Log(c.helm(t, "test", "lanyard", "--namespace", lab.Namespace))
	// Another controller leads.
	c.shell(t, "kubectl", "-n", lab.Namespace, "rollout", "restart", "deployment/lanyard-controller")
	c.rolledOut(t)
}

// accounts are the service accounts that the chart makes, hooks and tests among them, with all that its roles grant them.
func (c *cluster) accounts(t *testing.T) map[string][]rights.Right {
	t.Helper()
	text, err := c.Chart().Template(within(t, time.Minute))
	must(t, err)
	rules := map[string][]rbacv1.PolicyRule{}
	var bindings []rbacv1.RoleBinding
	accounts := map[string][]rights.Right{}
	for _, o := range labtest.Decode(t, text) {
		switch kind := o.GetKind(); kind {
		case "ServiceAccount":
			accounts[o.GetName()] = nil
		case "ClusterRole", "Role":
			var r rbacv1.Role
			into(t, o, &r)
			rules[kind+o.GetName()] = r.Rules
		case "ClusterRoleBinding", "RoleBinding":
			var b rbacv1.RoleBinding
			into(t, o, &b)
			bindings = append(bindings, b)
		}
	}
	for _, b := range bindings {
		namespace := ""
		if b.Kind == "RoleBinding" {
			namespace = lab.Namespace
		}
		granted, err := rights.Granted(rules[b.RoleRef.Kind+b.RoleRef.Name], namespace)
		must(t, err)
		for _, s := range b.Subjects {
			if _, is := accounts[s.Name]; !is {
				t.Errorf("%s %s is for %s, which the chart does not make", b.Kind, b.Name, s.Name)
			}
			accounts[s.Name] = append(accounts[s.Name], granted...)
		}
	}
	return accounts
}

func into(t *testing.T, o *unstructured.Unstructured, typed any) {
	t.Helper()
	must(t, runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, typed))
}

// auditEvent is what we read of an entry of the audit log.
type auditEvent struct {
	Stage          string
	Verb           string
	StageTimestamp metav1.MicroTime
	ObjectRef      struct{ APIGroup, Resource, Namespace, Name string }
	ResponseStatus struct{ Code int }
	Annotations    map[string]string
}

// whileWhole leaves out of an audit log what was refused while the roles and bindings of an account were not all there, as while
// an installation is removed, and what was forbidden for other reasons than its rights.
func whileWhole(t *testing.T, log []byte, account string) *bytes.Buffer {
	t.Helper()
	var kept bytes.Buffer
	missing := map[string]bool{"clusterroles": true, "clusterrolebindings": true} // at the beginning
	settled := time.Time{}
	lines := bufio.NewScanner(bytes.NewReader(log))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		if !bytes.Contains(lines.Bytes(), []byte(account)) && !bytes.Contains(lines.Bytes(), []byte("deletecollection")) {
			continue // long is the log, and this is quick
		}
		var e auditEvent
		must(t, json.Unmarshal(lines.Bytes(), &e))
		ref := e.ObjectRef
		ofAll := e.Verb == "deletecollection" && ref.Namespace == lab.Namespace
		if ref.APIGroup == rbacv1.GroupName && (ref.Name == account || ofAll) && e.ResponseStatus.Code < 300 {
			switch e.Verb {
			case "delete", "deletecollection":
				missing[ref.Resource], settled = true, e.StageTimestamp.Time
			case "create", "update", "patch":
				delete(missing, ref.Resource)
				settled = e.StageTimestamp.Time
			}
		}
		refused := e.ResponseStatus.Code == 403
		// The authorizer learns of a new role by a watch.
		lacking := len(missing) > 0 || e.StageTimestamp.Time.Before(settled.Add(2*time.Second))
		if refused && (lacking || e.Annotations["authorization.k8s.io/decision"] != "forbid") {
			continue
		}
		kept.Write(lines.Bytes())
		kept.WriteByte('\n')
	}
	must(t, lines.Err())
	return &kept
}

// confinement is what the kernel is to say of a container's processes.
type confinement struct {
	capabilities uint64
	uid          string
}

const netRaw = 1 << 13

// confinements by component: the speaker is root, for without that it would have no capability at all, but one that can do nothing
// but open raw sockets.
var confinements = map[string]confinement{"controller": {0, "65532"}, "speaker": {netRaw, "0"}}

// harmless checks every thread of a process: its capabilities are all it has and can ever get, it cannot gain privileges, its system
// calls are filtered, and its root is read-only.
func harmless(t *testing.T, name string, pid int, want confinement) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no threads: %v", name, err)
	}
	var last map[string]string
	for _, file := range files {
		status := fieldsOf(t, file)
		last = status
		for _, field := range []string{"CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"} {
			have, err := strconv.ParseUint(status[field], 16, 64)
			must(t, err)
			exact := field == "CapEff" || field == "CapPrm" || field == "CapBnd"
			if have&^want.capabilities != 0 || exact && have != want.capabilities {
				t.Errorf("%s has %s %#x, want %#x", name, field, have, want.capabilities)
			}
		}
		for field, value := range map[string]string{"Uid": want.uid, "Gid": want.uid} {
			if ids := strings.Fields(status[field]); len(ids) != 4 || slices.ContainsFunc(ids, func(id string) bool { return id != value }) {
				t.Errorf("%s has %s %v, want %s", name, field, ids, value)
			}
		}
		for field, value := range map[string]string{"NoNewPrivs": "1", "Seccomp": "2"} {
			if status[field] != value {
				t.Errorf("%s has %s %s, want %s", name, field, status[field], value)
			}
		}
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	must(t, err)
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[4] == "/" && !slices.Contains(strings.Split(f[5], ","), "ro") {
			t.Errorf("%s may write to its root: %s", name, line)
		}
	}
	t.Logf("%s: %d threads, uid %s, capabilities %s of %s, no_new_privs %s, seccomp %s", name, len(files), want.uid,
		last["CapEff"], last["CapBnd"], last["NoNewPrivs"], last["Seccomp"])
}

func fieldsOf(t *testing.T, file string) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(file)
	must(t, err)
	fields := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.TrimSpace(value)
	}
	return fields
}
