package bench

import (
	"context"
	"testing"
	"time"
)

// What membership measures comes through as figures that can be true.
func TestGossipFigures(t *testing.T) {
	clusters, err := gossipClusters(t.Context(), "-scale-profiles=fast", "-scale-sizes=3", "-scale-claims=30", "-scale-runs=2")
	if err != nil {
		t.Fatal(err)
	}
	figures := gossipFigures(clusters)
	if len(figures) != 7 {
		t.Fatalf("%d figures, want 7: %+v", len(figures), figures)
	}
	for _, f := range figures {
		if Median(f.Ours) <= 0 || f.Of != "" && f.Ratio() < 1 || len(f.Limit) > 0 && len(f.Limit) != len(f.Ours) {
			t.Errorf("%+v", f)
		}
	}
	if f := figures[0]; len(f.Ours) != 2 || Median(f.Limit) < 1 || Median(f.Limit) > 2 { // 20 packets a second, of some 80 bytes
		t.Errorf("%+v", f)
	}
}

// TestGossipFails: clusters that were measured before are not lost.
func TestGossipFails(t *testing.T) {
	clusters, err := gossipClusters(t.Context(), "-scale-profiles=fast", "-scale-sizes=3,2", "-scale-claims=30") // two are too few
	if err == nil || len(clusters) != 1 || clusters[0].Members != 3 {
		t.Errorf("%v, %+v", err, clusters)
	}
}

// TestOwnLimit: a group that is measured in one call has its limit for each run.
func TestOwnLimit(t *testing.T) {
	for runs, own := range map[int]bool{1: false, 3: true} {
		b := &Bench{Runs: runs}
		_, err := b.once(t.Context(), group{limit: time.Minute, own: own, measure: func(ctx context.Context, _ *Bench) ([]Figure, error) {
			if end, _ := ctx.Deadline(); time.Until(end).Round(time.Minute) != time.Duration(runs)*time.Minute {
				t.Errorf("%d runs end at %v", runs, end)
			}
			return nil, nil
		}})
		if err != nil {
			t.Error(err)
		}
	}
}
