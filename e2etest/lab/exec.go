package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Command prepares a program to run on a host of a recorded lab. In its PATH are kubectl and the rest of the lab's
// binaries, and KUBECONFIG is an administrator's.
func (r Record) Command(ctx context.Context, host string, argv []string) (*exec.Cmd, error) {
	if !slices.Contains(r.Hosts, host) {
		return nil, fmt.Errorf("lab %s has no host %s; it has %s", r.Prefix, host, strings.Join(r.Hosts, ", "))
	}
	links, err := r.linkPrograms()
	if err != nil {
		return nil, err
	}
	args := append([]string{"netns", "exec", r.Prefix + "-" + host, "env",
		"PATH=" + links + ":" + os.Getenv("PATH"), "KUBECONFIG=" + filepath.Join(stateDir(r.Prefix), "admin.kubeconfig")}, argv...)
	cmd := exec.CommandContext(ctx, "ip", args...)
	// What is interrupted may end in good order.
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd, nil
}

// linkPrograms makes a folder in which the control plane's binary has the names of its programs.
func (r Record) linkPrograms() (string, error) {
	dir := filepath.Join(stateDir(r.Prefix), "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make %s: %w", dir, err)
	}
	for _, name := range []string{"kubectl", "kubectl-lanyard"} {
		to := filepath.Join(r.BinDir, "controlplane")
		if name != "kubectl" {
			to = filepath.Join(r.BinDir, name)
		}
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil && !os.IsExist(err) {
			return "", fmt.Errorf("link %s: %w", name, err)
		}
	}
	return dir, nil
}
