package allocation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// burst is how many Services are created while the leader is lost; early have an address before, and are deleted in the
// middle, so that addresses change hands from one leader to the next: the pool has no more than burst.
const (
	burst = 500
	early = 60
)

// TestNeverTwice: two controllers, and the leader is lost in the middle of a burst of Services. At no time do two statuses
// name one address, and in the end each Service has one.
func TestNeverTwice(t *testing.T) {
	lab.Need(t, lab.PlacedControllers)
	c := install(t, lab.Options{Nodes: 2, Clients: -1})
	for i, story := range []struct {
		name       string
		lose, back func(leader *lab.Process) error
	}{
		{"the leader is killed", (*lab.Process).Kill, func(*lab.Process) error { return nil }},
		{"the leader is frozen past its lease, then goes on", (*lab.Process).Freeze, (*lab.Process).Thaw},
		{"the leader is cut off from the API server, then is back",
			func(p *lab.Process) error { return c.Part(p.Host.Hostname, "cp") },
			func(p *lab.Process) error { return c.Unpart(p.Host.Hostname, "cp") }},
	} {
		t.Run(story.name, func(t *testing.T) {
			leader, other := c.pair(t)
			afterwards(t, func(context.Context) error {
				if err := story.back(leader); leader.Alive() {
					return err
				}
				return nil
			})
			c.burst(t, i, func() { must(t, story.lose(leader)) }, func() {
				lost := time.Now()
				eventually(t, 40*time.Second, func() error { return c.leads(other) })
				t.Logf("the other leads after %v", time.Since(lost).Round(time.Millisecond))
				must(t, story.back(leader))
			})
			c.ended(t, leader)
		})
	}
	t.Run("there is no lease, and both lead", func(t *testing.T) {
		first := c.startOn(t, "n1", "--leader-elect=false")
		var second *lab.Process
		afterwards(t, func(context.Context) error { return second.Kill() })
		eventually(t, patience, func() error { return c.leads(first) })
		c.burst(t, 3, func() {
			var err error
			second, err = c.StartController(within(t, 30*time.Second), "n2", controllerName, "--leader-elect=false")
			must(t, err)
		}, func() {})
		c.ended(t, first)
	})
}

// burst makes a burst of Services, does something to the controllers in its middle, and something else when the burst is
// over.
func (c *cluster) burst(t *testing.T, round int, inTheMiddle, then func()) {
	t.Helper()
	begun := time.Now()
	c.noPools(t)
	c.pool(t, "burst", fmt.Sprintf("addresses: [10.80.%d.0-10.80.%d.%d]", 2*round, 2*round+1, burst-256-1))
	watch := c.watchAddresses(t)
	names := c.createMany(t, "early", early, nil)
	watch.until(t, 30*time.Second, func() error { return watch.haveAddresses(names) })

	part := make(chan struct{})
	created, deleted := make(chan []string, 1), make(chan error, 1)
	go func() { created <- c.createMany(t, "late", burst, part) }()
	go func() {
		<-part
		deleted <- c.deleteMany(context.Background(), "early")
	}()
	<-part
	watch.until(t, 30*time.Second, func() error { return watch.atLeast(early + burst/8) })
	inTheMiddle()
	t.Logf("after %v, with %d addresses in statuses, it happens", time.Since(begun).Round(time.Millisecond), watch.count())
	names = <-created
	must(t, <-deleted)
	then()
	watch.until(t, 60*time.Second, func() error { return watch.haveAddresses(names) })
	t.Logf("all %d have an address after %v; %d changes were seen", burst, time.Since(begun).Round(time.Millisecond), watch.changes())
	c.expectDistinct(t, names)
	c.recordsAgree(t, names)
	throughout(t, time.Second, watch.failed)
}

// ended waits until a controller that was the leader once is no danger any more: it has ended by itself.
func (c *cluster) ended(t *testing.T, leader *lab.Process) {
	t.Helper()
	if _, err := leader.Wait(within(t, 30*time.Second)); err != nil {
		t.Errorf("the leader of before has not ended: %v", err)
	}
}

// startOn starts a controller on a node, for the test.
func (c *cluster) startOn(t *testing.T, node string, args ...string) *lab.Process {
	t.Helper()
	p, err := c.StartController(within(t, 30*time.Second), node, controllerName, args...)
	must(t, err)
	afterwards(t, func(context.Context) error { return p.Kill() })
	return p
}

// pair starts a controller on each node and tells the leader from the other.
func (c *cluster) pair(t *testing.T) (leader, other *lab.Process) {
	t.Helper()
	afterwards(t, c.freeLease) // once both are gone
	var both []*lab.Process
	for _, node := range c.Nodes() {
		both = append(both, c.startOn(t, node))
	}
	eventually(t, 40*time.Second, func() error {
		for i, p := range both {
			if c.leads(p) == nil {
				leader, other = p, both[1-i]
				return nil
			}
		}
		return errors.New("no controller leads")
	})
	eventually(t, patience, func() error {
		_, err := c.Metric(t.Context(), other.Host.Hostname, "lanyard_controller_leading")
		return err
	})
	return leader, other
}

func (c *cluster) leads(p *lab.Process) error {
	leading, err := c.Metric(context.Background(), p.Host.Hostname, "lanyard_controller_leading")
	if err == nil && leading != 1 {
		err = fmt.Errorf("the controller on %s does not lead", p.Host.Hostname)
	}
	return err
}

// createMany makes Services, 16 at a time, and closes part when a quarter of them are there.
func (c *cluster) createMany(t *testing.T, prefix string, n int, part chan struct{}, changes ...change) (names []string) {
	var group errgroup.Group
	group.SetLimit(16)
	for i := range n {
		name := fmt.Sprintf("%s-%03d", prefix, i)
		names = append(names, metav1.NamespaceDefault+"/"+name)
		if part != nil && i == n/4 {
			close(part)
		}
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			return c.createService(ctx, name, append([]change{labelled("burst", prefix)}, changes...)...)
		})
	}
	if err := group.Wait(); err != nil {
		t.Errorf("create Services: %v", err)
	}
	afterwards(t, func(ctx context.Context) error { return c.deleteMany(ctx, prefix) })
	return names
}

// deleteMany deletes the Services of createMany, 16 at a time.
func (c *cluster) deleteMany(ctx context.Context, prefix string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	services := c.Client().CoreV1().Services(metav1.NamespaceDefault)
	list, err := services.List(ctx, metav1.ListOptions{LabelSelector: "burst=" + prefix})
	if err != nil {
		return err
	}
	var group errgroup.Group
	group.SetLimit(16)
	for _, s := range list.Items {
		group.Go(func() error { return services.Delete(ctx, s.Name, metav1.DeleteOptions{}) })
	}
	return group.Wait()
}

// expectDistinct asks the API server once more, not the watch: each Service has one address, and no other has it.
func (c *cluster) expectDistinct(t *testing.T, names []string) {
	t.Helper()
	list, err := c.Client().CoreV1().Services(metav1.NamespaceAll).List(within(t, 20*time.Second), metav1.ListOptions{})
	must(t, err)
	have := map[string][]string{}
	owner := map[string]string{}
	for i := range list.Items {
		name := list.Items[i].Namespace + "/" + list.Items[i].Name
		have[name] = ingress(&list.Items[i])
		for _, ip := range have[name] {
			if other, twice := owner[ip]; twice {
				t.Errorf("%s stands in the statuses of %s and %s", ip, other, name)
			}
			owner[ip] = name
		}
	}
	for _, name := range names {
		if len(have[name]) != 1 {
			t.Errorf("Service %s has the addresses %v, want one", name, have[name])
		}
	}
}

// recordsAgree: soon after, the allocation records name as holders those whose statuses name the addresses, and nobody else.
func (c *cluster) recordsAgree(t *testing.T, names []string) {
	t.Helper()
	eventually(t, patience, func() error {
		holders, err := c.recordedHolders(t)
		if err != nil {
			return err
		}
		list, err := c.Client().CoreV1().Services(metav1.NamespaceAll).List(within(t, 20*time.Second), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for i := range list.Items {
			name := list.Items[i].Namespace + "/" + list.Items[i].Name
			if have := strings.Join(ingress(&list.Items[i]), ""); holders[name] != have {
				return fmt.Errorf("Service %s has %q, the records say %q", name, have, holders[name])
			}
		}
		if len(holders) != len(names) {
			return fmt.Errorf("the records name %d holders, want %d", len(holders), len(names))
		}
		return nil
	})
}

// recordedHolders is what each Service holds by the records.
func (c *cluster) recordedHolders(t *testing.T) (map[string]string, error) {
	client, _ := c.resource("IPAllocationRecord", "")
	list, err := client.List(within(t, 10*time.Second), metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	raw, err := list.MarshalJSON()
	if err != nil {
		return nil, err
	}
	var records struct{ Items []allocationRecord }
	if err := json.Unmarshal(raw, &records); err != nil {
		return nil, err
	}
	holders := map[string]string{}
	for _, r := range records.Items {
		for _, a := range r.Allocations {
			if len(a.Holders) > 1 {
				return nil, fmt.Errorf("%s has the holders %v", a.Address, a.Holders)
			}
			for _, h := range a.Holders {
				holders[h.Namespace+"/"+h.Name] += a.Address
			}
		}
	}
	return holders, nil
}
