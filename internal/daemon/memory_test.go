package daemon

import (
	"runtime/debug"
	"testing"
)

func TestTuneMemory(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	for gogc, want := range map[string]int{"": collectAt, "off": 100, "200": 100} { // the runtime has set it before
		debug.SetGCPercent(100)
		t.Setenv("GOGC", gogc)
		if tuneMemory(); debug.SetGCPercent(100) != want {
			t.Errorf("GOGC=%q: garbage is not collected at %d %%", gogc, want)
		}
	}
}
