package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Privilege is what a process may do beyond an ordinary user.
type Privilege string

// The privileges that the lab can start a process with.
const (
	// AsRoot leaves all capabilities; the lab's own programs need them.
	AsRoot Privilege = ""
	// AsNobody is uid and gid 65534 without any capability, and no way to gain one.
	AsNobody Privilege = "nobody"
	// AsNobodyNetRaw is the same, with CAP_NET_RAW alone.
	AsNobodyNetRaw Privilege = "nobody+net_raw"
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

// Process is a program that runs on a host. Its methods may be called concurrently.
type Process struct {
	ProcessOptions
	Host *Host
	Log  string // the file that takes its output

	id atomic.Pointer[ProcessID]

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
	exit error
}

// Start runs a program in the namespace of a host, in a process group of its own, with output to a log file. Unless the
// lab is persistent, the kernel kills it when this process dies.
func (l *Lab) Start(host string, opts ProcessOptions) (*Process, error) {
	h := l.Host(host)
	p := &Process{ProcessOptions: opts, Host: h, Log: filepath.Join(stateDir(l.Prefix), "log", host+"-"+opts.Name+".log")}
	l.mu.Lock()
	for _, other := range l.processes {
		if other.Host == h && other.Name == opts.Name {
			l.mu.Unlock()
			return nil, fmt.Errorf("start %s on %s: there is one already; use its Restart", opts.Name, host)
		}
	}
	l.processes = append(l.processes, p)
	l.mu.Unlock()
	return p, p.start()
}

// start runs the program, for the first time or again.
func (p *Process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running() {
		return fmt.Errorf("start %s on %s: it runs already, pid %d", p.Name, p.Host.Hostname, p.recordedID().PID)
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s on %s: %w", p.Name, p.Host.Hostname, err)
	}
	defer log.Close()
	cmd := &exec.Cmd{Path: p.Path, Args: append([]string{p.argv0()}, p.Args...), Dir: p.Dir, Stdout: log, Stderr: log}
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}, p.Env...)
	if err := p.Host.lab.spawners.start(p.Host, cmd, p.Privilege, !p.Host.lab.opts.Persistent); err != nil {
		return fmt.Errorf("start %s on %s: %w", p.Name, p.Host.Hostname, err)
	}
	p.cmd, p.done, p.exit = cmd, make(chan struct{}), nil
	// The identity is read before anyone waits for the process, so its number cannot have been reused. If it has ended
	// already there is only its number, which matches nothing.
	id, err := processID(cmd.Process.Pid)
	if err != nil {
		id = ProcessID{PID: cmd.Process.Pid}
	}
	p.id.Store(&id)
	go p.reap(cmd, p.done)
	return p.Host.lab.record()
}

// recordedID is the identity of the latest start, zero before the first. It takes no lock.
func (p *Process) recordedID() ProcessID {
	if id := p.id.Load(); id != nil {
		return *id
	}
	return ProcessID{}
}

func (p *Process) reap(cmd *exec.Cmd, done chan struct{}) {
	err := cmd.Wait()
	p.mu.Lock()
	p.exit = err
	p.mu.Unlock()
	close(done)
}

func (p *Process) argv0() string {
	if p.Argv0 != "" {
		return p.Argv0
	}
	return p.Path
}

func (p *Process) running() bool {
	if p.done == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Alive tells whether the process has been started and has not ended. A frozen process is alive.
func (p *Process) Alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running()
}

// PID is the process's number; of one that has ended, its last.
func (p *Process) PID() int { return p.recordedID().PID }

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
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return fmt.Errorf("signal %s on %s: never started: %w", p.Name, p.Host.Hostname, os.ErrProcessDone)
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("send %s to %s on %s: %w", unix.SignalName(sig), p.Name, p.Host.Hostname, err)
	}
	return nil
}

// Wait waits for the end of the process. The first result is how it ended (nil for exit status 0, else an
// *exec.ExitError); the second is the context's error.
func (p *Process) Wait(ctx context.Context) (exit, err error) {
	p.mu.Lock()
	done := p.done
	p.mu.Unlock()
	if done == nil {
		return nil, nil
	}
	select {
	case <-done:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.exit, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for %s on %s: %w", p.Name, p.Host.Hostname, ctx.Err())
	}
}

// Restart starts the program again with the same arguments and log, killing it first if it runs.
func (p *Process) Restart() error {
	if err := p.Kill(); err != nil {
		return err
	}
	return p.start()
}

// LogTail returns the last lines of the log.
func (p *Process) LogTail(lines int) string {
	raw, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(raw), "\n"), "\n")
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
