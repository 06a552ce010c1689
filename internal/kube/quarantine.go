package kube

import (
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
)

// mostQuarantined is how many addresses the status of a pool may list.
const mostQuarantined = 100

// contended paces attempts on a pool that other speakers write at the same time.
var contended = wait.Backoff{Steps: 10, Duration: 10 * time.Millisecond, Factor: 2, Jitter: 1, Cap: time.Second}

// WriteQuarantine changes which addresses of a pool are quarantined. change is given a copy of what the API
// server holds and returns what it should hold, of which the first 100 are written; it is asked again when
// somebody else has written the pool meanwhile. What changes nothing is not written.
func (c *Cluster) WriteQuarantine(ctx context.Context, pool string, change func([]v1beta1.QuarantinedAddress) []v1beta1.QuarantinedAddress) error {
	return retry.RetryOnConflict(contended, func() error {
		var seen v1beta1.IPAddressPool
		if err := c.manager.GetAPIReader().Get(ctx, client.ObjectKey{Name: pool}, &seen); err != nil {
			return fmt.Errorf("read IPAddressPool %s: %w", pool, err)
		}
		want := change(slices.Clone(seen.Status.Quarantined))
		want = want[:min(len(want), mostQuarantined)]
		if equality.Semantic.DeepEqual(want, seen.Status.Quarantined) {
			return nil
		}
		if len(want) == 0 {
			want = nil // takes the field away
		}
		return c.WriteStatus(ctx, &seen, map[string]any{"quarantined": want})
	})
}
