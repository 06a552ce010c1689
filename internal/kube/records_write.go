package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-kit/log/level"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/record"
)

// flush makes the changes of a batch that can be made, with one write when nobody else writes the object,
// and returns the error of each request. With an error, no request is settled.
func (s *slot) flush(ctx context.Context, batch []*request) ([]error, error) {
	for fresh := false; ; fresh = true {
		if fence := s.term.fence.Load(); fence != nil {
			return nil, fence
		}
		if !s.doubtful {
			next, results, changed := s.judge(ctx, batch)
			s.resigned = s.resigned || slices.ContainsFunc(batch, func(r *request) bool { return r.resign })
			exists := s.object.ResourceVersion != ""
			switch {
			case changed, exists && next.Term(s.class()).Epoch != s.term.epoch, !exists && next.Len() > 0:
				err := s.store(ctx, next)
				if err == nil {
					return results, nil
				}
				if s.doubtful {
					return nil, err
				}
			case fresh, idle(batch):
				return results, nil
			}
		}
		if err := s.read(ctx); err != nil {
			return nil, err
		}
	}
}

// class is that of this controller.
func (s *slot) class() string { return s.term.records.class }

// idle reports whether nothing but releases is asked for.
func idle(batch []*request) bool {
	for _, r := range batch {
		if r.look {
			return false
		}
		for _, c := range r.changes {
			if !c.Let {
				return false
			}
		}
	}
	return true
}

// judge makes the changes in a copy of what is known of the block.
func (s *slot) judge(ctx context.Context, batch []*request) (next record.Block, results []error, changed bool) {
	next = s.view.Clone()
	for _, r := range batch {
		changed = changed || r.renew || r.resign
		var failed []error
		for i := range r.changes {
			did, err := s.apply(ctx, next, &r.changes[i])
			changed = changed || did
			if err != nil {
				failed = append(failed, err)
			}
		}
		results = append(results, errors.Join(failed...))
	}
	return next, results, changed
}

// apply makes one change in the block. An address that an earlier object of the holder's name has is taken
// over when the API server says that the holder is the one that lives: UIDs do not come back, so that the
// recorded one is gone for good. Should the record name the later of the two, the caller is behind.
func (s *slot) apply(ctx context.Context, b record.Block, c *record.Change) (bool, error) {
	if e, _ := b.Lookup(c.Addr); c.Gone && e.HeldBy(c.Holder) {
		if uid, err := s.term.records.uid(ctx, c.Holder); err != nil {
			return false, err
		} else if uid == c.Holder.UID {
			return false, &record.HeldError{Addr: c.Addr, By: c.Holder}
		}
		c.Gone = false // for good
		for _, h := range e.Holders {
			if h.Holder == c.Holder {
				c.Class = h.Class // whoever gave it the address: nobody will write to it any more
			}
		}
	}
	changed, err := b.Apply(*c)
	var held *record.HeldError
	if !errors.As(err, &held) || !held.By.Same(c.Holder) || held.By == c.Holder {
		return changed, err
	}
	uid, err := s.term.records.uid(ctx, c.Holder)
	if err != nil {
		return false, err
	}
	if uid != c.Holder.UID {
		return false, held
	}
	c.Replaces = held.By.UID
	return b.Apply(*c)
}

// uid asks the API server for the UID of the object that has a holder's name; empty: there is none.
func (r *Records) uid(ctx context.Context, h record.Holder) (string, error) {
	kinds := map[record.Kind]schema.GroupVersionKind{
		record.Service:     {Version: "v1", Kind: string(record.Service)},
		record.Reservation: v1beta1.GroupVersion.WithKind(string(record.Reservation)),
	}
	var o metav1.PartialObjectMetadata
	o.SetGroupVersionKind(kinds[h.Kind])
	err := r.api.Get(ctx, client.ObjectKey{Namespace: h.Namespace, Name: h.Name}, &o)
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("ask for the UID of %s: %w", h, err)
	}
	return string(o.UID), nil
}

// store writes a block over the object as it is known. An error without doubt means that nothing was
// written, for the object is another one by now.
func (s *slot) store(ctx context.Context, next record.Block) error {
	mine := record.Term{Class: s.class(), Epoch: s.term.epoch, Writer: s.term.records.writer}
	if next.Prefix == record.Office() && !s.resigned {
		mine.Renewed = time.Now()
	}
	next.SetTerm(mine)
	o, err := next.Encode(), error(nil)
	s.object.DeepCopyInto(&o.ObjectMeta)
	o.Name, o.ManagedFields = s.name, nil
	exists := o.ResourceVersion != ""
	if exists {
		err = s.term.records.api.Update(ctx, o)
	} else {
		err = s.term.records.api.Create(ctx, o)
	}
	switch {
	case err == nil:
		s.object, s.view = o.ObjectMeta, next
		s.object.ManagedFields = nil
		s.term.publish(next, o.ResourceVersion)
		return nil
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), exists && apierrors.IsNotFound(err):
	default:
		s.doubtful = true
		s.term.publish(s.view.Doubt(next), "")
	}
	return fmt.Errorf("write IPAllocationRecord %s: %w", s.name, err)
}

// read learns the object from the API server. It fails when another controller of this class has taken it over.
func (s *slot) read(ctx context.Context) error {
	var o v1beta1.IPAllocationRecord
	err := s.term.records.api.Get(ctx, client.ObjectKey{Name: s.name}, &o)
	switch {
	case apierrors.IsNotFound(err):
		// It never was, or somebody deleted it: who holds what is still true.
		s.object = metav1.ObjectMeta{}
		s.term.publish(s.view, "")
	case err != nil:
		return fmt.Errorf("read IPAllocationRecord %s: %w", s.name, err)
	default:
		s.learn(&o)
	}
	s.doubtful = false
	last, mine := s.view.Term(s.class()), s.term.epoch
	if last.Epoch > mine || last.Epoch == mine && last.Writer != s.term.records.writer {
		by := FencedError{By: last.Writer, Epoch: last.Epoch}
		s.term.fence.Store(&by)
		return &by
	}
	return nil
}

// learn takes over what the object says.
func (s *slot) learn(o *v1beta1.IPAllocationRecord) {
	block, err := record.Decode(s.view.Prefix, o)
	if err != nil {
		_ = level.Warn(s.term.records.logger).Log("msg", "a part of an allocation record cannot be read, and is left out", "err", err)
	}
	s.view, s.object = block, o.ObjectMeta
	s.object.ManagedFields = nil
	s.term.publish(block, o.ResourceVersion)
}
