package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Privilege is what a process may do beyond an ordinary user.
type Privilege string

// The privileges that the lab can start a process with, and the one that a pod gives a speaker.
const (
	// AsRoot leaves all capabilities; the lab's own programs need them.
	AsRoot Privilege = ""
	// AsNobody is an ordinary user without any capability, and no way to gain one.
	AsNobody Privilege = "nobody"
	// AsNobodyNetRaw is the same, with CAP_NET_RAW alone.
	AsNobodyNetRaw Privilege = "nobody+net_raw"
	// AsNobodyInKernel is what a speaker needs to have the kernel answer.
	AsNobodyInKernel Privilege = "nobody+net_raw+net_admin+bpf"
	// AsRootNetRaw is uid 0 with CAP_NET_RAW alone: a container that may not gain privileges gets a capability no other way.
	AsRootNetRaw Privilege = "root+net_raw"
)

// ProcessOptions say what to run.
type ProcessOptions struct {
	Name string // names the process in logs and status; unique per host
	Path string
	// Argv0, if set, is passed as the program's own name.
	Argv0     string
	Args      []string
	Env       []string // added to a minimal environment
	Dir       string
	Privilege Privilege
}

// Process is a program that runs on a host. Its methods may be called concurrently. It stays ended until Restart: where
// something else would start it again, as a kubelet does, that is kept from doing so.
type Process struct {
	ProcessOptions
	Host *Host
	Log  string // the file that takes its output; empty where that is not a file: see LogTail

	runner
}

// runner is what runs a process: this process, as its child, or something that the cluster has.
type runner interface {
	start() error
	// signal returns os.ErrProcessDone if the process does not run.
	signal(sig unix.Signal) error
	// wait waits for the end; see Process.Wait.
	wait(ctx context.Context) (exit, err error)
	alive() bool
	// id is the identity of the latest start, zero before the first. It never blocks.
	id() ProcessID
	log(lines int) (string, error)
}

// Start runs a program in the namespace of a host, in a process group of its own, with output to a log file. Unless the
// lab is persistent, the kernel kills it when this process dies.
func (l *Lab) Start(host string, opts ProcessOptions) (*Process, error) {
	p := &Process{ProcessOptions: opts, Host: l.Host(host), Log: filepath.Join(l.stateDir, "log", host+"-"+opts.Name+".log")}
	p.runner = &child{process: p, lab: l}
	if err := l.enlist(p); err != nil {
		return nil, err
	}
	return p, p.start()
}

// enlist adds a process to those of the lab.
func (l *Lab) enlist(p *Process) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, other := range l.processes {
		if other.Host == p.Host && other.Name == p.Name {
			return fmt.Errorf("start %s on %s: there is one already; use its Restart", p.Name, p.Host.Hostname)
		}
	}
	l.processes = append(l.processes, p)
	return nil
}

// start runs the program, for the first time or again.
func (p *Process) start() error {
	if err := p.runner.start(); err != nil {
		return fmt.Errorf("start %s on %s: %w", p.Name, p.Host.Hostname, err)
	}
	return nil
}

// Alive tells whether the process has been started and has not ended. A frozen process is alive.
func (p *Process) Alive() bool { return p.alive() }

// PID is the process's number; of one that has ended, its last.
func (p *Process) PID() int { return p.id().PID }

// Kill sends SIGKILL and waits for the end.
func (p *Process) Kill() error {
	if err := p.Signal(unix.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	_, err := p.Wait(context.Background())
	return err
}

// Term sends SIGTERM and returns; Wait waits.
func (p *Process) Term() error { return p.Signal(unix.SIGTERM) }

// Freeze stops the process in its tracks (SIGSTOP): alive to the kernel, dead to its peers.
func (p *Process) Freeze() error { return p.Signal(unix.SIGSTOP) }

// Thaw lets a frozen process go on.
func (p *Process) Thaw() error { return p.Signal(unix.SIGCONT) }

// Signal sends a signal to the process itself; os.ErrProcessDone if it has ended.
func (p *Process) Signal(sig unix.Signal) error {
	if err := p.signal(sig); err != nil {
		return fmt.Errorf("send %s to %s on %s: %w", unix.SignalName(sig), p.Name, p.Host.Hostname, err)
	}
	return nil
}

// Wait waits for the end of the process. The first result is how it ended (nil for exit status 0); the second is the
// context's error.
func (p *Process) Wait(ctx context.Context) (exit, err error) {
	exit, err = p.wait(ctx)
	if err != nil {
		err = fmt.Errorf("wait for %s on %s: %w", p.Name, p.Host.Hostname, err)
	}
	return exit, err
}

// Restart starts the program again with the same arguments and log, killing it first if it runs.
func (p *Process) Restart() error {
	if err := p.Kill(); err != nil {
		return err
	}
	return p.start()
}

var tcx = regexp.MustCompile(`(?m)^link_type:\s+tcx$`)

// TCXPrograms counts the programs that the process has at the entrances and exits of interfaces, as the kernel tells.
func (p *Process) TCXPrograms() (n int, _ error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", p.PID()))
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		info, err := os.ReadFile(file)
		if err == nil && tcx.Match(info) { // else the descriptor has been closed since
			n++
		}
	}
	return n, nil
}

// LogTail returns the last lines of the log.
func (p *Process) LogTail(lines int) string {
	text, err := p.log(lines)
	if err != nil {
		return err.Error()
	}
	return lastLines(text, lines)
}

func lastLines(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Process returns the process with that name on a host, running or ended; nil if there was none.
func (l *Lab) Process(host, name string) *Process {
	for _, p := range l.Processes() {
		if p.Host.Hostname == host && p.Name == name {
			return p
		}
	}
	return nil
}

// Kubelet is the kubelet of a node, or what stands in for it.
func (l *Lab) Kubelet(node string) *Process { return l.Process(node, l.ground.kubelet()) }

// APIServer is the process of kube-apiserver.
func (l *Lab) APIServer() *Process { return l.Process(controlPlane, apiServerName) }

// waitAlive waits until ready says yes, and fails early, with the log's end, if the process dies.
func (p *Process) waitAlive(ctx context.Context, what string, limit time.Duration, ready func() bool) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	died := false
	err := poll(limited, 20*time.Millisecond, func() bool { died = !p.Alive(); return died || ready() })
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx) // the caller gave up, which says nothing about the process
	case died:
		err = errors.New("it has ended")
	case err == nil:
		return nil
	}
	return fmt.Errorf("%s on %s: %s: %w; its log ends:\n%s", p.Name, p.Host.Hostname, what, err, p.LogTail(15))
}
