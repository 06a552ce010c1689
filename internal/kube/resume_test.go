package kube

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

var (
	errRefused   = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	errForbidden = apierrors.NewForbidden(schema.GroupResource{Resource: "nodes"}, "", fmt.Errorf("no such role"))
	errGone      = apierrors.NewResourceExpired("too old resource version")
)

// nodesAPI is an API server's part for Nodes, each with one label, v.
type nodesAPI struct {
	mu      sync.Mutex
	nodes   map[string]*corev1.Node
	version int           // of the last change
	oldest  int           // a watch cannot go on from before
	changes []watch.Event // since oldest
	open    []*watch.RaceFreeFakeWatcher
	fail    error // what all requests fail with
	lists   bool  // no watch begins with a list
	torn    int   // so many watches that begin with a list end amid it; all hang there if negative
	asked   []time.Time
}

func newNodesAPI(names ...string) *nodesAPI {
	a := &nodesAPI{nodes: map[string]*corev1.Node{}}
	for _, n := range names {
		a.set(n, "1")
	}
	return a
}

// set adds a Node or changes its label.
func (a *nodesAPI) set(name, v string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	kind := watch.Modified
	if a.nodes[name] == nil {
		kind = watch.Added
	}
	a.nodes[name] = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"v": v},
		ResourceVersion: strconv.Itoa(a.version), Annotations: map[string]string{"for": "others"}}}
	a.tell(kind, a.nodes[name])
}

func (a *nodesAPI) remove(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	last := a.nodes[name].DeepCopy()
	last.ResourceVersion = strconv.Itoa(a.version)
	delete(a.nodes, name)
	a.tell(watch.Deleted, last)
}

func (a *nodesAPI) tell(kind watch.EventType, o *corev1.Node) {
	a.changes = append(a.changes, watch.Event{Type: kind, Object: o})
	for _, w := range a.open {
		w.Action(kind, o.DeepCopy())
	}
}

// away ends all watches, and every request fails until back.
func (a *nodesAPI) away(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fail = err
	for _, w := range a.open {
		w.Stop()
	}
	a.open = nil
}

// answer answers again, and knows all that has changed.
func (a *nodesAPI) answer() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fail = nil
}

// back answers again. What has changed before is forgotten.
func (a *nodesAPI) back() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fail, a.oldest, a.changes = nil, a.version, nil
}

// say ends all watches with an error.
func (a *nodesAPI) say(err apierrors.APIStatus) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := err.Status()
	for _, w := range a.open {
		w.Error(&s)
	}
	a.open = nil
}

func (a *nodesAPI) attempts() []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.asked)
}

// unwatched checks that nobody has left a watch open.
func (a *nodesAPI) unwatched(t *testing.T) {
	t.Helper()
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.open {
		if !w.IsStopped() {
			t.Error("a watch is still open")
		}
	}
}

func (a *nodesAPI) state() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return labels(slices.Collect(maps.Values(a.nodes)))
}

func labels(nodes []*corev1.Node) string {
	var words []string
	for _, n := range nodes {
		words = append(words, n.Name+"="+n.Labels["v"])
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

func (a *nodesAPI) Watch(o metav1.ListOptions) (watch.Interface, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, time.Now())
	if a.fail != nil {
		return nil, a.fail
	}
	w := watch.NewRaceFreeFake()
	if o.SendInitialEvents != nil {
		if a.lists {
			return nil, apierrors.NewInvalid(schema.GroupKind{Kind: "ListOptions"}, "", nil)
		}
		for _, n := range a.nodes {
			w.Add(n.DeepCopy())
		}
		if a.torn > 0 {
			a.torn--
			w.Stop()
			return w, nil
		}
		if a.torn < 0 {
			a.open = append(a.open, w)
			return w, nil
		}
		w.Action(watch.Bookmark, &corev1.Node{ObjectMeta: metav1.ObjectMeta{ResourceVersion: strconv.Itoa(a.version),
			Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"}}})
		a.open = append(a.open, w)
		return w, nil
	}
	from, err := strconv.Atoi(o.ResourceVersion)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if from < a.oldest {
		return nil, errGone
	}
	for _, e := range a.changes {
		if n := e.Object.(*corev1.Node); number(n) > from {
			w.Action(e.Type, n.DeepCopy())
		}
	}
	a.open = append(a.open, w)
	return w, nil
}

func number(n *corev1.Node) int {
	version, _ := strconv.Atoi(n.ResourceVersion)
	return version
}

func (a *nodesAPI) List(o metav1.ListOptions) (runtime.Object, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, time.Now())
	if a.fail != nil {
		return nil, a.fail
	}
	// Pages of one Node each, and each knows how many there were before.
	names := slices.Sorted(maps.Keys(a.nodes))
	list := &corev1.NodeList{ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(a.version)}}
	done, _ := strconv.Atoi(o.Continue)
	if done < len(names) {
		list.Items = append(list.Items, *a.nodes[names[done]].DeepCopy())
	}
	if done+1 < len(names) {
		list.Continue = strconv.Itoa(done + 1)
	}
	return list, nil
}

// follower is an informer of an API's Nodes, and what its handlers were told.
type follower struct {
	t        *testing.T
	api      *nodesAPI
	informer cache.SharedIndexInformer
	log      *bytes.Buffer
	mu       sync.Mutex
	told     map[string]string // by name
}

// follow runs a story with an informer that has its first list, in a bubble; when it ends, nothing may be left.
func follow(t *testing.T, api *nodesAPI, story func(f *follower)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &follower{t: t, api: api, log: &bytes.Buffer{}, told: map[string]string{}}
		trim := Trim("lanyard-system")
		f.informer = newInformer(trim, log.NewLogfmtLogger(log.NewSyncWriter(f.log)))(api, &corev1.Node{}, 0, cache.Indexers{})
		if err := f.informer.SetTransform(trim); err != nil {
			t.Fatal(err)
		}
		if _, err := f.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { f.note(o.(*corev1.Node), false) },
			UpdateFunc: func(_, o any) { f.note(o.(*corev1.Node), false) },
			DeleteFunc: func(o any) {
				if unknown, ok := o.(cache.DeletedFinalStateUnknown); ok {
					o = unknown.Obj
				}
				f.note(o.(*corev1.Node), true)
			},
		}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); f.informer.RunWithContext(ctx) }()
		defer func() {
			cancel()
			<-done
			api.unwatched(t)
		}()
		story(f)
	})
}

func (f *follower) note(n *corev1.Node, gone bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told[n.Name] = n.Labels["v"]
	if gone {
		delete(f.told, n.Name)
	}
	if n.Annotations != nil {
		f.t.Errorf("%s is not trimmed", n.Name)
	}
}

// agrees waits until cache and handlers know what the API server has.
func (f *follower) agrees(limit time.Duration) {
	f.t.Helper()
	begun := time.Now()
	for {
		synctest.Wait()
		var cached, told []*corev1.Node
		for _, o := range f.informer.GetStore().List() {
			cached = append(cached, o.(*corev1.Node))
		}
		f.mu.Lock()
		for name, v := range f.told {
			told = append(told, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"v": v}}})
		}
		f.mu.Unlock()
		want := f.api.state()
		if f.informer.HasSynced() && labels(cached) == want && labels(told) == want {
			return
		}
		if time.Since(begun) > limit {
			f.t.Fatalf("after %v the cache has %q and its handlers %q; want %q", limit, labels(cached), labels(told), want)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

const soon = 3 * time.Second

// TestCachesAreCurrentAgainSoon: whatever an API server is like when it comes back, and however often it has gone away.
func TestCachesAreCurrentAgainSoon(t *testing.T) {
	for name, fail := range map[string]error{
		"refused":     errRefused,
		"reset":       &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET},
		"overloaded":  apierrors.NewTooManyRequests("storage is (re)initializing", 1),
		"unavailable": apierrors.NewServiceUnavailable("not yet"),
	} {
		t.Run(name, func(t *testing.T) {
			api := newNodesAPI("a", "b", "c")
			follow(t, api, func(f *follower) {
				f.agrees(0)
				for i := range 10 {
					v := strconv.Itoa(i)
					api.away(fail)
					time.Sleep(20 * time.Second)
					api.set("new"+v, v)
					api.set("b", v)
					if i > 0 {
						api.remove("new" + strconv.Itoa(i-1))
					}
					api.back()
					f.agrees(soon + time.Second) // which one of them asks for
					api.set("a", v)              // the watch goes on from the right place
					f.agrees(0)
				}
			})
		})
	}
}

// TestFirstListComesSoon: the same for one that is away when we start.
func TestFirstListComesSoon(t *testing.T) {
	for _, lists := range []bool{false, true} {
		t.Run(fmt.Sprintf("streams %v", !lists), func(t *testing.T) {
			api := newNodesAPI("a", "b", "c")
			api.lists = lists
			api.away(errRefused)
			follow(t, api, func(f *follower) {
				time.Sleep(5 * time.Minute)
				api.back()
				f.agrees(soon)
			})
		})
	}
}

// TestAttemptsAreSpread: two seconds apart at most, after fewer at first, and not all at the same time.
func TestAttemptsAreSpread(t *testing.T) {
	api := newNodesAPI("a")
	follow(t, api, func(f *follower) {
		f.agrees(0)
		api.away(errRefused)
		begun := time.Now()
		api.mu.Lock()
		api.asked = nil
		api.mu.Unlock()
		time.Sleep(time.Minute)
		last, gaps := begun, map[time.Duration]bool{}
		for i, at := range api.attempts() {
			gap := at.Sub(last)
			if most := min(firstDelay<<min(i, 5), mostDelay); gap > most || gap < most/2 {
				t.Errorf("attempt %d came after %v, want %v to %v", i, gap, most/2, most)
			}
			last, gaps[gap] = at, true
		}
		if time.Since(last) > mostDelay || len(gaps) < 20 {
			t.Errorf("the last attempt was %v ago; %d different pauses", time.Since(last), len(gaps))
		}
		if lines := strings.Count(f.log.String(), "cannot watch, trying again"); lines != 1 {
			t.Errorf("%d log lines, want 1:\n%s", lines, f.log)
		}
		for _, want := range []string{"kind=*v1.Node", "connection refused"} {
			if !strings.Contains(f.log.String(), want) {
				t.Errorf("the log does not say %q: %s", want, f.log)
			}
		}
	})
}

// TestOutagesAreTold: each of those that last gets one line, whatever was long before.
func TestOutagesAreTold(t *testing.T) {
	api := newNodesAPI("a")
	follow(t, api, func(f *follower) {
		f.agrees(0)
		outage := func(d time.Duration, want int) {
			t.Helper()
			api.away(errRefused)
			time.Sleep(d)
			api.back()
			f.agrees(soon)
			if lines := strings.Count(f.log.String(), "cannot watch, trying again"); lines != want {
				t.Errorf("%d log lines, want %d:\n%s", lines, want, f.log)
			}
		}
		outage(5*time.Second, 0)
		time.Sleep(time.Hour)
		api.away(nil) // the watch ends as watches do
		time.Sleep(2 * time.Second)
		outage(5*time.Second, 0)
		time.Sleep(time.Minute)
		outage(time.Minute, 1)
		time.Sleep(time.Minute)
		outage(time.Minute, 2)
	})
}

// TestRetryAfterIsHeeded: an API server that asks for more time gets it.
func TestRetryAfterIsHeeded(t *testing.T) {
	api := newNodesAPI("a")
	follow(t, api, func(f *follower) {
		f.agrees(0)
		api.away(apierrors.NewTooManyRequests("busy", 8))
		time.Sleep(time.Minute)
		all := api.attempts()
		for i, at := range all[2:] { // the first list, and the first attempt after it
			if gap := at.Sub(all[i+1]); gap < 8*time.Second || gap > 8*time.Second+mostDelay {
				t.Errorf("attempt %d came after %v, want 8 s to 10 s", i, gap)
			}
		}
		if len(all) < 7 {
			t.Errorf("only %d attempts", len(all))
		}
		api.back()
		f.agrees(10 * time.Second)
	})
}

// TestWatchEnds: the ways in which a watch can end, with Nodes added, edited and deleted right after that.
func TestWatchEnds(t *testing.T) {
	change := func(a *nodesAPI) {
		a.set("a", "2")
		a.set("d", "1")
		a.remove("b")
		a.set("e", "1") // and one that comes and goes meanwhile
		a.remove("e")
	}
	for name, end := range map[string]func(a *nodesAPI){
		"as watches do": func(a *nodesAPI) { a.away(nil); change(a) },
		"expired": func(a *nodesAPI) {
			a.say(errGone)
			change(a)
			a.back()
		},
		"expired, and the list is cut short twice": func(a *nodesAPI) {
			a.torn = 2
			a.say(errGone)
			change(a)
			a.back()
		},
		"expired, away":   func(a *nodesAPI) { a.say(errGone); a.away(errRefused); change(a) },
		"gone on request": func(a *nodesAPI) { a.away(nil); change(a); a.back() },
		"overloaded":      func(a *nodesAPI) { a.say(apierrors.NewTooManyRequests("busy", 1)); change(a) },
		"unavailable":     func(a *nodesAPI) { a.say(apierrors.NewServiceUnavailable("bye")); change(a) },
		"does not know us yet": func(a *nodesAPI) {
			a.away(errForbidden)
			change(a)
			time.Sleep(5 * time.Second)
			a.answer()
		},
		"does not know us yet, and forgets": func(a *nodesAPI) { a.away(errForbidden); change(a) },
	} {
		for _, listed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, listed %v", name, listed), func(t *testing.T) {
				api := newNodesAPI("a", "b", "c")
				api.lists = listed
				follow(t, api, func(f *follower) {
					f.agrees(0)
					api.lists = false
					time.Sleep(5 * time.Minute)
					for range 6 { // each on its own is nothing that the reflector would not mend
						end(api)
						time.Sleep(5 * time.Second)
						if api.fail != nil {
							api.back()
						}
						f.agrees(soon)
						api.set("b", "1")
						api.remove("d")
						f.agrees(0)
						time.Sleep(time.Second)
					}
				})
			})
		}
	}
}

// TestForbiddenForGood: the reflector, with its long pauses, is told of what does not pass by itself.
func TestForbiddenForGood(t *testing.T) {
	api := newNodesAPI("a")
	follow(t, api, func(f *follower) {
		f.agrees(0)
		api.away(errForbidden)
		time.Sleep(startTime + 10*time.Second)
		before := len(api.attempts())
		time.Sleep(10 * time.Minute)
		if more := len(api.attempts()) - before; more > 150 {
			t.Errorf("%d attempts in ten minutes", more)
		}
		api.back()
		f.agrees(2 * time.Minute)
	})
}

// by is a resumer whose informer's store is empty, and the watch that goes on from what the API has.
func by(t *testing.T, api *nodesAPI) (*resumer, watch.Interface) {
	t.Helper()
	r := &resumer{from: cache.ToListerWatcherWithContext(api), example: &corev1.Node{}, transform: Trim("lanyard-system"),
		store: cache.NewStore(cache.MetaNamespaceKeyFunc), logger: log.NewNopLogger(), known: map[cache.ObjectName]struct{}{}}
	w, err := r.WatchWithContext(t.Context(), metav1.ListOptions{ResourceVersion: strconv.Itoa(api.version), AllowWatchBookmarks: true})
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

func said(e watch.Event) string {
	n, ok := e.Object.(*corev1.Node)
	if !ok {
		return fmt.Sprintf("%s %s", e.Type, e.Object.(*metav1.Status).Reason)
	}
	return fmt.Sprintf("%s %s at %s", e.Type, n.Name, n.ResourceVersion)
}

func (a *nodesAPI) expect(t *testing.T, w watch.Interface, want ...string) {
	t.Helper()
	for _, s := range want {
		select {
		case e := <-w.ResultChan():
			if said(e) != s {
				t.Errorf("heard %q, want %q", said(e), s)
			}
		case <-time.After(soon):
			t.Fatalf("heard nothing, want %q", s)
		}
	}
}

// TestDeletedBeforeTheInformerHasIt: an object that the informer has not stored yet when it is deleted does not survive.
func TestDeletedBeforeTheInformerHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newNodesAPI("a")
		_, w := by(t, api)
		defer w.Stop()
		api.set("b", "1")
		api.expect(t, w, "ADDED b at 2")
		api.say(errGone)
		api.remove("b")
		api.expect(t, w, "DELETED b at 3", "ADDED a at 1", "BOOKMARK  at 3")
		api.say(errGone) // b is not deleted twice
		api.expect(t, w, "ADDED a at 1", "BOOKMARK  at 3")
	})
}

// TestDeletedAsLastSeen: a handler is told of a deletion with the object as it was, and the store's own is left alone.
func TestDeletedAsLastSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newNodesAPI("a")
		r, w := by(t, api)
		defer w.Stop()
		api.set("b", "7")
		e := <-w.ResultChan()
		if err := r.store.Add(e.Object); err != nil {
			t.Fatal(err)
		}
		api.say(errGone)
		api.remove("b")
		last := (<-w.ResultChan()).Object.(*corev1.Node)
		if last == e.Object || last.Labels["v"] != "7" || e.Object.(*corev1.Node).ResourceVersion != "2" {
			t.Errorf("the last of b was %v, want a copy of it as it was", last)
		}
	})
}

// TestNoListInAWatch: if the API server cannot begin a watch with a list, the reflector hears that its version is gone.
func TestNoListInAWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newNodesAPI("a")
		_, w := by(t, api)
		defer w.Stop()
		api.lists = true
		api.say(errGone)
		api.set("b", "1")
		api.expect(t, w, "ERROR Expired")
	})
}

// TestWatchIsStopped in each of its states: nothing is left, and nobody is told that anything has failed.
func TestWatchIsStopped(t *testing.T) {
	for name, upTo := range map[string]func(a *nodesAPI){
		"at rest":             func(*nodesAPI) {},
		"with an event":       func(a *nodesAPI) { a.set("a", "2"); a.set("a", "3") },
		"between attempts":    func(a *nodesAPI) { a.away(errRefused); time.Sleep(time.Second + time.Millisecond) },
		"before a list":       func(a *nodesAPI) { a.say(errGone) },
		"with a list":         func(a *nodesAPI) { a.say(errGone); time.Sleep(time.Second) },
		"without a list":      func(a *nodesAPI) { a.torn = 1000; a.say(errGone); time.Sleep(time.Minute) },
		"amid a list":         func(a *nodesAPI) { a.torn = -1; a.say(errGone); time.Sleep(time.Second) },
		"with Gone":           func(a *nodesAPI) { a.lists = true; a.say(errGone); time.Sleep(time.Second) },
		"after an ended one":  func(a *nodesAPI) { time.Sleep(time.Minute); a.away(nil); time.Sleep(time.Second) },
		"between short ones":  func(a *nodesAPI) { a.away(nil); time.Sleep(time.Millisecond) },
		"between failed ones": func(a *nodesAPI) { a.say(apierrors.NewServiceUnavailable("")); time.Sleep(time.Millisecond) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := newNodesAPI("a", "b")
				_, w := by(t, api)
				upTo(api)
				synctest.Wait()
				w.Stop()
				api.unwatched(t)
				w.Stop() // once more does no harm
			})
		})
		t.Run(name+", informer", func(t *testing.T) {
			follow(t, newNodesAPI("a", "b"), func(f *follower) {
				f.agrees(0)
				upTo(f.api)
			})
		})
	}
	t.Run("while it connects", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			api := newNodesAPI("a")
			r, w := by(t, api)
			w.Stop()
			api.away(errRefused)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			w, err := r.WatchWithContext(ctx, metav1.ListOptions{ResourceVersion: "1"})
			if err != nil {
				t.Fatalf("failed with %v, want a silent watch", err)
			}
			select {
			case e, open := <-w.ResultChan():
				t.Errorf("heard %v, %v", e, open)
			case <-time.After(time.Minute):
			}
			w.Stop()
		})
	})
}
