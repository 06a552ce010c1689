package suite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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

// cluster is a lab with the product installed.
type cluster struct{ *lab.Lab }

// install makes a lab, installs the product in it and starts a controller.
func install(t *testing.T, opts lab.Options) *cluster {
	t.Helper()
	c := &cluster{lab.New(t, opts)}
	ctx := within(t, time.Minute)
	must(t, c.InstallProduct(ctx))
	_, err := c.StartController(ctx, "cp", "controller")
	must(t, err)
	return c
}

// serve is install with a speaker on every node, all of them ready.
func serve(t *testing.T, opts lab.Options) *cluster {
	t.Helper()
	c := install(t, opts)
	c.startSpeakers(t)
	return c
}

// startSpeakers starts a speaker on every node and waits until all of them are ready.
func (c *cluster) startSpeakers(t *testing.T) {
	t.Helper()
	for _, node := range c.Nodes() {
		// Its user must be able to reach its state directory.
		must(t, os.MkdirAll(filepath.Dir(c.SpeakerStateDir(node)), 0o755))
		_, err := c.StartSpeaker(within(t, time.Minute), node)
		must(t, err)
	}
	c.allTogether(t)
}

// allTogether waits until every speaker is ready and sees every other one.
func (c *cluster) allTogether(t *testing.T) {
	t.Helper()
	for _, node := range c.Nodes() {
		eventually(t, 20*time.Second, func() error {
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
}

// resource is the client for objects of a kind; namespaced ones are in the namespace default.
func (c *cluster) resource(kind string) dynamic.ResourceInterface {
	gvr, known := resources[kind]
	switch {
	case !known:
		panic("the suite does not know the kind " + kind)
	case kind == "Service":
		return c.Dynamic().Resource(gvr).Namespace(metav1.NamespaceDefault)
	}
	return c.Dynamic().Resource(gvr)
}

// decode reads the objects of a YAML text.
func decode(t *testing.T, text string) (objects []*unstructured.Unstructured) {
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

// create makes the objects of a YAML text, and takes them away again, last ones first, when the test ends. A pool in use
// goes by itself when the last of its Services has gone.
func (c *cluster) create(t *testing.T, text string) {
	t.Helper()
	for _, o := range decode(t, text) {
		kind, name := o.GetKind(), o.GetName()
		var fault error
		eventually(t, 10*time.Second, func() error {
			_, fault = c.resource(kind).Create(within(t, 10*time.Second), o.DeepCopy(), metav1.CreateOptions{})
			if apierrors.IsAlreadyExists(fault) {
				return fault // one of an earlier test is still going
			}
			return nil
		})
		if fault != nil {
			t.Fatalf("create %s %s: %v", kind, name, fault)
		}
		afterwards(t, func(ctx context.Context) error {
			if kind == "IPAddressPool" {
				return ignoreMissing(c.resource(kind).Delete(ctx, name, metav1.DeleteOptions{}))
			}
			return c.remove(ctx, kind, name)
		})
	}
}

// delete deletes an object now.
func (c *cluster) delete(t *testing.T, kind, name string) {
	t.Helper()
	must(t, c.remove(within(t, 20*time.Second), kind, name))
}

// remove deletes an object and waits until it is gone; that it is gone already is no error.
func (c *cluster) remove(ctx context.Context, kind, name string) error {
	err := ignoreMissing(c.resource(kind).Delete(ctx, name, metav1.DeleteOptions{}))
	if err != nil {
		return fmt.Errorf("delete %s %s: %w", kind, name, err)
	}
	err = poll(ctx, func() error {
		_, err := c.resource(kind).Get(ctx, name, metav1.GetOptions{})
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

// patch applies a JSON merge patch to an object.
func (c *cluster) patch(t *testing.T, kind, name, patch string) {
	t.Helper()
	_, err := c.resource(kind).Patch(within(t, 10*time.Second), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		t.Fatalf("patch %s %s: %v", kind, name, err)
	}
}

// pool makes an IPAddressPool with a list of addresses in YAML's flow style and waits until it is in force: from then on,
// the controller knows of no pool that was deleted before.
func (c *cluster) pool(t *testing.T, name, addresses string) {
	t.Helper()
	c.create(t, poolYAML(name, addresses, true))
	c.judged(t, "IPAddressPool", name, metav1.ConditionTrue, "InForce")
}

// advertise makes an L2Advertisement for the pool of the same name; each further argument is a line of its spec.
func (c *cluster) advertise(t *testing.T, name string, spec ...string) {
	t.Helper()
	c.create(t, advertisementYAML(name, append([]string{"ipAddressPools: [" + name + "]"}, spec...)...))
}

func poolYAML(name, addresses string, autoAssign bool) string {
	return fmt.Sprintf("apiVersion: lanyard.dev/v1beta1\nkind: IPAddressPool\nmetadata: {name: %s}\nspec: {addresses: %s, autoAssign: %t}\n",
		name, addresses, autoAssign)
}

func advertisementYAML(name string, spec ...string) string {
	return fmt.Sprintf("apiVersion: lanyard.dev/v1beta1\nkind: L2Advertisement\nmetadata: {name: %s}\nspec:\n  %s\n", name, strings.Join(spec, "\n  "))
}

// serviceYAML is a Service of type LoadBalancer in front of the pods of the app web; each further argument is a line of its
// spec. It has one family, IPv4, unless the spec says otherwise.
func serviceYAML(name string, spec ...string) string {
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

const (
	dualStack = "ipFamilyPolicy: RequireDualStack"
	onlyIPv6  = "ipFamilies: [IPv6]"
)

var web = map[string]string{"app": "web"}

// run runs a pod of the app web until the test ends.
func (c *cluster) run(t *testing.T, node, name string) {
	t.Helper()
	must(t, c.RunPod(within(t, 20*time.Second), node, name, web))
	afterwards(t, func(ctx context.Context) error {
		err := c.DeletePod(ctx, metav1.NamespaceDefault, name)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
}
