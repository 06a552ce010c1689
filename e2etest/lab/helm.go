package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Helm runs helm as an administrator on the control plane host and returns what it prints.
func (l *Lab) Helm(ctx context.Context, args ...string) (string, error) {
	path := filepath.Join(l.opts.binDir, "tools", "helm")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("helm is not built: make bin/tools/helm: %w", err)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	home := filepath.Join(l.stateDir, "helm")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "KUBECONFIG=" + l.Kubeconfig(),
		"HELM_CACHE_HOME=" + home, "HELM_CONFIG_HOME=" + home, "HELM_DATA_HOME=" + home}
	out, err := l.Host(controlPlane).Output(cmd)
	if err != nil {
		return out, fmt.Errorf("helm %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}

// Chart is the product's chart in the cluster, as the release lanyard of the namespace lanyard-system.
func (l *Lab) Chart() *Chart { return &Chart{lab: l, Name: releaseName, Namespace: Namespace} }

// Chart is a release of the product's chart, installed or not, that works with the lab's cluster.
type Chart struct {
	Name, Namespace string
	// Path is the chart; empty means charts/lanyard of the repository.
	Path string

	lab *Lab
}

// Upgrade is `helm upgrade --install` with values in YAML, of which there may be several texts: later ones win.
func (c *Chart) Upgrade(ctx context.Context, values ...string) error {
	path, err := c.path()
	if err != nil {
		return err
	}
	return c.withValues(values, func(files []string) error {
		_, err := c.lab.Helm(ctx, append([]string{"upgrade", "--install", "--create-namespace", "--namespace", c.Namespace, c.Name, path}, files...)...)
		return err
	})
}

// Template is what `helm template` prints.
func (c *Chart) Template(ctx context.Context, values ...string) (out string, err error) {
	path, err := c.path()
	if err != nil {
		return "", err
	}
	err = c.withValues(values, func(files []string) error {
		out, err = c.lab.Helm(ctx, append([]string{"template", "--namespace", c.Namespace, c.Name, path}, files...)...)
		return err
	})
	return out, err
}

// Uninstall is `helm uninstall`, which waits until what it removes is gone.
func (c *Chart) Uninstall(ctx context.Context) error {
	_, err := c.lab.Helm(ctx, "uninstall", "--ignore-not-found", "--wait", "--namespace", c.Namespace, c.Name)
	return err
}

// Test is `helm test`, and what it prints, the logs of the test's pods too.
func (c *Chart) Test(ctx context.Context) (string, error) {
	return c.lab.Helm(ctx, "test", "--logs", "--namespace", c.Namespace, c.Name)
}

func (c *Chart) path() (string, error) {
	if c.Path != "" {
		return c.Path, nil
	}
	root, err := repoRoot()
	return filepath.Join(root, "charts", "lanyard"), err
}

// withValues writes texts of values to files, for as long as f runs, and gives it the flags that name them.
func (c *Chart) withValues(values []string, f func(flags []string) error) error {
	dir, err := os.MkdirTemp(c.lab.stateDir, "values-")
	if err != nil {
		return fmt.Errorf("write the chart's values: %w", err)
	}
	defer os.RemoveAll(dir)
	var flags []string
	var faults []error
	for i, text := range values {
		file := filepath.Join(dir, fmt.Sprint(i, ".yaml"))
		faults = append(faults, os.WriteFile(file, []byte(text), 0o600))
		flags = append(flags, "--values", file)
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("write the chart's values: %w", err)
	}
	return f(flags)
}
