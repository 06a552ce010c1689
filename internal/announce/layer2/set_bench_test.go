package layer2

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/lanyard-lb/lanyard/internal/announce"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// BenchmarkPass is what a pass of the speaker asks of an announcer that holds many addresses: how they stand, and to
// hold the same as before, or one that comes or goes.
func BenchmarkPass(b *testing.B) {
	for _, count := range []int{3333, 10000} {
		names := []string{"eth0", "eth1"}
		w := announce.Want{Interfaces: []placement.Interface{suitable("eth0", 2), suitable("eth1", 3)}}
		for i := range count {
			w.Announcements = append(w.Announcements, &placement.Announcement{IP: numbered(IPv4, i), Interfaces: names})
		}
		less := w
		less.Announcements = slices.Delete(slices.Clone(w.Announcements), count/2, count/2+1)
		for name, wants := range map[string][]announce.Want{"same": {w, w}, "one": {w, less}} {
			b.Run(fmt.Sprintf("%s/of=%d", name, count), func(b *testing.B) {
				a := New(Config{Network: sink{}})
				ctx, cancel := context.WithCancel(b.Context())
				done := make(chan error)
				go func() { done <- a.Run(ctx) }()
				check(b, a.Set(w))
				b.ReportAllocs()
				for n := 1; b.Loop(); n++ {
					check(b, a.Set(wants[n%2]))
					if got := len(a.Standings()); got != len(wants[n%2].Announcements) {
						b.Fatal(got)
					}
				}
				cancel()
				check(b, <-done)
			})
		}
	}
}
