package labtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// Cluster is a lab with the product installed.
type Cluster struct{ *lab.Lab }

// Install makes a lab, installs the product in it and starts a controller.
func Install(t *testing.T, opts lab.Options) *Cluster {
	t.Helper()
	c := &Cluster{lab.New(t, opts)}
	ctx := Within(t, time.Minute)
	Must(t, c.InstallProduct(ctx))
	_, err := c.StartController(ctx, "cp", "controller")
	Must(t, err)
	return c
}

// Serve is Install with a speaker on every node, all of them ready.
func Serve(t *testing.T, opts lab.Options, flags ...string) *Cluster {
	t.Helper()
	c := Install(t, opts)
	c.StartSpeakers(t, flags...)
	return c
}

// StartSpeakers starts a speaker on every node, anew where one runs, with flags besides those that the lab gives, and waits
// until all of them are ready.
func (c *Cluster) StartSpeakers(t *testing.T, flags ...string) {
	t.Helper()
	for _, node := range c.Nodes() {
		_, err := c.StartSpeaker(Within(t, time.Minute), node, flags...)
		Must(t, err)
	}
	c.AllTogether(t)
}

// Speaker is the speaker of a node.
func (c *Cluster) Speaker(node string) *lab.Process { return c.Process(node, "speaker") }

// AllTogether waits until every speaker is ready and sees every other one.
func (c *Cluster) AllTogether(t *testing.T) {
	t.Helper()
	for _, node := range c.Nodes() {
		Eventually(t, 20*time.Second, func() error {
			alive, err := c.Metric(t.Context(), node, `lanyard_speaker_members{state="alive"}`)
			if err == nil && int(alive) != len(c.Nodes()) {
				err = fmt.Errorf("%s sees %v speakers", node, alive)
			}
			return errors.Join(err, c.Ready(t.Context(), node))
		})
	}
}

var resources = map[string]schema.GroupVersionResource{
	"Service":         {Version: "v1", Resource: "services"},
	"IPAddressPool":   {Group: "lanyard.dev", Version: "v1beta1", Resource: "ipaddresspools"},
	"L2Advertisement": {Group: "lanyard.dev", Version: "v1beta1", Resource: "l2advertisements"},
	"ServiceL2Status": {Group: "lanyard.dev", Version: "v1beta1", Resource: "servicel2statuses"},
}

// Resource is the client for objects of a kind; namespaced ones are in the namespace default.
func (c *Cluster) Resource(kind string) dynamic.ResourceInterface {
	gvr, known := resources[kind]
	switch {
	case !known:
		panic("the suites do not know the kind " + kind)
	case strings.HasPrefix(kind, "Service"):
		return c.Dynamic().Resource(gvr).Namespace(metav1.NamespaceDefault)
	}
	return c.Dynamic().Resource(gvr)
}

// Decode reads the objects of a YAML text.
func Decode(t *testing.T, text string) (objects []*unstructured.Unstructured) {
	t.Helper()
	for d := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096); ; {
		o := &unstructured.Unstructured{}
		err := d.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		objects = append(objects, o)
	}
}

// Create makes the objects of a YAML text, and takes them away again, last ones first, when the test ends. A pool in use
// goes by itself when the last of its Services has gone.
func (c *Cluster) Create(t *testing.T, text string) {
	t.Helper()
	for _, o := range Decode(t, text) {
		kind, name := o.GetKind(), o.GetName()
		var fault error
		Eventually(t, 10*time.Second, func() error {
			_, fault = c.Resource(kind).Create(Within(t, 10*time.Second), o.DeepCopy(), metav1.CreateOptions{})
			if apierrors.IsAlreadyExists(fault) {
				return fault // one of an earlier test is still going
			}
			return nil
		})
		if fault != nil {
			t.Fatalf("create %s %s: %v", kind, name, fault)
		}
		Afterwards(t, func(ctx context.Context) error {
			if kind == "IPAddressPool" {
				return ignoreMissing(c.Resource(kind).Delete(ctx, name, metav1.DeleteOptions{}))
			}
			return c.Remove(ctx, kind, name)
		})
	}
}

// Delete deletes an object now.
func (c *Cluster) Delete(t *testing.T, kind, name string) {
	t.Helper()
	Must(t, c.Remove(Within(t, 20*time.Second), kind, name))
}

// Remove deletes an object and waits until it is gone; that it is gone already is no error.
func (c *Cluster) Remove(ctx context.Context, kind, name string) error {
	err := ignoreMissing(c.Resource(kind).Delete(ctx, name, metav1.DeleteOptions{}))
	if err != nil {
		return fmt.Errorf("delete %s %s: %w", kind, name, err)
	}
	err = Poll(ctx, func() error {
		_, err := c.Resource(kind).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, errors.New("it is still there"))
	})
	if err != nil {
		return fmt.Errorf("delete %s %s: %w", kind, name, err)
	}
	return nil
}

func ignoreMissing(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// Patch applies a JSON merge patch to an object.
func (c *Cluster) Patch(t *testing.T, kind, name, patch string) {
	t.Helper()
	_, err := c.Resource(kind).Patch(Within(t, 10*time.Second), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		t.Fatalf("patch %s %s: %v", kind, name, err)
	}
}

// Pool makes an IPAddressPool with a list of addresses in YAML's flow style and waits until it is in force: from then on,
// the controller knows of no pool that was deleted before.
func (c *Cluster) Pool(t *testing.T, name, addresses string) {
	t.Helper()
	c.Create(t, PoolYAML(name, addresses, true))
	c.Judged(t, "IPAddressPool", name, metav1.ConditionTrue, "InForce")
}

// Advertise makes an L2Advertisement for the pool of the same name; each further argument is a line of its spec.
func (c *Cluster) Advertise(t *testing.T, name string, spec ...string) {
	t.Helper()
	c.Create(t, AdvertisementYAML(name, append([]string{"ipAddressPools: [" + name + "]"}, spec...)...))
}

// PoolYAML is an IPAddressPool with a list of addresses in YAML's flow style.
func PoolYAML(name, addresses string, autoAssign bool) string {
	return fmt.Sprintf("apiVersion: lanyard.dev/v1beta1\nkind: IPAddressPool\nmetadata: {name: %s}\nspec: {addresses: %s, autoAssign: %t}\n",
		name, addresses, autoAssign)
}

// AdvertisementYAML is an L2Advertisement; each further argument is a line of its spec.
func AdvertisementYAML(name string, spec ...string) string {
	return fmt.Sprintf("apiVersion: lanyard.dev/v1beta1\nkind: L2Advertisement\nmetadata: {name: %s}\nspec:\n  %s\n", name, strings.Join(spec, "\n  "))
}

// ServiceYAML is a Service of type LoadBalancer in front of the pods of the app web; each further argument is a line of its
// spec. It has one family, IPv4, unless the spec says otherwise.
func ServiceYAML(name string, spec ...string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: %s}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports:
  - {name: http, port: 80}
  - {name: echo, port: 7, protocol: UDP}
  %s
`, name, strings.Join(spec, "\n  "))
}

// Lines of a Service's spec that say which families it wants.
const (
	DualStack = "ipFamilyPolicy: RequireDualStack"
	OnlyIPv6  = "ipFamilies: [IPv6]"
)

// Web are the labels of the backends.
var Web = map[string]string{"app": "web"}

// RunWeb runs a pod of the app web until the test ends.
func (c *Cluster) RunWeb(t *testing.T, node, name string) {
	t.Helper()
	Must(t, c.RunPod(Within(t, 20*time.Second), node, name, Web))
	Afterwards(t, func(ctx context.Context) error {
		err := c.DeletePod(ctx, metav1.NamespaceDefault, name)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
}
