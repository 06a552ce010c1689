package controller

import (
	"testing"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
)

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
