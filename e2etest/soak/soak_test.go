package soak_test

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
	"github.com/lanyard-lb/lanyard/e2etest/labtest"
	"github.com/lanyard-lb/lanyard/e2etest/soak"
)

// prepare skips the test unless SOAK is set, and where there is no lab of its own, builds it, and returns options whose logs go where those of
// failed tests do.
func prepare(t *testing.T) soak.Options {
	t.Helper()
	if err := lab.NeedRoot(); err != nil {
		t.Skip(err)
	}
	if os.Getenv("LANYARD_GROUND") == string(lab.OnKind) {
		t.Skip("the soak runs in namespaces of its own")
	}
	if os.Getenv("SOAK") == "" {
		t.Skip("minutes of random life: SOAK=1 has them")
	}
	labtest.Must(t, lab.Build(t.Context(), os.Stderr))
	o := soak.Defaults()
	o.Seed, o.Out = 1, t.Output()
	o.Folder = t.TempDir()
	if folder := os.Getenv("LANYARD_ARTIFACTS"); folder != "" {
		o.Folder = filepath.Join(folder, t.Name())
	}
	return o
}

// TestSoak is a short soak. SEED=n and FOR=d change the life and how long it goes on.
func TestSoak(t *testing.T) {
	o := prepare(t)
	o.For, o.RestEvery, o.Services = 100*time.Second, 50*time.Second, 60
	if text := os.Getenv("SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		labtest.Must(t, err)
		o.Seed = seed
	}
	if text := os.Getenv("FOR"); text != "" {
		span, err := time.ParseDuration(text)
		labtest.Must(t, err)
		o.For = span
	}
	report, err := soak.Run(t.Context(), o)
	labtest.Must(t, err)
	report.Write(t.Output())
	for _, v := range report.Violations {
		t.Errorf("%s %s", v.At.Format("15:04:05.000"), v)
	}
	for _, trend := range report.Growing() {
		t.Errorf("%s uses more and more: %s", trend.Program, trend)
	}
	if len(report.Rests) == 0 || report.Looks < 30 || report.Versions < 100 {
		t.Errorf("it came to %d rests, saw the LAN %d times and %d versions", len(report.Rests), report.Looks, report.Versions)
	}
}

// TestSoakCatches: nothing happens in the lab but what is wrong on purpose, behind the soak's back, and each wrong is
// caught.
func TestSoakCatches(t *testing.T) {
	o := prepare(t)
	o.For, o.Pace, o.Services, o.Patience = 50*time.Second, time.Hour, 30, 4*time.Second
	o.Meddle = func(ctx context.Context, l *lab.Lab) { meddle(ctx, t, l) }
	report, err := soak.Run(t.Context(), o)
	labtest.Must(t, err)
	broken := map[string]bool{}
	for _, v := range report.Violations {
		broken[v.Rule] = true
	}
	for _, rule := range []string{"exclusive", "keeps", "alien", "double", "ghost", "silent", "ended", "rest"} {
		if !broken[rule] {
			t.Errorf("the soak did not see that the rule %q was broken; it saw %v", rule, slices.Sorted(maps.Keys(broken)))
		}
	}
	if report.Good() {
		t.Error("the report is good")
	}
}

// meddle breaks one rule after the other.
func meddle(ctx context.Context, t *testing.T, l *lab.Lab) {
	services := l.Client().CoreV1().Services(metav1.NamespaceDefault)
	var victims []*corev1.Service
	ctx, cancel := context.WithTimeout(ctx, 45*time.Second)
	defer cancel()
	step := func(name string, err error) {
		if err != nil && ctx.Err() == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	step("wait for Services with addresses of their own", labtest.Poll(ctx, func() error {
		list, err := services.List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		victims = nil
		for i := range list.Items {
			s := &list.Items[i]
			if len(s.Annotations) == 0 && len(s.Status.LoadBalancer.Ingress) > 0 && strings.Contains(said(s), " by n") {
				victims = append(victims, s)
			}
		}
		if len(victims) < 4 {
			return errTooFew
		}
		return nil
	}))
	if len(victims) < 4 {
		return
	}
	ip := func(i int) netip.Addr { return labtest.Ingress(victims[i])[0] }
	// A second responder: the kernel of a node that does not announce the address, and one that answers for an address
	// nobody has.
	for _, node := range l.Nodes() {
		if !strings.Contains(said(victims[0]), ip(0).String()+" by "+node+" ") {
			step("squat", l.Squat(node, ip(0)))
			break
		}
	}
	free := soak.Universe()[len(soak.Universe())-1]
	step("squat", l.Squat(l.Node(1), free))
	step("squat", l.Squat("c3", ip(1)))
	// One address in two statuses, and one lost.
	forge(ctx, step, l, victims[2].Name, labtest.Ingress(victims[3]))
	forge(ctx, step, l, victims[3].Name, nil)
	pass(ctx, 12*time.Second)
	step("kill a speaker", l.Process(l.Node(2), "speaker").Kill())
	pass(ctx, time.Second)
	for _, node := range l.Nodes() {
		step("freeze", l.Process(node, "speaker").Freeze())
	}
	pass(ctx, 14*time.Second)
	for _, node := range l.Nodes() {
		step("thaw", l.Process(node, "speaker").Thaw())
	}
}

var errTooFew = errors.New("too few Services have addresses")

// said is what the condition Announced of a Service says.
func said(s *corev1.Service) string {
	if c := labtest.ConditionOf(s, labtest.Announced); c != nil {
		return c.Message
	}
	return ""
}

// forge writes the status of a Service.
func forge(ctx context.Context, step func(string, error), l *lab.Lab, name string, ips []netip.Addr) {
	services := l.Client().CoreV1().Services(metav1.NamespaceDefault)
	step("forge a status", retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		s, err := services.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		s.Status.LoadBalancer.Ingress = nil
		for _, ip := range ips {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip.String()})
		}
		_, err = services.UpdateStatus(ctx, s, metav1.UpdateOptions{})
		return err
	}))
}

// pass lets time pass: what is wrong must last to be a violation.
func pass(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
