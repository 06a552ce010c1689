package controller

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
)

// quarantine has the speakers say that strangers use addresses of the pool lan: the IP, or IP held.
func (w *world) quarantine(texts ...string) {
	w.t.Helper()
	p := w.pool("lan")
	p.Status.Quarantined = nil
	for _, text := range texts {
		ip, held, _ := strings.Cut(text, " ")
		p.Status.Quarantined = append(p.Status.Quarantined, v1beta1.QuarantinedAddress{Address: ip, MAC: "02:00:00:00:00:99", Node: "n1", Held: held != ""})
	}
	w.reconfigure()
}

func (w *world) message(name string) string {
	s := w.services[types.NamespacedName{Namespace: "default", Name: name}]
	return meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionIPAssigned).Message
}

// TestQuarantine: what a stranger uses is not handed out; who holds it by chance and was not in use gets
// another one, and an event says why; who asked for it, or was in use, keeps it, and the message says so.
func TestQuarantine(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1-10.0.0.9")
	w.start("")
	w.apply("chance")
	w.apply("named", annotated(v1beta1.AnnotationAddresses, "10.0.0.2"))
	w.apply("used")
	w.expect("used", "10.0.0.3 True Assigned")
	w.events = nil
	w.quarantine("10.0.0.1", "10.0.0.2", "10.0.0.3 held", "10.0.0.4")
	w.expect("chance", "10.0.0.5 True Assigned")
	w.expect("named", "10.0.0.2 True Assigned")
	w.expect("used", "10.0.0.3 True Assigned")
	for _, name := range []string{"named", "used"} {
		if m := w.message(name); !strings.Contains(m, "a stranger on the LAN uses: 02:00:00:00:00:99, heard by n1") {
			t.Errorf("%s is told %q", name, m)
		}
	}
	if !slices.Contains(w.events, "Warning Quarantined") {
		t.Errorf("events %q, want one that says why chance has moved", w.events)
	}
	if got := w.records.holdersOf("10.0.0.1"); got != "" {
		t.Errorf("10.0.0.1 is still held by %q", got)
	}
	if c := w.pool("lan").Status.IPv4; c.Quarantined != "2" || c.Assigned != "3" || c.Available != "4" {
		t.Errorf("the pool counts %+v, want 2 in quarantine, 3 assigned, 4 available", c)
	}
	before := w.writes
	w.start("")
	w.expect("chance", "10.0.0.5 True Assigned")
	if w.writes != before {
		t.Errorf("a restart wrote %d times", w.writes-before)
	}
	w.apply("wants", annotated(v1beta1.AnnotationAddresses, "10.0.0.1"))
	w.expect("wants", "False Quarantined")
	w.quarantine()
	w.expect("wants", "10.0.0.1 True Assigned")
	if m := w.message("named"); strings.Contains(m, "stranger") {
		t.Errorf("named is told %q, and the stranger is gone", m)
	}
}

// TestQuarantinedWhileNobodyLooked: a controller that starts goes by it, too.
func TestQuarantinedWhileNobodyLooked(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1-10.0.0.9")
	w.start("")
	w.apply("chance")
	w.asleep(func() { w.quarantine("10.0.0.1", "fd00::zz") })
	w.expect("chance", "10.0.0.2 True Assigned")
}

// TestLeavesQuarantinedToSpeakers: the controller writes the rest of a pool's status, neither takes this field
// away nor writes what it has seen of it, and comes to rest.
func TestLeavesQuarantinedToSpeakers(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.0/24")
	w.pool("lan").Status.Quarantined = []v1beta1.QuarantinedAddress{{Address: "10.0.0.9", MAC: "02:00:00:00:00:99"}}
	w.start("")
	w.apply("web")
	if p := w.pool("lan"); len(p.Status.Quarantined) != 1 || p.Status.IPv4 == nil || p.Status.IPv4.Assigned != "1" {
		t.Errorf("the pool says %+v, want one assigned and one quarantined", p.Status)
	}
	before := w.writes
	w.report = true
	w.settle()
	if w.writes != before {
		t.Errorf("%d writes though nothing has changed", w.writes-before)
	}
	if fields := statusOf(w.pool("lan").Status); fields["conditions"] == nil {
		t.Error("a status without conditions")
	} else if value, named := fields["quarantined"]; named {
		t.Errorf("writes quarantined: %v", value)
	}
	if _, named := statusOf(v1beta1.IPAddressPoolStatus{})["quarantined"]; named {
		t.Error("takes quarantined away")
	}
}
