package ipam

import (
	"fmt"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/internal/iprange"
)

// BenchmarkReleaseWhileManyWait is an address that becomes free while 10,000 Services wait for one.
func BenchmarkReleaseWhileManyWait(b *testing.B) {
	for _, waiting := range []int{100, 10_000} {
		b.Run(fmt.Sprint("waiting=", waiting), func(b *testing.B) {
			l := NewLedger()
			r, _ := iprange.Parse("10.0.0.0/24")
			l.SetPools([]Pool{{Name: "lan", Ranges: []iprange.Range{r}, AutoAssign: true}, {Name: "other"}})
			request := func(i int) Request {
				return Request{Service: Key{"ns", fmt.Sprint(i)}, Created: time.Unix(int64(i), 0), Families: []Family{IPv4}}
			}
			for i := range 256 + waiting {
				l.Set(request(i))
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if changed := l.Delete(Key{"ns", fmt.Sprint(i)}); len(changed.Services) != 1 {
					b.Fatalf("%v are served by one address that becomes free", changed.Services)
				}
				l.Set(request(256 + waiting + i))
			}
		})
	}
}
