package kind

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// Down removes the cluster, its network with the fence, and a docker daemon that Up started, and puts back what they
// changed of this machine's settings. What was built stays, in bin/kind and as docker's image. If there is nothing to
// remove, that is no error.
func Down(ctx context.Context, out io.Writer) error {
	if err := needRoot(); err != nil {
		return err
	}
	c, err := here()
	if err != nil {
		return err
	}
	unlock, err := lockState(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := readState()
	if err != nil {
		return err
	}
	if _, err := docker(ctx, "version"); err == nil {
		if err := c.removeCluster(ctx, out); err != nil {
			return err
		}
	}
	// Where no daemon answers there is no container, but there may be a fence.
	if err := errors.Join(unfence(ctx), s.stopDaemon(ctx, out), s.putBack(), s.write()); err != nil {
		return err
	}
	for _, name := range []string{"kubeconfig", "cluster.yaml", "audit-policy.yaml"} {
		if err := os.Remove(c.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeCluster removes the nodes and the network.
func (c *Cluster) removeCluster(ctx context.Context, out io.Writer) error {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return err
	}
	if len(nodes) > 0 {
		if err := c.kind(ctx, "delete", "cluster", "--name", Name, "--kubeconfig", c.Kubeconfig()); err != nil {
			return err
		}
		fmt.Fprintf(out, "removed kind cluster %s\n", Name)
	}
	if _, err := docker(ctx, "network", "inspect", Network); err != nil {
		return nil
	}
	if _, err := docker(ctx, "network", "rm", Network); err != nil {
		return fmt.Errorf("the docker network %s and its fence stay: %w", Network, err)
	}
	return nil
}
