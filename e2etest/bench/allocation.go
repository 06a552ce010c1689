package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// allocation measures, in clusters without nodes, how long many Services wait for their addresses when the controller
// starts, and how long one does on a busy cluster.
func allocation(ctx context.Context, b *Bench) (figures []Figure, err error) {
	for _, n := range b.Services {
		more, err := b.assignAll(ctx, n)
		figures = append(figures, more...)
		if err != nil {
			return figures, fmt.Errorf("%d Services: %w", n, err)
		}
	}
	return figures, nil
}

const bare = "as many bare status patches by 16 connections"

// assignAll measures in a cluster of its own, so that nothing is left of runs before. In the largest it goes on to single
// Services.
func (b *Bench) assignAll(ctx context.Context, n int) (figures []Figure, err error) {
	s, err := b.site(ctx, lab.Options{Nodes: -1, Clients: -1})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Down()) }()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute+time.Duration(n)*50*time.Millisecond)
	defer cancel()
	if err := s.Pools(ctx, []string{ranges}); err != nil {
		return nil, err
	}
	b.say("creating %d Services", n)
	if err := s.createServices(ctx, 0, n, 0, ""); err != nil {
		return nil, err
	}
	w, err := s.watchServices(ctx)
	if err != nil {
		return nil, err
	}
	limit, err := s.patchAll(ctx, w, n)
	if err != nil {
		return nil, err
	}
	b.say("%d bare patches: %v", n, limit)
	ours, err := s.assign(ctx, w, n)
	if err != nil {
		return nil, s.explain(err, controlPlane, "controller")
	}
	b.say("%d Services assigned: %v", n, ours)
	name := thousands(n) + " Services wait, the controller starts: "
	figures = []Figure{
		{Name: name + "all assigned", Unit: "s", Ours: []float64{ours.wall}, Limit: []float64{limit.wall}, Of: bare, Goal: Goal{Ratio: 1.5}},
		{Name: name + "CPU of API server and etcd until then", Unit: "s", Ours: []float64{ours.servers}, Limit: []float64{limit.servers}, Of: bare},
		{Name: name + "CPU of the controller until then", Unit: "s", Ours: []float64{ours.controller}},
	}
	if n != b.most() {
		return figures, nil
	}
	more, err := b.busy(ctx, s, w, n)
	return append(figures, more...), err
}

// effort is what it takes to give all Services an address, in seconds: of time, and of processor time of API server and etcd
// and of the controller.
type effort struct{ wall, servers, controller float64 }

func (e effort) String() string {
	return fmt.Sprintf("%.2f s; CPU of API server and etcd %.2f s, of the controller %.2f s", e.wall, e.servers, e.controller)
}

// servers are API server and etcd.
func (s *Site) servers() []*lab.Process {
	return []*lab.Process{s.APIServer(), s.Process(controlPlane, "etcd")}
}

// spend measures f.
func (s *Site) spend(f func() error) (e effort, _ error) {
	before, err := usageOf(s.servers())
	if err != nil {
		return e, err
	}
	if err := f(); err != nil {
		return e, err
	}
	after, err := usageOf(s.servers())
	e.wall = after.at.Sub(before.at).Seconds()
	for i := range after.used {
		e.servers += (after.used[i] - before.used[i]).Seconds()
	}
	return e, err
}

// patchAll gives every Service an address and takes it away again; it returns what the former took.
func (s *Site) patchAll(ctx context.Context, w *watcher, n int) (effort, error) {
	client, err := s.connected()
	if err != nil {
		return effort{}, err
	}
	took, err := s.spend(func() error {
		err := parallel(ctx, 0, n, func(ctx context.Context, i int) error { return setAddress(ctx, client, serviceName(i), pooled(i)) })
		if err != nil {
			return err
		}
		return w.wait(ctx, n)
	})
	if err != nil {
		return took, err
	}
	err = parallel(ctx, 0, n, func(ctx context.Context, i int) error { return setAddress(ctx, client, serviceName(i), netip.Addr{}) })
	if err != nil {
		return took, err
	}
	return took, w.wait(ctx, 0)
}

// assign starts the controller and waits until all Services have an address.
func (s *Site) assign(ctx context.Context, w *watcher, n int) (effort, error) {
	start, err := s.PrepareController(ctx)
	if err != nil {
		return effort{}, err
	}
	var own time.Duration
	took, err := s.spend(func() error {
		p, err := start()
		if err != nil {
			return err
		}
		if err := w.wait(ctx, n); err != nil {
			return err
		}
		own, err = processorTime(p.PID())
		return err
	})
	took.controller = own.Seconds()
	return took, err
}

// connected is a client with a connection for each request that is under way.
func (s *Site) connected() (*kubernetes.Clientset, error) {
	config := s.RESTConfig()
	config.NextProtos = []string{"http/1.1"}
	return newClient(config)
}

const (
	singles    = 200                    // Services that are measured one by one, and as many for the limit
	betweenOne = 200 * time.Millisecond // from one to the next at least
	churn      = 20                     // edits per second of other Services meanwhile
)

// busy measures how long single Services wait for an address while held ones are edited; the limit is a client that patches
// a Service of nobody's class as soon as its creation is acknowledged. One is created when the one before has its address: the
// API server has the edits to do beside it, and no other of the bench's requests.
func (b *Bench) busy(ctx context.Context, s *Site, w *watcher, held int) ([]Figure, error) {
	rest, err := s.settle(ctx, []*lab.Process{s.Process(controlPlane, "controller")}, restsWithin)
	if err != nil {
		return nil, s.explain(err, controlPlane, "controller")
	}
	b.say("it rests: %s", rest)
	b.say("one Service at a time, %d held, %d of them edited per second", held, churn)
	edits, stop := context.WithCancel(ctx)
	edited := make(chan error, 1)
	go func() {
		edited <- paced(edits, 1<<20, churn, func(ctx context.Context, i int) error { return s.edit(ctx, serviceName(i%held), i) })
	}()
	ours, limit, err := s.oneByOne(ctx, w)
	stop()
	if churned := <-edited; churned != nil && !errors.Is(churned, context.Canceled) {
		err = errors.Join(err, churned)
	}
	if err != nil {
		return nil, s.explain(err, controlPlane, "controller")
	}
	name := fmt.Sprintf("one Service at a time on a busy cluster with %s: creation acknowledged to status seen, ", thousands(held))
	of := "a client that patches it once its creation is acknowledged"
	return []Figure{
		{Name: name + "p50", Unit: "ms", Ours: ours, Limit: limit, Of: of, Percentile: 50},
		{Name: name + "p99", Unit: "ms", Ours: ours, Limit: limit, Of: of, Percentile: 99},
	}, nil
}

// oneByOne creates single Services in turns, those that wait for the implementation and those of nobody's class, and returns
// the milliseconds that each took.
func (s *Site) oneByOne(ctx context.Context, w *watcher) (ours, limit []float64, _ error) {
	tick := time.NewTicker(betweenOne)
	defer tick.Stop()
	for i := range 2 * singles {
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-tick.C:
		}
		name, class, millis := fmt.Sprintf("one%05d", i), "", &ours
		if i%2 == 1 {
			class, millis = otherClass, &limit
		}
		took, err := s.single(ctx, w, name, class)
		if err != nil {
			return nil, nil, err
		}
		*millis = append(*millis, took.Seconds()*1000)
	}
	return ours, limit, nil
}

// single creates a Service and returns how long it takes from the answer to that until the watcher has seen its address; 0 if it
// has seen it before. One of a class it gives an address itself.
func (s *Site) single(ctx context.Context, w *watcher, name, class string) (time.Duration, error) {
	o := service(name)
	if class != "" {
		o.Spec.LoadBalancerClass = &class
	}
	if _, err := s.Client.CoreV1().Services(namespace).Create(ctx, o, metav1.CreateOptions{}); err != nil {
		return 0, fmt.Errorf("create Service %s: %w", name, err)
	}
	acknowledged := time.Now()
	if class != "" {
		if err := setAddress(ctx, s.Client, name, pooled(1<<14-1)); err != nil {
			return 0, err
		}
	}
	at, err := w.waitFor(ctx, name)
	return max(0, at.Sub(acknowledged)), err
}

// edit changes an annotation of a Service.
func (s *Site) edit(ctx context.Context, name string, i int) error {
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"bench":"%d"}}}`, i)
	_, err := s.Client.CoreV1().Services(namespace).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("edit Service %s: %w", name, err)
	}
	return nil
}
