package speaker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/iprange"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// poolStatuses is the API server as far as quarantine goes.
type poolStatuses struct {
	mu     sync.Mutex
	away   bool
	pools  map[string][]v1beta1.QuarantinedAddress
	writes int
}

func (p *poolStatuses) write(_ context.Context, pool string, change func([]v1beta1.QuarantinedAddress) []v1beta1.QuarantinedAddress) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away {
		return errors.New("connection refused")
	}
	p.writes++
	p.pools[pool] = change(slices.Clone(p.pools[pool]))
	return nil
}

func (p *poolStatuses) setAway(away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = away
}

func (p *poolStatuses) written() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.writes
}

func (p *poolStatuses) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := ""
	for _, a := range p.pools["lan"] {
		text += fmt.Sprintf("%s %s on %s of %s held=%t; ", a.Address, a.MAC, a.Interface, a.Node, a.Held)
	}
	return text
}

func TestQuarantine(t *testing.T) {
	r, _ := iprange.Parse("10.0.0.0/24")
	pools := []placement.Pool{{Name: "lan", Ranges: []iprange.Range{r}}}
	ip := netip.MustParseAddr
	stranger := placement.Stranger{IP: ip("10.0.0.1"), MAC: placement.MAC{6}, Interface: "eth0"}
	held := placement.Stranger{IP: ip("10.0.0.2"), MAC: placement.MAC{8}, Interface: "eth1", Held: true}
	outside := placement.Stranger{IP: ip("10.9.9.9"), MAC: placement.MAC{8}, Interface: "eth1"}
	const one, two = "10.0.0.1 06:00:00:00:00:00 on eth0 of n1 held=false; ", "10.0.0.2 08:00:00:00:00:00 on eth1 of n1 held=true; "
	synctest.Test(t, func(t *testing.T) {
		api := &poolStatuses{pools: map[string][]v1beta1.QuarantinedAddress{}}
		q := NewQuarantine(QuarantineConfig{Node: "n1", Write: api.write, Logger: log.NewNopLogger()})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = q.Run(ctx) }()
		tell := func(want string, writes int, gone []netip.Addr, found ...placement.Stranger) {
			t.Helper()
			q.Tell(pools, found, gone)
			synctest.Wait()
			if got := api.written(); api.String() != want || got != writes {
				t.Errorf("says %q after %d writes, want %q after %d", api, got, want, writes)
			}
		}
		tell(one, 1, nil, stranger, outside)
		tell(one, 1, nil, stranger, outside)
		tell(one+two, 2, nil, stranger, held)
		api.setAway(true)
		tell(one+two, 2, []netip.Addr{stranger.IP}, held)
		api.setAway(false)
		time.Sleep(rewriting)
		synctest.Wait()
		tell(two, 3, []netip.Addr{stranger.IP}, held)
		since := api.pools["lan"][0].Since
		time.Sleep(confirming)
		tell(two, 4, nil, held)
		if a := api.pools["lan"][0]; a.Since != since || !a.Checked.After(since.Time) {
			t.Errorf("known since %v and checked at %v, want since %v and later", a.Since, a.Checked, since)
		}
	})
}
