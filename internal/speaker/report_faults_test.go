package speaker

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/kube"
	"github.com/lanyard-lb/lanyard/internal/placement"
	"github.com/lanyard-lb/lanyard/internal/sortedlist"
)

// TestWhatCannotBeWrittenKeepsNothingElse: Services that a webhook denies without a reason, or that the API server takes
// too long to write, come after all others, whatever their names.
func TestWhatCannotBeWrittenKeepsNothingElse(t *testing.T) {
	denied := &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: 400, Message: `admission webhook "x" denied the request`}}
	for _, test := range []struct {
		name     string
		err      error
		atLatest time.Duration
	}{{"denied", denied, time.Second}, {"too slow", fmt.Errorf("patch: %w", context.DeadlineExceeded), 20 * time.Second}} {
		t.Run(test.name, func(t *testing.T) {
			inABubble(t, func(_ *testing.T, b *board) {
				r := b.start("n1")
				b.fault = func(request, name string) error {
					if request == "condition" && name != "default/web" {
						return test.err
					}
					return nil
				}
				bad := announcedBy("n1", "10.0.0.1", "default/a", "default/b", "default/c", "default/d")
				for _, web := range []*placement.Verdict{announcedBy("n1", "10.0.0.2", "default/web"),
					announcedBy("n1", "10.0.0.3", "default/web")} {
					r.tell(bad, web)
					rest(test.atLatest)
					b.expect("n1 default/web True Announced", "default/web n1 Announcing")
					rest(30 * time.Minute)
				}
			}, "a", "b", "c", "d", "web")
		})
	}
}

// TestMissingCRDIsNoConflict: it is counted and told as the failure that it is.
func TestMissingCRDIsNoConflict(t *testing.T) {
	inABubble(t, func(t *testing.T, b *board) {
		r := b.start("n1")
		b.fault = func(request, name string) error {
			if request != "l2" {
				return nil
			}
			return apierrors.NewGenericServerResponse(404, "patch", schema.GroupResource{Resource: "servicel2statuses"}, name, "404 page not found", 0, true)
		}
		r.tell(announcedBy("n1", "10.0.0.1", "default/web"))
		rest(time.Minute)
		if failed := testutil.ToFloat64(r.reporter.Metrics.reports.WithLabelValues("failed")); failed < 3 {
			t.Errorf("%v reports failed in a minute", failed)
		}
		if conflicts := testutil.ToFloat64(r.reporter.Metrics.reports.WithLabelValues("conflict")); conflicts > 0 {
			t.Errorf("%v conflicts", conflicts)
		}
	}, "web")
}

// TestSweepRestores: a ServiceL2Status that somebody has deleted is back after the second sweep.
func TestSweepRestores(t *testing.T) {
	inABubble(t, func(_ *testing.T, b *board) {
		r := b.start("n1")
		own, others := announcedBy("n1", "10.0.0.1", "default/web"), announcedBy("n2", "10.0.0.2", "default/other")
		n2 := b.start("n2")
		for range 2 {
			r.tell(own, others)
			n2.tell(own, others)
			rest(time.Second)
		}
		b.expect("n1 default/web True Announced, n2 default/other True Announced", "default/other n2 Announcing, default/web n1 Announcing")
		r.tell(own, others)
		rest(time.Second)
		b.mu.Lock()
		clear(b.l2)
		b.mu.Unlock()
		rest(sweeping)
		b.expect("", "")
		rest(calming)
		b.expect("", "default/other n2 Announcing, default/web n1 Announcing")
	}, "web", "other")
}

// TestOutnumberedReportsNothing: a node that gossip does not reach, but the API server does, takes back nothing of what
// the others say.
func TestOutnumberedReportsNothing(t *testing.T) {
	inABubble(t, func(t *testing.T, b *board) {
		b.edit("late", func(s *corev1.Service) { s.Status = corev1.ServiceStatus{} })
		l := newLAN()
		s, stop := l.start(t, "n1", func(c *Config) {
			c.Reporter = NewReporter(ReporterConfig{Writer: by{b, "n1"}, Metrics: c.Metrics, Logger: log.NewNopLogger(),
				Event: func(client.Object, string, string, string, string) {}})
		})
		defer stop()
		l.alive("n1", "n2", "n3")
		versions := map[string]string{}
		observe := func(seen kube.Observed) {
			seen.Services = map[string]*corev1.Service{}
			b.mu.Lock()
			for name, o := range b.services {
				if versions[name] != o.ResourceVersion {
					seen.Services[name], versions[name] = o.DeepCopy(), o.ResourceVersion
				}
			}
			b.mu.Unlock()
			s.Observe(seen)
			rest(time.Second)
		}
		observe(cluster(0, "n1", "n2", "n3").observed())
		rest(3 * time.Second)
		observe(kube.Observed{})
		rest(time.Hour)
		l.alive("n1", "n2")
		rest(time.Second)
		b.expect("n1 default/web True NoEndpoint", "default/web n1 Announcing")
		l.alive("n1") // the two others go on without it: web is announced by n2, and so is late, which has an address now
		rest(time.Second)
		for _, name := range []string{"web", "late"} {
			b.edit(name, func(s *corev1.Service) {
				s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "10.0.0.1"}}
				meta.SetStatusCondition(&s.Status.Conditions, announcedCondition("10.0.0.1 by n2 on eth0"))
			})
			b.mu.Lock()
			b.l2["default/"+name] = byN2(name)
			b.mu.Unlock()
			observe(kube.Observed{})
		}
		rest(time.Hour)
		b.expect("", "default/late n2 Announcing, default/web n2 Announcing")
	}, "web", "late")
}

// TestSweepsAfterAHush: what was left behind meanwhile is looked for soon after, though the members are the same.
func TestSweepsAfterAHush(t *testing.T) {
	inABubble(t, func(_ *testing.T, b *board) {
		r := b.start("n1")
		for range 2 {
			r.tell()
			rest(time.Second)
		}
		rest(time.Minute)
		r.reporter.Hush()
		b.edit("web", func(s *corev1.Service) {
			meta.SetStatusCondition(&s.Status.Conditions, announcedCondition("10.0.0.1 by n2 on eth0"))
		})
		rest(time.Minute)
		r.tell()
		rest(calming + time.Second)
		b.expect("n1 default/web removed", "")
	}, "web")
}

// TestServicesComeWithTheirVerdicts: Services that a pass has not gone by are not reported by what it has come to, as when
// it went by the state file.
func TestServicesComeWithTheirVerdicts(t *testing.T) {
	inABubble(t, func(t *testing.T, b *board) {
		b.edit("new", func(s *corev1.Service) {
			meta.SetStatusCondition(&s.Status.Conditions, announcedCondition("10.0.0.1 by n2 on eth0"))
		})
		b.l2["default/new"] = byN2("new")
		r, f := b.start("n1"), &fakeSpeaker{lan: newLAN(), node: "n1", members: []string{"n1", "n2", "n3"}}
		s := New(Config{Node: "n1", Reporter: r.reporter, Metrics: r.reporter.Metrics, Announcer: fakeAnnouncer{f}, Membership: fakeMembership{f},
			Logger: log.NewNopLogger()})
		s.setInterfaces([]placement.Interface{{Name: "eth0"}})
		s.observed = &knowledge{}
		pass := func(between func(), verdicts ...*placement.Verdict) {
			f, _ := s.facts()
			between()
			s.conclude(*f, placement.Decision{Verdicts: sortedlist.Of(verdicts)}, nil)
			rest(time.Second)
		}
		other := func() {
			o := assigned("other", "10.0.0.9")
			o.Spec.Type = corev1.ServiceTypeClusterIP
			s.Observe(kube.Observed{Services: map[string]*corev1.Service{"default/other": &o}})
		}
		pass(func() {})
		pass(func() { // the API server is back
			seen := cluster(0, "n1", "n2", "n3").observed()
			seen.Services = map[string]*corev1.Service{"default/new": b.services["default/new"].DeepCopy()}
			s.Observe(seen)
			other()
		})
		other()
		rest(time.Second)
		pass(other, announcedBy("n2", "10.0.0.1", "default/new"))
		b.expect("", "default/new n2 Announcing")
		if len(r.reporter.services) != 2 {
			t.Errorf("the reporter knows of %d Services, want 2", len(r.reporter.services))
		}
	}, "new")
}

func announcedCondition(message string) metav1.Condition {
	return metav1.Condition{Type: v1beta1.ConditionAnnounced, Status: metav1.ConditionTrue, Reason: "Announced", Message: message}
}

func byN2(service string) *v1beta1.ServiceL2Status {
	return &v1beta1.ServiceL2Status{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: service, CreationTimestamp: metav1.Now(),
		ResourceVersion: "by n2"}, Status: v1beta1.ServiceL2StatusStatus{Nodes: "n2", Phases: "Announcing"}}
}
