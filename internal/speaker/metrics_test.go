package speaker

import (
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lanyard-lb/lanyard/internal/membership"
	"github.com/lanyard-lb/lanyard/internal/placement"
	"github.com/lanyard-lb/lanyard/internal/sortedlist"
)

func TestMetricsOfFrames(t *testing.T) {
	registry := prometheus.NewRegistry()
	m, err := NewMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	v4, v6 := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd00::1")
	m.Answered("eth0", v4)
	m.Announced("eth0", v4)
	m.Probed("eth0", v4)
	m.Defended("eth0", v4)
	m.Failed("eth0", v4)
	m.Conflicted("eth0", v6, true)
	m.Conflicted("eth1", v6, true)
	m.Conflicted("eth0", v4, false)
	m.passed(placement.Facts{Members: []string{"n1"}, Known: 2}, placement.Decision{}, nil)
	m.Conflicted("eth0", v4, false)
	m.Conflicted("eth0", v6, true)
	m.passed(placement.Facts{Members: []string{"n1", "n2"}, Known: 3}, placement.Decision{}, nil)
	m.Conflicted("eth0", v4, false)
	got := make(map[string]float64)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			name := f.GetName()
			for _, label := range metric.GetLabel() {
				name += " " + label.GetName() + "=" + label.GetValue()
			}
			got[name] = metric.GetCounter().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"lanyard_layer2_frames_total family=IPv4 interface=eth0 outcome=answered":  1,
		"lanyard_layer2_frames_total family=IPv4 interface=eth0 outcome=announced": 1,
		"lanyard_layer2_frames_total family=IPv4 interface=eth0 outcome=probed":    1,
		"lanyard_layer2_frames_total family=IPv4 interface=eth0 outcome=defended":  1,
		"lanyard_layer2_frames_total family=IPv4 interface=eth0 outcome=failed":    1,
		"lanyard_layer2_conflicts_total by=peer family=IPv6":                       3,
		"lanyard_layer2_conflicts_total by=stranger family=IPv4":                   2,
		"lanyard_layer2_conflicts_total by=unknown family=IPv4":                    1,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

// TestMetricsOfTraffic: what membership has counted since it began is counted once, however often it tells.
func TestMetricsOfTraffic(t *testing.T) {
	registry := prometheus.NewRegistry()
	m, err := NewMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	m.gossip(membership.Health{PacketsSent: 3, PacketsReceived: 2, BytesSent: 300, BytesReceived: 200})
	m.gossip(membership.Health{PacketsSent: 4, PacketsReceived: 2, BytesSent: 450, BytesReceived: 200})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			for _, label := range metric.GetLabel() {
				got[f.GetName()+" "+label.GetValue()] = metric.GetCounter().GetValue()
			}
		}
	}
	want := map[string]float64{
		"lanyard_gossip_packets_total sent": 4, "lanyard_gossip_packets_total received": 2,
		"lanyard_gossip_bytes_total sent": 450, "lanyard_gossip_bytes_total received": 200,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestMetricsOfSilence: what nobody announces is counted by reason, and no longer once somebody does.
func TestMetricsOfSilence(t *testing.T) {
	registry := prometheus.NewRegistry()
	m, err := NewMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	ip := netip.MustParseAddr("10.1.0.1")
	var before verdicts
	for _, step := range []struct {
		verdict *placement.Verdict
		want    map[string]float64
	}{
		{&placement.Verdict{IP: ip, Reason: placement.NoEligibleNode}, map[string]float64{"NoEligibleNode": 1}},
		{&placement.Verdict{IP: ip, Owner: "n2", Reason: placement.Settling}, map[string]float64{"Settling": 1}},
		{&placement.Verdict{IP: ip, Owner: "n2", Reason: placement.AddressConflict,
			Claim: placement.Claim{Phase: placement.Taken, Since: time.Unix(1, 0)}}, map[string]float64{"AddressConflict": 1}},
		{&placement.Verdict{IP: ip, Owner: "n2", Reason: placement.NoEndpoint,
			Claim: placement.Claim{Phase: placement.Announcing, Since: time.Unix(1, 0)}}, map[string]float64{}},
	} {
		after := sortedlist.Of([]*placement.Verdict{step.verdict})
		m.passed(placement.Facts{}, placement.Decision{Verdicts: after}, changesOf(before, after))
		before = after
		got := map[string]float64{}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() != "lanyard_speaker_unannounced_addresses" {
				continue
			}
			for _, metric := range f.GetMetric() {
				got[metric.GetLabel()[0].GetValue()] = metric.GetGauge().GetValue()
			}
		}
		if !maps.Equal(got, step.want) {
			t.Errorf("%s: have %v, want %v", step.verdict.Reason, got, step.want)
		}
	}
}
