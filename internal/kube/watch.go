package kube

import (
	"context"
	"fmt"

	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// eventHandler tells changed of every object that is added (before is nil), changed, or deleted (after is nil).
// Updates that change nothing (a resync) are left out.
func eventHandler(changed func(before, after client.Object)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { changed(nil, o.(client.Object)) },
		UpdateFunc: func(before, after any) {
			b, a := before.(client.Object), after.(client.Object)
			if b.GetResourceVersion() != a.GetResourceVersion() {
				changed(b, a)
			}
		},
		DeleteFunc: func(o any) {
			if unknown, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = unknown.Obj
			}
			changed(o.(client.Object), nil)
		},
	}
}

// watch waits until the caches of all the kinds hold their first full list; changed is called for each change
// from then on and, before, for each object, as of eventHandler.
func (c *Cluster) watch(ctx context.Context, changed func(before, after client.Object), kinds ...client.Object) error {
	var synced []cache.DoneChecker
	for _, kind := range kinds {
		informer, err := c.informer(ctx, kind)
		if err != nil {
			return err
		}
		registration, err := informer.AddEventHandler(eventHandler(changed))
		if err != nil {
			return fmt.Errorf("watch %T: %w", kind, err)
		}
		synced = append(synced, registration.HasSyncedChecker())
	}
	if !cache.WaitFor(ctx, "", synced...) {
		return fmt.Errorf("wait for the first lists: %w", context.Cause(ctx))
	}
	return nil
}
