package speaker

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/iprange"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

const (
	// confirming is how often it is written that a stranger is still there.
	confirming = 5 * time.Minute
	// rewriting is the pause after a write that failed.
	rewriting = 2 * time.Second
)

// QuarantineConfig of a Quarantine. Every field is needed.
type QuarantineConfig struct {
	Node string
	// Write changes the quarantined addresses of a pool. *kube.Cluster has it.
	Write  func(ctx context.Context, pool string, change func([]v1beta1.QuarantinedAddress) []v1beta1.QuarantinedAddress) error
	Logger log.Logger
}

// Quarantine tells the pools of strangers that use their addresses, and when they are gone.
type Quarantine struct {
	QuarantineConfig
	touch chan struct{}

	mu      sync.Mutex
	wanted  map[netip.Addr]notice // what is to be written, or has been
	written map[netip.Addr]notice
}

// notice is what a pool should know of an address.
type notice struct {
	pool     string
	stranger placement.Stranger // its MAC is zero when it is gone
	at       time.Time
}

func (n notice) present() bool { return n.stranger.MAC != placement.MAC{} }

// NewQuarantine returns a Quarantine. It starts nothing.
func NewQuarantine(c QuarantineConfig) *Quarantine {
	return &Quarantine{QuarantineConfig: c, touch: make(chan struct{}, 1), wanted: map[netip.Addr]notice{}, written: map[netip.Addr]notice{}}
}

// Tell takes in which strangers this node knows of, and which addresses are free of them. What no pool contains
// cannot be quarantined. It returns at once.
func (q *Quarantine) Tell(pools []placement.Pool, found []placement.Stranger, gone []netip.Addr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	clear(q.wanted)
	for _, s := range found {
		q.want(pools, s, now)
	}
	for _, ip := range gone {
		q.want(pools, placement.Stranger{IP: ip}, now)
	}
	for ip := range q.written {
		if _, still := q.wanted[ip]; !still {
			delete(q.written, ip)
		}
	}
	if len(q.due(now)) > 0 {
		touch(q.touch)
	}
}

func (q *Quarantine) want(pools []placement.Pool, s placement.Stranger, now time.Time) {
	for i := range pools {
		if slices.ContainsFunc(pools[i].Ranges, func(r iprange.Range) bool { return r.Contains(s.IP) }) {
			q.wanted[s.IP] = notice{pools[i].Name, s, now}
		}
	}
}

// due lists what is to be written, by address. The mutex is held.
func (q *Quarantine) due(now time.Time) (list []notice) {
	for ip, n := range q.wanted {
		w, known := q.written[ip]
		if !known || w.stranger != n.stranger || w.pool != n.pool || n.present() && now.Sub(w.at) >= confirming {
			list = append(list, n)
		}
	}
	slices.SortFunc(list, func(a, b notice) int { return a.stranger.IP.Compare(b.stranger.IP) })
	return list
}

// Run writes until ctx ends. That the API server is away is no error.
func (q *Quarantine) Run(ctx context.Context) error {
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-q.touch:
		case <-again:
		}
		again = nil
		q.mu.Lock()
		list := q.due(time.Now())
		q.mu.Unlock()
		for _, n := range list {
			if err := q.write(ctx, n); err != nil && ctx.Err() == nil {
				_ = level.Error(q.Logger).Log("msg", "could not write the quarantine of an address, trying again", "ip", n.stranger.IP, "pool", n.pool, "err", err)
				again = time.After(rewriting)
			}
		}
	}
}

func (q *Quarantine) write(ctx context.Context, n notice) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := q.Write(limited, n.pool, func(have []v1beta1.QuarantinedAddress) []v1beta1.QuarantinedAddress { return q.change(have, n) })
	if err != nil {
		return err
	}
	if n.present() {
		_ = level.Warn(q.Logger).Log("msg", "a stranger uses an address", "ip", n.stranger.IP, "pool", n.pool, "mac", n.stranger.MAC, "interface", n.stranger.Interface, "held", n.stranger.Held)
	} else {
		_ = level.Info(q.Logger).Log("msg", "the stranger is gone", "ip", n.stranger.IP, "pool", n.pool)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.written[n.stranger.IP] = n
	return nil
}

// change brings the entry of one address up to date.
func (q *Quarantine) change(have []v1beta1.QuarantinedAddress, n notice) []v1beta1.QuarantinedAddress {
	address := n.stranger.IP.String()
	at := slices.IndexFunc(have, func(a v1beta1.QuarantinedAddress) bool { return a.Address == address })
	if !n.present() {
		return slices.DeleteFunc(have, func(a v1beta1.QuarantinedAddress) bool { return a.Address == address })
	}
	now := metav1.NewTime(n.at.UTC().Truncate(time.Second))
	entry := v1beta1.QuarantinedAddress{Address: address, MAC: n.stranger.MAC.String(), Interface: n.stranger.Interface,
		Node: q.Node, Since: now, Checked: now, Held: n.stranger.Held}
	if at < 0 {
		return append(have, entry)
	}
	if have[at].MAC == entry.MAC {
		entry.Since = have[at].Since
	}
	have[at] = entry
	return have
}
