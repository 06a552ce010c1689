package speaker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/kube"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

const (
	// sustained is how many Services a second one speaker reports, and atOnce how many after a quiet time: when
	// thousands of addresses have moved, the API server has other work, too.
	sustained = 20
	atOnce    = 50
	// gathering is the time over which what is told is gathered before it is looked at.
	gathering = 200 * time.Millisecond
	// passing is how long a state that goes away by itself must last to be reported.
	passing = time.Second
	// patience is how long one report may take.
	patience = 10 * time.Second
	// sweeping is the time between two searches for what nobody remembers to take away, or resweeping after one that
	// failed. After trouble, when a member has come or gone or something wrong was found, the next is due after calming:
	// a node that was cut off may have written what it had to say before it knew better. young is the age under which a
	// find is left alone: we may not have heard yet what it was made for.
	sweeping   = 10 * time.Minute
	resweeping = time.Minute
	calming    = 15 * time.Second
	young      = time.Minute
)

// Writer is the API server as a Reporter needs it. *kube.Cluster is one.
type Writer interface {
	WriteServiceStatus(ctx context.Context, seen *corev1.Service, s kube.ServiceStatus) error
	WriteL2Status(ctx context.Context, owner *corev1.Service, status v1beta1.ServiceL2StatusStatus) error
	DeleteL2Status(ctx context.Context, namespace, name string) error
	ListL2Statuses(ctx context.Context) ([]v1beta1.ServiceL2Status, error)
}

var _ Writer = (*kube.Cluster)(nil)

// Reporting is what a pass has come to, complete but for the Services. Nobody may change what it refers to; what says
// the same as in the one before is the same pointer.
type Reporting struct {
	Self     string
	Members  []string
	Verdicts verdicts
	Reports  map[string]placement.Report // by node
	// Services that have changed since the last one, by namespace/name; nil for one that is gone. The first map holds all
	// there are; until the API server has told of them it is nil. The Reporter keeps it.
	Services map[string]*corev1.Service

	after bool // the first one after a Hush
}

// ReporterConfig of a Reporter. Every field is needed, but Class.
type ReporterConfig struct {
	Class   string // as of Config
	Writer  Writer
	Event   func(on client.Object, eventType, reason, action, note string)
	Metrics *Metrics
	Logger  log.Logger
}

// A Reporter tells the API server how the addresses of Services are announced: by the condition
// lanyard.dev/Announced, by ServiceL2Statuses, and by an event when the reason or an announcing node is
// another one. Each Service is reported by one node: the owner of its lowest address that has one; where none
// has, the first member. Reports are few, paced, and of the newest state only; troubles come first.
type Reporter struct {
	ReporterConfig
	limit *rate.Limiter
	touch chan struct{} // something has been told

	mu     sync.Mutex
	told   *Reporting // since the last look, or nil
	hushed bool

	// What follows belongs to Run.
	known    *Reporting
	services map[string]*corev1.Service      // all, by namespace/name; nil until the API server has told of them
	held     map[string][]*placement.Verdict // on the addresses of each Service, by address
	looked   time.Time                       // when told was looked at last
	entries  map[string]*entry
	pending  agenda            // of those that the API server does not know as they are
	outage   int               // attempts that failed since the API server last answered
	away     time.Time         // until when it is not to be tried
	resweep  time.Time         // when the next sweep is due
	calm     time.Time         // when one is due after trouble; zero: there was none
	again    bool              // that one looks at what the last has found
	wrong    map[string]string // by namespace/name: the versions of the ServiceL2Statuses that the last sweep found wrong
}

// NewReporter returns a Reporter. It starts nothing.
func NewReporter(c ReporterConfig) *Reporter {
	return &Reporter{ReporterConfig: c, limit: rate.NewLimiter(sustained, atOnce), touch: make(chan struct{}, 1),
		known: &Reporting{}, held: map[string][]*placement.Verdict{}, entries: map[string]*entry{}}
}

// Tell takes in the outcome of a pass, in place of those before. It returns at once.
func (r *Reporter) Tell(n Reporting) {
	r.mu.Lock()
	n.after, r.hushed = r.hushed, false
	if r.told != nil {
		n.Services, n.after = merged(r.told.Services, n.Services), n.after || r.told.after
	}
	r.told = &n
	r.mu.Unlock()
	touch(r.touch)
}

// Hush has nothing reported until something is told again: what was told is not to be relied on any more. What is being
// written is written.
func (r *Reporter) Hush() {
	r.mu.Lock()
	r.hushed = true
	r.mu.Unlock()
}

func (r *Reporter) silent() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hushed
}

// Run reports what is told, until ctx ends. That the API server is away is no error.
func (r *Reporter) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if r.silent() {
			select {
			case <-ctx.Done():
			case <-r.touch:
			}
			continue
		}
		now := time.Now()
		r.look(now)
		if r.sweepDue(now) {
			r.attempt(ctx, r.sweep)
			continue
		}
		if e, _ := r.next(now); e == nil {
			r.pause(ctx, now)
			continue
		}
		if r.limit.Wait(ctx) != nil {
			break
		}
		now = time.Now()
		r.look(now)
		if e, _ := r.next(now); e != nil && !r.silent() {
			r.write(ctx, e)
		}
	}
	return nil
}

// pause waits until there is something to do.
func (r *Reporter) pause(ctx context.Context, now time.Time) {
	_, at := r.next(now)
	if r.mine() {
		at = sooner(at, sooner(r.resweep, r.calm))
	}
	touched := r.touch
	if rest := r.looked.Add(gathering); rest.After(now) && r.news() {
		at, touched = sooner(at, rest), nil
	}
	var wake <-chan time.Time
	if !at.IsZero() {
		timer := time.NewTimer(at.Sub(now))
		defer timer.Stop()
		wake = timer.C
	}
	select {
	case <-ctx.Done():
	case <-touched:
	case <-wake:
	}
}

// news reports whether something has been told since the last look.
func (r *Reporter) news() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.told != nil
}

// sooner is the earlier of two times, where zero is never; later is the later.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// look takes in what was told, unless the last look is too recent.
func (r *Reporter) look(now time.Time) {
	if now.Sub(r.looked) < gathering {
		return
	}
	r.mu.Lock()
	told := r.told
	r.told = nil
	r.mu.Unlock()
	if told == nil {
		return
	}
	before := r.known
	r.looked, r.known = now, told
	if told.after || !slices.Equal(before.Members, told.Members) {
		r.calm, r.again = now.Add(calming), false
	}
	stale := map[string]bool{}
	r.meet(told.Services, stale)
	for _, c := range changesOf(before.Verdicts, told.Verdicts) {
		r.hold(c, stale)
	}
	r.doubt(before, stale)
	for name := range stale {
		r.lookAt(name, now)
	}
}

// meet takes in Services that have changed.
func (r *Reporter) meet(services map[string]*corev1.Service, stale map[string]bool) {
	if r.services == nil {
		r.services = services
	}
	for name, s := range services {
		if stale[name] = true; s == nil {
			delete(r.services, name)
		} else {
			r.services[name] = s
		}
	}
}

// hold takes in a verdict in the place of another.
func (r *Reporter) hold(c change, stale map[string]bool) {
	if c.was != nil {
		for _, name := range c.was.Services {
			stale[name] = true
			r.held[name] = slices.DeleteFunc(r.held[name], func(v *placement.Verdict) bool { return v == c.was })
			if len(r.held[name]) == 0 {
				delete(r.held, name)
			}
		}
	}
	if c.now != nil {
		for _, name := range c.now.Services {
			stale[name] = true
			list := r.held[name]
			at, _ := slices.BinarySearchFunc(list, c.now, func(a, b *placement.Verdict) int { return a.IP.Compare(b.IP) })
			r.held[name] = slices.Insert(list, at, c.now)
		}
	}
}

// doubt finds what has to be looked at although neither Service nor verdicts are others: when another member is the
// first one, all that nobody owns; when nodes have other interfaces, what they own of our entries.
func (r *Reporter) doubt(before *Reporting, stale map[string]bool) {
	if first(before.Members) != first(r.known.Members) {
		for name := range r.held {
			stale[name] = true
		}
	}
	changed := otherInterfaces(before.Reports, r.known.Reports)
	if len(changed) == 0 {
		return
	}
	for name := range r.entries {
		if slices.ContainsFunc(r.held[name], func(v *placement.Verdict) bool { return changed[v.Owner] }) {
			stale[name] = true
		}
	}
}

// otherInterfaces returns the nodes whose interfaces are not the same in both.
func otherInterfaces(before, after map[string]placement.Report) map[string]bool {
	if sameMap(before, after) {
		return nil
	}
	changed := map[string]bool{}
	for node, r := range after {
		if old, told := before[node]; !told || !sameSlice(old.Interfaces, r.Interfaces) {
			changed[node] = true
		}
	}
	for node := range before {
		if _, still := after[node]; !still {
			changed[node] = true
		}
	}
	return changed
}

// lookAt brings the entry of one Service up to date, if it is or was for us to report.
func (r *Reporter) lookAt(name string, now time.Time) {
	verdicts, service, e := r.held[name], r.services[name], r.entries[name]
	switch {
	case len(verdicts) > 0 && reporter(verdicts, r.known.Members) != r.known.Self:
		r.forget(name)
	case len(verdicts) > 0:
		if e == nil {
			e = &entry{name: name}
			r.entries[name] = e
		}
		e.meet(service)
		e.learn(verdicts, r.known.Reports, now)
		r.settle(e)
	case e == nil:
	case r.services != nil && service == nil:
		r.forget(name) // its ServiceL2Status goes with it
	default:
		e.meet(service)
		e.end()
		r.settle(e)
	}
}

// reporter is the one node that reports a Service, as all nodes see it that come to the same verdicts.
func reporter(verdicts []*placement.Verdict, members []string) string {
	for _, v := range verdicts {
		if v.Owner != "" {
			return v.Owner
		}
	}
	return first(members)
}

func first(members []string) string {
	if len(members) == 0 {
		return ""
	}
	return slices.Min(members)
}

func (r *Reporter) forget(name string) {
	if e := r.entries[name]; e != nil {
		r.pending.remove(e)
		delete(r.entries, name)
	}
}

// settle notes whether there is something to write.
func (r *Reporter) settle(e *entry) {
	if e.differs() {
		r.pending.put(e)
	} else {
		r.pending.remove(e)
	}
}

// next is the most urgent of the entries whose time has come, or nil and when there may be one; zero: never.
func (r *Reporter) next(now time.Time) (most *entry, at time.Time) {
	if most, at = r.pending.next(now); most != nil && r.away.After(now) {
		return nil, r.away
	}
	if !at.IsZero() {
		at = later(at, r.away)
	}
	return most, at
}

// write reports one Service and notes how that went.
func (r *Reporter) write(ctx context.Context, e *entry) {
	r.attempt(ctx, func(ctx context.Context) error {
		err := r.report(ctx, e)
		e.tried(time.Now(), err)
		if r.settle(e); err == nil && e.gone {
			r.forget(e.name)
		}
		if isStale(err) {
			r.Metrics.reported("conflict")
			return nil // news of the Service is on its way
		}
		return err
	})
}

// attempt makes one request of the API server, or a few, and takes note of whether it is there.
func (r *Reporter) attempt(ctx context.Context, do func(context.Context) error) {
	limited, cancel := context.WithTimeout(ctx, patience)
	err := do(limited)
	cancel()
	switch {
	case ctx.Err() != nil:
	case err == nil:
		if r.outage > 0 {
			_ = level.Info(r.Logger).Log("msg", "the API server takes reports again")
		}
		r.outage = 0
	case isAway(err):
		r.Metrics.reported("failed")
		if r.outage == 0 {
			_ = level.Warn(r.Logger).Log("msg", "the API server takes no reports, trying again", "err", err)
		}
		r.away = time.Now().Add(backoff(r.outage))
		r.outage++
	default:
		r.Metrics.reported("failed")
		_ = level.Error(r.Logger).Log("msg", "could not report, trying again", "err", err)
	}
}

// isStale reports whether an error tells that a Service has changed, or is gone.
func isStale(err error) bool { return errors.Is(err, errGone) || apierrors.IsConflict(err) }

// isAway reports whether an error tells of the API server, and not of one object.
func isAway(err error) bool {
	if meta.IsNoMatchError(err) {
		return false // a CRD is missing
	}
	switch apierrors.ReasonForError(err) {
	case metav1.StatusReasonUnknown:
		var answer apierrors.APIStatus // a webhook that denies an object need not give a reason
		return !errors.As(err, &answer) || answer.Status().Code/100 != 4
	case metav1.StatusReasonTimeout, metav1.StatusReasonServerTimeout,
		metav1.StatusReasonServiceUnavailable, metav1.StatusReasonTooManyRequests:
		return true
	}
	return false
}

// backoff doubles from a second to a minute.
func backoff(attempts int) time.Duration { return min(time.Second<<min(attempts, 6), time.Minute) }

var errGone = errors.New("the Service is gone")

// writeCondition writes the status of an entry's Service. That something else is not found, as where a CRD is missing, is
// not errGone.
func (r *Reporter) writeCondition(ctx context.Context, e *entry, s kube.ServiceStatus) error {
	err := r.Writer.WriteServiceStatus(ctx, e.service, s)
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	return err
}

// report writes what differs.
func (r *Reporter) report(ctx context.Context, e *entry) error {
	if e.gone {
		return r.withdraw(ctx, e)
	}
	if want := e.condition(time.Now()); e.conditionDiffers() {
		before := e.current()
		if err := r.writeCondition(ctx, e, kube.ServiceStatus{LeaveIngress: true, Condition: want}); err != nil {
			return err
		}
		e.wrote, e.wroteOn = &want, e.service.ResourceVersion
		e.l2 = nil // whoever wrote another condition has written the ServiceL2Status, too
		r.tellChange(e.service, before, want)
	}
	if e.l2Differs() {
		if err := r.Writer.WriteL2Status(ctx, e.service, e.want.l2); err != nil {
			return err
		}
		l2 := e.want.l2
		e.l2, e.l2Of = &l2, e.service.UID
	}
	r.Metrics.reported("written")
	return nil
}

// tellChange records an event when the reason is another one, or an address has another node.
func (r *Reporter) tellChange(on *corev1.Service, before *metav1.Condition, now metav1.Condition) {
	if before != nil && before.Status == now.Status && before.Reason == now.Reason &&
		slices.Equal(announcersIn(before.Message), announcersIn(now.Message)) {
		return
	}
	r.Event(on, eventType(now), now.Reason, "Announce", now.Message)
}

// withdraw takes away what was written of a Service that has no address of ours any more.
func (r *Reporter) withdraw(ctx context.Context, e *entry) error {
	if e.current() != nil {
		err := r.writeCondition(ctx, e, kube.ServiceStatus{LeaveIngress: true, Remove: true,
			Condition: metav1.Condition{Type: v1beta1.ConditionAnnounced}})
		if err != nil {
			return err
		}
		e.wrote, e.wroteOn = nil, e.service.ResourceVersion
	}
	if err := r.Writer.DeleteL2Status(ctx, e.service.Namespace, e.service.Name); err != nil {
		return err
	}
	r.Metrics.reported("written")
	return nil
}

// mine reports whether the sweep is for this node to make.
func (r *Reporter) mine() bool {
	return r.services != nil && first(r.known.Members) == r.known.Self
}

func (r *Reporter) sweepDue(now time.Time) bool {
	return r.mine() && (!now.Before(r.resweep) || !r.calm.IsZero() && !now.Before(r.calm))
}

// sweep looks for conditions and ServiceL2Statuses of Services that have no address of ours: those who wrote
// them may be gone. Where the Service is gone, too, its ServiceL2Status goes with it by itself. And it looks for
// ServiceL2Statuses that say something wrong.
func (r *Reporter) sweep(ctx context.Context) error {
	again := r.again
	r.resweep, r.calm, r.again = time.Now().Add(resweeping), time.Time{}, false
	list, err := r.Writer.ListL2Statuses(ctx)
	if err != nil {
		return fmt.Errorf("look for what is left over: %w", err)
	}
	now := time.Now()
	r.resweep = now.Add(sweeping)
	left := map[string]bool{}
	for i := range list {
		if now.Sub(list[i].CreationTimestamp.Time) >= young {
			left[list[i].Namespace+"/"+list[i].Name] = true
		}
	}
	for name, s := range r.services {
		stale := left[name] || meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionAnnounced) != nil
		if !stale || len(r.held[name]) > 0 || r.entries[name] != nil || r.isAnothers(s) {
			continue
		}
		e := &entry{name: name}
		e.meet(s)
		e.end()
		r.entries[name] = e
		r.settle(e)
	}
	r.correct(list, now)
	if len(r.wrong) > 0 && !again {
		r.calm, r.again = now.Add(calming), true
	}
	return nil
}

// correct has a ServiceL2Status written anew that is as wrong as it was in the last sweep, or as missing, whoever reports
// the Service: the write of a node that reported it before may have been on its way for long, and have come last.
func (r *Reporter) correct(list []v1beta1.ServiceL2Status, now time.Time) {
	found, wrong := map[string]*v1beta1.ServiceL2Status{}, map[string]string{}
	for i := range list {
		found[list[i].Namespace+"/"+list[i].Name] = &list[i]
	}
	for name, verdicts := range r.held {
		service := r.services[name]
		if service == nil {
			continue
		}
		e := &entry{name: name}
		e.meet(service)
		e.learn(verdicts, r.known.Reports, now)
		l2, version := found[name], "none"
		if l2 != nil {
			version = l2.ResourceVersion
		}
		if e.want.passing || e.conditionDiffers() || l2 != nil && equality.Semantic.DeepEqual(l2.Status, e.want.l2) {
			continue // right, or whoever reports it is about to write it
		}
		if wrong[name] = version; r.wrong[name] != version {
			continue
		}
		if ours := r.entries[name]; ours != nil {
			e = ours
		}
		e.l2, r.entries[name] = nil, e
		r.settle(e)
	}
	r.wrong = wrong
}

// isAnothers reports whether a Service is of a class that another load balancer, be it a second Lanyard, serves.
func (r *Reporter) isAnothers(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && !kube.IsOurs(s, r.Class)
}
