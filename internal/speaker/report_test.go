package speaker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/kube"
	"github.com/lanyard-lb/lanyard/internal/placement"
	"github.com/lanyard-lb/lanyard/internal/sortedlist"
)

// board is an API server in small: Services that refuse writes to a version that is not the newest, and
// ServiceL2Statuses.
type board struct {
	t        *testing.T
	mu       sync.Mutex
	services map[string]*corev1.Service
	l2       map[string]*v1beta1.ServiceL2Status
	version  int
	writes   []string // of conditions, as in "n1 default/web False NoEligibleNode", "n1 default/web removed"
	l2Writes int
	attempts int
	events   []string
	fault    func(request, name string) error // asked before each request
	stops    []func()
}

func newBoard(t *testing.T, names ...string) *board {
	b := &board{t: t, services: map[string]*corev1.Service{}, l2: map[string]*v1beta1.ServiceL2Status{}}
	for _, name := range names {
		b.add(name)
	}
	return b
}

func (b *board) add(name string) *corev1.Service {
	s := assigned(name, "10.0.0.1")
	s.UID, s.Generation = types.UID(name), 1
	b.services["default/"+name] = &s
	b.edit(name, func(*corev1.Service) {})
	return &s
}

// edit changes a Service the way somebody else does.
func (b *board) edit(name string, change func(*corev1.Service)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.services["default/"+name]
	change(s)
	b.version++
	s.ResourceVersion = fmt.Sprint(b.version)
}

// by is the board as one speaker reaches it.
type by struct {
	*board
	node string
}

func (b by) ask(ctx context.Context, request, name string) error {
	b.attempts++
	if b.fault != nil {
		if err := b.fault(request, name); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (b by) WriteServiceStatus(ctx context.Context, seen *corev1.Service, o kube.ServiceStatus) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	name := seen.Namespace + "/" + seen.Name
	if err := b.ask(ctx, "condition", name); err != nil {
		return err
	}
	s := b.services[name]
	switch {
	case s == nil:
		return apierrors.NewNotFound(schema.GroupResource{Resource: "services"}, seen.Name)
	case s.ResourceVersion != seen.ResourceVersion:
		return apierrors.NewConflict(schema.GroupResource{Resource: "services"}, seen.Name, errors.New("it has changed"))
	case !o.LeaveIngress:
		b.t.Errorf("%s writes the addresses of %s", b.node, name)
	}
	meta.RemoveStatusCondition(&s.Status.Conditions, o.Condition.Type)
	text := "removed"
	if !o.Remove {
		s.Status.Conditions = append(slices.Clone(s.Status.Conditions), o.Condition)
		text = string(o.Condition.Status) + " " + o.Condition.Reason
	}
	b.version++
	s.ResourceVersion = fmt.Sprint(b.version)
	b.writes = append(b.writes, b.node+" "+name+" "+text)
	return nil
}

func (b by) WriteL2Status(ctx context.Context, owner *corev1.Service, status v1beta1.ServiceL2StatusStatus) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	name := owner.Namespace + "/" + owner.Name
	if err := b.ask(ctx, "l2", name); err != nil {
		return err
	}
	b.l2[name] = &v1beta1.ServiceL2Status{ObjectMeta: metav1.ObjectMeta{Namespace: owner.Namespace, Name: owner.Name,
		CreationTimestamp: metav1.Now(), ResourceVersion: fmt.Sprint(b.l2Writes)}, Status: status}
	b.l2Writes++
	return nil
}

func (b by) DeleteL2Status(ctx context.Context, namespace, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.ask(ctx, "delete", namespace+"/"+name)
	if err == nil {
		delete(b.l2, namespace+"/"+name)
	}
	return err
}

func (b by) ListL2Statuses(ctx context.Context) (list []v1beta1.ServiceL2Status, _ error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.ask(ctx, "list", ""); err != nil {
		return nil, err
	}
	for _, s := range b.l2 {
		list = append(list, *s)
	}
	return list, nil
}

// written returns the writes since the last call of expect.
func (b *board) written() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.writes)
}

// start runs the reporter of a node; it is stopped by stop.
func (b *board) start(node string) *teller {
	metrics, err := NewMetrics(prometheus.NewRegistry())
	if err != nil {
		b.t.Fatal(err)
	}
	r := NewReporter(ReporterConfig{Writer: by{b, node}, Metrics: metrics, Logger: log.NewNopLogger(),
		Event: func(on client.Object, eventType, reason, _, note string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.events = append(b.events, strings.Join([]string{node, on.GetName(), eventType, reason, note}, " "))
		}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	b.stops = append(b.stops, func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	})
	return &teller{b, r, node, []string{"n2", "n1", "n3"}, map[string]string{}}
}

func (b *board) stop() {
	for _, stop := range b.stops {
		stop()
	}
}

// teller tells the reporter of one node what its passes come to.
type teller struct {
	*board
	reporter *Reporter
	node     string
	members  []string
	versions map[string]string // of the Services that it knows of
}

// tell is what a pass comes to; it gives the reporter the Services as they are now.
func (r *teller) tell(verdicts ...*placement.Verdict) {
	r.mu.Lock()
	n := Reporting{Self: r.node, Members: slices.Clone(r.members), Verdicts: sortedlist.Of(verdicts), Services: map[string]*corev1.Service{}}
	for name, s := range r.services {
		if r.versions[name] != s.ResourceVersion {
			n.Services[name], r.versions[name] = s.DeepCopy(), s.ResourceVersion
		}
	}
	for name := range r.versions {
		if r.services[name] == nil {
			n.Services[name] = nil
			delete(r.versions, name)
		}
	}
	r.mu.Unlock()
	r.reporter.Tell(n)
	synctest.Wait()
}

// rest lets time pass.
func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// expect compares what has been written since the last call, and what stands there now.
func (b *board) expect(writes, standing string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if got := strings.Join(b.writes, ", "); got != writes {
		b.t.Errorf("writes %q, want %q", got, writes)
	}
	b.writes = nil
	var lines []string
	for name, s := range b.l2 {
		lines = append(lines, name+" "+s.Status.Nodes+" "+s.Status.Phases)
	}
	slices.Sort(lines)
	if got := strings.Join(lines, ", "); got != standing {
		b.t.Errorf("ServiceL2Statuses %q, want %q", got, standing)
	}
}

// inABubble runs a test with a board of Services.
func inABubble(t *testing.T, test func(t *testing.T, b *board), services ...string) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(t, services...)
		test(t, b)
		b.stop()
	})
}

func TestReportsOnceAndEventsOnChange(t *testing.T) {
	inABubble(t, func(t *testing.T, b *board) {
		r := b.start("n1")
		good := announcedBy("n1", "10.0.0.1", "default/web")
		for range 3 {
			r.tell(good) // the second and third time with the Service as we wrote it
			rest(time.Second)
		}
		b.expect("n1 default/web True Announced", "default/web n1 Announcing")
		c := meta.FindStatusCondition(b.services["default/web"].Status.Conditions, v1beta1.ConditionAnnounced)
		if c.ObservedGeneration != 1 || c.Message != "10.0.0.1 by n1 on eth0" || c.LastTransitionTime.IsZero() {
			t.Errorf("the condition is %+v", c)
		}
		since := c.LastTransitionTime
		r.tell(changed(good, func(v *placement.Verdict) { v.Interfaces = []string{"eth1"} }))
		rest(time.Minute)
		b.expect("n1 default/web True Announced", "default/web n1 Announcing")
		second := announcedBy("n2", "10.0.0.2", "default/web")
		r.tell(good, second)
		rest(time.Minute)
		b.expect("n1 default/web True Announced", "default/web n1,n2 Announcing")
		r.tell(good, changed(second, func(v *placement.Verdict) { v.Owner = "n3" }))
		rest(time.Minute)
		b.expect("n1 default/web True Announced", "default/web n1,n3 Announcing")
		c = meta.FindStatusCondition(b.services["default/web"].Status.Conditions, v1beta1.ConditionAnnounced)
		if !c.LastTransitionTime.Equal(&since) {
			t.Error("a condition that stays True has a new transition time")
		}
		r.tell(good, nobody(placement.NoEligibleNode, "10.0.0.2", "default/web"))
		rest(time.Minute)
		b.expect("n1 default/web False NoEligibleNode", "default/web n1 Announcing,Pending")
		want := []string{
			"n1 web Normal Announced 10.0.0.1 by n1 on eth0",
			"n1 web Normal Announced 10.0.0.1 by n1 on eth0; 10.0.0.2 by n2 on eth0",
			"n1 web Normal Announced 10.0.0.1 by n1 on eth0; 10.0.0.2 by n3 on eth0",
			"n1 web Warning NoEligibleNode 10.0.0.1 by n1 on eth0; 10.0.0.2: NoEligibleNode",
		}
		if !slices.Equal(b.events, want) {
			t.Errorf("events\n%s\nwant\n%s", strings.Join(b.events, "\n"), strings.Join(want, "\n"))
		}
	}, "web")
}

// TestNoEventAfterRestart: what the condition says already is no news.
func TestNoEventAfterRestart(t *testing.T) {
	inABubble(t, func(t *testing.T, b *board) {
		good := announcedBy("n1", "10.0.0.1", "default/web")
		b.start("n1").tell(good)
		b.stop()
		b.stops, b.events, b.writes = nil, nil, nil
		r := b.start("n1")
		r.tell(good)
		rest(time.Second)
		b.expect("", "default/web n1 Announcing")
		b.edit("web", func(s *corev1.Service) { s.Generation++ })
		r.tell(good)
		rest(time.Minute)
		b.expect("n1 default/web True Announced", "default/web n1 Announcing")
		if len(b.events) > 0 {
			t.Errorf("events %q", b.events)
		}
	}, "web")
}

// TestOneReporter: each Service is reported by one node, and by the next when its owner changes.
func TestOneReporter(t *testing.T) {
	inABubble(t, func(_ *testing.T, b *board) {
		tell := func(verdicts ...*placement.Verdict) {
			for _, r := range []string{"n1", "n2", "n3"} {
				b.start(r).tell(verdicts...)
			}
			rest(time.Second)
		}
		tell(nobody(placement.NoEligibleNode, "10.0.0.1", "default/a"),
			nobody(placement.NoEligibleNode, "10.0.0.2", "default/b"), announcedBy("n3", "10.0.0.3", "default/b", "default/c"))
		slices.Sort(b.writes)
		b.expect("n1 default/a False NoEligibleNode, n3 default/b False NoEligibleNode, n3 default/c True Announced",
			"default/a  Pending, default/b n3 Pending,Announcing, default/c n3 Announcing")
	}, "a", "b", "c")
	inABubble(t, func(_ *testing.T, b *board) {
		n1, n2 := b.start("n1"), b.start("n2")
		for _, owner := range []string{"n1", "n2"} {
			for _, r := range []*teller{n1, n2} {
				r.tell(announcedBy(owner, "10.0.0.1", "default/web"))
			}
			rest(time.Minute)
		}
		b.expect("n1 default/web True Announced, n2 default/web True Announced", "default/web n2 Announcing")
		for _, r := range []*teller{n1, n2} {
			r.tell()
		}
		rest(time.Minute)
		b.expect("n2 default/web removed", "")
	}, "web")
}

// TestReportsAgainAfterAnother: while a node stood still another one took over and reported; it has the address again without ever
// having known, and puts right what the other wrote, the ServiceL2Status too.
func TestReportsAgainAfterAnother(t *testing.T) {
	inABubble(t, func(_ *testing.T, b *board) {
		n1, n2 := b.start("n1"), b.start("n2")
		mine, others := announcedBy("n1", "10.0.0.1", "default/web"), announcedBy("n2", "10.0.0.1", "default/web")
		n1.tell(mine)
		rest(time.Minute)
		n2.tell(others)
		rest(time.Minute)
		b.expect("n1 default/web True Announced, n2 default/web True Announced", "default/web n2 Announcing")
		n1.tell(mine)
		n2.tell(mine)
		rest(time.Minute)
		b.expect("n1 default/web True Announced", "default/web n1 Announcing")
	}, "web")
}

func TestWaitsForWhatPasses(t *testing.T) {
	for name, pass := range map[string]func(*placement.Verdict){
		"settling": func(v *placement.Verdict) { v.Reason, v.Claim = placement.Settling, placement.Claim{} },
		"probing":  func(v *placement.Verdict) { v.Claim.Phase = placement.Probing },
	} {
		t.Run(name, func(t *testing.T) {
			inABubble(t, func(_ *testing.T, b *board) {
				r := b.start("n1")
				good := announcedBy("n1", "10.0.0.1", "default/web")
				r.tell(changed(good, pass))
				rest(passing - time.Millisecond)
				b.expect("", "")
				r.tell(good)
				rest(gathering)
				b.expect("n1 default/web True Announced", "default/web n1 Announcing")
				r.tell(changed(good, pass))
				rest(gathering)
				r.tell(changed(good, func(v *placement.Verdict) { pass(v); v.Detail = "still" }))
				rest(passing - gathering - time.Millisecond)
				b.expect("", "default/web n1 Announcing")
				rest(time.Millisecond)
				if b.expect("n1 default/web False Settling", b.standing()); len(b.events) != 2 {
					b.t.Errorf("events %q", b.events)
				}
			}, "web")
		})
	}
}

func (b *board) standing() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.l2["default/web"].Status
	return "default/web " + s.Nodes + " " + s.Phases
}

// TestMassTakeover: thousands of addresses change hands; the API server is spared, trouble comes first, and
// what has changed again meanwhile is written once.
func TestMassTakeover(t *testing.T) {
	const n = 1000
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("svc%04d", i))
	}
	inABubble(t, func(t *testing.T, b *board) {
		verdicts := func(detail string) (list []*placement.Verdict) {
			for i, name := range names {
				ip, service := fmt.Sprintf("10.0.%d.%d", i/250, i%250), "default/"+name
				v := announcedBy("n1", ip, service)
				v.Detail = detail
				if i >= n-100 {
					v = nobody(placement.NoEligibleNode, ip, service)
				}
				list = append(list, v)
			}
			return list
		}
		r := b.start("n1")
		r.tell(verdicts("first")...)
		if got := len(b.written()); got != atOnce {
			t.Errorf("%d at once, want %d", got, atOnce)
		}
		rest(10 * time.Second)
		if got := len(b.written()); got < atOnce+10*sustained-1 || got > atOnce+10*sustained+1 {
			t.Errorf("%d after ten seconds, want %d", got, atOnce+10*sustained)
		}
		for i, w := range b.written() {
			if trouble := strings.Contains(w, "False"); trouble != (i < 100) {
				t.Fatalf("write %d is %q, want the 100 in trouble first", i, w)
			}
		}
		written := len(b.written())
		r.tell(verdicts("second")...)
		rest(2 * time.Minute)
		// All of them once, and those again that had been written and have changed: not those in trouble.
		if got, want := len(b.written()), n+written-100; got != want && got != want+1 {
			t.Errorf("%d writes in all, want %d", got, want)
		}
		for _, s := range b.services {
			if c := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionAnnounced); c == nil || strings.Contains(c.Message, "first") {
				t.Fatalf("%s says %+v in the end", s.Name, c)
			}
		}
	}, names...)
}

// TestConflict: what somebody else has changed is not written until the newer version is told, and then at once.
func TestConflict(t *testing.T) {
	inABubble(t, func(t *testing.T, b *board) {
		r := b.start("n1")
		good := announcedBy("n1", "10.0.0.1", "default/web")
		b.fault = func(request, name string) error {
			if request != "condition" {
				return nil
			}
			b.fault = nil // somebody is quicker
			b.version++
			b.services[name].ResourceVersion = fmt.Sprint(b.version)
			return nil
		}
		r.tell(good)
		rest(500 * time.Millisecond)
		b.expect("", "")
		r.tell(good)
		b.expect("n1 default/web True Announced", "default/web n1 Announcing")
		if b.attempts != 4 { // the first, the sweep, and the two that worked
			t.Errorf("%d requests", b.attempts)
		}
	}, "web")
}

// TestConflictIsUrgent: trouble whose Service had changed is told as soon as its newer version is there, before all that
// is not trouble and was not tried yet.
func TestConflictIsUrgent(t *testing.T) {
	var names []string
	for i := range 10 * atOnce {
		names = append(names, fmt.Sprintf("svc%04d", i))
	}
	inABubble(t, func(t *testing.T, b *board) {
		r := b.start("n1")
		verdicts := []*placement.Verdict{nobody(placement.NoEligibleNode, "10.1.0.0", "default/svc0000")}
		for i, name := range names[1:] {
			verdicts = append(verdicts, announcedBy("n1", fmt.Sprintf("10.0.%d.%d", i/250, i%250), "default/"+name))
		}
		b.fault = func(request, name string) error {
			if request != "condition" {
				return nil
			}
			if name != "default/svc0000" {
				t.Errorf("%s is written before the one in trouble", name)
			}
			b.fault = nil // somebody is quicker
			b.version++
			b.services[name].ResourceVersion = fmt.Sprint(b.version)
			return nil
		}
		r.tell(verdicts...)
		before := len(b.written())
		r.tell(verdicts...)
		rest(time.Second)
		at := slices.Index(b.written(), "n1 default/svc0000 False NoEligibleNode")
		if few := before + 2*int(gathering*sustained/time.Second); at < 0 || at > few {
			t.Errorf("the one in trouble is write %d, want it among the first %d", at, few)
		}
	}, names...)
}

// TestAPIServerAway: nothing is lost but what has been superseded, and Tell never waits.
func TestAPIServerAway(t *testing.T) {
	inABubble(t, func(t *testing.T, b *board) {
		r := b.start("n1")
		b.fault = func(string, string) error { return errors.New("connection refused") }
		good := announcedBy("n1", "10.0.0.1", "default/web")
		r.tell(nobody(placement.NoEligibleNode, "10.0.0.1", "default/web"))
		rest(2 * time.Minute)
		r.tell(announcedBy("n2", "10.0.0.1", "default/web"))
		r.tell(good)
		rest(2 * time.Minute)
		if b.attempts < 8 || b.attempts > 20 {
			t.Errorf("%d attempts in four minutes", b.attempts)
		}
		b.mu.Lock()
		b.fault = nil
		b.mu.Unlock()
		rest(time.Minute)
		b.expect("n1 default/web True Announced", "default/web n1 Announcing")
		if len(b.events) != 1 {
			t.Errorf("events %q", b.events)
		}
	}, "web")
}

// TestHangingAPIServer: a request that is never answered is given up.
func TestHangingAPIServer(t *testing.T) {
	inABubble(t, func(t *testing.T, b *board) {
		metrics, err := NewMetrics(prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		r := NewReporter(ReporterConfig{Writer: by{b, "n1"}, Metrics: metrics, Logger: log.NewNopLogger()})
		ran := 0
		r.attempt(t.Context(), func(ctx context.Context) error { ran++; <-ctx.Done(); return ctx.Err() })
		if r.outage != 1 || ran != 1 || !r.away.After(time.Now()) {
			t.Errorf("after a request that hangs: %d failures, away until %s", r.outage, r.away)
		}
	})
}

// TestOneBadObjectHarmsNoOther: what the API server refuses is tried again now and then, beside the others.
func TestOneBadObjectHarmsNoOther(t *testing.T) {
	inABubble(t, func(t *testing.T, b *board) {
		r, tries := b.start("n1"), 0
		b.fault = func(request, name string) error {
			if request == "l2" && name == "default/bad" {
				tries++
				return apierrors.NewInvalid(schema.GroupKind{Kind: "ServiceL2Status"}, "bad", nil)
			}
			return nil
		}
		r.tell(announcedBy("n1", "10.0.0.1", "default/bad"), announcedBy("n1", "10.0.0.2", "default/web"))
		rest(gathering)
		b.expect("n1 default/bad True Announced, n1 default/web True Announced", "default/web n1 Announcing")
		rest(10 * time.Minute)
		if tries < 10 || tries > 20 {
			t.Errorf("%d tries in ten minutes", tries)
		}
	}, "bad", "web")
}

// TestDoesNotFight: somebody who writes the condition otherwise again and again gets ever slower an answer.
func TestDoesNotFight(t *testing.T) {
	inABubble(t, func(t *testing.T, b *board) {
		r := b.start("n1")
		for range 600 {
			b.edit("web", func(s *corev1.Service) {
				meta.SetStatusCondition(&s.Status.Conditions, metav1.Condition{Type: v1beta1.ConditionAnnounced, Status: metav1.ConditionFalse, Reason: "Mine"})
			})
			r.tell(announcedBy("n1", "10.0.0.1", "default/web"))
			rest(time.Second)
		}
		if got := len(b.writes); got < 5 || got > 20 {
			t.Errorf("%d writes in ten minutes", got)
		}
	}, "web")
}

// TestWithdraws: the node that has reported a Service takes back what it said once the Service has no address of
// ours; of Services that are gone there is nothing to take back.
func TestWithdraws(t *testing.T) {
	inABubble(t, func(_ *testing.T, b *board) {
		r := b.start("n2")
		r.tell(announcedBy("n2", "10.0.0.1", "default/web"), announcedBy("n2", "10.0.0.2", "default/gone"))
		rest(time.Second)
		b.expect("n2 default/gone True Announced, n2 default/web True Announced", "default/gone n2 Announcing, default/web n2 Announcing")
		b.mu.Lock()
		delete(b.services, "default/gone")
		delete(b.l2, "default/gone")
		b.mu.Unlock()
		r.tell()
		rest(time.Second)
		b.expect("n2 default/web removed", "")
		r.tell()
		rest(time.Minute)
		b.expect("", "")
		r.tell(announcedBy("n2", "10.0.0.1", "default/web"))
		rest(time.Second)
		b.expect("n2 default/web True Announced", "default/web n2 Announcing")
	}, "web", "gone")
}

// TestSweep: what nobody remembers is taken away by the first member, but for what is young or another's.
func TestSweep(t *testing.T) {
	inABubble(t, func(_ *testing.T, b *board) {
		class := "example.com/other"
		leave := func(name string, age time.Duration, change func(*corev1.Service)) {
			b.edit(name, func(s *corev1.Service) {
				meta.SetStatusCondition(&s.Status.Conditions, metav1.Condition{Type: v1beta1.ConditionAnnounced, Status: metav1.ConditionTrue})
				change(s)
			})
			b.l2["default/"+name] = &v1beta1.ServiceL2Status{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name,
				CreationTimestamp: metav1.NewTime(time.Now().Add(-age))}, Status: v1beta1.ServiceL2StatusStatus{Nodes: "n9"}}
		}
		same := func(*corev1.Service) {}
		leave("kept", time.Hour, same)
		leave("old", time.Hour, same)
		leave("type", time.Hour, func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
		leave("other", time.Hour, func(s *corev1.Service) { s.Spec.LoadBalancerClass = &class })
		leave("young", 0, func(s *corev1.Service) { s.Status.Conditions = nil })
		kept := announcedBy("n3", "10.0.0.9", "default/kept")
		n1, n2 := b.start("n1"), b.start("n2")
		n2.tell(kept)
		rest(young / 2)
		b.expect("", "default/kept n9 , default/old n9 , default/other n9 , default/type n9 , default/young n9 ")
		n1.tell(kept)
		rest(time.Second)
		b.expect("n1 default/old removed, n1 default/type removed", "default/kept n9 , default/other n9 , default/young n9 ")
		rest(sweeping)
		b.expect("", "default/kept n9 , default/other n9 ")
	}, "kept", "old", "type", "other", "young")
}

// TestSweepCorrects: a ServiceL2Status that another write has made wrong, late, is put right by the first member, be it reported by
// itself or by another one; but not while somebody is still writing it.
func TestSweepCorrects(t *testing.T) {
	inABubble(t, func(_ *testing.T, b *board) {
		n1, n2 := b.start("n1"), b.start("n2")
		verdicts := []*placement.Verdict{announcedBy("n1", "10.0.0.1", "default/own"), announcedBy("n2", "10.0.0.2", "default/theirs"),
			announcedBy("n2", "10.0.0.3", "default/busy")}
		for range 2 { // the second time with the conditions that they wrote
			n1.tell(verdicts...)
			n2.tell(verdicts...)
			rest(time.Second)
		}
		right := "default/busy n2 Announcing, default/own n1 Announcing, default/theirs n2 Announcing"
		b.expect("n1 default/own True Announced, n2 default/busy True Announced, n2 default/theirs True Announced", right)
		late := func(name, version string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.l2["default/"+name] = &v1beta1.ServiceL2Status{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, ResourceVersion: version},
				Status: v1beta1.ServiceL2StatusStatus{Nodes: "n3"}}
		}
		late("own", "late")
		late("theirs", "late")
		late("busy", "late")
		rest(sweeping)
		b.expect("", "default/busy n3 , default/own n3 , default/theirs n3 ")
		late("busy", "later")
		rest(calming)
		b.expect("", "default/busy n3 , default/own n1 Announcing, default/theirs n2 Announcing")
		rest(sweeping)
		b.expect("", right)
		before := b.l2Writes
		rest(3 * sweeping)
		if b.l2Writes != before {
			b.t.Errorf("%d writes of what is right", b.l2Writes-before)
		}
	}, "own", "theirs", "busy")
}

// TestSweepsAfterTrouble: what a node that was cut off has written late is put right soon after it is a member again.
func TestSweepsAfterTrouble(t *testing.T) {
	inABubble(t, func(_ *testing.T, b *board) {
		n1 := b.start("n1")
		own := announcedBy("n1", "10.0.0.1", "default/own")
		for range 2 {
			n1.tell(own)
			rest(time.Second)
		}
		b.expect("n1 default/own True Announced", "default/own n1 Announcing")
		rest(sweeping)
		n1.members = []string{"n1", "n2"}
		n1.tell(own)
		rest(time.Second)
		late := func(version string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.l2["default/own"] = &v1beta1.ServiceL2Status{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "own", ResourceVersion: version},
				Status: v1beta1.ServiceL2StatusStatus{Nodes: "n3"}}
		}
		late("late")
		n1.members = []string{"n1", "n2", "n3"}
		n1.tell(own)
		rest(2*calming - time.Second)
		b.expect("", "default/own n3 ")
		rest(2 * time.Second)
		b.expect("", "default/own n1 Announcing")
		for i, members := range [][]string{{"n1", "n2"}, {"n1", "n2", "n3"}} { // trouble again before what it left is put right
			late(fmt.Sprint("later", i))
			n1.members = members
			n1.tell(own)
			rest(calming + time.Second)
		}
		b.expect("", "default/own n3 ")
		rest(calming)
		b.expect("", "default/own n1 Announcing")
	}, "own")
}

// TestWithoutServices: while the API server has told of nothing, nothing is written and nothing swept.
func TestWithoutServices(t *testing.T) {
	inABubble(t, func(t *testing.T, b *board) {
		r := b.start("n1")
		r.reporter.Tell(Reporting{Self: "n1", Members: []string{"n1"}, Verdicts: sortedlist.Of([]*placement.Verdict{announcedBy("n1", "10.0.0.1", "default/web")})})
		rest(time.Hour)
		if b.attempts > 0 {
			t.Errorf("%d requests", b.attempts)
		}
		r.tell(announcedBy("n1", "10.0.0.1", "default/web"))
		b.expect("n1 default/web True Announced", "default/web n1 Announcing")
	}, "web")
}
