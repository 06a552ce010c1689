package speaker

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/go-kit/log"
	corev1 "k8s.io/api/core/v1"

	"github.com/lanyard-lb/lanyard/internal/placement"
	"github.com/lanyard-lb/lanyard/internal/sortedlist"
)

// BenchmarkLook is what one pass costs the reporter of a node that owns a third of 10,000 addresses, when it has changed
// one verdict and a Service.
func BenchmarkLook(b *testing.B) {
	n := Reporting{Self: "n0", Members: []string{"n0", "n1", "n2"}, Services: map[string]*corev1.Service{}}
	var list []*placement.Verdict
	for i := range 10_000 {
		name := fmt.Sprint("svc", i)
		s := assigned(name, numbered(i))
		n.Services["default/"+name] = &s
		list = append(list, announcedBy(fmt.Sprint("n", i%3), numbered(i), "default/"+name))
	}
	n.Verdicts = sortedlist.Of(list)
	n.Reports = map[string]placement.Report{"n0": {Interfaces: []placement.Interface{{Name: "eth0", MAC: placement.MAC{2}}}}}
	r := NewReporter(ReporterConfig{Logger: log.NewNopLogger()})
	look := func() {
		r.looked = time.Time{}
		r.Tell(n)
		r.look(time.Now())
		if e, _ := r.next(time.Now()); e == nil {
			b.Fatal("nothing to write")
		}
	}
	look()
	b.ReportAllocs()
	for b.Loop() {
		s := assigned("svc7", numbered(7))
		n.Services = map[string]*corev1.Service{"default/svc7": &s}
		v := announcedBy("n0", numbered(9), "default/svc9")
		n.Verdicts = sortedlist.Edited(n.Verdicts, []sortedlist.Edit[netip.Addr, *placement.Verdict]{{Key: v.IP, Now: v}},
			func(v *placement.Verdict, ip netip.Addr) int { return v.IP.Compare(ip) })
		look()
	}
	if len(r.entries) != 3334 {
		b.Fatal(len(r.entries))
	}
}
