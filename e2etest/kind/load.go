package kind

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sync/errgroup"
)

// LoadImage gives an image of a tar file, as `docker save` writes it, to the container runtime of every running node.
func (c *Cluster) LoadImage(ctx context.Context, tar string) error {
	return c.eachNode(ctx, func(n Node) error {
		if err := importImage(ctx, n.Name, tar); err != nil {
			return fmt.Errorf("load image %s: %w", tar, err)
		}
		return nil
	})
}

// eachNode does something on all running nodes at once.
func (c *Cluster) eachNode(ctx context.Context, do func(Node) error) error {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return err
	}
	var group errgroup.Group
	for _, n := range nodes {
		if n.Status == "running" {
			group.Go(func() error { return do(n) })
		}
	}
	return group.Wait()
}

func importImage(ctx context.Context, node, tar string) error {
	f, err := os.Open(tar)
	if err != nil {
		return err
	}
	defer f.Close()
	return command(ctx, f, nil, "docker", "exec", "-i", node, "ctr", "-n", "k8s.io", "images", "import", "--snapshotter", "overlayfs", "-")
}
