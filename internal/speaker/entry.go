package speaker

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// entry is one Service that this node reports: what the API server should say of it, and what we know that it does.
type entry struct {
	name    string          // namespace/name
	service *corev1.Service // the newest; nil: the API server has not told of it
	seen    []address       // what want was made of
	want    outcome
	gone    bool      // nothing should be said of the Service any more
	passing time.Time // since when want has been one that passes; zero: it is not

	wrote   *metav1.Condition // what we wrote on the version wroteOn of the Service; nil: we took it away
	wroteOn string
	l2      *v1beta1.ServiceL2StatusStatus // what we wrote last
	l2Of    types.UID                      // of the Service that l2 was written for

	attempts int       // of the same want
	failures int       // of these, other than that the Service had changed
	after    time.Time // when the next attempt may be made
	refused  string    // the version of the Service that was not the newest; empty: none

	place *place // in the agenda; nil: none
}

// meet takes in the newest version of the Service.
func (e *entry) meet(s *corev1.Service) {
	e.service = s
	if s != nil && e.refused != "" && e.refused != s.ResourceVersion {
		e.refused, e.after = "", time.Time{}
	}
}

// learn takes in how the addresses are announced now.
func (e *entry) learn(verdicts []*placement.Verdict, reports map[string]placement.Report, now time.Time) {
	list := make([]address, 0, len(verdicts))
	for _, v := range verdicts {
		list = append(list, addressOf(v, reports))
	}
	if !e.gone && len(e.seen) > 0 && slices.EqualFunc(e.seen, list, address.same) {
		return
	}
	e.seen, e.gone = list, false
	e.aim(outcomeOf(list), now)
}

func (e *entry) aim(want outcome, now time.Time) {
	switch {
	case !want.passing:
		e.passing = time.Time{}
	case e.passing.IsZero():
		e.passing = now
	}
	e.want, e.attempts, e.failures, e.after = want, 0, 0, time.Time{}
}

// end has nothing said of the Service any more.
func (e *entry) end() {
	if !e.gone {
		e.gone, e.passing, e.attempts, e.failures, e.after = true, time.Time{}, 0, 0, time.Time{}
	}
}

// current is the condition that the Service has, as far as we know, or nil.
func (e *entry) current() *metav1.Condition {
	if e.wroteOn != "" && e.service.ResourceVersion == e.wroteOn {
		return e.wrote
	}
	return meta.FindStatusCondition(e.service.Status.Conditions, v1beta1.ConditionAnnounced)
}

// condition is the one that the Service should have.
func (e *entry) condition(now time.Time) metav1.Condition {
	c := e.want.condition
	c.ObservedGeneration, c.LastTransitionTime = e.service.Generation, metav1.NewTime(now)
	if was := e.current(); was != nil && was.Status == c.Status {
		c.LastTransitionTime = was.LastTransitionTime
	}
	return c
}

func (e *entry) conditionDiffers() bool {
	was, want := e.current(), e.want.condition
	return was == nil || was.Status != want.Status || was.Reason != want.Reason || was.Message != want.Message ||
		was.ObservedGeneration != e.service.Generation
}

func (e *entry) l2Differs() bool {
	return e.l2 == nil || e.l2Of != e.service.UID || !equality.Semantic.DeepEqual(*e.l2, e.want.l2)
}

// differs reports whether there is something to write.
func (e *entry) differs() bool {
	return e.service != nil && (e.gone || e.conditionDiffers() || e.l2Differs())
}

// due is when it may be written.
func (e *entry) due() time.Time {
	if e.passing.IsZero() {
		return e.after
	}
	return later(e.after, e.passing.Add(passing))
}

// urgency orders entries: trouble, then what is said and wrong, then what only adds to it.
func (e *entry) urgency() int {
	switch {
	case !e.gone && e.want.condition.Status == metav1.ConditionFalse:
		return 0
	case e.gone || e.conditionDiffers():
		return 1
	}
	return 2
}

// tried notes an attempt and how it went. The next one of the same content comes ever later, also after a success: should
// somebody else keep on writing otherwise, we do not keep up with them. A newer version of a Service that had changed is
// tried at once.
func (e *entry) tried(now time.Time, err error) {
	if !e.after.IsZero() && now.Sub(e.after) > time.Minute {
		e.attempts = 0
	}
	e.after = now.Add(backoff(e.attempts))
	e.attempts++
	switch {
	case err == nil:
		e.failures = 0
	case isStale(err):
		e.refused = e.service.ResourceVersion
	default:
		e.failures++
	}
}
