package kube

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/go-kit/log"

	"github.com/lanyard-lb/lanyard/internal/record"
)

// BenchmarkCommit is a Service that takes an address of a block whose others are all held, and lets it go. The API
// server takes no time here.
func BenchmarkCommit(b *testing.B) {
	ctx := context.Background()
	r := newRecords(newServer(), "", "writer", log.NewNopLogger())
	if err := r.Load(ctx); err != nil {
		b.Fatal(err)
	}
	holder := func(i int) record.Holder {
		return record.Holder{Kind: record.Service, Namespace: "default", Name: fmt.Sprint("service", i), UID: "0b3c6e0e-5d0c-4f3e-9a57-6d1a35f1a1b5"}
	}
	var changes []record.Change
	first := netip.MustParseAddr("10.0.0.0")
	block := record.BlockOf(first)
	for ip, i := first, 0; block.Contains(ip); ip, i = ip.Next(), i+1 {
		changes = append(changes, record.Hold(ip, holder(i), "pool", time.Now()))
	}
	if err := r.Commit(ctx, changes[1:]...); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, c := range []record.Change{changes[0], record.Release(first, holder(0), time.Now())} {
			if err := r.Commit(ctx, c); err != nil {
				b.Fatal(err)
			}
		}
	}
}
