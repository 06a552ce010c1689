package kind

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strings"
	"text/template"
	"time"
)

// create makes the image, if none is named, and the cluster of it.
func (c *Cluster) create(ctx context.Context, opts Options) error {
	if opts.NodeImage == "" {
		if err := c.buildImage(ctx, opts.Out); err != nil {
			return err
		}
	}
	policy, err := files.ReadFile("files/audit-policy.yaml")
	if err != nil {
		return err
	}
	config, err := clusterConfig(configValues{Options: opts, AuditPolicy: c.path("audit-policy.yaml"), CgroupV1: cgroupV1()})
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(c.path("audit-policy.yaml"), policy, 0o644), os.WriteFile(c.path("cluster.yaml"), config, 0o644)); err != nil {
		return err
	}
	done := step(opts.Out, "creating kind cluster %s", Name)
	if err := c.kind(ctx, "create", "cluster", "--config", c.path("cluster.yaml"), "--kubeconfig", c.Kubeconfig(), "--retain", "-v1"); err != nil {
		// What failed can't be used: keep what the nodes said, and nothing else.
		// Kind misses a program in our image that has nothing to do with logs, and calls that an error.
		_ = c.kind(ctx, "export", "logs", "--name", Name, c.path("failed"))
		err = fmt.Errorf("%w; what the nodes said is in %s", err, c.path("failed"))
		return errors.Join(err, c.kind(context.WithoutCancel(ctx), "delete", "cluster", "--name", Name, "--kubeconfig", c.Kubeconfig()))
	}
	done()
	return nil
}

// configValues are what the template of the cluster's configuration is filled with.
type configValues struct {
	Options
	AuditPolicy string
	CgroupV1    bool
}

func clusterConfig(v configValues) ([]byte, error) {
	parsed, err := template.New("cluster.yaml").Funcs(template.FuncMap{"dir": path.Dir}).ParseFS(files, "files/cluster.yaml")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = parsed.Execute(&out, map[string]any{
		"Name": Name, "Proxy": v.Proxy, "Image": v.image(), "OwnImage": v.NodeImage == "", "Workers": workers,
		"AuditPolicy": v.AuditPolicy, "AuditLog": auditLog, "NodeGrace": nodeGrace, "NodeBinary": nodeBinary, "CgroupV1": v.CgroupV1,
	})
	return out.Bytes(), err
}

// cgroupV1 tells whether this machine still has the first version of cgroups, which kubelets refuse unless told.
func cgroupV1() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err != nil
}

// kind runs kind, with our shim before docker. Its output goes to a log.
func (c *Cluster) kind(ctx context.Context, args ...string) error {
	program := c.bin("tools/kind")
	if _, err := os.Stat(program); err != nil {
		return fmt.Errorf("kind is not built: make bin/tools/kind (%w)", err)
	}
	log, err := os.OpenFile(c.path("kind.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "KIND_EXPERIMENTAL_PROVIDER=docker", "KIND_EXPERIMENTAL_DOCKER_NETWORK="+Network)
	shim, err := c.shim()
	if err != nil {
		return err
	}
	cmd.Env = append(cmd.Env, shim...)
	fmt.Fprintf(log, "\n%s kind %s\n", time.Now().Format(time.DateTime), strings.Join(args, " "))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("kind %s %s: %w, see the end of %s", args[0], args[1], err, log.Name())
	}
	return nil
}

// shim places the shim in a folder of its own and returns the environment that makes kind use it.
func (c *Cluster) shim() ([]string, error) {
	real, err := exec.LookPath("docker")
	if err != nil {
		return nil, err
	}
	script, err := files.ReadFile("files/docker")
	if err != nil {
		return nil, err
	}
	dir := c.path("shim")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(path.Join(dir, "docker"), script, 0o755)); err != nil {
		return nil, err
	}
	env := []string{"LANYARD_DOCKER=" + real, "LANYARD_ADDRESSES=" + nodeAddresses(), "PATH=" + dir + ":" + os.Getenv("PATH")}
	if !mayAllocateAll() {
		env = append(env, "LANYARD_UNPRIVILEGED=1")
	}
	return env, nil
}
