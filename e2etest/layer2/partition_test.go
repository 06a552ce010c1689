package layer2

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// TestPartition cuts nodes off from each other in every way short of taking one off the LAN: row T24. While they do not hear
// each other an address may have two owners, never three; when they do, it has one, and clients know which.
func TestPartition(t *testing.T) {
	c := serve(t, lab.Options{Nodes: 3, Clients: 3})
	p := &partition{cluster: c}
	c.RunWeb(t, c.Node(3), "web-1")
	c.Pool(t, "lan", "[10.77.0.200-10.77.0.205, fd77::200-fd77::205]")
	c.Advertise(t, "lan")
	p.ips = c.Services(t, "web", 6)
	t.Run("gossip alone", func(t *testing.T) { p.part(t, c.PartGossip, c.UnpartGossip) })
	t.Run("gossip and the LAN", func(t *testing.T) { p.part(t, c.Part, c.Unpart) })
	t.Run("one is not heard by one other", p.notHeardByOne)
	t.Run("one is not heard by all others", p.notHeard)
	t.Run("one does not hear the others", p.deaf)
}

type partition struct {
	*cluster
	ips []netip.Addr
}

// alone is the node that is cut off; the others are most of the nodes, and hear each other.
func (p *partition) alone() string { return p.Node(1) }

// part cuts one node off from the two others, which the clients go on to hear, and heals it.
func (p *partition) part(t *testing.T, cut, mend func(a, b string) error) {
	before := p.Owners(t, p.ips...)
	flooded := p.flood(t)
	flooded.quiet(t, p.ips...)
	parted := time.Now()
	p.apart(t, func(node string) error { return cut(p.alone(), node) }, func(node string) error { return mend(p.alone(), node) })
	p.alive(t, p.alone(), 1)
	p.alive(t, p.Node(2), 2)
	p.twoAtMost(t, 3*time.Second)
	p.know(t)
	healed := time.Now()
	must(t, p.mend(func(node string) error { return mend(p.alone(), node) }))
	owners := p.united(t)
	p.keptByMost(t, before, owners)
	for _, ip := range p.ips {
		p.loserIsSilent(t, flooded, ip, parted, healed, owners[ip])
	}
	p.clientsKnow(t, owners)
	p.staysPut(t, 2*time.Second, owners)
}

// apart sets a fault between it and each of the others, until mend or the end of the test.
func (p *partition) apart(t *testing.T, cut, mend func(node string) error) {
	t.Helper()
	t.Cleanup(func() { _ = p.mend(mend) })
	for _, node := range p.Others(p.alone()) {
		must(t, cut(node))
	}
}

func (p *partition) mend(mend func(node string) error) error {
	var faults []error
	for _, node := range p.Others(p.alone()) {
		faults = append(faults, mend(node))
	}
	return errors.Join(faults...)
}

// alive waits until a speaker sees so many, itself among them.
func (p *partition) alive(t *testing.T, node string, want int) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		alive, err := p.Metric(t.Context(), node, `lanyard_speaker_members{state="alive"}`)
		if err == nil && int(alive) != want {
			err = fmt.Errorf("%s sees %v speakers, want %d", node, alive, want)
		}
		return err
	})
}

// twoAtMost waits until every address is answered, and checks for a while that this goes on, by two nodes at most.
func (p *partition) twoAtMost(t *testing.T, span time.Duration) {
	t.Helper()
	check := func() error {
		all, err := p.AskAll(p.ips...)
		for ip, answers := range all {
			for _, hosts := range answers {
				if len(hosts) == 0 || len(hosts) > 2 || (len(hosts) == 2 && !slices.Contains(hosts, p.alone())) {
					err = errors.Join(err, fmt.Errorf("%s is answered by %v; want one, or %s and one of the others", ip, hosts, p.alone()))
				}
			}
		}
		return err
	}
	eventually(t, outageLimit, check)
	throughout(t, span, check)
}

// know has the kernel of the user learn every address by itself, from whoever answers it.
func (p *partition) know(t *testing.T) {
	t.Helper()
	must(t, p.FlushNeighbours(user))
	var group errgroup.Group
	for _, ip := range p.ips {
		group.Go(func() error {
			_, _ = p.UDPEcho(user, netip.AddrPortFrom(ip, lab.EchoPort), time.Second) // whether the backend hears it does not matter
			n, known, err := p.Neighbour(user, ip)
			if err == nil && (!known || n.MAC == nil) {
				err = fmt.Errorf("the kernel of %s has not resolved %s", user, ip)
			}
			return err
		})
	}
	must(t, group.Wait())
}

// united waits until all speakers see each other and one answers for each address.
func (p *partition) united(t *testing.T) map[netip.Addr]string {
	t.Helper()
	p.AllTogether(t)
	return p.settle(t, 5*time.Second, p.ips...)
}

// keptByMost checks that what the majority owned before is where it was: nobody there had lost it.
func (p *partition) keptByMost(t *testing.T, before, after map[netip.Addr]string) {
	t.Helper()
	for ip, owner := range before {
		if owner != p.alone() && after[ip] != owner {
			t.Errorf("%s moved from %s to %s, although only %s was cut off", ip, owner, after[ip], p.alone())
		}
	}
}

// loserIsSilent checks, of an address that another than its owner announced during the partition or after it, that the owner has
// announced it since, and after the other's last word.
func (p *partition) loserIsSilent(t *testing.T, w *wire, ip netip.Addr, parted, healed time.Time, owner string) {
	t.Helper()
	var last time.Time
	for _, f := range w.claims(ip, parted, "") {
		if host := w.c.HostByMAC(f.Claimant()); host != owner && f.Time.After(last) {
			last = f.Time
		}
	}
	if last.IsZero() {
		return // nobody else ever said a word
	}
	if last.Before(healed) {
		last = healed
	}
	eventually(t, 5*time.Second, func() error {
		if len(w.announcements(ip, last, owner)) == 0 {
			return fmt.Errorf("%s has not announced %s again after %s, when it had a rival", owner, ip, last.Format("15:04:05.000"))
		}
		return nil
	})
}

// clientsKnow checks that the kernel of the user has every address at its owner, although it may have learned another one.
func (p *partition) clientsKnow(t *testing.T, owners map[netip.Addr]string) {
	t.Helper()
	eventually(t, 5*time.Second, func() (err error) {
		for ip, owner := range owners {
			err = errors.Join(err, p.Resolved(user, ip, owner))
		}
		return err
	})
}

// notHeardByOne: what n1 says does not reach n2, by the same path all else does, and n3 hears both. Nobody is dead and nothing
// moves.
func (p *partition) notHeardByOne(t *testing.T) {
	owners := p.Owners(t, p.ips...)
	t.Cleanup(func() { _ = p.Undrop(p.alone(), p.Node(2)) })
	must(t, p.Drop(p.alone(), p.Node(2)))
	p.staysPut(t, 5*time.Second, owners)
	must(t, p.Undrop(p.alone(), p.Node(2)))
	p.united(t)
}

// notHeard: n1 hears the others and they do not hear it; deaf is the other way round. Whatever each of them makes of it,
// nobody is without an answer, and when they hear each other, all is well.
func (p *partition) notHeard(t *testing.T) {
	p.oneWay(t, func(node string) error { return p.Drop(p.alone(), node) }, func(node string) error { return p.Undrop(p.alone(), node) })
}

func (p *partition) deaf(t *testing.T) {
	p.oneWay(t, func(node string) error { return p.Drop(node, p.alone()) }, func(node string) error { return p.Undrop(node, p.alone()) })
}

func (p *partition) oneWay(t *testing.T, cut, mend func(node string) error) {
	before := p.Owners(t, p.ips...)
	p.apart(t, cut, mend)
	p.alive(t, p.Node(2), 2)
	p.twoAtMost(t, 3*time.Second)
	must(t, p.mend(mend))
	owners := p.united(t)
	p.keptByMost(t, before, owners)
	p.staysPut(t, 2*time.Second, owners)
}
