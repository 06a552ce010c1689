package labtest

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

// Patience is how long one question to the LAN waits for answers: far longer than an answer takes.
const Patience = 300 * time.Millisecond

// Askers are the clients that questions are put from. Answers to a question pass their kernels too, which correct what they
// have learned before; where a test is about that, it looks at a third client.
func (c *Cluster) Askers() []string { return c.Clients()[:min(2, len(c.Clients()))] }

// Ask asks for an address from a client and returns the hosts that answered, each once: while its kernel asks too, a client
// may see the answers to both. When nobody answers it asks once more, as kernels do: the machine may have stood still
// meanwhile.
func (c *Cluster) Ask(client string, ip netip.Addr) ([]string, error) {
	answers, err := c.WhoHas(client, ip, Patience)
	if err == nil && len(answers) == 0 {
		answers, err = c.WhoHas(client, ip, Patience)
	}
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

// AskAll has every asker ask for each of the addresses at about the same time and returns the answers to each.
func (c *Cluster) AskAll(ips ...netip.Addr) (map[netip.Addr][][]string, error) {
	var group errgroup.Group
	group.SetLimit(64)
	var mu sync.Mutex
	all := map[netip.Addr][][]string{}
	for _, ip := range ips {
		for _, client := range c.Askers() {
			group.Go(func() error {
				hosts, err := c.Ask(client, ip)
				mu.Lock()
				defer mu.Unlock()
				all[ip] = append(all[ip], hosts)
				return err
			})
		}
	}
	return all, group.Wait()
}

// OwnersNow has every asker ask for each of the addresses; it is an error unless one host answers all of them, and no
// other.
func (c *Cluster) OwnersNow(ips ...netip.Addr) (map[netip.Addr]string, error) {
	all, err := c.AskAll(ips...)
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

// Owners waits until exactly one node answers for each of the addresses and goes on to do so, asked three times more.
func (c *Cluster) Owners(t *testing.T, ips ...netip.Addr) map[netip.Addr]string {
	t.Helper()
	var owners map[netip.Addr]string
	Eventually(t, 10*time.Second, func() (err error) {
		owners, err = c.OwnersNow(ips...)
		return err
	})
	for range 3 {
		again, err := c.OwnersNow(ips...)
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(again, owners) {
			t.Fatalf("the owners were %v and are %v now", owners, again)
		}
	}
	return owners
}

// Owner is owners for one address.
func (c *Cluster) Owner(t *testing.T, ip netip.Addr) string {
	t.Helper()
	return c.Owners(t, ip)[ip]
}

// OwnedBy waits until exactly one node, one of those named, answers for each of the addresses.
func (c *Cluster) OwnedBy(t *testing.T, limit time.Duration, nodes []string, ips ...netip.Addr) {
	t.Helper()
	Eventually(t, limit, func() error {
		owners, err := c.OwnersNow(ips...)
		for ip, owner := range owners {
			if !slices.Contains(nodes, owner) {
				return fmt.Errorf("%s is answered by %s, want one of %v", ip, owner, nodes)
			}
		}
		return err
	})
}

// Unanswered is an error if anybody answers for one of the addresses.
func (c *Cluster) Unanswered(ips ...netip.Addr) error {
	all, err := c.AskAll(ips...)
	for ip, answers := range all {
		for _, hosts := range answers {
			if len(hosts) > 0 {
				return fmt.Errorf("%s is answered by %v, want nobody", ip, hosts)
			}
		}
	}
	return err
}

// Silent waits until nobody answers for the addresses, and checks that this is so for a while.
func (c *Cluster) Silent(t *testing.T, limit time.Duration, ips ...netip.Addr) {
	t.Helper()
	Eventually(t, limit, func() error { return c.Unanswered(ips...) })
	Throughout(t, time.Second, func() error { return c.Unanswered(ips...) })
}

// Others are the nodes without one.
func (c *Cluster) Others(node string) []string {
	return slices.DeleteFunc(c.Nodes(), func(n string) bool { return n == node })
}

// Resolved is an error unless a client's kernel has learned by itself that an address is at a host.
func (c *Cluster) Resolved(client string, ip netip.Addr, host string) error {
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

// Fetch waits until a page comes from an address, and returns the reply. The endpoints may be on their way to kube-proxy.
func (c *Cluster) Fetch(t *testing.T, client string, ip netip.Addr) (reply lab.Reply) {
	t.Helper()
	Eventually(t, 10*time.Second, func() (err error) {
		reply, err = c.HTTPGet(client, lab.URL(ip, lab.HTTPPort), time.Second)
		return err
	})
	return reply
}

// Flow begins to send requests to an address, one every 5 ms, and returns when answers come.
func (c *Cluster) Flow(t *testing.T, client string, ip netip.Addr) *lab.Flow {
	t.Helper()
	flow, err := c.UDPFlow(client, netip.AddrPortFrom(ip, lab.EchoPort), lab.FlowOptions{FreshPort: true})
	Must(t, err)
	t.Cleanup(func() { flow.Stop() })
	_, err = flow.WaitAnswer(Within(t, 10*time.Second))
	Must(t, err)
	flow.Reset()
	return flow
}
