package lab

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// child runs a process as a child of this one, in the namespace of its host.
type child struct {
	process *Process
	lab     *Lab

	identity atomic.Pointer[ProcessID]

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
	exit error
}

func (c *child) start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running() {
		return fmt.Errorf("it runs already, pid %d", c.id().PID)
	}
	p := c.process
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := &exec.Cmd{Path: p.Path, Args: append([]string{cmp.Or(p.Argv0, p.Path)}, p.Args...), Dir: p.Dir, Stdout: log, Stderr: log}
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}, p.Env...)
	if err := c.lab.spawners.start(p.Host, cmd, p.Privilege, !c.lab.opts.Persistent); err != nil {
		return err
	}
	c.cmd, c.done, c.exit = cmd, make(chan struct{}), nil
	// The identity is read before anyone waits for the process, so its number cannot have been reused. If it has ended
	// already there is only its number, which matches nothing.
	id, err := processID(cmd.Process.Pid)
	if err != nil {
		id = ProcessID{PID: cmd.Process.Pid}
	}
	c.identity.Store(&id)
	go c.reap(cmd, c.done)
	return c.lab.ground.record()
}

func (c *child) reap(cmd *exec.Cmd, done chan struct{}) {
	err := cmd.Wait()
	c.mu.Lock()
	c.exit = err
	c.mu.Unlock()
	close(done)
}

func (c *child) running() bool {
	if c.done == nil {
		return false
	}
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

func (c *child) alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running()
}

func (c *child) id() ProcessID {
	if id := c.identity.Load(); id != nil {
		return *id
	}
	return ProcessID{}
}

func (c *child) signal(sig unix.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil {
		return os.ErrProcessDone
	}
	return c.cmd.Process.Signal(sig)
}

func (c *child) wait(ctx context.Context) (exit, err error) {
	c.mu.Lock()
	done := c.done
	c.mu.Unlock()
	if done == nil {
		return nil, nil
	}
	select {
	case <-done:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.exit, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *child) log(int) (string, error) {
	raw, err := os.ReadFile(c.process.Log)
	return string(raw), err
}
