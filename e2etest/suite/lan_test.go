package suite

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// patience is how long one question to the LAN waits for answers: far longer than an answer takes.
const patience = 300 * time.Millisecond

// askers are the clients that questions are put from. Answers to a question pass their kernels too, which correct what they
// have learned before; where a test is about that, it looks at a third client.
func (c *cluster) askers() []string { return c.Clients()[:min(2, len(c.Clients()))] }

// ask asks for an address from a client, once, and returns the hosts that answered, each once: while its kernel asks too, a
// client may see the answers to both.
func (c *cluster) ask(client string, ip netip.Addr) ([]string, error) {
	answers, err := c.WhoHas(client, ip, patience)
	if err != nil {
		return nil, err
	}
	hosts := []string{}
	for _, a := range answers {
		if a.Host == "" {
			return nil, fmt.Errorf("%s is answered with %s, which no host has", ip, a.MAC)
		}
		if !slices.Contains(hosts, a.Host) {
			hosts = append(hosts, a.Host)
		}
	}
	return hosts, nil
}

// askAll has every asker ask for each of the addresses at about the same time and returns the answers to each.
func (c *cluster) askAll(ips ...netip.Addr) (map[netip.Addr][][]string, error) {
	var group errgroup.Group
	group.SetLimit(64)
	var mu sync.Mutex
	all := map[netip.Addr][][]string{}
	for _, ip := range ips {
		for _, client := range c.askers() {
			group.Go(func() error {
				hosts, err := c.ask(client, ip)
				mu.Lock()
				defer mu.Unlock()
				all[ip] = append(all[ip], hosts)
				return err
			})
		}
	}
	return all, group.Wait()
}

// ownersNow has every asker ask for each of the addresses; it is an error unless one host answers all of them, and no
// other.
func (c *cluster) ownersNow(ips ...netip.Addr) (map[netip.Addr]string, error) {
	all, err := c.askAll(ips...)
	if err != nil {
		return nil, err
	}
	owners := map[netip.Addr]string{}
	for _, ip := range ips {
		for _, hosts := range all[ip] {
			if len(hosts) != 1 || hosts[0] != all[ip][0][0] {
				return nil, fmt.Errorf("%s is answered by %v (of each client's question), want one and the same", ip, all[ip])
			}
			owners[ip] = hosts[0]
		}
	}
	return owners, nil
}

// owners waits until exactly one node answers for each of the addresses and goes on to do so, asked three times more.
func (c *cluster) owners(t *testing.T, ips ...netip.Addr) map[netip.Addr]string {
	t.Helper()
	var owners map[netip.Addr]string
	eventually(t, 10*time.Second, func() (err error) {
		owners, err = c.ownersNow(ips...)
		return err
	})
	for range 3 {
		again, err := c.ownersNow(ips...)
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(again, owners) {
			t.Fatalf("the owners were %v and are %v now", owners, again)
		}
	}
	return owners
}

// owner is owners for one address.
func (c *cluster) owner(t *testing.T, ip netip.Addr) string {
	t.Helper()
	return c.owners(t, ip)[ip]
}

// ownedBy waits until exactly one node, one of those named, answers for each of the addresses.
func (c *cluster) ownedBy(t *testing.T, limit time.Duration, nodes []string, ips ...netip.Addr) {
	t.Helper()
	eventually(t, limit, func() error {
		owners, err := c.ownersNow(ips...)
		for ip, owner := range owners {
			if !slices.Contains(nodes, owner) {
				return fmt.Errorf("%s is answered by %s, want one of %v", ip, owner, nodes)
			}
		}
		return err
	})
}

// unanswered is an error if anybody answers for one of the addresses.
func (c *cluster) unanswered(ips ...netip.Addr) error {
	all, err := c.askAll(ips...)
	for ip, answers := range all {
		for _, hosts := range answers {
			if len(hosts) > 0 {
				return fmt.Errorf("%s is answered by %v, want nobody", ip, hosts)
			}
		}
	}
	return err
}

// silent waits until nobody answers for the addresses, and checks that this is so for a while.
func (c *cluster) silent(t *testing.T, limit time.Duration, ips ...netip.Addr) {
	t.Helper()
	eventually(t, limit, func() error { return c.unanswered(ips...) })
	throughout(t, time.Second, func() error { return c.unanswered(ips...) })
}

// others are the nodes without one.
func (c *cluster) others(node string) []string {
	return slices.DeleteFunc(c.Nodes(), func(n string) bool { return n == node })
}

// resolved is an error unless a client's kernel has learned by itself that an address is at a host.
func (c *cluster) resolved(client string, ip netip.Addr, host string) error {
	n, known, err := c.Neighbour(client, ip)
	switch {
	case err != nil:
		return err
	case !known || n.MAC == nil:
		return fmt.Errorf("the kernel of %s has not resolved %s", client, ip)
	case c.HostByMAC(n.MAC) != host:
		return fmt.Errorf("the kernel of %s has %s at %s, that is %s (%s); want %s", client, ip, n.MAC, c.HostByMAC(n.MAC), n.State, host)
	case !slices.Contains([]string{"REACHABLE", "STALE", "DELAY", "PROBE"}, n.State):
		return fmt.Errorf("the kernel of %s has %s in the state %s, which it cannot have come to by asking", client, ip, n.State)
	}
	return nil
}

// fetch waits until a page comes from an address, and returns the reply. The endpoints may be on their way to kube-proxy.
func (c *cluster) fetch(t *testing.T, client string, ip netip.Addr) (reply lab.Reply) {
	t.Helper()
	eventually(t, 10*time.Second, func() (err error) {
		reply, err = c.HTTPGet(client, lab.URL(ip, lab.HTTPPort), time.Second)
		return err
	})
	return reply
}

// flow begins to send requests to an address, one every 5 ms, and returns when answers come.
func (c *cluster) flow(t *testing.T, client string, ip netip.Addr) *lab.Flow {
	t.Helper()
	flow, err := c.UDPFlow(client, netip.AddrPortFrom(ip, lab.EchoPort), lab.FlowOptions{FreshPort: true})
	must(t, err)
	t.Cleanup(func() { flow.Stop() })
	_, err = flow.WaitAnswer(within(t, 10*time.Second))
	must(t, err)
	flow.Reset()
	return flow
}
