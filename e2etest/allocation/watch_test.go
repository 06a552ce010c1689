package allocation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// addressWatch follows every version of every Service, in the order in which the API server wrote them, and fails at the
// first one after which an address stands in two statuses.
type addressWatch struct {
	mu       sync.Mutex
	has      map[string][]string // Service to the addresses in its status
	owner    map[string]string   // address to Service
	moved    map[string]int      // Service to how often its addresses have changed
	seen     int
	failures []error
}

// watchAddresses watches until the test ends. It fails the test, too.
func (c *cluster) watchAddresses(t *testing.T) *addressWatch {
	t.Helper()
	w := c.lookAtAddresses(t)
	t.Cleanup(func() {
		if err := w.failed(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// lookAtAddresses watches until the test ends, and leaves it to the test what to make of it.
func (c *cluster) lookAtAddresses(t *testing.T) *addressWatch {
	t.Helper()
	w := &addressWatch{has: map[string][]string{}, owner: map[string]string{}, moved: map[string]int{}}
	services := c.Client().CoreV1().Services(metav1.NamespaceAll)
	list, err := services.List(within(t, 10*time.Second), metav1.ListOptions{})
	must(t, err)
	for i := range list.Items {
		w.update(&list.Items[i], false)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.follow(ctx, services, list.ResourceVersion)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return w
}

// follow sees every change after a version until ctx ends. A watch may end at any time, as connections do; the next one
// goes on where it ended, or fails if that version is gone: nothing is left out.
func (w *addressWatch) follow(ctx context.Context, services typed.ServiceInterface, version string) {
	for ctx.Err() == nil {
		stream, err := services.Watch(ctx, metav1.ListOptions{ResourceVersion: version})
		if err == nil {
			version, err = w.drain(stream, version)
		}
		if apierrors.IsGone(err) || apierrors.IsResourceExpired(err) {
			w.fail(fmt.Errorf("watch the Services: %w", err))
			return
		}
	}
}

// drain sees the changes of one watch and returns the version of the last.
func (w *addressWatch) drain(stream watch.Interface, version string) (string, error) {
	defer stream.Stop()
	for event := range stream.ResultChan() {
		s, is := event.Object.(*corev1.Service)
		if !is {
			return version, apierrors.FromObject(event.Object)
		}
		version = s.ResourceVersion
		w.update(s, event.Type == watch.Deleted)
	}
	return version, nil
}

func (w *addressWatch) update(s *corev1.Service, deleted bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := s.Namespace + "/" + s.Name
	if !deleted && !slices.Equal(w.has[name], ingress(s)) {
		w.moved[name]++
	}
	for _, ip := range w.has[name] {
		delete(w.owner, ip)
	}
	delete(w.has, name)
	w.seen++
	if deleted {
		return
	}
	w.has[name] = ingress(s)
	for _, ip := range w.has[name] {
		if other, twice := w.owner[ip]; twice {
			w.failures = append(w.failures, fmt.Errorf("version %s: %s stands in the statuses of %s and %s", s.ResourceVersion, ip, other, name))
		}
		w.owner[ip] = name
	}
}

func (w *addressWatch) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, err)
}

// failed returns what was wrong so far.
func (w *addressWatch) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.failures...)
}

// until waits for a condition, and not if something is wrong.
func (w *addressWatch) until(t *testing.T, limit time.Duration, f func() error) {
	t.Helper()
	eventually(t, limit, func() error {
		if err := w.failed(); err != nil {
			t.Fatal(err)
		}
		return f()
	})
}

func (w *addressWatch) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.owner)
}

func (w *addressWatch) changes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

// TestTheWatchCatchesDuplicates: what the other tests rely on. Nobody serves; somebody writes one address into two
// statuses, be it only for a moment. Moving an address from one to the other is none.
func TestTheWatchCatchesDuplicates(t *testing.T) {
	c := install(t, lab.Options{Nodes: 1, Clients: -1})
	for _, name := range []string{"a", "b", "blue/c"} {
		c.service(t, name)
	}
	c.service(t, "d", class("example.com/other"))
	w := c.lookAtAddresses(t)
	seen := func(name string, ips ...string) {
		t.Helper()
		c.writeStatus(t, name, ips...)
		eventually(t, patience, func() error {
			namespace, short := split(name)
			if have := w.addressesOf(namespace + "/" + short); !slices.Equal(have, ips) {
				return fmt.Errorf("the watch has seen %v at %s, want %v", have, name, ips)
			}
			return nil
		})
	}
	seen("a", "10.81.0.1")
	seen("b", "10.81.0.2", "fd81::1")
	seen("a")
	seen("blue/c", "10.81.0.1")
	must(t, w.failed())
	seen("b", "10.81.0.1", "fd81::1")
	seen("b", "fd81::1")
	seen("d", "fd81::1")
	if err := w.failed(); err == nil {
		t.Error("the watch has not seen anything wrong")
	} else {
		for _, want := range []string{
			"10.81.0.1 stands in the statuses of blue/c and default/b", "fd81::1 stands in the statuses of default/b and default/d",
		} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("the watch says\n%v\nand not %q", err, want)
			}
		}
	}
}

// changesOf is how often the addresses of a Service have changed.
func (w *addressWatch) changesOf(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.moved[name]
}

func (w *addressWatch) addressesOf(name string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.has[name]
}

func (w *addressWatch) atLeast(n int) error {
	if have := w.count(); have < n {
		return fmt.Errorf("%d addresses stand in statuses, want %d", have, n)
	}
	return nil
}

func (w *addressWatch) haveAddresses(names []string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	missing := 0
	for _, name := range names {
		if len(w.has[name]) == 0 {
			missing++
		}
	}
	if missing > 0 {
		return fmt.Errorf("%d of %d Services have no address", missing, len(names))
	}
	return nil
}
