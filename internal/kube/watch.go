package kube

import (
	"context"
	"fmt"

	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// eventHandler tells notify of every object that is added, changed or deleted. Updates that change nothing
// (a resync) are left out.
func eventHandler(notify func(client.Object)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { notify(o.(client.Object)) },
		UpdateFunc: func(before, after any) {
			if before.(client.Object).GetResourceVersion() != after.(client.Object).GetResourceVersion() {
				notify(after.(client.Object))
			}
		},
		DeleteFunc: func(o any) {
			if unknown, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = unknown.Obj
			}
			notify(o.(client.Object))
		},
	}
}

// waitFor returns once every source has delivered its first full list, or ctx has ended.
func waitFor(ctx context.Context, synced []func() bool) error {
	list := make([]cache.InformerSynced, len(synced))
	for i, s := range synced {
		list[i] = s
	}
	if !cache.WaitForCacheSync(ctx.Done(), list...) {
		return fmt.Errorf("wait for the first lists: %w", context.Cause(ctx))
	}
	return nil
}
