package kube

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// client-go's reflector waits longer each time that the API server does not answer, up to a minute, and once more after
// its resourceVersion has become too old. A resumer does not let it come to that: it asks again within two seconds.
const (
	firstDelay = 200 * time.Millisecond // between two attempts at first; then twice as long each time
	mostDelay  = 2 * time.Second        // and that at most, but for what the API server asks for
	shortWatch = time.Second            // a watch that ends sooner than that, without an event, has failed
	calm       = 10 * time.Second       // after a watch of this length all that was before is forgotten
	startTime  = 15 * time.Second       // in which an API server may not know users, rights and kinds yet
	tellAfter  = 10 * time.Second       // of vain attempts
)

var (
	errShort      = errors.New("the watch ended as soon as it had begun")
	errIncomplete = errors.New("the watch ended before its first list was complete")
)

// resumer is the ListerWatcher of one reflector. What fails because the API server is away, starts or has too much to do
// is tried again until it succeeds, every two seconds at least. A watch whose resourceVersion is too old goes on from a
// list of what there is now: for the reflector, that list is part of the same watch. The API server must be able to begin
// a watch with a list; if not, the reflector lists anew, when it thinks fit.
type resumer struct {
	from      cache.ListerWatcherWithContext
	example   runtime.Object // of the kind, empty
	transform cache.TransformFunc
	store     cache.Store // the informer's
	logger    log.Logger

	// One reflector does one thing at a time: there is no lock.
	known   map[cache.ObjectName]struct{} // what the reflector has got and is not deleted
	page    map[cache.ObjectName]struct{} // what it has got of a list so far
	resumed time.Time                     // the last time
	failing failing
}

// failing is a row of attempts that have failed.
type failing struct {
	delay    time.Duration // the next, before jitter
	since    time.Time
	doubtful time.Time // since when it may be for good
	told     bool
}

// end takes in for how long something has been watched.
func (f *failing) end(watched time.Duration) {
	switch {
	case watched >= calm:
		*f = failing{}
	case watched >= shortWatch:
		f.doubtful = time.Time{}
	}
}

// newInformer returns what a cache's option NewInformer asks for.
func newInformer(transform cache.TransformFunc, l log.Logger) func(cache.ListerWatcher, runtime.Object, time.Duration, cache.Indexers) cache.SharedIndexInformer {
	return func(from cache.ListerWatcher, example runtime.Object, resync time.Duration, by cache.Indexers) cache.SharedIndexInformer {
		r := &resumer{from: cache.ToListerWatcherWithContext(from), example: example, transform: transform, logger: l,
			known: map[cache.ObjectName]struct{}{}}
		informer := cache.NewSharedIndexInformer(r, example, resync, by)
		r.store = informer.GetStore()
		return informer
	}
}

// List is ListWithContext without an end.
func (r *resumer) List(o metav1.ListOptions) (runtime.Object, error) {
	return r.ListWithContext(context.Background(), o)
}

// Watch is WatchWithContext without an end.
func (r *resumer) Watch(o metav1.ListOptions) (watch.Interface, error) {
	return r.WatchWithContext(context.Background(), o)
}

// ListWithContext lists, or fails with what another attempt would not change.
func (r *resumer) ListWithContext(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	for {
		list, err := r.from.ListWithContext(ctx, o)
		if err == nil {
			return list, r.listed(list, o.Continue == "")
		}
		if futile(err) || !r.again(ctx, err) {
			return nil, err
		}
	}
}

// listed takes in what the reflector gets.
func (r *resumer) listed(list runtime.Object, first bool) error {
	if first {
		r.page = map[cache.ObjectName]struct{}{}
	}
	all, err := meta.ListAccessor(list)
	if err != nil {
		return err
	}
	err = meta.EachListItem(list, func(o runtime.Object) error {
		m, err := meta.Accessor(o)
		if err == nil {
			r.page[cache.MetaObjectToName(m)] = struct{}{}
		}
		return err
	})
	if all.GetContinue() == "" {
		r.known, r.page = r.page, nil
	}
	return err
}

// WatchWithContext watches, or fails with what another attempt would not change.
func (r *resumer) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	w := &resumedWatch{resumer: r, options: o, events: make(chan watch.Event), ended: make(chan struct{})}
	if o.SendInitialEvents != nil && *o.SendInitialEvents {
		w.listing = map[cache.ObjectName]struct{}{}
	}
	running, stop := context.WithCancel(ctx)
	w.stop = stop
	for {
		from, err := r.from.WatchWithContext(running, o)
		switch {
		case err == nil || expired(err) && w.listing == nil:
			go w.run(running, from, err)
			return w, nil
		case futile(err) || !r.again(running, err):
			stop()
			if ctx.Err() != nil {
				return silence{}, nil
			}
			return nil, err
		}
	}
}

// silence is a watch in which nothing happens: whoever asked for it has gone.
type silence struct{}

func (silence) Stop()                          {}
func (silence) ResultChan() <-chan watch.Event { return nil }

// again waits before the next attempt. It returns false if there should be none.
func (r *resumer) again(ctx context.Context, err error) bool {
	f, now := &r.failing, time.Now()
	if f.since.IsZero() {
		f.since = now
	}
	switch {
	case !doubtful(err):
		f.doubtful = time.Time{}
	case f.doubtful.IsZero():
		f.doubtful = now
	case now.Sub(f.doubtful) >= startTime:
		return false
	}
	if !f.told && now.Sub(f.since) >= tellAfter {
		f.told = true
		_ = level.Warn(r.logger).Log("msg", "cannot watch, trying again", "kind", fmt.Sprintf("%T", r.example),
			"since", f.since.UTC().Format(time.RFC3339), "err", err)
	}
	f.delay = min(max(f.delay, firstDelay), mostDelay)
	delay := f.delay/2 + rand.N(f.delay/2) // many do the same at the same time
	f.delay *= 2
	if seconds, asked := apierrors.SuggestsClientDelay(err); asked {
		delay += time.Duration(seconds) * time.Second
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// expired tells that the API server no longer knows what was after the resourceVersion.
func expired(err error) bool { return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) }

// refused tells that the API server does not understand the request.
func refused(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsMethodNotSupported(err) ||
		apierrors.IsNotAcceptable(err) || apierrors.IsUnsupportedMediaType(err)
}

// futile tells that the same request will fail again, and that the reflector knows a better one.
func futile(err error) bool {
	return expired(err) || refused(err) || apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge)
}

// doubtful tells that it may only be that the API server has just started.
func doubtful(err error) bool {
	return apierrors.IsUnauthorized(err) || apierrors.IsForbidden(err) || apierrors.IsNotFound(err) || apierrors.IsInternalError(err) ||
		errors.Is(err, errIncomplete)
}

// resumedWatch is what a resumer gives its reflector.
type resumedWatch struct {
	*resumer
	options metav1.ListOptions // of the watch that goes on from what was passed on last
	listing map[cache.ObjectName]struct{}
	events  chan watch.Event // without a buffer: what is out of here, the reflector has
	stop    context.CancelFunc
	ended   chan struct{}
}

func (w *resumedWatch) ResultChan() <-chan watch.Event { return w.events }

// Stop returns once nothing is left running.
func (w *resumedWatch) Stop() {
	w.stop()
	<-w.ended
}

// run passes on what from brings, or what takes its place after it has failed with err, until the reflector must see to it.
func (w *resumedWatch) run(ctx context.Context, from watch.Interface, err error) {
	defer close(w.ended)
	defer close(w.events)
	for {
		switch {
		case err == nil:
			if err = w.follow(ctx, from); err == nil {
				return
			}
			continue
		case ctx.Err() != nil:
			return
		case expired(err) && w.listing == nil:
			if from, err = w.resume(ctx, err); err == nil {
				continue
			}
		case !futile(err) && w.again(ctx, err):
			if len(w.listing) > 0 {
				return // the reflector begins once more, with an empty list
			}
			from, err = w.from.WatchWithContext(ctx, w.options)
			continue
		}
		w.send(ctx, watch.Event{Type: watch.Error, Object: status(err)})
		return
	}
}

func status(err error) *metav1.Status {
	var known apierrors.APIStatus
	if !errors.As(err, &known) {
		known = apierrors.NewInternalError(err)
	}
	s := known.Status()
	return &s
}

// follow passes on what comes until the watch ends: the error is nil if it does so as watches do.
func (w *resumedWatch) follow(ctx context.Context, from watch.Interface) error {
	start := time.Now()
	defer func() {
		from.Stop()
		w.failing.end(time.Since(start))
	}()
	begun, passed := start, false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, open := <-from.ResultChan():
			switch {
			case open && e.Type == watch.Error:
				return apierrors.FromObject(e.Object)
			case open:
				listing := w.listing != nil
				w.pass(ctx, e)
				passed = true
				if listing && w.listing == nil { // here the reflector begins to watch
					begun, passed = time.Now(), false
				}
			case !passed && time.Since(begun) < shortWatch:
				return errShort
			case w.listing != nil:
				return errIncomplete
			default:
				return nil
			}
		}
	}
}

// pass hands an event to the reflector and remembers what it then has.
func (w *resumedWatch) pass(ctx context.Context, e watch.Event) {
	m, err := meta.Accessor(e.Object)
	if err != nil {
		w.send(ctx, e)
		return
	}
	known := w.listing
	if known == nil {
		known = w.known
	}
	// Once it is sent, the object is the reflector's.
	name, version, last := cache.MetaObjectToName(m), m.GetResourceVersion(), endsList(e)
	if e.Type == watch.Added || e.Type == watch.Modified {
		known[name] = struct{}{}
	}
	if !w.send(ctx, e) {
		return
	}
	if e.Type == watch.Deleted {
		delete(known, name)
	}
	if w.listing != nil {
		if !last {
			return
		}
		w.known, w.listing = w.listing, nil
		w.options.SendInitialEvents, w.options.ResourceVersionMatch = nil, ""
	}
	w.options.ResourceVersion = version
}

func (w *resumedWatch) send(ctx context.Context, e watch.Event) bool {
	select {
	case <-ctx.Done():
		return false
	case w.events <- e:
		return true
	}
}

func endsList(e watch.Event) bool {
	if e.Type != watch.Bookmark {
		return false
	}
	m, err := meta.Accessor(e.Object)
	return err == nil && m.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true"
}

// resume tells the reflector what it must know to have what the API server has, and returns the watch that goes on from
// there. If that cannot be, the reflector hears nothing, and the error is gone, for which there was no watch.
func (w *resumedWatch) resume(ctx context.Context, gone error) (watch.Interface, error) {
	if time.Since(w.resumed) >= 2*mostDelay {
		w.failing.delay = 0 // it answers, and does not say that each time
	}
	w.resumed = time.Now()
	for err := gone; ; {
		if !w.again(ctx, err) {
			return nil, gone
		}
		var from watch.Interface
		var list []watch.Event
		if from, list, err = w.list(ctx); err == nil {
			w.replace(ctx, list)
			return from, nil
		}
		if refused(err) {
			return nil, gone
		}
	}
}

// list begins a watch with all there is, and returns that once it is complete: the last event is the bookmark after it.
func (w *resumedWatch) list(ctx context.Context) (_ watch.Interface, list []watch.Event, _ error) {
	first := true
	from, err := w.from.WatchWithContext(ctx, metav1.ListOptions{SendInitialEvents: &first, AllowWatchBookmarks: true,
		ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, TimeoutSeconds: w.options.TimeoutSeconds})
	if err != nil {
		return nil, nil, err
	}
	for {
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case e, open := <-from.ResultChan():
			switch {
			case !open:
				err = errIncomplete
			case e.Type == watch.Error:
				err = apierrors.FromObject(e.Object)
			case endsList(e):
				return from, append(list, e), nil
			case e.Type != watch.Bookmark:
				if o, err := w.transform(e.Object); err == nil {
					e.Object = o.(runtime.Object) // here, that none is kept as a whole
				}
				list = append(list, e)
			}
		}
		if err != nil {
			from.Stop()
			return nil, nil, err
		}
	}
}

// replace passes on a list, after telling that what it lacks is deleted. No resourceVersion of these events is one to go
// on from, but that of the bookmark is; so nothing but the reflector's end may come between.
func (w *resumedWatch) replace(ctx context.Context, list []watch.Event) {
	have := map[cache.ObjectName]struct{}{}
	version := ""
	for _, e := range list {
		m, err := meta.Accessor(e.Object)
		if err != nil {
			continue
		}
		have[cache.MetaObjectToName(m)] = struct{}{} // also if it is deleted further on: that is told there
		version = m.GetResourceVersion()
	}
	for name := range w.known {
		if _, there := have[name]; !there {
			w.pass(ctx, watch.Event{Type: watch.Deleted, Object: w.deleted(name, version)})
		}
	}
	for _, e := range list {
		w.pass(ctx, e)
	}
}

// deleted returns an object as it was when last seen; or, if it was so short a time ago that the informer does not have it
// yet, no more than its name.
func (w *resumedWatch) deleted(name cache.ObjectName, version string) runtime.Object {
	o := w.example.DeepCopyObject()
	if last, there, err := w.store.GetByKey(name.String()); err == nil && there {
		o = last.(runtime.Object).DeepCopyObject() // as it will be transformed once more
	}
	if m, err := meta.Accessor(o); err == nil {
		m.SetNamespace(name.Namespace)
		m.SetName(name.Name)
		m.SetResourceVersion(version)
	}
	return o
}
