package speaker

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

var epoch = time.Unix(1_700_000_000, 0).UTC()

// announcedBy is the verdict on an address that a node announces.
func announcedBy(node, ip string, services ...string) *placement.Verdict {
	return &placement.Verdict{IP: netip.MustParseAddr(ip), Services: services, Owner: node, Reason: placement.Announced,
		Interfaces: []string{"eth0"}, Claim: placement.Claim{IP: netip.MustParseAddr(ip), Since: epoch, Phase: placement.Announcing}}
}

func changed(v *placement.Verdict, change func(*placement.Verdict)) *placement.Verdict {
	c := *v
	change(&c)
	return &c
}

// nobody is the verdict on an address that nobody announces.
func nobody(reason placement.Reason, ip string, services ...string) *placement.Verdict {
	return &placement.Verdict{IP: netip.MustParseAddr(ip), Services: services, Reason: reason}
}

func TestOutcome(t *testing.T) {
	rival := func(v *placement.Verdict) { v.Claim.Rival = placement.MAC{2, 0, 0, 0, 0, 9} }
	phase := func(p placement.Phase) func(*placement.Verdict) {
		return func(v *placement.Verdict) { v.Claim.Phase = p }
	}
	reason := func(r placement.Reason, detail string) func(*placement.Verdict) {
		return func(v *placement.Verdict) { v.Reason, v.Detail = r, detail }
	}
	good, six := announcedBy("n1", "10.0.0.1"), announcedBy("n2", "fd00::1")
	const goodText = "10.0.0.1 by n1 on eth0 (02:00:00:00:00:01)"
	for _, tc := range []struct {
		name      string
		verdicts  []*placement.Verdict
		condition string // status, reason and message
		l2        string // the summary
		passing   bool
	}{
		{"announced", []*placement.Verdict{good}, "True Announced " + goodText, "10.0.0.1 n1 eth0 02:00:00:00:00:01 ARP Announcing", false},
		{"by two nodes", []*placement.Verdict{good, six}, "True Announced " + goodText + "; fd00::1 by n2 on eth0",
			"10.0.0.1,fd00::1 n1,n2 eth0 02:00:00:00:00:01 ARP,NDP Announcing", false},
		{"nobody may", []*placement.Verdict{nobody(placement.NoEligibleNode, "10.0.0.1")}, "False NoEligibleNode 10.0.0.1: NoEligibleNode",
			"10.0.0.1    ARP Pending", false},
		{"the second is not", []*placement.Verdict{good, nobody(placement.NoAdvertisement, "fd00::1")},
			"False NoAdvertisement " + goodText + "; fd00::1: NoAdvertisement", "10.0.0.1,fd00::1 n1 eth0 02:00:00:00:00:01 ARP,NDP Announcing,Pending", false},
		{"nothing serves, and it is announced", []*placement.Verdict{changed(good, reason(placement.NoEndpoint, "kube-proxy rejects")), six},
			"True NoEndpoint " + goodText + ": NoEndpoint: kube-proxy rejects; fd00::1 by n2 on eth0", "10.0.0.1,fd00::1 n1,n2 eth0 02:00:00:00:00:01 ARP,NDP Announcing", false},
		{"nothing serves, and it is withdrawn", []*placement.Verdict{nobody(placement.NoEndpoint, "10.0.0.1")}, "False NoEndpoint 10.0.0.1: NoEndpoint",
			"10.0.0.1    ARP Pending", false},
		{"defended against a stranger", []*placement.Verdict{changed(good, reason(placement.AddressConflict, ""))}, "True AddressConflict " + goodText + ": AddressConflict",
			"10.0.0.1 n1 eth0 02:00:00:00:00:01 ARP Announcing", false},
		{"taken", []*placement.Verdict{changed(changed(good, phase(placement.Taken)), rival)}, "False AddressConflict 10.0.0.1: AddressConflict (node n1)",
			"10.0.0.1 n1 eth0 02:00:00:00:00:01 ARP Taken", false},
		{"taken, nobody knows yet by whom", []*placement.Verdict{changed(good, phase(placement.Taken))}, "False Settling 10.0.0.1: Settling (node n1)",
			"10.0.0.1 n1 eth0 02:00:00:00:00:01 ARP Taken", true},
		{"probing", []*placement.Verdict{changed(good, phase(placement.Probing))}, "False Settling 10.0.0.1: Settling (node n1)",
			"10.0.0.1 n1 eth0 02:00:00:00:00:01 ARP Probing", true},
		{"not claimed yet", []*placement.Verdict{changed(good, func(v *placement.Verdict) { v.Reason, v.Claim = placement.Settling, placement.Claim{} })},
			"False Settling 10.0.0.1: Settling (node n1)", "10.0.0.1 n1 eth0 02:00:00:00:00:01 ARP Pending", true},
		{"announced before the verdict says so", []*placement.Verdict{changed(good, reason(placement.Settling, ""))}, "True Announced " + goodText,
			"10.0.0.1 n1 eth0 02:00:00:00:00:01 ARP Announcing", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reports := map[string]placement.Report{"n1": {Interfaces: []placement.Interface{{Name: "eth1", MAC: placement.MAC{2, 0, 0, 0, 0, 9}}, {Name: "eth0", MAC: placement.MAC{2, 0, 0, 0, 0, 1}}}}}
			var list []address
			for _, v := range tc.verdicts {
				list = append(list, addressOf(v, reports))
			}
			o := outcomeOf(list)
			if got := strings.Join([]string{string(o.condition.Status), o.condition.Reason, o.condition.Message}, " "); got != tc.condition {
				t.Errorf("the condition is\n%s, want\n%s", got, tc.condition)
			}
			s := o.l2
			if got := strings.Join([]string{s.Addresses, s.Nodes, s.Interfaces, s.MACs, s.Protocols, s.Phases}, " "); got != tc.l2 {
				t.Errorf("the summary is\n%s, want\n%s", got, tc.l2)
			}
			if o.passing != tc.passing || len(s.Announcements) != len(list) {
				t.Errorf("passing: %v, want %v; %d announcements", o.passing, tc.passing, len(s.Announcements))
			}
		})
	}
}

func TestAnnouncement(t *testing.T) {
	v := announcedBy("n1", "fd00::1")
	v.Claim.Rival, v.Detail, v.Claim.Since = placement.MAC{2, 0, 0, 0, 0, 0x99}, strings.Repeat("ä", longestMessage), epoch.Add(300*time.Millisecond)
	n := announcement(addressOf(v, nil))
	if n.Rival != "02:00:00:00:00:99" || len(n.Message) > longestMessage || !n.Since.Time.Equal(epoch) || n.Protocol != "NDP" {
		t.Errorf("announcement %+v", n)
	}
	if len(n.Interfaces) != 1 || n.Interfaces[0].Name != "eth0" || n.Interfaces[0].MAC != "" {
		t.Errorf("interfaces %+v of a node that has told nothing", n.Interfaces)
	}
	if n := announcement(addressOf(nobody(placement.NoInterface, "10.0.0.1"), nil)); n.Since != nil || n.Reason != "NoInterface" {
		t.Errorf("announcement %+v", n)
	}
}

// TestBounded: a Service with hundreds of addresses fits into a condition and into a ServiceL2Status.
func TestBounded(t *testing.T) {
	var list []address
	ip := netip.MustParseAddr("10.0.0.1")
	for range 300 {
		list = append(list, addressOf(announcedBy("n1", ip.String()), nil))
		ip = ip.Next()
	}
	o := outcomeOf(list)
	if !strings.HasSuffix(o.condition.Message, "; 10.0.0.20 by n1 on eth0; and 280 more") || len(announcersIn(o.condition.Message)) != mostListed {
		t.Errorf("the message is %q", o.condition.Message)
	}
	if want := "10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4,10.0.0.5,10.0.0.6,10.0.0.7,10.0.0.8,+292"; o.l2.Addresses != want || len(o.l2.Announcements) != mostAnnouncements {
		t.Errorf("%d announcements of %q, want %d of %q", len(o.l2.Announcements), o.l2.Addresses, mostAnnouncements, want)
	}
}

func TestEventType(t *testing.T) {
	for _, tc := range []struct {
		status metav1.ConditionStatus
		reason placement.Reason
		want   string
	}{
		{metav1.ConditionTrue, placement.Announced, "Normal"},
		{metav1.ConditionTrue, placement.NoEndpoint, "Normal"},
		{metav1.ConditionTrue, placement.AddressConflict, "Warning"},
		{metav1.ConditionFalse, placement.AddressConflict, "Warning"},
		{metav1.ConditionFalse, placement.NoEligibleNode, "Warning"},
		{metav1.ConditionFalse, placement.Settling, "Normal"},
	} {
		if got := eventType(metav1.Condition{Status: tc.status, Reason: string(tc.reason)}); got != tc.want {
			t.Errorf("%s %s: %s, want %s", tc.status, tc.reason, got, tc.want)
		}
	}
}
