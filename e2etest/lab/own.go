package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lanyard-lb/lanyard/e2etest/netspace"
)

// own is the ground that the lab builds itself: a namespace per host, and the control plane as processes.
type own struct {
	*Lab

	dataDir  string
	owner    ProcessID
	created  time.Time
	reaperID ProcessID
	reaper   io.Closer // closing it, as our death does, wakes the reaper
	reaped   chan struct{}
	settled  bool // a persistent lab is complete and no longer needs this process

	recording sync.Mutex
}

// newOwn takes a prefix and writes the first record, before anything is made that it would have to name.
func newOwn(l *Lab) (*own, error) {
	if err := preflight(l.opts); err != nil {
		return nil, err
	}
	prefix, err := reserve(l.opts.Prefix)
	if err != nil {
		return nil, err
	}
	l.Prefix, l.stateDir = prefix, stateDir(prefix)
	l.nodes, l.clientNames = names(l.opts.Nodes, nodeName), names(l.opts.Clients, clientName)
	o := &own{Lab: l, created: time.Now().Round(0)}
	if err := o.prepare(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(o.dataDir), os.RemoveAll(l.stateDir))
	}
	return o, nil
}

func (l *own) prepare() error {
	strangers, err := netspace.List(l.Prefix + "-")
	if err != nil {
		return err
	}
	if len(strangers) > 0 {
		return fmt.Errorf("lab %s: there are network namespaces of that name that no lab made: %v; choose another prefix", l.Prefix, strangers)
	}
	if l.owner, err = processID(os.Getpid()); err != nil {
		return err
	}
	if l.dataDir, err = os.MkdirTemp("", dataDirName(l.Prefix)); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(l.stateDir, "log"), 0o755); err != nil {
		return fmt.Errorf("make the log folder: %w", err)
	}
	if err := l.record(); err != nil {
		return err
	}
	return l.startReaper()
}

// startReaper starts the process that removes the lab when this one dies without having done so. It learns of that from
// its standard input, a pipe whose other end only we hold.
func (l *own) startReaper() error {
	if l.opts.Persistent {
		return nil
	}
	cmd := exec.Command(l.program("lab"), "reap", l.Prefix, l.created.Format(time.RFC3339Nano))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C is not for it
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start the reaper: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the reaper: %w", err)
	}
	l.reaper = pipe
	l.reaperID, err = processID(cmd.Process.Pid)
	l.reaped = make(chan struct{})
	go func() {
		defer close(l.reaped)
		_ = cmd.Wait()
	}()
	return errors.Join(err, l.record())
}

// up makes everything, saying what it does.
func (l *own) up(ctx context.Context) error {
	begun := time.Now()
	step := func(format string, args ...any) {
		fmt.Fprintf(l.opts.Out, "%5.1fs  %s\n", time.Since(begun).Seconds(), fmt.Sprintf(format, args...))
	}
	step("lab %s: %d nodes, %d clients, %d segment(s)", l.Prefix, l.opts.Nodes, l.opts.Clients, l.opts.Segments)
	if err := l.buildNetwork(ctx); err != nil {
		return err
	}
	if !l.opts.NoCluster {
		step("starting etcd and kube-apiserver")
		if err := l.startControlPlane(ctx); err != nil {
			return err
		}
		step("starting the nodes, kube-proxy in mode %s", l.opts.Proxy)
		if err := l.startNodes(ctx); err != nil {
			return err
		}
	}
	l.mu.Lock()
	l.settled = l.opts.Persistent
	l.mu.Unlock()
	step("ready")
	return l.record()
}

// startNodes starts agents and kube-proxies, and waits until every node is Ready and has its rules.
func (l *own) startNodes(ctx context.Context) error {
	kubeconfig, err := l.KubeconfigFor("system:kube-proxy")
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for i, node := range l.Nodes() {
		group.Go(func() error {
			if err := l.startAgent(node, i+1); err != nil {
				return err
			}
			if l.opts.Proxy == NoProxy {
				return l.WaitNodeReady(ctx, node, true)
			}
			if err := l.startKubeProxy(node, kubeconfig); err != nil {
				return err
			}
			if err := l.WaitNodeReady(ctx, node, true); err != nil {
				return err
			}
			return l.waitKubeProxy(ctx, node)
		})
	}
	return group.Wait()
}

// down removes everything by the record, and waits for the processes and the reaper.
func (l *own) down() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := l.snapshot().Remove(ctx)
	for _, p := range l.Processes() {
		if _, waitErr := p.Wait(ctx); waitErr != nil {
			err = errors.Join(err, waitErr)
		}
	}
	if l.reaper != nil {
		_ = l.reaper.Close()
		<-l.reaped
	}
	return err
}

// snapshot is the present record of the lab.
func (l *own) snapshot() Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := Record{Prefix: l.Prefix, Created: l.created, Persistent: l.settled, Owner: l.owner, Reaper: l.reaperID, DataDir: l.dataDir,
		BinDir: l.opts.binDir}
	for name := range l.hosts {
		r.Hosts = append(r.Hosts, name)
	}
	slices.Sort(r.Hosts)
	for _, p := range l.processes {
		r.Processes = append(r.Processes, ProcessRecord{ProcessID: p.id(), Name: p.Name, Host: p.Host.Hostname, Log: p.Log})
	}
	return r
}

// record writes the snapshot, one at a time.
func (l *own) record() error {
	l.recording.Lock()
	defer l.recording.Unlock()
	return l.snapshot().write()
}

func (l *own) bridge(segment int) string { return bridgeName(segment) }

func (l *own) port(host string, nic int) string {
	if nic == 0 {
		return host
	}
	return fmt.Sprintf("%s.%d", host, nic)
}

func (l *own) kubelet() string { return "agent" }
