package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
)

// Kubectl runs kubectl as an administrator on the control plane host and returns what it prints.
func (l *Lab) Kubectl(ctx context.Context, args ...string) (string, error) {
	return l.kubectl(ctx, nil, args...)
}

// Apply gives YAML to `kubectl apply`.
func (l *Lab) Apply(ctx context.Context, yaml string) error {
	_, err := l.kubectl(ctx, strings.NewReader(yaml), "apply", "-f", "-")
	return err
}

func (l *Lab) kubectl(ctx context.Context, in io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, l.program("controlplane"), append([]string{"--kubeconfig", l.Kubeconfig()}, args...)...)
	cmd.Args[0] = "kubectl"
	cmd.Stdin = in
	out, err := l.Host(controlPlane).Output(cmd)
	if err != nil {
		return out, fmt.Errorf("kubectl %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}

// Exec runs a program on the host, waits for it, and returns its standard output; standard error is in the error.
func (h *Host) Exec(ctx context.Context, name string, args ...string) (string, error) {
	out, err := h.Output(exec.CommandContext(ctx, name, args...))
	if err != nil {
		return out, fmt.Errorf("%s %s on %s: %w", name, strings.Join(args, " "), h.Hostname, err)
	}
	return out, nil
}

// Output is Exec for a command that the caller has prepared. The command dies with its context.
func (h *Host) Output(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := h.Do(func() error {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			return err
		}
		return nil
	})
	if err == nil {
		err = cmd.Wait()
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), err
}
