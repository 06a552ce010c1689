package kube

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
)

// cached is a manager whose cache is a client.
type cached struct{ direct }

func (c cached) GetCache() cache.Cache { return reader{client: c.client} }

type reader struct {
	cache.Cache
	client client.Client
}

func (r reader) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	return r.client.List(ctx, list, opts...)
}

// summary is what an observer tells, in short.
func summary(o Observed) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(o.Services)) {
		words = append(words, name+state(o.Services[name] == nil))
	}
	for _, name := range slices.Sorted(maps.Keys(o.EndpointSlices)) {
		words = append(words, name+state(o.EndpointSlices[name] == nil))
	}
	if o.Speakers != nil {
		var names []string
		for _, s := range o.Speakers {
			names = append(names, s.Name)
		}
		slices.Sort(names)
		words = append(words, "speakers="+strings.Join(names, "+"))
	}
	if o.Objects != nil {
		words = append(words, "configuration")
	}
	return strings.Join(words, " ")
}

func state(gone bool) string {
	if gone {
		return "(gone)"
	}
	return ""
}

// TestObserve: all is told first, and then what has changed, but for what says nothing new.
func TestObserve(t *testing.T) {
	c := clusterOf(t, nil, &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "lan"}})
	c.manager, c.namespace = cached{c.manager.(direct)}, "lanyard-system"
	var told []string
	o := newObserver(c, func(seen Observed) { told = append(told, summary(seen)) })
	service := func(version string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", ResourceVersion: version}}
	}
	slice := func(namespace, of, version string) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: of + "-1", ResourceVersion: version,
			Labels: map[string]string{discoveryv1.LabelServiceName: of}}}
	}
	node := func(version string, seen int64, ready corev1.ConditionStatus) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", ResourceVersion: version}}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, LastHeartbeatTime: metav1.NewTime(time.Unix(seen, 0))}}
		n.Status.Images = []corev1.ContainerImage{{SizeBytes: seen}}
		return n
	}
	pool := func(version string, used int32, quarantined ...v1beta1.QuarantinedAddress) *v1beta1.IPAddressPool {
		p := &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "lan", ResourceVersion: version}}
		p.Status.MoreHolders, p.Status.Quarantined = used, quarantined
		return p
	}
	events := eventHandler(o.changed)
	for _, step := range []struct {
		name   string
		happen func()
		want   string
	}{
		{"the first lists", func() {
			events.OnAdd(service("1"), true)
			events.OnAdd(slice("default", "web", "1"), true)
			events.OnAdd(slice("lanyard-system", SpeakerService, "1"), true)
		}, "default/web default/web-1 lanyard-system/lanyard-speaker-1 speakers=lanyard-speaker-1 configuration"},
		{"a Service is another", func() { events.OnUpdate(service("1"), service("2")) }, "default/web"},
		{"a resync", func() {
			events.OnUpdate(service("2"), service("2"))
			events.OnUpdate(slice("lanyard-system", SpeakerService, "1"), slice("lanyard-system", SpeakerService, "1"))
		}, ""},
		{"two changes of one, and another", func() {
			events.OnUpdate(service("2"), service("3"))
			events.OnDelete(service("3"))
			events.OnUpdate(slice("default", "web", "1"), slice("default", "web", "2"))
		}, "default/web(gone) default/web-1"},
		{"a Service of that name elsewhere", func() { events.OnAdd(slice("default", SpeakerService, "1"), false) }, "default/lanyard-speaker-1"},
		{"a heartbeat", func() { events.OnUpdate(node("1", 1, "True"), node("2", 2, "True")) }, ""},
		{"a node is not ready", func() { events.OnUpdate(node("2", 2, "True"), node("3", 2, "False")) }, "configuration"},
		{"a pool counts", func() { events.OnUpdate(pool("1", 1), pool("2", 2)) }, ""},
		{"a stranger", func() { events.OnUpdate(pool("2", 2), pool("3", 2, quarantine("10.0.0.1")...)) }, "configuration"},
		{"a pool more", func() { events.OnAdd(pool("1", 1), false) }, "configuration"},
		{"the speakers are gone", func() { events.OnDelete(slice("lanyard-system", SpeakerService, "1")) }, "lanyard-system/lanyard-speaker-1(gone) speakers="},
		{"the speakers are back", func() { events.OnAdd(slice("lanyard-system", SpeakerService, "2"), false) },
			"lanyard-system/lanyard-speaker-1 speakers=lanyard-speaker-1"},
		{"the speakers are gone, and no more is known", func() {
			events.OnDelete(&discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "lanyard-system", Name: SpeakerService + "-1"}})
		}, "lanyard-system/lanyard-speaker-1(gone) speakers="},
	} {
		told = nil
		if step.happen(); step.name == "the first lists" || len(o.dirty) > 0 {
			select {
			case <-o.dirty:
			default:
			}
			if err := o.report(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.Join(told, "; "); got != step.want {
			t.Errorf("%s: told %q, want %q", step.name, got, step.want)
		}
	}
}
