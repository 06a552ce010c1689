package kube

import (
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
)

// recordsAPI is what Records need of the API server. Reads must come from it and not from a cache. Create and Update
// set the object's metadata to what the API server answers, and nothing else.
type recordsAPI interface {
	Get(ctx context.Context, key client.ObjectKey, o client.Object, _ ...client.GetOption) error
	List(ctx context.Context, list client.ObjectList, _ ...client.ListOption) error
	Create(ctx context.Context, o *v1beta1.IPAllocationRecord) error
	Update(ctx context.Context, o *v1beta1.IPAllocationRecord) error
}

// recordsClient has the API server answer writes with metadata alone: a record is 20 kB, and we know what it says.
type recordsClient struct {
	client.Reader
	rest rest.Interface
}

const (
	recordsPath  = "ipallocationrecords"
	metadataOnly = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
)

func (c recordsClient) Create(ctx context.Context, o *v1beta1.IPAllocationRecord) error {
	return write(ctx, c.rest.Post().Resource(recordsPath), o)
}

func (c recordsClient) Update(ctx context.Context, o *v1beta1.IPAllocationRecord) error {
	return write(ctx, c.rest.Put().Resource(recordsPath).Name(o.Name), o)
}

func write(ctx context.Context, request *rest.Request, o *v1beta1.IPAllocationRecord) error {
	o.SetGroupVersionKind(v1beta1.GroupVersion.WithKind("IPAllocationRecord"))
	body, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	result := request.SetHeader("Accept", metadataOnly).SetHeader("Content-Type", "application/json").Body(body).Do(ctx)
	if err := result.Error(); err != nil {
		return err
	}
	answer, err := result.Raw()
	if err != nil {
		return err
	}
	var written metav1.PartialObjectMetadata
	if err := json.Unmarshal(answer, &written); err != nil {
		return fmt.Errorf("decode the answer: %w", err)
	}
	if written.ResourceVersion == "" {
		return fmt.Errorf("the answer has no resourceVersion: %.100q", answer)
	}
	o.ObjectMeta = written.ObjectMeta
	return nil
}
