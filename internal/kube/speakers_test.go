package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/recorder"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
)

// direct is a manager that has no caches.
type direct struct {
	manager.Manager
	client client.WithWatch
	events *events.FakeRecorder
}

func (d direct) GetClient() client.Client                       { return d.client }
func (d direct) GetAPIReader() client.Reader                    { return d.client }
func (d direct) GetEventRecorder(string) recorder.EventRecorder { return d.events }

// clusterOf holds some objects; before is called ahead of each patch.
func clusterOf(t *testing.T, before func(client.Client), objects ...client.Object) *Cluster {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1beta1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	base := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&v1beta1.IPAddressPool{}).Build()
	c := interceptor.NewClient(base, interceptor.Funcs{
		SubResourcePatch: func(ctx context.Context, _ client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			before(base)
			return base.SubResource(sub).Patch(ctx, o, p, opts...)
		}})
	return &Cluster{manager: direct{client: c, events: events.NewFakeRecorder(10)}}
}

func quarantine(addresses ...string) (list []v1beta1.QuarantinedAddress) {
	for _, a := range addresses {
		list = append(list, v1beta1.QuarantinedAddress{Address: a, MAC: "02:00:00:00:00:99"})
	}
	return list
}

func with(addresses ...string) func([]v1beta1.QuarantinedAddress) []v1beta1.QuarantinedAddress {
	return func(list []v1beta1.QuarantinedAddress) []v1beta1.QuarantinedAddress {
		return append(list, quarantine(addresses...)...)
	}
}

func TestWriteQuarantine(t *testing.T) {
	pool := &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "lan", UID: "1"}}
	pool.Status.MoreHolders = 7
	writes, rivals := 0, []string{"10.0.0.8", "10.0.0.9"}
	c := clusterOf(t, func(api client.Client) {
		writes++
		if len(rivals) == 0 {
			return
		}
		// Another speaker is quicker.
		var p v1beta1.IPAddressPool
		if err := api.Get(t.Context(), client.ObjectKey{Name: "lan"}, &p); err != nil {
			t.Error(err)
		}
		p.Status.Quarantined = append(p.Status.Quarantined, quarantine(rivals[0])...)
		rivals = rivals[1:]
		if err := api.Status().Update(t.Context(), &p); err != nil {
			t.Error(err)
		}
	}, pool)
	expect := func(changed int, want string) {
		t.Helper()
		var p v1beta1.IPAddressPool
		if err := c.manager.GetAPIReader().Get(t.Context(), client.ObjectKey{Name: "lan"}, &p); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, q := range p.Status.Quarantined {
			got = append(got, q.Address)
		}
		if strings.Join(got, " ") != want || p.Status.MoreHolders != 7 || writes != changed {
			t.Errorf("after %d writes: %q, %d more holders; want %d, %q, 7", writes, got, p.Status.MoreHolders, changed, want)
		}
	}
	write := func(change func([]v1beta1.QuarantinedAddress) []v1beta1.QuarantinedAddress) {
		t.Helper()
		if err := c.WriteQuarantine(t.Context(), "lan", change); err != nil {
			t.Fatal(err)
		}
	}
	write(with("10.0.0.1"))
	expect(3, "10.0.0.8 10.0.0.9 10.0.0.1")
	write(func(list []v1beta1.QuarantinedAddress) []v1beta1.QuarantinedAddress { return list })
	expect(3, "10.0.0.8 10.0.0.9 10.0.0.1")
	write(func(list []v1beta1.QuarantinedAddress) []v1beta1.QuarantinedAddress {
		return slices.DeleteFunc(list, func(v1beta1.QuarantinedAddress) bool { return true })
	})
	expect(4, "")
	write(func([]v1beta1.QuarantinedAddress) []v1beta1.QuarantinedAddress { return nil })
	expect(4, "")
	var many []string
	for i := range mostQuarantined + 1 {
		many = append(many, fmt.Sprint("10.0.1.", i))
	}
	write(with(many...))
	expect(5, strings.Join(many[:mostQuarantined], " "))
	if err := c.WriteQuarantine(t.Context(), "wan", with("10.0.0.1")); err == nil || !strings.Contains(err.Error(), "wan") {
		t.Errorf("a pool that does not exist: %v", err)
	}
}

func TestL2Status(t *testing.T) {
	c := clusterOf(t, func(client.Client) {})
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "first"}}
	show := func() string {
		t.Helper()
		list, err := c.ListL2Statuses(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var words []string
		for _, s := range list {
			words = append(words, s.Namespace+"/"+s.Name, s.Status.Nodes)
			for _, o := range s.OwnerReferences {
				words = append(words, o.Kind, string(o.UID))
			}
			for _, a := range s.Status.Announcements {
				words = append(words, a.Address)
			}
		}
		return strings.Join(words, " ")
	}
	on := func(node string, addresses ...string) v1beta1.ServiceL2StatusStatus {
		s := v1beta1.ServiceL2StatusStatus{Nodes: node}
		for _, a := range addresses {
			s.Announcements = append(s.Announcements, v1beta1.L2Announcement{Address: a, Protocol: v1beta1.ProtocolARP, Phase: v1beta1.PhaseAnnouncing})
		}
		return s
	}
	for _, step := range []struct {
		uid    types.UID
		status v1beta1.ServiceL2StatusStatus
		want   string
	}{
		{"first", on("n1", "10.0.0.1", "10.0.0.2"), "default/web n1 Service first 10.0.0.1 10.0.0.2"},
		{"first", on("n2", "10.0.0.2"), "default/web n2 Service first 10.0.0.2"},
		{"second", on("", "10.0.0.3"), "default/web  Service second 10.0.0.3"},
	} {
		service.UID = step.uid
		if err := c.WriteL2Status(t.Context(), service, step.status); err != nil {
			t.Fatal(err)
		}
		if got := show(); got != step.want {
			t.Errorf("there is %q, want %q", got, step.want)
		}
	}
	for range 2 {
		if err := c.DeleteL2Status(t.Context(), "default", "web"); err != nil {
			t.Error(err)
		}
	}
	if got := show(); got != "" {
		t.Errorf("after it is deleted there is %q", got)
	}
}

func TestNodeEvents(t *testing.T) {
	c := clusterOf(t, func(client.Client) {})
	c.NodeEvents("lanyard-speaker")("n1", corev1.EventTypeWarning, "GossipRefused", "Join", strings.Repeat("ä", 600))
	event := <-c.manager.(direct).events.Events
	if !strings.HasPrefix(event, "Warning GossipRefused ää") || !strings.HasSuffix(event, "ä...") || len(event) > 30+longestNote || !utf8.ValidString(event) {
		t.Errorf("event %q", event)
	}
	if got := cut("short", longestNote); got != "short" {
		t.Errorf("cut a short note to %q", got)
	}
}

// TestGoodNewsIsNotAFlood: of many events that say that all is well some are recorded, of warnings all.
func TestGoodNewsIsNotAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		recorder := events.NewFakeRecorder(10_000)
		tell := (&Cluster{manager: direct{events: recorder}}).Events("lanyard-controller")
		count := func(eventType string) int {
			for range 2000 {
				tell(&corev1.Service{}, eventType, "Reason", "Act", "note")
			}
			n := 0
			for len(recorder.Events) > 0 {
				<-recorder.Events
				n++
			}
			return n
		}
		if n := count(corev1.EventTypeNormal); n != goodNewsAtOnce {
			t.Errorf("%d of 2000 are recorded, want %d", n, goodNewsAtOnce)
		}
		time.Sleep(time.Second) // of the test's own clock
		if n := count(corev1.EventTypeNormal); n != goodNewsPerSecond {
			t.Errorf("%d of 2000 are recorded a second later, want %d", n, goodNewsPerSecond)
		}
		if n := count(corev1.EventTypeWarning); n != 2000 {
			t.Errorf("%d of 2000 warnings are recorded", n)
		}
	})
}
