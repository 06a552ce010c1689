package allocation

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type counts struct{ Total, Assigned, Available, Quarantined string }

type poolCounts struct {
	Status struct {
		IPv4, IPv6 counts
		Holders    []struct{ Address, Service, Reservation string }
	}
}

// counted waits until the status of a pool has total/assigned/available of each family.
func (c *cluster) counted(t *testing.T, pool, want string) {
	t.Helper()
	eventually(t, patience, func() error {
		var have poolCounts
		if err := c.get(t, "IPAddressPool", pool, &have); err != nil {
			return err
		}
		var words []string
		for _, f := range []counts{have.Status.IPv4, have.Status.IPv6} {
			words = append(words, f.Total+"/"+f.Assigned+"/"+f.Available)
		}
		if text := strings.Join(words, " "); text != want {
			return &unexpected{"counts of pool " + pool, text, want, nil}
		}
		return nil
	})
}

// poolStatus: counts follow what happens, are right beyond 2^63, and are put right after edits by hand.
func poolStatus(t *testing.T, c *cluster) {
	c.pool(t, "p", "addresses: [10.60.0.1-10.60.0.4, 'fd60::/60']")
	const large = "295147905179352825856" // 2^68
	c.counted(t, "p", "4/0/4 "+large+"/0/"+large)
	c.service(t, "a", require())
	c.expect(t, "a", "10.60.0.1 fd60:: True Assigned")
	c.counted(t, "p", "4/1/3 "+large+"/1/295147905179352825855")
	c.service(t, "b", sharing("k"), port(1))
	c.service(t, "c", sharing("k"), port(2))
	c.expect(t, "c", "10.60.0.2 True Assigned")
	c.counted(t, "p", "4/2/2 "+large+"/1/295147905179352825855")
	c.patch(t, "IPAddressPool", "p", `{"spec":{"addresses":["10.60.0.1-10.60.0.9","fd60::/60"]}}`)
	c.counted(t, "p", "9/2/7 "+large+"/1/295147905179352825855")
	c.patch(t, "IPAddressPool", "p", `{"status":{"ipv4":{"total":"1","assigned":"99","available":"7","quarantined":"1"},"ipv6":null,"holders":null}}`, "status")
	c.counted(t, "p", "9/2/7 "+large+"/1/295147905179352825855")
	c.delete(t, "Service", "a")
	c.delete(t, "Service", "b")
	c.counted(t, "p", "9/1/8 "+large+"/0/"+large)
	c.reserve(t, "r", "addresses: [10.60.0.7]")
	c.counted(t, "p", "9/2/7 "+large+"/0/"+large)
}

// holders: the pool's status and kubectl say who has what.
func holders(t *testing.T, c *cluster) {
	c.pool(t, "p", "addresses: [10.61.0.1-10.61.0.4]")
	c.reserve(t, "r", "addresses: [10.61.0.2]")
	c.service(t, "web", reservation("r"))
	c.expect(t, "web", "10.61.0.2 True Assigned")
	c.service(t, "blue/a")
	c.expect(t, "blue/a", "10.61.0.1 True Assigned")
	want := "10.61.0.1 blue/a;10.61.0.2 (default/r);10.61.0.2 default/web"
	eventually(t, patience, func() error {
		var have poolCounts
		must(t, c.get(t, "IPAddressPool", "p", &have))
		var words []string
		for _, h := range have.Status.Holders {
			who := h.Service
			if h.Reservation != "" {
				who = "(" + h.Reservation + ")"
			}
			words = append(words, h.Address+" "+who)
		}
		if text := strings.Join(words, ";"); text != want {
			return &unexpected{"holders of the pool", text, want, nil}
		}
		return nil
	})
	out, err := c.Kubectl(within(t, 20*time.Second), "get", "ippool", "p")
	must(t, err)
	if !strings.Contains(out, "IPV4 ASSIGNED") || !strings.Contains(out, "InForce") {
		t.Errorf("kubectl get ippool prints\n%s", out)
	}
	out, err = c.Kubectl(within(t, 20*time.Second), "get", "ipres")
	must(t, err)
	if !strings.Contains(out, "10.61.0.2") {
		t.Errorf("kubectl get ipres prints\n%s", out)
	}
}

// conditionsAndEvents: the condition is of the object as it is, and an event tells of a change, once.
func conditionsAndEvents(t *testing.T, c *cluster) {
	c.pool(t, "p", "addresses: [10.62.0.1]")
	c.service(t, "talk")
	c.expect(t, "talk", "10.62.0.1 True Assigned")
	c.service(t, "waits")
	c.expect(t, "waits", "False PoolExhausted")
	for _, name := range []string{"talk", "waits"} {
		s := c.read(t, name)
		if condition := conditionOf(s); condition.ObservedGeneration != s.Generation || condition.LastTransitionTime.IsZero() {
			t.Errorf("the condition of %s is %+v, the generation %d", name, condition, s.Generation)
		}
	}
	c.told(t, "talk", "Assigned=1")
	c.told(t, "waits", "PoolExhausted=1")
	// What does not concern the address, a restart, and what comes to nothing: no event, no write.
	version := c.read(t, "waits").ResourceVersion
	c.edit(t, "talk", labelled("some", "label"))
	c.expect(t, "talk", "10.62.0.1 True Assigned")
	c.patch(t, "IPAddressPool", "p", `{"metadata":{"labels":{"some":"label"}}}`)
	c.stop(t)
	c.start(t)
	c.service(t, "waits-too") // by name after waits: it may be as old, for that is told in seconds
	c.expect(t, "waits-too", "False PoolExhausted")
	c.told(t, "talk", "Assigned=1")
	c.told(t, "waits", "PoolExhausted=1")
	if now := c.read(t, "waits").ResourceVersion; now != version {
		t.Errorf("the Service that waits was written anew: %+v", c.read(t, "waits").Status)
	}
	c.delete(t, "Service", "talk")
	c.expect(t, "waits", "10.62.0.1 True Assigned")
	c.told(t, "waits", "Assigned=1 PoolExhausted=1")
	out, err := c.Kubectl(within(t, 20*time.Second), "describe", "svc", "waits")
	must(t, err)
	if !strings.Contains(out, "PoolExhausted") || !strings.Contains(out, "lanyard-controller") {
		t.Errorf("kubectl describe svc says\n%s", out)
	}
}

// told waits until the events on a Service, counted by reason, are those given.
func (c *cluster) told(t *testing.T, service, want string) {
	t.Helper()
	uid := c.read(t, service).UID
	eventually(t, patience, func() error {
		list, err := c.Client().EventsV1().Events(metav1.NamespaceDefault).List(within(t, 10*time.Second), metav1.ListOptions{})
		if err != nil {
			return err
		}
		count := map[string]int{}
		for _, e := range list.Items {
			if e.Regarding.UID == uid {
				count[e.Reason]++
				if e.Series != nil {
					count[e.Reason] += int(e.Series.Count) - 1
				}
			}
		}
		var words []string
		for _, reason := range sortedKeys(count) {
			words = append(words, fmt.Sprintf("%s=%d", reason, count[reason]))
		}
		if text := strings.Join(words, " "); text != want {
			return &unexpected{"events on " + service, text, want, nil}
		}
		return nil
	})
}

// metrics: what happened is counted.
func metrics(t *testing.T, c *cluster) {
	before := c.metric(t, "lanyard_allocation_duration_seconds_count")
	c.pool(t, "measured", "addresses: [10.63.0.1, 'fd63::/126']")
	c.service(t, "a")
	c.expect(t, "a", "10.63.0.1 True Assigned")
	c.service(t, "b")
	c.expect(t, "b", "False PoolExhausted")
	c.service(t, "d", prefer())
	c.expect(t, "d", "fd63:: True PoolExhausted")
	for series, want := range map[string]float64{
		`lanyard_pool_addresses{family="IPv4",pool="measured",state="total"}`:       1,
		`lanyard_pool_addresses{family="IPv4",pool="measured",state="assigned"}`:    1,
		`lanyard_pool_addresses{family="IPv4",pool="measured",state="available"}`:   0,
		`lanyard_pool_addresses{family="IPv4",pool="measured",state="quarantined"}`: 0,
		`lanyard_pool_addresses{family="IPv6",pool="measured",state="total"}`:       4,
		`lanyard_pool_addresses{family="IPv6",pool="measured",state="assigned"}`:    1,
		`lanyard_controller_leading`:                1,
		`lanyard_allocation_duration_seconds_count`: before + 1,
	} {
		eventually(t, patience, func() error {
			if have := c.metric(t, series); have != want {
				return fmt.Errorf("%s is %v, want %v", series, have, want)
			}
			return nil
		})
	}
	for _, labels := range []string{`reason="Assigned",result="assigned"`, `reason="PoolExhausted",result="pending"`, `reason="PoolExhausted",result="partial"`} {
		if have := c.metric(t, "lanyard_allocations_total{"+labels+"}"); have < 1 {
			t.Errorf("lanyard_allocations_total{%s} is %v", labels, have)
		}
	}
	c.metric(t, "lanyard_allocation_conflicts_total")
}

func (c *cluster) metric(t *testing.T, series string) float64 {
	t.Helper()
	value, err := c.Metric(t.Context(), "cp", series)
	must(t, err)
	return value
}
