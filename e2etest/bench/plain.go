package bench

import (
	"context"
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// PlainWatch is what daemons are measured against that watch the API server: it holds in informer caches what the
// resources have (of services, endpointslices and nodes), and does nothing else until ctx ends.
func PlainWatch(ctx context.Context, kubeconfig string, resources []string) error {
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
		if _, err := informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{}); err != nil {
			return fmt.Errorf("watch %s: %w", r, err)
		}
	}
	factory.Start(ctx.Done())
	<-ctx.Done()
	factory.Shutdown()
	return nil
}

// PlainWatchCommand is the first argument of a program that is to do PlainWatch with the others: a kubeconfig, resources.
const PlainWatchCommand = "plain-watch"

// startPlainWatch starts this program anew on the control plane's host, as PlainWatch.
func (s *Site) startPlainWatch(name, kubeconfig string, resources ...string) (*lab.Process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return s.Start(controlPlane, lab.ProcessOptions{Name: name, Path: program, Args: append([]string{PlainWatchCommand, kubeconfig}, resources...)})
}
