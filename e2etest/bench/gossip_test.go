package bench

import "testing"

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
