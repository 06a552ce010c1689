package lab

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// TagImages gives the images that the nodes of a kind cluster have been given further tags, so that one build can stand for
// several versions.
func (l *Lab) TagImages(ctx context.Context, tags ...string) error {
	k, is := l.ground.(*onKind)
	if !is {
		return errors.New("tag images: the lab's own nodes have none")
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range k.containers() {
		group.Go(func() error {
			for _, name := range images {
				image := imageRegistry + "/" + name + ":"
				for _, tag := range tags {
					if tag == k.installs.tag {
						continue
					}
					if _, err := k.inContainer(ctx, c, "ctr", "--namespace", "k8s.io", "images", "tag", "--force",
						image+k.installs.tag, image+tag); err != nil {
						return fmt.Errorf("tag image %s on %s as %s: %w", name, c.Name, tag, err)
					}
				}
			}
			return nil
		})
	}
	return group.Wait()
}
