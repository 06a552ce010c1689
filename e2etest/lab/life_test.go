package lab_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
	"github.com/lanyard-lb/lanyard/e2etest/netspace"
)

// traces lists what is left of a lab on this machine.
func traces(prefix string) error {
	var found []string
	spaces, err := netspace.List(prefix + "-")
	if err != nil {
		return err
	}
	found = append(found, spaces...)
	for _, pattern := range []string{"/run/lanyard-lab/" + prefix, filepath.Join(os.TempDir(), "lanyard-lab-"+prefix+"-*")} {
		paths, _ := filepath.Glob(pattern)
		found = append(found, paths...)
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range processes {
		raw, _ := os.ReadFile(path)
		line := strings.ReplaceAll(string(raw), "\x00", " ")
		if strings.Contains(line, "/run/lanyard-lab/"+prefix+"/") || strings.Contains(line, " reap "+prefix+" ") {
			found = append(found, line)
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("left of lab %s: %q", prefix, found)
	}
	return nil
}

// TestDownLeavesNothing builds two labs with the same addresses side by side, and takes them down.
func TestDownLeavesNothing(t *testing.T) {
	t.Parallel()
	prefixes := []string{"sideone", "sidetwo"}
	t.Run("side by side", func(t *testing.T) {
		for _, prefix := range prefixes {
			l := lab.New(t, lab.Options{Prefix: prefix, Nodes: 1})
			must(t, l.RunPod(within(t, 20*time.Second), "n1", "web-"+prefix, web))
			if traces(prefix) == nil {
				t.Fatal("a running lab leaves no trace: this test sees nothing")
			}
			t.Cleanup(func() { must(t, l.Down()) }) // New takes it down once more
			defer func() {
				reply, err := l.HTTPGet("n1", lab.URL(podIP(t, l, "web-"+prefix), lab.HTTPPort), time.Second)
				must(t, err)
				if reply.Pod != "web-"+prefix {
					t.Errorf("lab %s reaches %s of the other", prefix, reply.Pod)
				}
			}()
		}
	})
	for _, prefix := range prefixes {
		must(t, traces(prefix))
	}
}

// TestInterrupt ends the context in the middle of Up.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	needRoot(t)
	must(t, lab.Build(t.Context(), os.Stderr))
	ctx, cancel := context.WithCancel(t.Context())
	l, err := lab.Up(ctx, lab.Options{Prefix: "interrupted", Out: writer(func(line string) {
		if strings.Contains(line, "kube-apiserver") {
			cancel()
		}
	})})
	if !errors.Is(err, context.Canceled) || l != nil {
		t.Errorf("Up returned %v, %v; want the context's error", l, err)
	}
	eventually(t, 5*time.Second, func() error { return traces("interrupted") })
}

type writer func(line string)

func (w writer) Write(p []byte) (int, error) {
	w(string(p))
	return len(p), nil
}

const ownerEnv = "LANYARD_LAB_TEST_OWNER"

// TestOwner is no test: it is the process that TestOwnerDies kills. It builds a lab and waits for its end.
func TestOwner(t *testing.T) {
	prefix := os.Getenv(ownerEnv)
	if prefix == "" {
		t.Skip("only a helper of TestOwnerDies")
	}
	l, err := lab.Up(t.Context(), lab.Options{Prefix: prefix, Nodes: 1, NoCluster: true})
	must(t, err)
	_, err = l.Start("n1", lab.ProcessOptions{Name: "sleep", Path: "/bin/sleep", Args: []string{"600"}, Privilege: lab.AsNobodyNetRaw})
	must(t, err)
	_, err = l.Start("n1", lab.ProcessOptions{Name: "shell", Path: "/bin/sh",
		Args: []string{"-c", "setsid sleep 600 & wait"}})
	must(t, err)
	fmt.Println("\nowner is ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// TestOwnerDies kills the owner of a lab without warning, alone and with its reaper.
func TestOwnerDies(t *testing.T) {
	t.Parallel()
	needRoot(t)
	must(t, lab.Build(t.Context(), os.Stderr))
	t.Run("alone", func(t *testing.T) {
		owner := startOwner(t, "orphan")
		must(t, owner.Process.Kill())
		_ = owner.Wait()
		eventually(t, 10*time.Second, func() error { return traces("orphan") })
	})
	t.Run("with its reaper", func(t *testing.T) {
		owner := startOwner(t, "orphan")
		record, err := lab.ReadRecord("orphan")
		must(t, err)
		if record.Status() != "in use" {
			t.Errorf("lab of a live owner is %s", record.Status())
		}
		must(t, syscall.Kill(record.Reaper.PID, syscall.SIGKILL))
		must(t, owner.Process.Kill())
		_ = owner.Wait()
		eventually(t, 5*time.Second, func() error {
			for _, p := range record.Processes {
				if p.Alive() {
					return fmt.Errorf("%s outlives the owner", p.Name)
				}
			}
			return nil
		})
		if traces("orphan") == nil {
			t.Error("nothing is left although nobody swept: this test sees nothing")
		}
		swept, err := lab.Sweep(t.Context())
		must(t, err)
		if !strings.Contains(fmt.Sprint(swept), "orphan") {
			t.Errorf("swept %v", swept)
		}
		must(t, traces("orphan"))
	})
}

func startOwner(t *testing.T, prefix string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestOwner$", "-test.v")
	cmd.Env = append(os.Environ(), ownerEnv+"="+prefix)
	_, err = cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "owner is ready" {
			return cmd
		}
		t.Log(lines.Text())
	}
	t.Fatal("the owner did not get ready")
	return nil
}

// TestCommand uses the command as a person does.
func TestCommand(t *testing.T) {
	t.Parallel()
	needRoot(t)
	must(t, lab.Build(t.Context(), os.Stderr))
	command := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "../../bin/lab", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("lab %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	t.Cleanup(func() { _ = exec.Command("../../bin/lab", "down", "person").Run() })
	command("up", "-prefix", "person", "-nodes", "1")
	if out := command("status"); !strings.Contains(out, "lab person: up") || !strings.Contains(out, "netns person-n1") {
		t.Errorf("status:\n%s", out)
	}
	if out := command("exec", "-prefix", "person", "n1", "kubectl", "get", "node", "n1"); !strings.Contains(out, "Ready") {
		t.Errorf("exec kubectl:\n%s", out)
	}
	err := exec.Command("../../bin/lab", "exec", "-prefix", "person", "c1", "sh", "-c", "exit 7").Run()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("exec of a failing command: %v, want exit status 7", err)
	}
	if out, err := exec.Command("../../bin/lab", "up", "-prefix", "person").CombinedOutput(); err == nil || !strings.Contains(string(out), "exists already") {
		t.Errorf("second lab of that name: %v\n%s", err, out)
	}
	command("down", "person")
	must(t, traces("person"))
}

func TestOptionsRefused(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for want, opts := range map[string]lab.Options{
		"prefix":    {Prefix: "No-Good"},
		"at most":   {Nodes: 200},
		"mode":      {Proxy: "ipvs"},
		"segment 3": {Attach: map[string][]int{"n1": {3}}},
		"segment 0": {Segments: 2, Attach: map[string][]int{"n1": {1}}},
	} {
		l, err := lab.Up(t.Context(), opts)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Up(%+v) returned %v, %v; want an error with %q", opts, l, err, want)
		}
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if err := lab.NeedRoot(); err != nil {
		t.Skip(err)
	}
}
