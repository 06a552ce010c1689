package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// container is a node of the kind cluster, as `docker inspect` tells it.
type container struct {
	Name  string
	State struct {
		Pid             int
		Running, Paused bool
	}
	Config struct {
		Labels map[string]string
	}
	NetworkSettings struct {
		Networks map[string]struct {
			IPAddress, GlobalIPv6Address netip.Addr
		}
	}
}

func (c container) isControlPlane() bool {
	return c.Config.Labels["io.x-k8s.kind.role"] == "control-plane"
}

func (c container) network() (n struct{ IPAddress, GlobalIPv6Address netip.Addr }) {
	return c.NetworkSettings.Networks[kindNetwork]
}

// kindContainers lists the running nodes of the kind cluster, the control plane first and then by name.
func kindContainers(ctx context.Context) ([]container, error) {
	out, err := docker(ctx, nil, "ps", "--all", "--quiet", "--filter", "label=io.x-k8s.kind.cluster="+kindCluster)
	if err != nil {
		return nil, err
	}
	ids := strings.Fields(out)
	if len(ids) == 0 {
		return nil, fmt.Errorf("there is no kind cluster %q: make kind-up makes it", kindCluster)
	}
	out, err = docker(ctx, nil, append([]string{"inspect"}, ids...)...)
	if err != nil {
		return nil, err
	}
	var all []container
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		return nil, fmt.Errorf("read what docker says of the nodes of kind: %w", err)
	}
	for i := range all {
		c := &all[i]
		c.Name = strings.TrimPrefix(c.Name, "/")
		if !c.State.Running || !c.network().IPAddress.IsValid() || !c.network().GlobalIPv6Address.IsValid() {
			return nil, fmt.Errorf("node %s of kind: running %t, addresses %v: start it, or make the cluster anew with make kind-down kind-up",
				c.Name, c.State.Running, c.network())
		}
	}
	slices.SortFunc(all, func(a, b container) int {
		if a.isControlPlane() != b.isControlPlane() {
			return map[bool]int{true: -1, false: 1}[a.isControlPlane()]
		}
		return cmp.Or(cmp.Compare(len(a.Name), len(b.Name)), cmp.Compare(a.Name, b.Name))
	})
	if !all[0].isControlPlane() || len(all) != kindNodes+1 {
		return nil, fmt.Errorf("the kind cluster has %d nodes; want a control plane and %d workers", len(all), kindNodes)
	}
	return all, nil
}

// docker runs docker and returns what it prints.
func docker(ctx context.Context, in io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Stdin = in
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return "", fmt.Errorf("docker %s: %w", strings.Join(args, " "), err)
	}
	return string(out), nil
}

// inContainer runs a program in a node's container.
func (k *onKind) inContainer(ctx context.Context, c container, args ...string) (string, error) {
	return docker(ctx, nil, append([]string{"exec", c.Name}, args...)...)
}

// manifests is where the control plane's kubelet finds its static pods; what lies beside it is not started.
const manifests = "/etc/kubernetes/manifests"

const apiServerManifest = "kube-apiserver.yaml"

// mendNode lets everything on a node go on that a test may have frozen or stopped.
func (k *onKind) mendNode(ctx context.Context, c container) error {
	for _, program := range []string{"kubelet", apiServerName, "controller", "speaker"} {
		for _, id := range c.processes(program) {
			_ = unix.Kill(id.PID, unix.SIGCONT) // it may have ended by now
		}
	}
	if len(c.processes("kubelet")) == 0 {
		if _, err := k.inContainer(ctx, c, "systemctl", "start", "kubelet"); err != nil {
			return err
		}
	}
	if !c.isControlPlane() || c.has(manifests+"/"+apiServerManifest) {
		return nil
	}
	_, err := k.inContainer(ctx, c, "mv", "/etc/kubernetes/"+apiServerManifest, manifests)
	return err
}

// has tells whether there is a file in the container.
func (c container) has(path string) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d/root%s", c.State.Pid, path))
	return err == nil
}

// processes lists the processes of a program, by the name that it was started with, in a node's container and in the
// containers within, the latest first.
func (c container) processes(program string) []ProcessID {
	entries, _ := os.ReadDir("/proc")
	var found []ProcessID
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || commandName(pid) != program || !descends(pid, c.State.Pid) {
			continue
		}
		if id, err := processID(pid); err == nil {
			found = append(found, id)
		}
	}
	slices.SortFunc(found, func(a, b ProcessID) int { return cmp.Compare(b.Start, a.Start) })
	return found
}

// commandName is the last part of the path that a process was started by, or "".
func commandName(pid int) string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(raw) == 0 {
		return ""
	}
	name, _, _ := strings.Cut(string(raw), "\x00")
	return filepath.Base(name)
}

// descends tells whether a process has another one among its ancestors.
func descends(pid, ancestor int) bool {
	for pid > 1 {
		if pid == ancestor {
			return true
		}
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return false
		}
		fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
		if pid, err = strconv.Atoi(fields[1]); err != nil {
			return false
		}
	}
	return false
}
