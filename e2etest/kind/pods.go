package kind

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PodProcess is the first process of the container of a pod, by its PID on this machine: what /proc tells of it (status,
// root, ns/net) is what the container has. It fails if the container does not run.
func (c *Cluster) PodProcess(ctx context.Context, namespace, pod, container string) (int, error) {
	client, err := c.client()
	if err != nil {
		return 0, err
	}
	p, err := client.CoreV1().Pods(namespace).Get(ctx, pod, metav1.GetOptions{})
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(p.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == container })
	if i < 0 || p.Status.ContainerStatuses[i].State.Running == nil {
		return 0, fmt.Errorf("container %s of pod %s/%s does not run", container, namespace, pod)
	}
	_, id, _ := strings.Cut(p.Status.ContainerStatuses[i].ContainerID, "://")
	pid, err := containerProcess("/proc", id)
	if err != nil {
		return 0, fmt.Errorf("container %s of pod %s/%s: %w", container, namespace, pod, err)
	}
	return pid, nil
}

// containerProcess finds the process that is in a container's cgroup while its parent is not.
func containerProcess(proc, id string) (int, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return 0, err
	}
	inside := map[int]bool{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// A process may have ended since.
		cgroups, _ := os.ReadFile(filepath.Join(proc, e.Name(), "cgroup"))
		if id != "" && strings.Contains(string(cgroups), id) {
			inside[pid] = true
		}
	}
	for pid := range inside {
		status, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "status"))
		if err == nil && !inside[parent(string(status))] {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("no process on this machine is in the cgroup of container %q", id)
}

func parent(status string) int {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, "PPid:"); ok {
			pid, _ := strconv.Atoi(strings.TrimSpace(value))
			return pid
		}
	}
	return 0
}
