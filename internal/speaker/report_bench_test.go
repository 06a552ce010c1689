package speaker

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/go-kit/log"
	corev1 "k8s.io/api/core/v1"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// BenchmarkLook is what one pass costs the reporter of a node that owns a third of 10,000 addresses, when it has changed
// one verdict and a Service.
func BenchmarkLook(b *testing.B) {
	n := Reporting{Self: "n0", Members: []string{"n0", "n1", "n2"}, Services: map[string]*corev1.Service{}}
	for i := range 10_000 {
		name := fmt.Sprint("svc", i)
		s := assigned(name, numbered(i))
		n.Services["default/"+name] = &s
		n.Verdicts = append(n.Verdicts, announcedBy(fmt.Sprint("n", i%3), numbered(i), "default/"+name))
	}
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
		n.Verdicts = slices.Clone(n.Verdicts)
		n.Verdicts[9] = announcedBy("n0", numbered(9), "default/svc9")
		look()
	}
	if len(r.entries) != 3334 {
		b.Fatal(len(r.entries))
	}
}
