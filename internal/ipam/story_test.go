package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/lanyard-lb/lanyard/internal/iprange"
)

// TestStories runs the files in testdata: each command changes one thing, and the output is every decision
// that changed with it. `go test ./internal/ipam -rewrite` writes the outputs anew.
//
//	pools             one pool a line: NAME RANGE... [manual]
//	service NAME families=(4,6) [require] [age=N] [status=(IP,...)] [ours]
//	delete NAME
//	restart           a new ledger learns everything from the statuses, as after a controller's restart
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &story{ledger: NewLedger(), requests: map[Key]Request{}}
		datadriven.RunTest(t, path, s.run)
	})
}

type story struct {
	ledger   *Ledger
	pools    []Pool
	requests map[Key]Request
}

func (s *story) run(t *testing.T, d *datadriven.TestData) string {
	var changed []Key
	switch d.Cmd {
	case "pools":
		s.pools = parsePools(t, d.Input)
		changed = s.ledger.SetPools(s.pools)
	case "service":
		changed = s.set(parseRequest(t, d))
	case "delete":
		k := Key{"default", d.CmdArgs[0].Key}
		delete(s.requests, k)
		changed = s.ledger.Delete(k)
	case "restart":
		changed = s.restart()
	default:
		d.Fatalf(t, "unknown command %q", d.Cmd)
	}
	return s.print(changed)
}

// set tells the ledger of a request whose status, unless the story says otherwise, is what was decided last.
func (s *story) set(r Request) []Key {
	if known, ok := s.ledger.Decision(r.Service); ok && r.Status == nil {
		r.Status, r.Ours = known.IPs(), true
	}
	s.requests[r.Service] = r
	return s.ledger.Set(r)
}

func (s *story) restart() []Key {
	var all []Request
	for k, r := range s.requests {
		if d, _ := s.ledger.Decision(k); !d.Foreign {
			r.Status, r.Ours = d.IPs(), len(d.Assigned) > 0
		}
		all = append(all, r)
	}
	s.ledger = NewLedger()
	s.ledger.SetPools(s.pools)
	return s.ledger.Load(all)
}

func (s *story) print(changed []Key) string {
	var out strings.Builder
	for _, k := range changed {
		d, _ := s.ledger.Decision(k)
		fmt.Fprintf(&out, "%s: %s: %s\n", k.Name, d.Reason, d.Message)
	}
	if out.Len() == 0 {
		return "nothing changes\n"
	}
	return out.String()
}

func parsePools(t *testing.T, input string) []Pool {
	var pools []Pool
	for line := range strings.Lines(input) {
		words := strings.Fields(line)
		p := Pool{Name: words[0], AutoAssign: !slices.Contains(words, "manual")}
		for _, w := range words[1:] {
			if w == "manual" {
				continue
			}
			r, err := iprange.Parse(w)
			if err != nil {
				t.Fatal(err)
			}
			p.Ranges = append(p.Ranges, r)
		}
		pools = append(pools, p)
	}
	return pools
}

func parseRequest(t *testing.T, d *datadriven.TestData) Request {
	r := Request{Service: Key{"default", d.CmdArgs[0].Key}}
	for _, arg := range d.CmdArgs[1:] {
		switch arg.Key {
		case "families":
			for _, v := range arg.Vals {
				r.Families = append(r.Families, map[string]Family{"4": IPv4, "6": IPv6}[v])
			}
		case "require":
			r.AllOrNothing = true
		case "ours":
			r.Ours = true
		case "age":
			var age int
			arg.Scan(t, 0, &age)
			r.Created = time.Unix(1e9, 0).Add(-time.Duration(age) * time.Second)
		case "status":
			for _, v := range arg.Vals {
				r.Status = append(r.Status, netip.MustParseAddr(v))
			}
		default:
			t.Fatalf("unknown argument %q", arg.Key)
		}
	}
	return r
}
