package cli

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
)

var rewrite = flag.Bool("rewrite", false, "write what the commands print into testdata")

func at(minute int) metav1.Time {
	return metav1.NewTime(time.Date(2026, 8, 1, 12, minute, 0, 0, time.UTC))
}

// world is a cluster to read; it has one record, two Services and some events.
type world struct{ client.Client }

func (world) Get(_ context.Context, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	switch o := o.(type) {
	case *v1beta1.IPAllocationRecord:
		if r := aRecord(); key.Name == r.Name {
			*o = r
			return nil
		}
	case *corev1.Service:
		if s, exists := someServices()[key.String()]; exists {
			*o = s
			return nil
		}
	}
	return apierrors.NewNotFound(schema.GroupResource{Resource: "things"}, key.Name)
}

func (world) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	switch list := list.(type) {
	case *v1beta1.IPAllocationRecordList:
		list.Items = []v1beta1.IPAllocationRecord{aRecord()}
	case *corev1.EventList:
		var o client.ListOptions
		o.ApplyOptions(opts)
		about := fields.Set{"involvedObject.kind": "Service", "involvedObject.name": "web", "involvedObject.uid": "web-1"}
		if o.FieldSelector.Matches(about) && len(o.FieldSelector.Requirements()) == len(about) {
			list.Items = someEvents()
		}
	}
	return nil
}

func aRecord() v1beta1.IPAllocationRecord {
	web := v1beta1.AllocationHolder{Kind: v1beta1.HolderService, Namespace: "default", Name: "web", UID: "web-1", Since: at(30)}
	dns := v1beta1.AllocationHolder{Kind: v1beta1.HolderService, Namespace: "default", Name: "dns", UID: "dns-1", Since: at(31)}
	old := v1beta1.PreviousHolder{Kind: v1beta1.HolderReservation, Namespace: "team", Name: "kept", Pool: "lan", From: at(1), To: at(9)}
	before := v1beta1.PreviousHolder{Kind: v1beta1.HolderService, Namespace: "default", Name: "web", Pool: "wan", From: at(10), To: at(20)}
	released := at(20)
	o := v1beta1.IPAllocationRecord{Block: "10.77.0.192/26", Allocations: []v1beta1.Allocation{
		{Address: "10.77.0.200", Released: &released, Previous: []v1beta1.PreviousHolder{before}},
		{Address: "10.77.0.201", Pool: "lan", Holders: []v1beta1.AllocationHolder{web, dns}, Previous: []v1beta1.PreviousHolder{old}},
	}}
	o.Name = "10-77-0-192"
	return o
}

func someServices() map[string]corev1.Service {
	var web, plain corev1.Service
	web.Namespace, web.Name, web.UID, web.Generation = "default", "web", "web-1", 3
	web.Spec.Type = corev1.ServiceTypeLoadBalancer
	web.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "10.77.0.201"}, {IP: "fd77::201"}}
	web.Status.Conditions = []metav1.Condition{
		{Type: "lanyard.dev/IPAssigned", Status: "True", Reason: "Assigned", Message: "10.77.0.201 of pool lan", LastTransitionTime: at(30), ObservedGeneration: 2},
		{Type: "example.com/Other", Status: "True", Reason: "Other", LastTransitionTime: at(30)},
		{Type: "lanyard.dev/Announced", Status: "False", Reason: "NoNode", Message: "no node is\neligible", LastTransitionTime: at(31)},
	}
	plain.Namespace, plain.Name, plain.Spec.Type = "default", "plain", corev1.ServiceTypeClusterIP
	return map[string]corev1.Service{"default/web": web, "default/plain": plain}
}

func someEvents() []corev1.Event {
	return []corev1.Event{
		{Type: "Warning", Reason: "PoolExhausted", Message: "lan is full", ReportingController: "lanyard-controller",
			EventTime: metav1.NewMicroTime(at(5).Time), Series: &corev1.EventSeries{Count: 4, LastObservedTime: metav1.NewMicroTime(at(29).Time)}},
		{Type: "Normal", Reason: "Old", Message: "an old kind of event", Source: corev1.EventSource{Component: "other"}, LastTimestamp: at(2), Count: 2},
	}
}

func run(args ...string) (string, int) {
	var out bytes.Buffer
	code := Main(context.Background(), args, &out, &out, func(string, string) (client.Client, string, error) {
		return world{}, "default", nil
	})
	return out.String(), code
}

func TestOutput(t *testing.T) {
	for file, args := range map[string]string{
		"who":           "who 10.77.0.201",
		"who-free":      "who ::ffff:10.77.0.200",
		"who-json":      "who 10.77.0.200 -o json",
		"history":       "history web",
		"explain":       "explain web -n default",
		"explain-plain": "explain plain",
		"explain-json":  "explain -o json web",
	} {
		t.Run(file, func(t *testing.T) {
			got, code := run(strings.Fields(args)...)
			if code != 0 {
				t.Fatalf("exit code %d: %s", code, got)
			}
			path := filepath.Join("testdata", file+".golden")
			if *rewrite {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil || got != string(want) {
				t.Errorf("%v\ngot\n%s\nwant\n%s", err, got, want)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	for args, want := range map[string]struct {
		code int
		text string
	}{
		"":                       {2, "kubectl lanyard who ADDRESS"},
		"what 10.0.0.1":          {2, `unknown command "what"`},
		"who":                    {2, "who needs one argument, and has 0"},
		"who 10.0.0.1 -o yaml":   {2, "--output=yaml"},
		"check now":              {2, "check needs no argument, and has 1"},
		"version":                {0, "kubectl-lanyard "},
		"--version":              {0, "kubectl-lanyard "},
		"who --bad 10.0.0.1":     {2, "unknown flag"},
		"who web":                {1, `"web" is not an address`},
		"who 10.0.0.1":           {1, "there is no record of 10.0.0.1"},
		"who 10.77.0.202":        {1, "there is no record of 10.77.0.202"},
		"history web -n other":   {1, "there is no record of Service other/web"},
		"explain -n other web":   {1, `get Service other/web: things "web" not found`},
		"explain --help nothing": {0, "Flags:"},
	} {
		got, code := run(strings.Fields(args)...)
		if code != want.code || !strings.Contains(got, want.text) {
			t.Errorf("%q: exit code %d, %s\nwant %d, %s", args, code, got, want.code, want.text)
		}
	}
}
