package bench

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const (
	// ranges hold 16,384 addresses that no host has and no link is configured for.
	ranges = "10.78.0.0/18"
	// MostServices is how many Services can be measured with: more would not leave addresses for single ones.
	MostServices = 15000
	// connections is how many requests the bench has under way at the same time.
	connections = 16
	namespace   = metav1.NamespaceDefault
	// otherClass is a class of Services that no implementation serves.
	otherClass = "bench.invalid/nobody"
)

// pooled is the i-th address of ranges.
func pooled(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 78, byte(i >> 8), byte(i)})
}

func serviceName(i int) string { return fmt.Sprintf("s%05d", i) }

// service is a Service that asks for one IPv4 address, and for no node port: of those a cluster has less than 3,000.
func service(name string) *corev1.Service {
	no, single := false, corev1.IPFamilyPolicySingleStack
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, AllocateLoadBalancerNodePorts: &no, IPFamilyPolicy: &single,
			Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
}

// endpoints is an EndpointSlice of a Service with ready endpoints on a node; generation makes addresses that it had not.
func endpoints(of, name, node string, size, generation int) *discoveryv1.EndpointSlice {
	yes, port, portName, tcp := true, int32(8080), "http", corev1.ProtocolTCP
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: of}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &portName, Port: &port, Protocol: &tcp}},
	}
	for i := range size {
		n := generation*size + i
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{netip.AddrFrom4([4]byte{10, 244, byte(n >> 8), byte(n)}).String()}, NodeName: &node,
			Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: fmt.Sprintf("%s-%07d", of, n)},
		})
	}
	return slice
}

// parallel calls f for from, ..., to-1, as many at a time as there are connections.
func parallel(ctx context.Context, from, to int, f func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	next.Store(int64(from))
	for range connections {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= to {
					return nil
				}
				if err := f(ctx, i); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// paced calls f for 0, ..., n-1, so many per second, and returns when all calls have returned.
func paced(ctx context.Context, n, perSecond int, f func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(connections)
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for i := range n {
		select {
		case <-ctx.Done():
			return group.Wait()
		case <-tick.C:
		}
		group.Go(func() error { return f(ctx, i) })
	}
	return group.Wait()
}

// createServices makes the Services with the numbers from, ..., to-1; each gets an EndpointSlice with so many endpoints on a
// node, if there are to be any.
func (s *Site) createServices(ctx context.Context, from, to, size int, node string) error {
	return parallel(ctx, from, to, func(ctx context.Context, i int) error {
		return s.createService(ctx, service(serviceName(i)), i, size, node)
	})
}

// createService makes a Service and its EndpointSlice; the number makes the latter's addresses its own.
func (s *Site) createService(ctx context.Context, o *corev1.Service, number, size int, node string) error {
	if _, err := s.Client.CoreV1().Services(namespace).Create(ctx, o, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create Service %s: %w", o.Name, err)
	}
	if size == 0 {
		return nil
	}
	slice := endpoints(o.Name, o.Name, node, size, number)
	if _, err := s.Client.DiscoveryV1().EndpointSlices(namespace).Create(ctx, slice, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create EndpointSlice %s: %w", o.Name, err)
	}
	return nil
}

// setAddress is the bare patch of a Service's status; no address takes it away.
func setAddress(ctx context.Context, c *kubernetes.Clientset, name string, ip netip.Addr) error {
	ingress := "null"
	if ip.IsValid() {
		ingress = fmt.Sprintf(`[{"ip":%q}]`, ip)
	}
	patch := fmt.Sprintf(`{"status":{"loadBalancer":{"ingress":%s}}}`, ingress)
	result := c.CoreV1().RESTClient().Patch(types.MergePatchType).Namespace(namespace).Resource("services").Name(name).
		SubResource("status").Body([]byte(patch)).Do(ctx)
	if err := result.Error(); err != nil {
		return fmt.Errorf("patch the status of Service %s: %w", name, err)
	}
	return nil
}

// watcher sees Services as a client does that watches them, and keeps when it did.
type watcher struct {
	mu      sync.Mutex
	with    map[string]time.Time // those that have an address: since when
	changed chan struct{}        // closed, and made anew, at each change
}

// watchServices watches the Services of the bench from now on, until ctx ends, as informers do: a watch that the API server
// ends, for it does not wait for those who are slow, is begun anew.
func (s *Site) watchServices(ctx context.Context) (*watcher, error) {
	w := &watcher{with: map[string]time.Time{}, changed: make(chan struct{})}
	services := cache.NewListWatchFromClient(s.Client.CoreV1().RESTClient(), "services", namespace, fields.Everything())
	informer := cache.NewSharedInformer(services, &corev1.Service{}, 0)
	registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { w.see(o.(*corev1.Service)) },
		UpdateFunc: func(_, o any) { w.see(o.(*corev1.Service)) },
		DeleteFunc: func(o any) {
			if name, err := cache.DeletionHandlingObjectToName(o); err == nil {
				w.lose(name.Name)
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("watch Services: %w", err)
	}
	go informer.Run(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		return nil, fmt.Errorf("watch Services: %w", ctx.Err())
	}
	return w, nil
}

func (w *watcher) update(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *watcher) lose(name string) { w.update(func() { delete(w.with, name) }) }

func (w *watcher) see(s *corev1.Service) {
	at := time.Now()
	_, had := w.with[s.Name] // only this goroutine writes
	switch has := len(s.Status.LoadBalancer.Ingress) > 0; {
	case has && !had:
		w.update(func() { w.with[s.Name] = at })
	case had && !has:
		w.lose(s.Name)
	}
}

// wait returns when exactly n Services have an address.
func (w *watcher) wait(ctx context.Context, n int) error {
	return w.until(ctx, func() bool { return len(w.with) == n }, func() string {
		return fmt.Sprintf("%d Services have an address, want %d", len(w.with), n)
	})
}

// waitFor returns when a Service has been seen with an address.
func (w *watcher) waitFor(ctx context.Context, name string) (at time.Time, err error) {
	err = w.until(ctx, func() (seen bool) { at, seen = w.with[name]; return seen }, func() string {
		return fmt.Sprintf("Service %s has no address", name)
	})
	return at, err
}

func (w *watcher) until(ctx context.Context, done func() bool, missing func() string) error {
	for {
		w.mu.Lock()
		ok, changed, text := done(), w.changed, ""
		if !ok {
			text = missing()
		}
		w.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", text, ctx.Err())
		}
	}
}
