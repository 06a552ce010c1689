package soak

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestDisagreements: of a cluster in which all agrees, each thing in turn is made to say otherwise.
func TestDisagreements(t *testing.T) {
	free := netip.MustParseAddr("10.77.0.131")
	for _, test := range []struct {
		name   string
		change func(r *Rest)
		want   string
	}{
		{"all agrees", func(*Rest) {}, ""},
		{"nobody answers", func(r *Rest) { r.Answers[0][addrA] = nil }, "10.77.0.130 of [default/web] is answered by []"},
		{"two answer", func(r *Rest) { r.Answers[0][addrA] = []string{"n1", "n2"} }, "is answered by [n1 n2]"},
		{"clients disagree", func(r *Rest) { r.Answers[1][addrA] = []string{"n3"} }, "by [n1] to one client and by [n3] to another"},
		{"a free one is answered", func(r *Rest) { r.Answers[1][free] = []string{"n3"} }, "no status names it"},
		{"one answers that may not", func(r *Rest) { r.Facts.Nodes["n1"].Excluded = true }, "want one of [n2 n3 n4]"},
		{"nobody may", func(r *Rest) { clear(r.Facts.Advertisements) }, "nobody may: NoAdvertisement"},
		{"no condition", func(r *Rest) { r.Facts.Services["default/web"].Assigned = Condition{} }, "its condition is"},
		{"another reason", func(r *Rest) { r.Facts.Services["default/web"].Assigned.Reason = "PoolExhausted" }, "has all that it asks for"},
		{"false", func(r *Rest) { r.Facts.Services["default/web"].Assigned.Status = "False" }, "want True"},
		{"waits in vain", func(r *Rest) { r.Facts.Services["default/waits"].Annotations = nil }, "although it could have one of the 1 of IPv4 in pool block-0"},
		{"waits for what is free", func(r *Rest) {
			r.Facts.Services["default/waits"].Annotations[annotationAddresses] = free.String()
		}, "although it could have 10.77.0.131"},
		{"waits for what is quarantined", func(r *Rest) {
			p := r.Facts.Pools["block-0"]
			r.Facts.Services["default/waits"].Annotations[annotationAddresses] = free.String()
			p.Quarantined = []Quarantined{{Address: free.String()}}
			p.Counts[4] = Counts{Total: 2, Assigned: 1, Quarantined: 1}
		}, ""},
		{"keeps two and waits for two others, of which one is not free", func(r *Rest) {
			p := r.Facts.Pools["block-0"]
			askForOthers(r)
			p.Quarantined = []Quarantined{{Address: "fd77::1:1"}}
			p.Counts[6] = Counts{Total: 2, Assigned: 1, Quarantined: 1}
		}, ""},
		{"keeps two and waits for two others that are free", askForOthers, "although it could have 10.77.0.131 and fd77::1:1"},
		{"keeps an address of no pool", outside("OutsidePool"), ""},
		{"keeps an address of no pool, and nobody has it wait for another", outside("PoolPaused"), "in no pool any more"},
		{"keeps an address of no pool until there is another", func(r *Rest) {
			outside("PoolPaused")(r)
			r.Facts.Pools["block-0"].Reassign = true
		}, ""},
		{"keeps an address of no pool until its reservation has one", func(r *Rest) {
			outside("ReservationMissing")(r)
			r.Facts.Services["default/web"].Annotations = map[string]string{annotationReservation: "none"}
		}, ""},
		{"is announced elsewhere", func(r *Rest) {
			r.Facts.Services["default/web"].Announced.Message = "10.77.0.130 by n3 on eth0; fd77::1:0 by n2 on eth0"
		},
			"10.77.0.130 is answered by n1, and the condition Announced says"},
		{"is not announced", func(r *Rest) { r.Facts.Services["default/web"].Announced.Status = "False" }, "should have the condition Announced True"},
		{"the report is old", func(r *Rest) { r.Facts.Reports["default/web"].Announcements[0].Node = "n4" }, "its ServiceL2Status says"},
		{"the report has another MAC", func(r *Rest) { r.Facts.Reports["default/web"].Announcements[0].MAC = "02:77:00:00:00:14" }, "its ServiceL2Status says"},
		{"no report", func(r *Rest) { clear(r.Facts.Reports) }, "has no ServiceL2Status"},
		{"a report of a Service that is gone", func(r *Rest) { r.Facts.Reports["default/old"] = &L2Status{Owners: []string{"7"}} }, ""},
		{"a report of a Service without an address", func(r *Rest) {
			r.Facts.Reports["default/waits"] = &L2Status{Owners: []string{r.Facts.Services["default/waits"].UID}}
		}, "there is a ServiceL2Status default/waits"},
		{"a report too many", func(r *Rest) { r.Facts.Reports["default/old"] = &L2Status{} }, "there is a ServiceL2Status default/old"},
		{"something is left", func(r *Rest) {
			r.Facts.Services["default/waits"].LoadBalancer = false
		}, "is none of ours"},
		{"the pool counts wrong", func(r *Rest) { r.Facts.Pools["block-0"].Counts[4] = Counts{Total: 2, Assigned: 2} }, "pool block-0 counts"},
		{"the pool is not in force", func(r *Rest) { r.Facts.Pools["block-0"].Ready = Condition{Status: "False", Reason: "Overlap"} }, "pool block-0 says Ready"},
		{"the advertisement is not in force", func(r *Rest) {
			r.Facts.Advertisements["wide"].Ready = Condition{Status: "False", Reason: "InvalidSelector"}
		},
			"advertisement wide says Ready"},
		{"a bad advertisement is in force", func(r *Rest) {
			r.Facts.Advertisements[bad] = &Advert{Name: bad, Current: true, Ready: Condition{Status: "True", Reason: "InForce"}}
		}, "advertisement bad says Ready"},
		{"the records know nothing", func(r *Rest) { clear(r.Records) }, "the records say []"},
		{"the records know too much", func(r *Rest) { r.Records[free] = []string{"default/old"} }, "10.77.0.131 is held by []"},
		{"two have one", func(r *Rest) { r.Facts.Services["default/waits"].IPs = []netip.Addr{addrA} }, "which may not share it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := someFacts()
			r := Rest{Facts: f, MACs: map[string]string{"n1": "02:77:00:00:00:11", "n2": "02:77:00:00:00:12"},
				Records: map[netip.Addr][]string{addrA: {"default/web"}, addrB: {"default/web"}},
				Answers: []map[netip.Addr][]string{{addrA: {"n1"}, addrB: {"n2"}}, {addrA: {"n1"}, addrB: {"n2"}}}}
			test.change(&r)
			have := strings.Join(r.Disagreements(), "\n")
			if test.want == "" && have != "" || !strings.Contains(have, test.want) {
				t.Errorf("disagreements are\n%s\nwant %q", have, test.want)
			}
		})
	}
}

// askForOthers has a Service that requires both families, and has both, ask for other addresses.
func askForOthers(r *Rest) {
	s := r.Facts.Services["default/web"]
	s.RequireBoth, s.Annotations = true, map[string]string{annotationAddresses: "10.77.0.131,fd77::1:1"}
	s.Assigned = Condition{"True", "Quarantined", "a stranger uses fd77::1:1"}
}

// outside has the pool list an address less that a Service keeps.
func outside(reason string) func(*Rest) {
	return func(r *Rest) {
		p, s := r.Facts.Pools["block-0"], r.Facts.Services["default/web"]
		p.Spans = slices.DeleteFunc(slices.Clone(p.Spans), func(x Span) bool { return x.Has(addrA) })
		p.Counts[4] = Counts{}
		s.Assigned = Condition{"True", reason, "it keeps what it has"}
	}
}
