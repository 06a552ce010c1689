package speaker

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTroubles(t *testing.T) {
	both := map[string]bool{"n2": true, "n3": true}
	for _, tc := range []struct {
		name     string
		running  map[string]bool
		problems map[string]string
		lasts    time.Duration
		told     []string
		ready    string // what the error says; empty: there is none
	}{
		{"all is well", both, nil, time.Minute, nil, ""},
		{"a peer starts", both, map[string]string{"n2": "timeout"}, lasting - 1, nil, ""},
		{"a peer is cut off", both, map[string]string{"n2": "timeout"}, lasting, []string{"n2"}, ""},
		{"a peer is down, and known to be", map[string]bool{"n3": true}, map[string]string{"n2": "timeout"}, time.Minute, nil, ""},
		{"all peers are cut off", both, map[string]string{"n2": "timeout", "n3": "timeout"}, lasting, []string{"n2", "n3"}, "none of the 2 other speakers: timeout"},
		{"another key", both, map[string]string{"n2": "wrong key? the peer has another gossip key"}, lasting, []string{"n2"}, "n2: wrong key?"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := troubles{since: map[string]time.Time{}, told: map[string]string{}}
			begin := time.Now()
			s.look(tc.running, tc.problems, begin)
			began, _ := s.look(tc.running, tc.problems, begin.Add(tc.lasts))
			if !slices.Equal(began, tc.told) || !slices.Equal(slices.Sorted(maps.Keys(s.told)), tc.told) {
				t.Errorf("tells of %v, want %v", began, tc.told)
			}
			if (s.err != nil) != (tc.ready != "") || s.err != nil && !strings.Contains(s.err.Error(), tc.ready) {
				t.Errorf("says %v, want %q", s.err, tc.ready)
			}
			again, _ := s.look(tc.running, tc.problems, begin.Add(time.Hour))
			if tc.told != nil && len(again) > 0 {
				t.Errorf("tells of %v twice", again)
			}
			if _, ended := s.look(tc.running, nil, begin.Add(2*time.Hour)); s.err != nil || len(ended) < len(tc.told) {
				t.Errorf("in the end: %v, over for %v", s.err, ended)
			}
		})
	}
}
