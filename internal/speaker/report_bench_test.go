package speaker

import (
	"fmt"
	"testing"
	"time"

	"github.com/go-kit/log"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// BenchmarkLook is what one pass costs the reporter of a node that owns a third of 10,000 addresses, when
// nothing has changed.
func BenchmarkLook(b *testing.B) {
	n := Reporting{Self: "n0", Members: []string{"n0", "n1", "n2"}}
	for i := range 10_000 {
		ip, name := fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), fmt.Sprint("svc", i)
		n.Services = append(n.Services, assigned(name, ip))
		n.Verdicts = append(n.Verdicts, announcedBy(fmt.Sprint("n", i%3), ip, "default/"+name))
	}
	n.Reports = map[string]placement.Report{"n0": {Interfaces: []placement.Interface{{Name: "eth0", MAC: placement.MAC{2}}}}}
	r := NewReporter(ReporterConfig{Logger: log.NewNopLogger()})
	for b.Loop() {
		r.looked = time.Time{}
		r.Tell(n)
		r.look(time.Now())
	}
	if len(r.entries) != 3334 {
		b.Fatal(len(r.entries))
	}
}
