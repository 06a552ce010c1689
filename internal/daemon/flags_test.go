package daemon

import "testing"

// TestPprofStaysOnTheMachine: profiles are served to this machine alone, and only if that is asked for.
func TestPprofStaysOnTheMachine(t *testing.T) {
	for address, right := range map[string]bool{
		"": true, "127.0.0.1:6060": true, "[::1]:6060": true,
		":6060": false, "0.0.0.0:6060": false, "10.77.0.11:6060": false, "[::]:6060": false, "localhost:6060": false, "127.0.0.1": false,
	} {
		f := Flags{PprofBindAddress: address}
		if err := f.checkPprof(); (err == nil) != right {
			t.Errorf("--pprof-bind-address=%s: %v", address, err)
		}
	}
}
