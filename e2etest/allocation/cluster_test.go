package allocation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// cluster is a lab with the product installed and one controller running on the control plane host.
type cluster struct {
	*lab.Lab
	controller *lab.Process
}

const controllerName = "controller"

// install makes a lab and installs the product. Two namespaces are there: blue, labelled team=blue, and green.
func install(t *testing.T, opts lab.Options) *cluster {
	t.Helper()
	c := &cluster{Lab: lab.New(t, opts)}
	ctx := within(t, time.Minute)
	must(t, c.InstallProduct(ctx))
	for _, name := range []string{"blue", "green"} {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"team": name}}}
		_, err := c.Client().CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{})
		must(t, err)
	}
	return c
}

// serve is install with a controller that leads.
func serve(t *testing.T, opts lab.Options) *cluster {
	t.Helper()
	c := install(t, opts)
	c.start(t)
	return c
}

// start starts the controller and waits until it leads.
func (c *cluster) start(t *testing.T, args ...string) {
	t.Helper()
	var err error
	c.controller, err = c.StartController(within(t, 30*time.Second), "cp", controllerName, args...)
	must(t, err)
	eventually(t, 30*time.Second, func() error {
		leading, err := c.Metric(t.Context(), "cp", "lanyard_controller_leading")
		if err == nil && leading != 1 {
			err = errors.New("the controller does not lead")
		}
		return err
	})
}

// stop ends the controller in good order, so that the next one need not wait for its lease to expire.
func (c *cluster) stop(t *testing.T) {
	t.Helper()
	must(t, c.controller.Term())
	_, err := c.controller.Wait(within(t, 20*time.Second))
	must(t, err)
}

var kinds = map[string]schema.GroupVersionResource{
	"Service":            {Version: "v1", Resource: "services"},
	"Namespace":          {Version: "v1", Resource: "namespaces"},
	"IPAddressPool":      {Group: "lanyard.dev", Version: "v1beta1", Resource: "ipaddresspools"},
	"IPReservation":      {Group: "lanyard.dev", Version: "v1beta1", Resource: "ipreservations"},
	"L2Advertisement":    {Group: "lanyard.dev", Version: "v1beta1", Resource: "l2advertisements"},
	"IPAllocationRecord": {Group: "lanyard.dev", Version: "v1beta1", Resource: "ipallocationrecords"},
	"Role":               {Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "roles"},
	"RoleBinding":        {Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "rolebindings"},
}

var clusterScoped = map[string]bool{"Namespace": true, "IPAddressPool": true, "L2Advertisement": true, "IPAllocationRecord": true}

// resource is the client for objects of a kind, and the name of one of them in it. Names are NAME, in the namespace
// default where the kind has one, or NAMESPACE/NAME.
func (c *cluster) resource(kind, name string) (dynamic.ResourceInterface, string) {
	gvr, known := kinds[kind]
	if !known {
		panic("the tests do not know the kind " + kind)
	}
	if clusterScoped[kind] {
		return c.Dynamic().Resource(gvr), name
	}
	namespace, name := split(name)
	return c.Dynamic().Resource(gvr).Namespace(namespace), name
}

func split(name string) (namespace, rest string) {
	if namespace, rest, found := strings.Cut(name, "/"); found {
		return namespace, rest
	}
	return metav1.NamespaceDefault, name
}

// apply makes or changes the objects of a YAML text, and deletes those that it made, last ones first, at the test's end.
func (c *cluster) apply(t *testing.T, text string) {
	t.Helper()
	for _, o := range decode(t, text) {
		full := fullName(o)
		client, name := c.resource(o.GetKind(), full)
		_, err := client.Get(within(t, 10*time.Second), name, metav1.GetOptions{})
		fresh := apierrors.IsNotFound(err)
		_, err = client.Apply(within(t, 10*time.Second), name, o, metav1.ApplyOptions{FieldManager: "test", Force: true})
		if err != nil {
			t.Fatalf("apply %s %s: %v", o.GetKind(), full, err)
		}
		switch {
		case fresh && o.GetKind() == "IPAddressPool": // it goes with its last holder
			afterwards(t, func(ctx context.Context) error {
				return ignoreGone(client.Delete(ctx, name, metav1.DeleteOptions{}))
			})
		case fresh:
			afterwards(t, func(ctx context.Context) error { return c.remove(ctx, o.GetKind(), full) })
		}
	}
}

func fullName(o *unstructured.Unstructured) string {
	if o.GetNamespace() == "" {
		return o.GetName()
	}
	return o.GetNamespace() + "/" + o.GetName()
}

// noPools sees to it that every pool is gone when the test and what it made has ended.
func (c *cluster) noPools(t *testing.T) {
	t.Helper()
	client, _ := c.resource("IPAddressPool", "")
	afterwards(t, func(ctx context.Context) error {
		return poll(ctx, func() error {
			list, err := client.List(ctx, metav1.ListOptions{})
			if err == nil && len(list.Items) > 0 {
				err = fmt.Errorf("pool %s is still there", list.Items[0].GetName())
			}
			return err
		})
	})
}

// delete deletes an object now and waits until it is gone.
func (c *cluster) delete(t *testing.T, kind, name string) {
	t.Helper()
	must(t, c.remove(within(t, patience), kind, name))
	if kind == "Service" {
		// A running controller has heard of it when the records name it no more. Without one, nothing comes.
		_ = poll(within(t, 2*time.Second), func() error { return c.released(t.Context(), name) })
	}
}

// released returns nil when no allocation record names a Service as a holder.
func (c *cluster) released(ctx context.Context, name string) error {
	client, _ := c.resource("IPAllocationRecord", "")
	list, err := client.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	namespace, short := split(name)
	for _, o := range list.Items {
		var have allocationRecord
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &have); err != nil {
			return err
		}
		for _, a := range have.Allocations {
			for _, h := range a.Holders {
				if h.Kind == "Service" && h.Namespace == namespace && h.Name == short {
					return fmt.Errorf("%s is still held by %s", a.Address, name)
				}
			}
		}
	}
	return nil
}

// remove deletes an object and waits until it is gone; that it is gone already is no error.
func (c *cluster) remove(ctx context.Context, kind, name string) error {
	client, short := c.resource(kind, name)
	err := client.Delete(ctx, short, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete %s %s: %w", kind, name, err)
	}
	err = poll(ctx, func() error { return gone(ctx, client, short) })
	if err != nil {
		return fmt.Errorf("delete %s %s: %w", kind, name, err)
	}
	return nil
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func gone(ctx context.Context, client dynamic.ResourceInterface, name string) error {
	_, err := client.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return errors.Join(err, errors.New("it is still there"))
}

// patch applies a JSON merge patch to an object, or to its status.
func (c *cluster) patch(t *testing.T, kind, name, patch string, subresource ...string) {
	t.Helper()
	client, short := c.resource(kind, name)
	_, err := client.Patch(within(t, 10*time.Second), short, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, subresource...)
	if err != nil {
		t.Fatalf("patch %s %s: %v", kind, name, err)
	}
}

// get reads an object into a value that has its JSON fields.
func (c *cluster) get(t *testing.T, kind, name string, into any) error {
	t.Helper()
	client, short := c.resource(kind, name)
	o, err := client.Get(within(t, 10*time.Second), short, metav1.GetOptions{})
	if err != nil {
		return err
	}
	raw, err := o.MarshalJSON()
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}
