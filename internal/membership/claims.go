package membership

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/hashicorp/memberlist"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// resyncPeers is how many peers a Resync asks.
const resyncPeers = 3

// Publish replaces what the others learn of this node; nobody may change what the report holds from then
// on. The differences to the one before go out at once. Before Run it is kept, and goes out when Run runs.
func (g *Gossip) Publish(r placement.Report) { g.store.publish(r) }

// Reports returns what each live member has published last, by name, ours included, as far as it has come
// here: a member is absent until its report came whole once. The map and what it holds is shared, and
// stays as it is: nobody may change it. Asking again costs nothing while nothing changed.
func (g *Gossip) Reports() map[string]placement.Report { return g.store.reports() }

// Resync exchanges everything with up to three other members, or peers that ought to be, chosen at
// random. It returns nil as soon as one exchange is through and taken in, or if there is nobody else; else why none
// was, or that ctx ended before.
func (g *Gossip) Resync(ctx context.Context) error {
	peers := g.others()
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	peers = peers[:min(len(peers), resyncPeers)]
	results, err := g.exchange(peers)
	if err != nil {
		return err
	}
	var errs []error
	for range peers {
		select {
		case <-ctx.Done():
			return fmt.Errorf("exchange reports: %w", errors.Join(append(errs, ctx.Err())...))
		case err := <-results:
			if err == nil {
				return nil
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// exchange begins to exchange everything with each of the peers; their results come one by one.
func (g *Gossip) exchange(peers []netip.AddrPort) (<-chan error, error) {
	g.listMu.Lock()
	defer g.listMu.Unlock()
	if g.list == nil {
		return nil, errors.New("exchange reports: gossip does not run")
	}
	list, results := g.list, make(chan error, len(peers))
	for _, p := range peers {
		g.busy.Go(func() { results <- g.exchangeWith(list, p) })
	}
	return results, nil
}

// remind begins to have a member refute its death, unless enough are being reminded: an exchange brings the others'
// refutations, too. The second exchange brings its own. It does not wait, and does nothing while we start, leave or shut down.
func (g *Gossip) remind(p netip.AddrPort) {
	if !g.listMu.TryLock() {
		return
	}
	defer g.listMu.Unlock()
	if g.list == nil {
		return
	}
	select {
	case g.reminders <- struct{}{}:
	default:
		return
	}
	list := g.list
	g.busy.Go(func() {
		defer func() { <-g.reminders }()
		for range 2 {
			if g.exchangeWith(list, p) != nil {
				return
			}
		}
	})
}

func (g *Gossip) exchangeWith(list *memberlist.Memberlist, p netip.AddrPort) error {
	before := g.store.exchanges.Load()
	if _, err := list.Join([]string{p.String()}); err != nil {
		return fmt.Errorf("exchange reports with %s: %w", p, err)
	}
	if g.store.exchanges.Load() == before { // memberlist doesn't mind what we can't read
		return fmt.Errorf("exchange reports with %s: it tells none that can be read", p)
	}
	return nil
}

// others returns the addresses of the live members and of the wanted peers, without us.
func (g *Gossip) others() []netip.AddrPort {
	addrs := g.roster.others(g.cfg.Name)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.peers {
		if p.Name != g.cfg.Name && p.Addr != g.self && !slices.Contains(addrs, p.Addr) {
			addrs = append(addrs, p.Addr)
		}
	}
	return addrs
}
