package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// contained runs a process that the cluster itself starts, and would start again: in a container of a pod, or as a service of a
// node. It is found by its name among the processes of its node, so that nobody need be asked.
type contained struct {
	kind    *onKind
	host    string // of the node
	program string
	// halt keeps the cluster from starting the program again, resume ends that.
	halt, resume func(ctx context.Context) error
	// pod finds the pod that it is in, for those that have one which tells how the process ended.
	pod func(ctx context.Context) (*corev1.Pod, error)

	latest atomic.Pointer[ProcessID]

	mu       sync.Mutex
	restarts int32 // of the pod, when the process was asked to end; negative if it was not
}

// startLimit is how long a kubelet may take to start something.
const startLimit = time.Minute

// start ends halt and waits until the cluster has started the program. One that was asked to end in good order must have done
// so: only now, from the kubelet, is it known.
func (c *contained) start() error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	before := c.id()
	if err := c.resume(ctx); err != nil {
		return err
	}
	if err := poll(ctx, 20*time.Millisecond, func() bool { return c.id() != before && c.alive() }); err != nil {
		return fmt.Errorf("the cluster has not started it: %w", err)
	}
	return c.endedWell(ctx)
}

// endedWell is an error if the process before was terminated and did not end with exit status 0.
func (c *contained) endedWell(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	asked := c.restarts
	c.restarts = -1
	if asked < 0 {
		return nil
	}
	var ended *corev1.ContainerStateTerminated
	err := poll(ctx, 50*time.Millisecond, func() bool {
		pod, err := c.pod(ctx)
		if err != nil || len(pod.Status.ContainerStatuses) == 0 || pod.Status.ContainerStatuses[0].RestartCount <= asked {
			return false
		}
		ended = pod.Status.ContainerStatuses[0].LastTerminationState.Terminated
		return ended != nil
	})
	switch {
	case err != nil:
		return fmt.Errorf("its kubelet does not tell how it ended before: %w", err)
	case ended.ExitCode != 0:
		return fmt.Errorf("before, it ended with exit status %d, %s", ended.ExitCode, ended.Reason)
	}
	return nil
}

func (c *contained) signal(sig unix.Signal) error {
	if !c.alive() {
		return os.ErrProcessDone
	}
	id := c.id()
	if sig == unix.SIGTERM || sig == unix.SIGKILL {
		ctx, cancel := context.WithTimeout(context.Background(), startLimit)
		defer cancel()
		c.noteRestarts(ctx, sig)
		if err := c.halt(ctx); err != nil {
			return err
		}
	}
	if err := unix.Kill(id.PID, sig); err != nil && err != unix.ESRCH { // to halt it may have been to end it
		return err
	}
	return nil
}

// noteRestarts remembers how often the pod's container has been started, if it is to end in good order.
func (c *contained) noteRestarts(ctx context.Context, sig unix.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.restarts = -1
	if c.pod == nil || sig != unix.SIGTERM {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if pod, err := c.pod(ctx); err == nil && len(pod.Status.ContainerStatuses) > 0 {
		c.restarts = pod.Status.ContainerStatuses[0].RestartCount
	}
}

func (c *contained) wait(ctx context.Context) (exit, err error) {
	last := c.id()
	return nil, poll(ctx, 10*time.Millisecond, func() bool { return !last.Alive() })
}

func (c *contained) alive() bool {
	c.id()
	last := c.latest.Load()
	return last != nil && last.Alive()
}

// id is that of the latest process of the program, the last one seen if there is none.
func (c *contained) id() ProcessID {
	if found := c.kind.containerOf(c.host).processes(c.program); len(found) > 0 {
		c.latest.Store(&found[0])
	}
	if last := c.latest.Load(); last != nil {
		return *last
	}
	return ProcessID{}
}

// log is the latest log of the program's container, or of the service, read from the node's disk: the API server may be away.
func (c *contained) log(lines int) (string, error) {
	node := c.kind.containerOf(c.host)
	if c.pod == nil {
		return c.kind.inContainer(context.Background(), node, "journalctl", "--unit", c.program, "--lines", fmt.Sprint(lines), "--no-pager")
	}
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/root/var/log/pods/*/%s/*.log", node.State.Pid, c.program))
	latest, at := "", time.Time{}
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && info.ModTime().After(at) {
			latest, at = file, info.ModTime()
		}
	}
	raw, err := os.ReadFile(latest)
	return string(raw), err
}

// contain enlists a process of the cluster.
func (k *onKind) contain(host, name string, privilege Privilege, c *contained) (*Process, error) {
	c.kind, c.restarts = k, -1
	p := &Process{ProcessOptions: ProcessOptions{Name: name, Privilege: privilege}, Host: k.Host(host), runner: c}
	return p, k.enlist(p)
}

// kubeletUnit is what kind calls the kubelet on a node.
const kubeletUnit = "kubelet"

func (k *onKind) kubelet() string { return kubeletUnit }

// enlistKubernetes enlists the kubelets and the API server.
func (k *onKind) enlistKubernetes() error {
	for _, host := range append([]string{controlPlane}, k.nodes...) {
		systemctl := func(verb string) func(context.Context) error {
			return func(ctx context.Context) error {
				_, err := k.inContainer(ctx, k.containerOf(host), "systemctl", verb, kubeletUnit)
				return err
			}
		}
		_, err := k.contain(host, kubeletUnit, AsRoot, &contained{host: host, program: kubeletUnit,
			halt: systemctl("stop"), resume: systemctl("start")})
		if err != nil {
			return err
		}
	}
	move := func(from, to string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := k.inContainer(ctx, k.controlPlane(), "mv", from, to)
			return err
		}
	}
	in, out := manifests+"/"+apiServerManifest, "/etc/kubernetes/"+apiServerManifest
	_, err := k.contain(controlPlane, apiServerName, AsRoot, &contained{host: controlPlane, program: apiServerName,
		halt: move(in, out), resume: move(out, in), pod: k.podOn("kube-system", "component="+apiServerName, controlPlane)})
	return err
}

// podOn returns what finds the pod with some labels that is not going away on a host.
func (k *onKind) podOn(namespace, labels, host string) func(ctx context.Context) (*corev1.Pod, error) {
	return func(ctx context.Context) (*corev1.Pod, error) {
		node := k.containerOf(host).Name
		list, err := k.Client().CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: labels, FieldSelector: "spec.nodeName=" + node})
		if err != nil {
			return nil, fmt.Errorf("find the pod %s on %s: %w", labels, node, err)
		}
		for i := range list.Items {
			if list.Items[i].DeletionTimestamp == nil {
				return &list.Items[i], nil
			}
		}
		return nil, fmt.Errorf("there is no pod %s on %s", labels, node)
	}
}

// freezeKubelet returns what stops the kubelet of a host in its tracks, so that what ends there stays ended, or lets it go on. A
// frozen kubelet's node is Ready until its grace period is over.
func (k *onKind) freezeKubelet(host string, sig unix.Signal) func(context.Context) error {
	return func(context.Context) error {
		for _, id := range k.containerOf(host).processes(kubeletUnit) {
			if err := unix.Kill(id.PID, sig); err != nil && err != unix.ESRCH {
				return fmt.Errorf("send %s to the kubelet of %s: %w", unix.SignalName(sig), host, err)
			}
		}
		return nil
	}
}
