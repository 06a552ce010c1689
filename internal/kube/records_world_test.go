package kube

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
)

// server is an API server in small: records with resourceVersions that must be met, and the UIDs of Services.
type server struct {
	mu       sync.Mutex
	records  map[string]*v1beta1.IPAllocationRecord
	services map[string]string // UID by namespace/name
	version  int
	writes   int
	reads    int
	latency  time.Duration
	// fault is asked before each write: an error fails it, after having made it when late is true.
	fault func() (err error, late bool)
	// between is called while a request is on its way.
	between func()
}

func newServer() *server {
	return &server{records: map[string]*v1beta1.IPAllocationRecord{}, services: map[string]string{}}
}

var recordsResource = schema.GroupResource{Group: "lanyard.dev", Resource: "ipallocationrecords"}

// travel is the way of a request to the server.
func (s *server) travel(ctx context.Context) error {
	if s.between != nil {
		s.between()
	}
	if s.latency > 0 {
		select {
		case <-time.After(s.latency):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

func (s *server) Get(ctx context.Context, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	if err := s.travel(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if partial, ok := o.(*metav1.PartialObjectMetadata); ok {
		uid, exists := s.services[key.String()]
		if !exists {
			return apierrors.NewNotFound(schema.GroupResource{Resource: "services"}, key.Name)
		}
		partial.UID = types.UID(uid)
		return nil
	}
	stored := s.records[key.Name]
	if stored == nil {
		return apierrors.NewNotFound(recordsResource, key.Name)
	}
	stored.DeepCopyInto(o.(*v1beta1.IPAllocationRecord))
	return nil
}

func (s *server) List(ctx context.Context, list client.ObjectList, _ ...client.ListOption) error {
	if err := s.travel(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.records {
		to := list.(*v1beta1.IPAllocationRecordList)
		to.Items = append(to.Items, *o.DeepCopy())
	}
	return nil
}

func (s *server) Create(ctx context.Context, o *v1beta1.IPAllocationRecord) error {
	return s.write(ctx, o, func(stored *v1beta1.IPAllocationRecord) error {
		if stored != nil {
			return apierrors.NewAlreadyExists(recordsResource, o.GetName())
		}
		return nil
	})
}

func (s *server) Update(ctx context.Context, o *v1beta1.IPAllocationRecord) error {
	return s.write(ctx, o, func(stored *v1beta1.IPAllocationRecord) error {
		if stored == nil {
			return apierrors.NewNotFound(recordsResource, o.GetName())
		}
		if stored.ResourceVersion != o.GetResourceVersion() {
			return apierrors.NewConflict(recordsResource, o.GetName(), errors.New("it has changed"))
		}
		return nil
	})
}

func (s *server) write(ctx context.Context, o *v1beta1.IPAllocationRecord, check func(*v1beta1.IPAllocationRecord) error) error {
	if err := s.travel(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	var broken error
	if s.fault != nil {
		err, late := s.fault()
		if err != nil && !late {
			return err
		}
		broken = err
	}
	if err := check(s.records[o.Name]); err != nil {
		return err
	}
	s.version++
	stored := o.DeepCopy()
	stored.ResourceVersion = fmt.Sprint(s.version)
	s.records[o.Name] = stored
	if broken != nil {
		return broken
	}
	o.ResourceVersion = stored.ResourceVersion
	return nil
}

// edit changes a record the way a person does.
func (s *server) edit(name string, change func(*v1beta1.IPAllocationRecord)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	change(s.records[name])
	s.records[name].ResourceVersion = fmt.Sprint(s.version)
}
