package speaker

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/lanyard-lb/lanyard/internal/kube"
	"github.com/lanyard-lb/lanyard/internal/membership"
)

// TestStateOfChanges: whatever changes, the file says what is known, and nothing is written when it does already.
func TestStateOfChanges(t *testing.T) {
	for seed := range uint64(5) {
		k := keeper{path: filepath.Join(t.TempDir(), stateFile)}
		defer k.close()
		c, w := newChurn(seed), newWorld("")
		seen := c.all().observed()
		for step := range 40 {
			now, changed := w.take(seen, false)
			if step%7 == 0 {
				now.Peers, now.Running = []membership.Peer{{Name: "n1"}}, map[string]bool{"n1": step%2 == 0}
				w.known, changed = now, true
			}
			before, size := k.size+k.more, k.kept.Services.Len()
			if err := k.keep(now); err != nil {
				t.Fatal(err)
			}
			if wrote := k.size+k.more != before; wrote && !changed {
				t.Errorf("seed %d, step %d: wrote of %d Services although nothing has changed", seed, step, size)
			}
			got, err := readState(k.path)
			if err != nil || !reflect.DeepEqual(plain(got), plain(now)) {
				t.Fatalf("seed %d, step %d: reads\n%s (%v), want\n%s", seed, step, text(t, plain(got)), err, text(t, plain(now)))
			}
			seen = c.next()
		}
	}
}

// TestStateStaysSmall: the file is written anew when much has been added, and when it is not ours any more.
func TestStateStaysSmall(t *testing.T) {
	k := keeper{path: filepath.Join(t.TempDir(), stateFile)}
	defer k.close()
	w := newWorld("")
	known, _ := w.take(cluster(100, "n1").observed(), false)
	keep := func() {
		t.Helper()
		if err := k.keep(known); err != nil {
			t.Fatal(err)
		}
	}
	keep()
	whole := k.size
	for i := range 5000 {
		s := assigned("svc0", "10.0.0.1")
		s.Annotations = map[string]string{"lanyard.dev/move-to": []string{"n1", "n2"}[i%2]}
		known, _ = w.take(kube.Observed{Services: map[string]*corev1.Service{"default/" + s.Name: &s}}, false)
		keep()
	}
	info, err := os.Stat(k.path)
	if err != nil || info.Size() != k.size+k.more || info.Size() > whole+whole/2+slack+1000 {
		t.Errorf("the file has %d bytes, and %d when it was written; %v", info.Size(), whole, err)
	}
	if err := os.Remove(k.path); err != nil {
		t.Fatal(err)
	}
	keep()
	if got, err := readState(k.path); err != nil || !reflect.DeepEqual(got, known) {
		t.Errorf("after it was removed, reads %s, %v", text(t, got), err)
	}
}

// TestStateCutOff: of what was added, what is whole counts; what was written at once must be there.
func TestStateCutOff(t *testing.T) {
	k := keeper{path: filepath.Join(t.TempDir(), stateFile)}
	w := newWorld("")
	first, _ := w.take(cluster(3, "n1").observed(), false)
	if err := k.keep(first); err != nil {
		t.Fatal(err)
	}
	s := assigned("svc9", "10.0.0.9")
	second, _ := w.take(kube.Observed{Services: map[string]*corev1.Service{"default/" + s.Name: &s}}, false)
	if err := k.keep(second); err != nil {
		t.Fatal(err)
	}
	k.close()
	data, err := os.ReadFile(k.path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(data) + 1 {
		if n%5 != 0 && int64(n) < k.size-20 {
			continue
		}
		if err := os.WriteFile(k.path, data[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readState(k.path)
		switch services := got.Services.Len(); {
		case int64(n) < k.size-1 && err == nil:
			t.Fatalf("%d bytes of %d do for %d Services", n, k.size, services)
		case int64(n) >= k.size && err != nil:
			t.Fatalf("%d bytes: %v", n, err)
		case int64(n) >= k.size && n < len(data)-1 && services != 3, n >= len(data)-1 && services != 4:
			t.Fatalf("%d bytes of %d have %d Services", n, len(data), services)
		}
	}
	if err := os.WriteFile(k.path, []byte(strings.Replace(string(data), `"Version":3`, `"Version":2`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readState(k.path); err == nil || !strings.Contains(err.Error(), "is of version 2, not 3") {
		t.Errorf("of another version: %v", err)
	}
}
