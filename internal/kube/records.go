package kube

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/uuid"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/record"
)

// Records are the durable memory of who holds which address: one IPAllocationRecord for each block of 64.
// They are what fences controllers off from each other, if their users keep to these rules:
//
//   - A status is given an address only after Commit of its Hold, and is written as it was seen before that
//     Commit (with its resourceVersion), even when the Hold has long been in the record: Commit then confirms
//     it. What the status names already, as seen, needs no Commit.
//
//   - Release is committed only after the holder is gone, or after a status without the address has been
//     written: one that the API server has given a new resourceVersion. A write that changes nothing does not.
//     For a Service that is not this class's to serve any more it does: it shows that it was not seen too late.
//     The same goes for ReleaseLeft, and that the Service is not of the other class any more: should that one's
//     controller come back after all, it cannot write the Service as it was.
//
//   - Nobody infers from a cache that another holder is gone. ReleaseGone asks the API server.
//
//   - A status is deprived of an address only after Confirm, and is written as it was seen before.
//
// Load takes every record over for a new epoch of this controller's class; from then on no controller of an
// older one can commit or confirm anything, and so can never write an address that was released behind its
// back. Controllers of different classes of Services share the records: they do not fence each other off, but
// what one has committed nobody else can. All methods are safe for concurrent use.
type Records struct {
	api    recordsAPI
	class  string
	writer string
	logger log.Logger

	mu   sync.Mutex
	term *term // nil before Load
}

// NewRecords returns Records for a class of Services that know nothing until Load. Neither needs Run.
func (c *Cluster) NewRecords(class string) (*Records, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	kind, codecs := v1beta1.GroupVersion.WithKind("IPAllocationRecord"), serializer.NewCodecFactory(c.manager.GetScheme())
	api, err := apiutil.RESTClientForGVK(kind, false, false, c.manager.GetConfig(), codecs, c.manager.GetHTTPClient())
	if err != nil {
		return nil, fmt.Errorf("prepare the connection for allocation records: %w", err)
	}
	return newRecords(recordsClient{c.manager.GetAPIReader(), api}, class, host+"_"+string(uuid.NewUUID()), c.logger), nil
}

func newRecords(api recordsAPI, class, writer string, logger log.Logger) *Records {
	return &Records{api: api, class: class, writer: writer, logger: logger}
}

// FencedError says that another controller of this class has taken the records over. This process cannot commit
// anything any more and should end.
type FencedError struct {
	By    string // the process
	Epoch int64
}

// Error names the other controller.
func (e *FencedError) Error() string {
	return fmt.Sprintf("another controller, %s, has taken over (epoch %d)", e.By, e.Epoch)
}

// claimers is how many records Load writes at the same time.
const claimers = 16

// Load reads all records from the API server and takes them over. It must be called after this process has
// become the leader, before anything is decided, and the Services must be listed after it. What is damaged
// in a record is logged and, with the next write, dropped.
func (r *Records) Load(ctx context.Context) error {
	t := newTerm(r)
	found, err := r.list(ctx)
	if err != nil {
		return err
	}
	for p, o := range found {
		s := t.slot(p)
		s.learn(o)
		t.epoch = max(t.epoch, s.view.Term(r.class).Epoch)
	}
	t.epoch++
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(claimers)
	for p := range found {
		group.Go(func() error { return t.slot(p).commit(ctx, request{}) })
	}
	group.Go(func() error { return t.slot(record.Office()).commit(ctx, request{renew: true}) }) // there is always one to confirm by
	if err := group.Wait(); err != nil {
		return fmt.Errorf("take the allocation records over: %w", err)
	}
	r.mu.Lock()
	r.term = t
	r.mu.Unlock()
	_ = level.Info(r.logger).Log("msg", "allocation records taken over", "records", len(found), "class", r.class, "epoch", t.epoch)
	return nil
}

// page is how many records are listed by one request.
const page = 200

// list asks the API server for all records.
func (r *Records) list(ctx context.Context) (map[netip.Prefix]*v1beta1.IPAllocationRecord, error) {
	found := map[netip.Prefix]*v1beta1.IPAllocationRecord{}
	for next := ""; ; {
		var records v1beta1.IPAllocationRecordList
		if err := r.api.List(ctx, &records, client.Limit(page), client.Continue(next)); err != nil {
			return nil, fmt.Errorf("list IPAllocationRecords: %w", err)
		}
		for i := range records.Items {
			o := &records.Items[i]
			p, err := netip.ParsePrefix(o.Block)
			if err != nil || record.BlockOf(p.Addr()) != p || record.Name(p) != o.Name {
				_ = level.Warn(r.logger).Log("msg", "left an allocation record out: its name and block do not go together", "record", o.Name, "block", o.Block)
				continue
			}
			found[p] = o
		}
		if next = records.Continue; next == "" {
			return found, nil
		}
	}
}

// Commit makes the changes durable and returns when they are. Changes to one block that come while another
// write of it is under way are written together. The changes are independent of each other: the error joins
// those of the ones that failed, and the others are made. Among the errors are
//
//   - *record.HeldError: somebody else holds the address, as the API server tells at this time;
//   - *FencedError, *record.FullError;
//   - errors of the API server, wrapped, and that of ctx: then it is not known whether the changes of the
//     block were made. Until a later Commit says so, a Hold may stand in the record, and what was released, too.
//
// Changes that are made already are confirmed by the API server, so that a Hold that succeeds is always good
// for a status written afterwards; only a Release of what nobody holds may cost no request at all.
func (r *Records) Commit(ctx context.Context, changes ...record.Change) error {
	t := r.current()
	if t == nil {
		return errNotLoaded
	}
	byBlock := map[netip.Prefix][]record.Change{}
	for _, c := range changes {
		p := record.BlockOf(c.Addr)
		if !p.IsValid() {
			return fmt.Errorf("commit to the allocation records: no address for %s", c.Holder)
		}
		c.Class = r.class
		byBlock[p] = append(byBlock[p], c)
	}
	requests := map[netip.Prefix]request{}
	for p, list := range byBlock {
		requests[p] = request{changes: list}
	}
	return t.commit(ctx, requests)
}

var errNotLoaded = errors.New("the allocation records are not loaded")

func (r *Records) current() *term {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.term
}
