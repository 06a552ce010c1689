package kube

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
)

// speakerFieldManager owns the fields of ServiceL2Statuses. All speakers are one manager: whoever reports a
// Service now takes over what another has written.
const speakerFieldManager = "lanyard-speaker"

// WriteL2Status creates or replaces the ServiceL2Status of a Service, which goes with that Service. One that a
// Service of the same name has left behind is taken over.
func (c *Cluster) WriteL2Status(ctx context.Context, owner *corev1.Service, status v1beta1.ServiceL2StatusStatus) error {
	want := v1beta1.ServiceL2Status{
		TypeMeta: metav1.TypeMeta{APIVersion: v1beta1.GroupVersion.String(), Kind: "ServiceL2Status"},
		ObjectMeta: metav1.ObjectMeta{Namespace: owner.Namespace, Name: owner.Name,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: owner.Name, UID: owner.UID}}},
		Status: status,
	}
	data, err := json.Marshal(want)
	if err != nil {
		return fmt.Errorf("encode ServiceL2Status %s/%s: %w", owner.Namespace, owner.Name, err)
	}
	target := metadataOf(v1beta1.GroupVersion.WithKind("ServiceL2Status"), owner.Namespace, owner.Name)
	err = c.manager.GetClient().Patch(ctx, target, client.RawPatch(types.ApplyPatchType, data),
		client.ForceOwnership, client.FieldOwner(speakerFieldManager))
	if err != nil {
		return fmt.Errorf("write ServiceL2Status %s/%s: %w", owner.Namespace, owner.Name, err)
	}
	return nil
}

// DeleteL2Status deletes the ServiceL2Status of a Service. That there is none is no error.
func (c *Cluster) DeleteL2Status(ctx context.Context, namespace, name string) error {
	target := &v1beta1.ServiceL2Status{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if err := client.IgnoreNotFound(c.manager.GetClient().Delete(ctx, target)); err != nil {
		return fmt.Errorf("delete ServiceL2Status %s/%s: %w", namespace, name, err)
	}
	return nil
}

// ListL2Statuses asks the API server itself for all ServiceL2Statuses, page by page.
func (c *Cluster) ListL2Statuses(ctx context.Context) ([]v1beta1.ServiceL2Status, error) {
	var all []v1beta1.ServiceL2Status
	for next := ""; ; {
		var page v1beta1.ServiceL2StatusList
		if err := c.manager.GetAPIReader().List(ctx, &page, client.Limit(500), client.Continue(next)); err != nil {
			return nil, fmt.Errorf("list ServiceL2Statuses: %w", err)
		}
		all = append(all, page.Items...)
		if next = page.Continue; next == "" {
			return all, nil
		}
	}
}
