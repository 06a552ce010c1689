package speaker

import (
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lanyard-lb/lanyard/internal/placement"
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
		"lanyard_layer2_conflicts_total by=peer family=IPv6":                       2,
		"lanyard_layer2_conflicts_total by=stranger family=IPv4":                   1,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
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
	var before []*placement.Verdict
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
		after := []*placement.Verdict{step.verdict}
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
