package bench

import (
	"os"
	"slices"
	"testing"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// TestRun measures a little in a lab: what is wrong in the stage or the adapter file shows.
func TestRun(t *testing.T) {
	if err := lab.NeedRoot(); err != nil {
		t.Skip("LEFT OUT: ", err)
	}
	if err := lab.Build(t.Context(), os.Stderr); err != nil {
		t.Fatal(err)
	}
	own, err := Load(Own)
	if err != nil {
		t.Fatal(err)
	}
	const n = 20
	all, err := Run(t.Context(), Options{Implementations: []*Implementation{own}, Groups: []string{"allocation"}, Runs: 2, Services: []int{n}, Out: t.Output()})
	if err != nil || len(all) != 1 {
		t.Fatalf("%v, %d results", err, len(all))
	}
	for _, f := range all[0].Figures {
		values, low := 2, f.Ours
		if f.Percentile != 0 { // an address may be seen before the creation is acknowledged
			values, low = 2*singles, []float64{f.Counts(f.Ours)}
		}
		if len(f.Ours) != values || slices.Min(low) <= 0 || (len(f.Limit) > 0 && slices.Min(f.Limit) <= 0) {
			t.Errorf("%+v, want %d values above 0", f, values)
		}
	}
	if len(all[0].Figures) != 5 {
		t.Errorf("%d figures, want 5", len(all[0].Figures))
	}
}
