package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// New builds a lab for a test, with the binaries if need be, or attaches one to what is there already (see Ground), and takes
// it down when the test ends. Without root it skips the test, loudly, and so it does where the ground cannot give what the
// options ask for. A failed test logs the end of every process's log; if $LANYARD_ARTIFACTS names a folder, the whole logs
// are copied there.
func New(t testing.TB, opts Options) *Lab {
	t.Helper()
	if err := NeedRoot(); err != nil {
		t.Skip(err)
	}
	chosen, err := chosenGround()
	if err != nil {
		t.Fatal(err)
	}
	if why := opts.unfit(chosen); why != "" {
		t.Skipf("not on %s: %s", chosen, why)
	}
	if chosen == OnOwn {
		if err := Build(t.Context(), os.Stderr); err != nil {
			t.Fatal(err)
		}
	}
	l, err := claim(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := l.raise(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.refuseRaces(t)
		if t.Failed() {
			l.explain(t)
		}
		if err := l.Down(); err != nil {
			t.Errorf("take lab %s down: %v", l.Prefix, err)
		}
	})
	return l
}

// refuseRaces fails the test when a daemon that was built with the race detector has found one.
func (l *Lab) refuseRaces(t testing.TB) {
	for _, p := range l.Processes() {
		if p.Log == "" {
			continue
		}
		text, err := os.ReadFile(p.Log)
		if at := strings.Index(string(text), "WARNING: DATA RACE"); err == nil && at >= 0 {
			t.Errorf("%s on %s:\n%s", p.Name, p.Host.Hostname, text[at:min(len(text), at+4000)])
		}
	}
}

// explain says, after a failure, what the lab's processes said.
func (l *Lab) explain(t testing.TB) {
	for _, p := range l.Processes() {
		t.Logf("--- lab %s, %s on %s, alive: %t, end of its log:\n%s", l.Prefix, p.Name, p.Host.Hostname, p.Alive(), p.LogTail(15))
	}
	folder := os.Getenv("LANYARD_ARTIFACTS")
	if folder == "" {
		return
	}
	to := filepath.Join(folder, strings.ReplaceAll(t.Name(), "/", "_"))
	if err := os.CopyFS(to, os.DirFS(filepath.Join(l.StateDir(), "log"))); err != nil {
		t.Logf("copy the logs to %s: %v", to, err)
		return
	}
	t.Logf("the logs are in %s", to)
}

// Dump writes the state of the cluster as kubectl shows it, for a person to read.
func (l *Lab) Dump(ctx context.Context, w io.Writer) {
	out, err := l.Kubectl(ctx, "get", "nodes,pods,services,endpointslices,events", "-A", "-o", "wide")
	fmt.Fprintln(w, out)
	if err != nil {
		fmt.Fprintln(w, err)
	}
}
