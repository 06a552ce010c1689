package allocation

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// allocationRecord is the part of an IPAllocationRecord that tells of history.
type allocationRecord struct {
	Allocations []struct {
		Address, Pool string
		Holders       []struct{ Kind, Namespace, Name, Since string }
		Previous      []struct {
			Kind, Namespace, Name, Pool string
			From, To                    time.Time
		}
	}
}

// recorded waits until the record of a block says who has an address, and before whom: "now < before < before".
func (c *cluster) recorded(t *testing.T, record, address, want string) {
	t.Helper()
	eventually(t, patience, func() error {
		var have allocationRecord
		if err := c.get(t, "IPAllocationRecord", record, &have); err != nil {
			return err
		}
		text := ""
		for _, a := range have.Allocations {
			if a.Address != address {
				continue
			}
			var now []string
			for _, h := range a.Holders {
				now = append(now, h.Kind+" "+h.Namespace+"/"+h.Name)
			}
			text = strings.Join(now, ",")
			for _, p := range a.Previous {
				text += fmt.Sprintf(" < %s %s/%s of %s", p.Kind, p.Namespace, p.Name, p.Pool)
				if p.From.IsZero() || p.To.Before(p.From) || time.Since(p.To) > time.Hour || time.Until(p.To) > time.Second {
					return fmt.Errorf("%s had %s from %v to %v", p.Name, address, p.From, p.To)
				}
			}
		}
		if text != want {
			return &unexpected{"record of " + address, text, want, nil}
		}
		return nil
	})
}

// history: who had an address, and when, is known after deletion, reassignment and restarts.
func history(t *testing.T, c *cluster) {
	c.pool(t, "h", "addresses: [10.64.0.1-10.64.0.2]")
	c.service(t, "first")
	c.expect(t, "first", "10.64.0.1 True Assigned")
	c.recorded(t, "10-64-0-0", "10.64.0.1", "Service default/first")
	c.delete(t, "Service", "first")
	c.counted(t, "h", "2/0/2 //")
	c.service(t, "blue/second")
	c.expect(t, "blue/second", "10.64.0.1 True Assigned")
	c.edit(t, "blue/second", addresses("10.64.0.2"))
	c.expect(t, "blue/second", "10.64.0.2 True Assigned")
	want := " < Service blue/second of h < Service default/first of h"
	c.recorded(t, "10-64-0-0", "10.64.0.1", want)
	c.stop(t)
	c.start(t)
	c.reserve(t, "r", "addresses: [10.64.0.1]")
	c.recorded(t, "10-64-0-0", "10.64.0.1", "IPReservation default/r"+want)
	c.recorded(t, "10-64-0-0", "10.64.0.2", "Service blue/second")
	out, err := c.Kubectl(within(t, 20*time.Second), "get", "ipalloc", "10-64-0-0", "-o", "yaml")
	must(t, err)
	if !strings.Contains(out, "name: first") {
		t.Errorf("kubectl get ipalloc prints\n%s", out)
	}
}
