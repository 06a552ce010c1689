package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/lanyard-lb/lanyard/e2etest/netspace"
)

// pods compares the pods bound to this node with those that run here, whenever either may have changed.
type pods struct {
	Config
	client kubernetes.Interface
	wires  *wires
	dirty  chan struct{}
	store  cache.Store
	// running is touched by the passes alone.
	running map[types.UID]*serving
}

func newPods(c Config, client kubernetes.Interface, space *netspace.Namespace) *pods {
	return &pods{Config: c, client: client, wires: newWires(c, space), dirty: make(chan struct{}, 1), running: map[types.UID]*serving{}}
}

// run makes passes until the context ends. The pods keep serving while the API server is away.
func (p *pods) run(ctx context.Context) error {
	if err := p.wires.clear(); err != nil {
		return err
	}
	mine := func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", p.Node).String()
	}
	factory := informers.NewSharedInformerFactoryWithOptions(p.client, 0, informers.WithTweakListOptions(mine))
	informer := factory.Core().V1().Pods().Informer()
	p.store = informer.GetStore()
	mark := func() {
		select {
		case p.dirty <- struct{}{}:
		default:
		}
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { mark() }, UpdateFunc: func(any, any) { mark() }, DeleteFunc: func(any) { mark() },
	}); err != nil {
		return fmt.Errorf("watch pods: %w", err)
	}
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	defer p.stopAll()
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return nil
	}
	for {
		again := time.NewTimer(p.pass(ctx))
		select {
		case <-ctx.Done():
			again.Stop()
			return nil
		case <-p.dirty:
		case <-again.C:
		}
		again.Stop()
	}
}

// pass brings every pod to where it should be and says when the next pass is due at the latest.
func (p *pods) pass(ctx context.Context) time.Duration {
	next := time.Hour
	present := map[types.UID]bool{}
	var faults []error
	for _, item := range p.store.List() {
		pod := item.(*corev1.Pod)
		present[pod.UID] = true
		if pod.DeletionTimestamp != nil {
			if left := time.Until(pod.DeletionTimestamp.Time); left > 0 {
				next = min(next, left)
				continue
			}
			faults = append(faults, p.remove(ctx, pod))
			continue
		}
		faults = append(faults, p.ensure(ctx, pod))
	}
	for uid, b := range p.running {
		if !present[uid] {
			faults = append(faults, p.stop(uid, b))
		}
	}
	if err := errors.Join(faults...); err != nil && ctx.Err() == nil {
		fmt.Fprintf(os.Stderr, "%s pods of %s: %v\n", time.Now().Format(time.TimeOnly), p.Node, err)
		next = min(next, 200*time.Millisecond)
	}
	return next
}

// ensure starts a pod's backend if it is not running, and reports its state.
func (p *pods) ensure(ctx context.Context, pod *corev1.Pod) error {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil
	}
	ips := []string{p.Addresses[0].String(), p.Addresses[1].String()}
	if !pod.Spec.HostNetwork {
		b := p.running[pod.UID]
		if b == nil {
			var err error
			if b, err = p.start(pod); err != nil {
				return fmt.Errorf("start pod %s/%s: %w", pod.Namespace, pod.Name, err)
			}
			p.running[pod.UID] = b
		}
		ips = []string{b.wire.v4.String(), b.wire.v6.String()}
	}
	updated := pod.DeepCopy()
	if !setPodStatus(updated, p.Addresses, ips) {
		return nil
	}
	if _, err := p.client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("report pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

func (p *pods) start(pod *corev1.Pod) (*serving, error) {
	name := pod.Name
	if pod.Namespace != metav1.NamespaceDefault {
		name = pod.Namespace + "." + pod.Name
	}
	var before []string
	for _, ip := range pod.Status.PodIPs {
		before = append(before, ip.IP)
	}
	wire, err := p.wires.add(name, before)
	if err != nil {
		return nil, err
	}
	b, err := startBackend(wire, pod.Name, p.Node)
	if err != nil {
		return nil, errors.Join(err, p.wires.remove(wire))
	}
	return b, nil
}

// remove ends a pod whose time has come and tells the API server that it is gone.
func (p *pods) remove(ctx context.Context, pod *corev1.Pod) error {
	if b := p.running[pod.UID]; b != nil {
		if err := p.stop(pod.UID, b); err != nil {
			return err
		}
	}
	now := int64(0)
	err := p.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("remove pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

func (p *pods) stop(uid types.UID, b *serving) error {
	b.Stop()
	delete(p.running, uid)
	return p.wires.remove(b.wire)
}

func (p *pods) stopAll() {
	for uid, b := range p.running {
		if err := p.stop(uid, b); err != nil {
			fmt.Fprintf(os.Stderr, "stop the pods of %s: %v\n", p.Node, err)
		}
	}
}
