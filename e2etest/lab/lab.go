package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"k8s.io/client-go/tools/clientcmd/api"
)

// Lab is a LAN with a cluster on it. Its methods may be called concurrently.
type Lab struct {
	Prefix string

	opts     Options
	ground   ground
	stateDir string
	pki      *pki         // nil where the cluster is not the lab's own
	cluster  *api.Cluster // how to reach the API server
	clients  func() clients
	spawners spawners
	faults   faults

	nodes, clientNames []string

	mu        sync.Mutex
	hosts     map[string]*Host
	processes []*Process
}

// Up builds a lab, or attaches one to what is there already (see Ground), and returns when all of it is ready: the nodes
// Ready, kube-proxy's rules written. If it fails, or the context ends first, nothing is left. For a lab to be built the
// binaries must have been built: see Build.
func Up(ctx context.Context, opts Options) (*Lab, error) {
	l, err := claim(opts)
	if err != nil {
		return nil, err
	}
	if err := l.raise(ctx); err != nil {
		return nil, err
	}
	return l, nil
}

// claim takes the place where the lab will stand. There may be a wait for it.
func claim(opts Options) (*Lab, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	l := &Lab{Prefix: opts.Prefix, opts: opts, hosts: map[string]*Host{}}
	l.clients = sync.OnceValue(l.makeClients)
	l.ground, err = newGround(l)
	return l, err
}

// raise makes the lab, all of it or nothing.
func (l *Lab) raise(ctx context.Context) error {
	if err := l.ground.up(ctx); err != nil {
		return errors.Join(fmt.Errorf("lab %s: %w", l.Prefix, err), l.Down())
	}
	return nil
}

// Down removes the lab and waits until it is gone. It may be repeated.
func (l *Lab) Down() error {
	l.spawners.close()
	err := l.ground.down()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.hosts {
		_ = h.Close()
	}
	clear(l.hosts)
	return err
}

// Processes lists every process started in the lab, running or ended, in the order of their first start.
func (l *Lab) Processes() []*Process {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.processes)
}

// StateDir is the lab's folder: logs, certificates, kubeconfigs.
func (l *Lab) StateDir() string { return l.stateDir }
