package bench

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// writtenClass is a class of Services that writers write.
const writtenClass = "bench.invalid/written"

// writing is what PlainWatch does for each new Service of writtenClass.
type writing string

const (
	writesNothing writing = "nothing"
	patches       writing = "patch"       // of the status
	patchesTells  writing = "patch-event" // and then an Event
)

// PlainWatch is what daemons are measured against that watch the API server: it holds in informer caches what the
// resources have (of services, endpointslices and nodes), writes what it is told to (nothing, patch or patch-event), and does
// nothing else until ctx ends.
func PlainWatch(ctx context.Context, kubeconfig, writes string, resources []string) error {
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
			s, ok := o.(*corev1.Service)
			if !ok || writing(writes) == writesNothing || s.Spec.LoadBalancerClass == nil || *s.Spec.LoadBalancerClass != writtenClass {
				return
			}
			go func() {
				if err := bareWrites(ctx, client, s, writing(writes)); err != nil && ctx.Err() == nil {
					fmt.Fprintln(os.Stderr, err)
				}
			}()
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

// bareReason is the reason of Events that tell of nothing.
const bareReason = "Bare"

// bareWrites writes what is asked for, and reads nothing of the answers.
func bareWrites(ctx context.Context, c *kubernetes.Clientset, s *corev1.Service, what writing) error {
	patch := fmt.Appendf(nil, `{"status":{"conditions":[{"type":"bench.invalid/%s","status":"True","reason":%q,"message":"10.78.0.1 from pool bench",
		"lastTransitionTime":"2000-01-01T00:00:00Z"}]}}`, rand.Text(), bareReason)
	result := c.CoreV1().RESTClient().Patch(types.StrategicMergePatchType).Namespace(s.Namespace).Resource("services").Name(s.Name).
		SubResource("status").Body(patch).Do(ctx)
	if err := result.Error(); err != nil {
		return fmt.Errorf("patch the status of Service %s: %w", s.Name, err)
	}
	if what != patchesTells {
		return nil
	}
	event := &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name + "." + strings.ToLower(rand.Text())}, EventTime: metav1.NowMicro(),
		ReportingController: "bench.invalid/plain-watch", ReportingInstance: "plain-watch", Action: "Write", Reason: bareReason, Type: corev1.EventTypeNormal,
		Regarding: corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: s.Namespace, Name: s.Name, UID: s.UID},
		Note:      "10.78.0.1 from pool bench",
	}
	result = c.EventsV1().RESTClient().Post().Namespace(s.Namespace).Resource("events").Body(event).Do(ctx)
	if err := result.Error(); err != nil {
		return fmt.Errorf("record an event on Service %s: %w", s.Name, err)
	}
	return nil
}

// PlainWatchCommand is the first argument of a program that is to do PlainWatch with the others: a kubeconfig, what to write,
// resources.
const PlainWatchCommand = "plain-watch"

// startPlainWatch starts this program anew on the control plane's host, as PlainWatch.
func (s *Site) startPlainWatch(name, kubeconfig string, writes writing, resources ...string) (*lab.Process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return s.Start(controlPlane, lab.ProcessOptions{Name: name, Path: program, Args: append([]string{PlainWatchCommand, kubeconfig, string(writes)}, resources...)})
}
