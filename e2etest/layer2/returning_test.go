package layer2

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	apiwatch "k8s.io/apimachinery/pkg/watch"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// TestReturningNode has a node off the LAN while the speakers of the others start again, and so forget its MAC address.
func TestReturningNode(t *testing.T) {
	c := serve(t, lab.Options{Nodes: 3, Clients: 3}, "--conflict-recheck=1s")
	r := &returning{cluster: c, node: c.Node(2)}
	c.Pool(t, "lan", "[10.77.0.200-10.77.0.205, fd77::200-fd77::205]")
	c.Advertise(t, "lan")
	r.ips = c.Services(t, "web", 6)
	c.Owners(t, r.ips...)
	t.Run("it comes back", r.back)
	t.Run("all start at once", r.all)
	t.Run("a stranger comes meanwhile", r.stranger)
}

type returning struct {
	*cluster
	node string
	ips  []netip.Addr
}

// away takes the node off the LAN and has the others forget it.
func (r *returning) away(t *testing.T) {
	t.Helper()
	t.Cleanup(func() { _ = r.Plug(r.node) })
	must(t, r.Unplug(r.node))
	r.restart(t, r.Others(r.node)...)
	r.OwnedBy(t, 15*time.Second, r.Others(r.node), r.ips...)
}

// restart kills speakers, all at once, and starts them again.
func (r *returning) restart(t *testing.T, nodes ...string) {
	t.Helper()
	for _, node := range nodes {
		must(t, r.Speaker(node).Kill())
	}
	for _, node := range nodes {
		must(t, r.Speaker(node).Restart())
	}
}

// back: what the node claims before it has joined is called a stranger's by no pool, no Service and no report, at no time.
func (r *returning) back(t *testing.T) {
	r.away(t)
	flooded, plugged := r.flood(t), time.Now()
	r.unaccused(t, func() { must(t, r.Plug(r.node)) })
	if !slices.ContainsFunc(r.ips, func(ip netip.Addr) bool { return len(flooded.claims(ip, plugged, r.node)) > 0 }) {
		t.Errorf("%s has claimed no address, so nobody could take it for a stranger", r.node)
	}
}

// all: as when the power comes back, nobody knows anybody, and the node is the last to join.
func (r *returning) all(t *testing.T) {
	r.unaccused(t, func() { r.restart(t, r.Nodes()...) })
}

// unaccused checks that nobody is called a stranger when the node comes on the LAN, claims or probes addresses, and joins later.
func (r *returning) unaccused(t *testing.T, come func()) {
	t.Helper()
	for _, node := range r.Others(r.node) {
		t.Cleanup(func() { _ = r.UnpartGossip(r.node, node) })
		must(t, r.PartGossip(r.node, node))
	}
	a := r.accusations(t)
	begun := time.Now()
	come()
	throughout(t, 4*time.Second, a.none) // it begins without the others after two of them
	for _, node := range r.Others(r.node) {
		must(t, r.UnpartGossip(r.node, node))
	}
	r.AllTogether(t)
	r.settle(t, 10*time.Second, r.ips...)
	throughout(t, 10*time.Second, a.none) // longer than anybody is held back
	r.noConflict(t, begun)
}

// noConflict checks that no event speaks of a stranger.
func (r *returning) noConflict(t *testing.T, since time.Time) {
	t.Helper()
	for i := range len(r.ips) / 2 {
		for _, e := range r.EventsSince(t, since, "Service", fmt.Sprintf("web-%d", i)) {
			if strings.Contains(e, "AddressConflict") {
				t.Errorf("event on web-%d: %s", i, e)
			}
		}
	}
}

// stranger: while the node is away, who uses an address may be it; who goes on doing so is no node of ours.
func (r *returning) stranger(t *testing.T) {
	r.away(t)
	ip := r.ips[0]
	leave := r.squat(t, ip)
	came := time.Now()
	eventually(t, 12*time.Second, func() error {
		must(t, r.Proclaim(stranger, ip))
		if list := r.quarantine(t, "lan"); len(list) != 1 || list[0].Address != ip.String() || !list[0].Held {
			return fmt.Errorf("in quarantine is %+v, want %s, held", list, ip)
		}
		return nil
	})
	t.Logf("in quarantine %s after the stranger came", time.Since(came).Round(100*time.Millisecond))
	r.told(t, "web-0", "Warning AddressConflict:", ip.String())
	leave()
	must(t, r.Plug(r.node))
	r.AllTogether(t)
	r.inQuarantine(t, "lan")
	eventually(t, 15*time.Second, func() error {
		if have, err := r.l2status(t, "web-0"); err != nil || len(have.Status.Announcements) == 0 || have.Status.Announcements[0].Rival != "" {
			return errors.Join(err, fmt.Errorf("of web-0 is said %+v, want no rival", have))
		}
		return nil
	})
}

// accusations are all that pools, Services and reports have said of strangers.
type accusations struct {
	mu   sync.Mutex
	said []string
}

// accusations collects every state of these objects until the test ends.
func (r *returning) accusations(t *testing.T) *accusations {
	t.Helper()
	a := &accusations{}
	for _, kind := range []string{"IPAddressPool", "Service", "ServiceL2Status"} {
		stream, err := r.Resource(kind).Watch(within(t, 2*time.Minute), metav1.ListOptions{})
		must(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for e := range stream.ResultChan() {
				a.look(kind, e)
			}
		}()
		t.Cleanup(func() {
			stream.Stop()
			<-done
		})
	}
	return a
}

func (a *accusations) look(kind string, e apiwatch.Event) {
	o, is := e.Object.(*unstructured.Unstructured)
	if !is {
		a.say(fmt.Sprintf("watch %s: %v", kind, e.Object))
		return
	}
	status, _, _ := unstructured.NestedMap(o.Object, "status")
	if text := fmt.Sprint(status); status["quarantined"] != nil || strings.Contains(text, "AddressConflict") || strings.Contains(text, "rival:") {
		a.say(fmt.Sprintf("%s %s: %s", kind, o.GetName(), text))
	}
}

func (a *accusations) say(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.said = append(a.said, text)
}

func (a *accusations) none() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.said) > 0 {
		return fmt.Errorf("a node of ours is called a stranger:\n%s", strings.Join(a.said, "\n"))
	}
	return nil
}
