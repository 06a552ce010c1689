package cli

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/record"
)

// tenure is the time for which somebody has or had an address, or nobody has had it.
type tenure struct {
	Address string     `json:"address"`
	Holder  *holder    `json:"holder"` // null: it is free
	Pool    string     `json:"pool,omitempty"`
	From    time.Time  `json:"from"`
	To      *time.Time `json:"to"` // null: until now
}

type holder struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// tenures tells of an address, newest first.
func tenures(e record.Entry) []tenure {
	var list []tenure
	row := func(h *record.Holder, pool string, from time.Time, to *time.Time) {
		t := tenure{Address: e.Addr.String(), Pool: pool, From: from, To: to}
		if h != nil {
			t.Holder = &holder{Kind: string(h.Kind), Namespace: h.Namespace, Name: h.Name}
		}
		list = append(list, t)
	}
	if len(e.Holders) == 0 {
		row(nil, "", e.Released, nil)
	}
	for _, h := range slices.Backward(e.Holders) {
		row(&h.Holder, e.Pool, h.Since, nil)
	}
	for _, p := range e.Previous {
		row(&p.Holder, p.Pool, p.From, &p.To)
	}
	return list
}

// who prints who has an address, and who had it.
func (c *command) who(ctx context.Context, argument string) error {
	addr, err := netip.ParseAddr(argument)
	if err != nil || addr.Zone() != "" {
		return fmt.Errorf("%q is not an address", argument)
	}
	addr = addr.Unmap()
	block := record.BlockOf(addr)
	var o v1beta1.IPAllocationRecord
	if err := c.api.Get(ctx, client.ObjectKey{Name: record.Name(block)}, &o); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("get IPAllocationRecord %s: %w", record.Name(block), err)
	} else if err == nil {
		b, fault := record.Decode(block, &o)
		if e, known := b.Lookup(addr); known {
			return c.printTenures(tenures(e))
		}
		if fault != nil {
			return fault
		}
	}
	return fmt.Errorf("there is no record of %s: Lanyard has not given it to anybody", addr)
}

// history prints the addresses that a Service of a name has and had, newest first.
func (c *command) history(ctx context.Context, name string) error {
	var records v1beta1.IPAllocationRecordList
	if err := c.api.List(ctx, &records); err != nil {
		return fmt.Errorf("list IPAllocationRecords: %w", err)
	}
	want := holder{Kind: string(record.Service), Namespace: c.namespace, Name: name}
	var list []tenure
	for i := range records.Items {
		for _, t := range recorded(&records.Items[i]) {
			if t.Holder != nil && *t.Holder == want {
				list = append(list, t)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b tenure) int {
		return cmp.Or(b.until().Compare(a.until()), b.From.Compare(a.From))
	})
	if len(list) == 0 {
		return fmt.Errorf("there is no record of Service %s/%s: it has had no address lately", c.namespace, name)
	}
	return c.printTenures(list)
}

// recorded returns all that can be read in a record.
func recorded(o *v1beta1.IPAllocationRecord) (list []tenure) {
	block, err := netip.ParsePrefix(o.Block)
	if err != nil {
		return nil
	}
	b, _ := record.Decode(block, o)
	for e := range b.All() {
		list = append(list, tenures(e)...)
	}
	return list
}

// until is the end of a tenure; now is later than all that has been.
func (t tenure) until() time.Time {
	if t.To == nil {
		return time.Unix(1<<40, 0)
	}
	return *t.To
}

func (c *command) printTenures(list []tenure) error {
	if c.output == "json" {
		return c.json(list)
	}
	rows := [][]string{{"ADDRESS", "HOLDER", "POOL", "FROM", "TO"}}
	for _, t := range list {
		who, to := "(free)", "now"
		if t.Holder != nil {
			who = t.Holder.Kind + " " + t.Holder.Namespace + "/" + t.Holder.Name
		}
		if t.To != nil {
			to = moment(*t.To)
		}
		rows = append(rows, []string{t.Address, who, cmp.Or(t.Pool, "-"), moment(t.From), to})
	}
	return c.table(rows)
}
