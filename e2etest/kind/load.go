package kind

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sync/errgroup"
)

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
		return fmt.Errorf("load an image: %w", err)
	}
	defer f.Close()
	return command(ctx, f, nil, "docker", "exec", "-i", node, "ctr", "-n", "k8s.io", "images", "import", "--snapshotter", "overlayfs", "-")
}
