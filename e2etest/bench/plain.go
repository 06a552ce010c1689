package bench

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// writtenClass is a class of Services that plain watches write.
const writtenClass = "bench.invalid/written"

// PlainWatch is what daemons are measured against that watch the API server: it holds in informer caches what the
// resources have (of services, endpointslices and nodes), patches the status of each new Service of writtenClass so many
// times, and does nothing else until ctx ends.
func PlainWatch(ctx context.Context, kubeconfig string, patches int, resources []string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	config.QPS = -1
	client, err := newClient(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	versions := map[string]schema.GroupVersion{"services": {Version: "v1"}, "nodes": {Version: "v1"},
		"endpointslices": {Group: "discovery.k8s.io", Version: "v1"}}
	for _, r := range resources {
		informer, err := factory.ForResource(versions[r].WithResource(r))
		if err != nil {
			return fmt.Errorf("watch %s: %w", r, err)
		}
		handler := cache.ResourceEventHandlerFuncs{AddFunc: func(o any) {
			if s, ok := o.(*corev1.Service); ok && s.Spec.LoadBalancerClass != nil && *s.Spec.LoadBalancerClass == writtenClass {
				go barePatches(ctx, client, s.Name, patches)
			}
		}}
		if _, err := informer.Informer().AddEventHandler(handler); err != nil {
			return fmt.Errorf("watch %s: %w", r, err)
		}
	}
	factory.Start(ctx.Done())
	<-ctx.Done()
	factory.Shutdown()
	return nil
}

// barePatches patches the status of a Service, one time after the other.
func barePatches(ctx context.Context, c *kubernetes.Clientset, name string, times int) {
	for i := range times {
		patch := fmt.Appendf(nil, `{"status":{"conditions":[{"type":"bench.invalid/%s","status":"True","reason":"Bare","message":"%d",
			"lastTransitionTime":"2000-01-01T00:00:00Z"}]}}`, rand.Text(), i)
		_, err := c.CoreV1().Services(namespace).Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		if err != nil && ctx.Err() == nil {
			fmt.Fprintf(os.Stderr, "patch the status of Service %s: %v\n", name, err)
		}
	}
}

// PlainWatchCommand is the first argument of a program that is to do PlainWatch with the others: a kubeconfig, how many
// patches, resources.
const PlainWatchCommand = "plain-watch"

// startPlainWatch starts this program anew on the control plane's host, as PlainWatch.
func (s *Site) startPlainWatch(name, kubeconfig string, patches int, resources ...string) (*lab.Process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return s.Start(controlPlane, lab.ProcessOptions{Name: name, Path: program, Args: append([]string{PlainWatchCommand, kubeconfig, strconv.Itoa(patches)}, resources...)})
}
