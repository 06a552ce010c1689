package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/lanyard-lb/lanyard/internal/iprange"
)

// TestStories runs the files in testdata: each command changes one thing, and the output is every decision
// that changed with it. `go test ./internal/ipam -rewrite` writes the outputs anew. Names are NAME in the
// namespace default, or NAMESPACE/NAME.
//
//	pools             one pool a line, in the order in which they are tried:
//	                  NAME RANGE... [manual] [paused] [closing] [rest] [avoid-buggy] [reassign] [quota=N]
//	                  [retain=DURATION] [namespaces=A,B] [label=K=V]
//	service NAME families=(4,6) [require] [age=N] [ips=(IP,...)] [pools=(P,...)] [reservation=R] [reassign]
//	                  [key=K] [ports=(80/TCP,...)] [local=BACKENDS] [with=(NAMESPACE,...)] [spill] [label=K=V]
//	                  [invalid=TEXT] [status=(IP,...)] [ours]
//	reserve NAME [age=N] [ips=(IP,...)] [pool=P] [four=N] [six=N]
//	delete NAME       a Service
//	unreserve NAME    a Reservation
//	quarantine [IP=WHY | IP=(WHY,held) ...]
//	wait DURATION
//	restart           a new ledger learns everything from the statuses, as after a controller's restart
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &story{ledger: NewLedger(), requests: map[Key]Request{}, reservations: map[Key]Reservation{}, now: time.Unix(1e9, 0)}
		s.ledger.Tick(s.now)
		datadriven.RunTest(t, path, s.run)
	})
}

type story struct {
	ledger       *Ledger
	pools        []Pool
	requests     map[Key]Request
	reservations map[Key]Reservation
	now          time.Time
}

func (s *story) run(t *testing.T, d *datadriven.TestData) string {
	var changed Changed
	switch d.Cmd {
	case "pools":
		s.pools = parsePools(t, d.Input)
		changed = s.ledger.SetPools(s.pools)
	case "service":
		changed = s.set(parseRequest(t, d))
	case "reserve":
		r := parseReservation(t, d)
		s.reservations[r.Key] = r
		changed = s.ledger.SetReservation(r)
	case "delete":
		k := parseKey(d.CmdArgs[0].Key)
		delete(s.requests, k)
		changed = s.ledger.Delete(k)
	case "unreserve":
		k := parseKey(d.CmdArgs[0].Key)
		delete(s.reservations, k)
		changed = s.ledger.DeleteReservation(k)
	case "quarantine":
		bad := map[netip.Addr]Stranger{}
		for _, arg := range d.CmdArgs {
			bad[netip.MustParseAddr(arg.Key)] = Stranger{Known: arg.Vals[0], Held: len(arg.Vals) > 1}
		}
		changed = s.ledger.Quarantine(bad)
	case "wait":
		pause, err := time.ParseDuration(d.CmdArgs[0].Key)
		if err != nil {
			t.Fatal(err)
		}
		s.now = s.now.Add(pause)
		changed = s.ledger.Tick(s.now)
	case "restart":
		changed = s.restart()
	default:
		d.Fatalf(t, "unknown command %q", d.Cmd)
	}
	return s.print(changed)
}

// set tells the ledger of a request whose status, unless the story says otherwise, is what was decided last;
// then of the same again with the status that the controller writes.
func (s *story) set(r Request) Changed {
	known, ok := s.ledger.Decision(r.Service)
	written := r.Status == nil
	if ok && written {
		r.Status, r.Ours = known.IPs(), true
	}
	s.requests[r.Service] = r
	changed := s.ledger.Set(r)
	if d, _ := s.ledger.Decision(r.Service); written && !d.Foreign {
		r.Status, r.Ours = d.IPs(), true
		more := s.ledger.Set(r)
		changed.Services = append(changed.Services, more.Services...)
	}
	return changed
}

func (s *story) restart() Changed {
	var requests []Request
	var reservations []Reservation
	for k, r := range s.requests {
		if d, _ := s.ledger.Decision(k); !d.Foreign {
			r.Status, r.Ours = d.IPs(), len(d.Assigned) > 0
		}
		requests = append(requests, r)
	}
	for k, r := range s.reservations {
		d, _ := s.ledger.ReservationDecision(k)
		r.Status = d.IPs()
		reservations = append(reservations, r)
	}
	old := s.ledger
	s.ledger = NewLedger()
	s.ledger.Tick(s.now)
	s.ledger.SetPools(s.pools)
	for ip, since := range old.released {
		s.ledger.Remember(ip, old.retained.of[ip].key, since)
	}
	for ip, pool := range old.cameFrom {
		s.ledger.CameFrom(ip, pool)
	}
	s.ledger.Quarantine(old.quarantine)
	return s.ledger.Load(requests, reservations)
}

func (s *story) print(changed Changed) string {
	var out strings.Builder
	for _, k := range changed.Reservations {
		d, _ := s.ledger.ReservationDecision(k)
		fmt.Fprintf(&out, "reservation %s: %s: %s\n", strings.TrimPrefix(k.String(), "default/"), d.Reason, d.Message)
	}
	for _, k := range changed.Services {
		d, _ := s.ledger.Decision(k)
		fmt.Fprintf(&out, "%s: %s: %s\n", strings.TrimPrefix(k.String(), "default/"), d.Reason, d.Message)
	}
	if out.Len() == 0 {
		return "nothing changes\n"
	}
	return out.String()
}

func parseKey(s string) Key {
	if namespace, name, ok := strings.Cut(s, "/"); ok {
		return Key{namespace, name}
	}
	return Key{"default", s}
}

func parsePools(t *testing.T, input string) []Pool {
	var pools []Pool
	for line := range strings.Lines(input) {
		words := strings.Fields(line)
		p := Pool{Name: words[0], AutoAssign: true}
		for _, w := range words[1:] {
			parsePoolWord(t, &p, w)
		}
		sortRanges(p.Ranges)
		pools = append(pools, p)
	}
	return pools
}

func sortRanges(ranges []iprange.Range) {
	slices.SortFunc(ranges, func(a, b iprange.Range) int { return a.First().Compare(b.First()) })
}

func parsePoolWord(t *testing.T, p *Pool, word string) {
	name, value, _ := strings.Cut(word, "=")
	var err error
	switch name {
	case "manual":
		p.AutoAssign = false
	case "paused":
		p.Paused = true
	case "closing":
		p.Closing = true
	case "rest":
		p.Rest = true
	case "avoid-buggy":
		p.AvoidBuggy = true
	case "reassign":
		p.Reassign = true
	case "quota":
		p.PerNamespace, err = strconv.Atoi(value)
	case "retain":
		p.Retain, err = time.ParseDuration(value)
	case "namespaces":
		p.Audience.Namespaces = map[string]bool{}
		for n := range strings.SplitSeq(value, ",") {
			p.Audience.Namespaces[n] = n != ""
		}
	case "label":
		p.Audience.Services = append(p.Audience.Services, oneLabel(value))
	default:
		var r iprange.Range
		r, err = iprange.Parse(word)
		p.Ranges = append(p.Ranges, r)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// oneLabel is a selector of the form key=value.
type oneLabel string

func (o oneLabel) String() string { return string(o) }

func (o oneLabel) Matches(labels map[string]string) bool {
	k, v, _ := strings.Cut(string(o), "=")
	return labels[k] == v
}

func parseRequest(t *testing.T, d *datadriven.TestData) Request {
	r := Request{Service: parseKey(d.CmdArgs[0].Key), Created: time.Unix(1e9, 0)}
	for _, arg := range d.CmdArgs[1:] {
		switch arg.Key {
		case "families":
			for _, v := range arg.Vals {
				r.Families = append(r.Families, map[string]Family{"4": IPv4, "6": IPv6}[v])
			}
		case "require":
			r.AllOrNothing = true
		case "reassign":
			r.Reassign = true
		case "ours":
			r.Ours = true
		case "age":
			r.Created = parseAge(t, arg)
		case "ips":
			r.Addresses = parseIPs(arg)
		case "status":
			r.Status = parseIPs(arg)
		case "pools":
			r.Pools = arg.Vals
		case "reservation":
			r.Reservation = arg.Vals[0]
		case "invalid":
			r.Invalid = arg.Vals[0]
		case "label":
			k, v, _ := strings.Cut(arg.Vals[0], ":")
			r.Labels = map[string]string{k: v}
		default:
			parseSharing(t, &r.Sharing, arg)
		}
	}
	return r
}

func parseSharing(t *testing.T, s *Sharing, arg datadriven.CmdArg) {
	switch arg.Key {
	case "key":
		s.Key = arg.Vals[0]
	case "spill":
		s.Spill = true
	case "with":
		s.Namespaces = arg.Vals
	case "local":
		s.Local, s.Backends = true, arg.Vals[0]
	case "ports":
		for _, v := range arg.Vals {
			number, protocol, _ := strings.Cut(v, "/")
			n, err := strconv.ParseUint(number, 10, 16)
			if err != nil {
				t.Fatal(err)
			}
			s.Ports = append(s.Ports, Port{protocol, uint16(n)})
		}
	default:
		t.Fatalf("unknown argument %q", arg.Key)
	}
}

func parseReservation(t *testing.T, d *datadriven.TestData) Reservation {
	r := Reservation{Key: parseKey(d.CmdArgs[0].Key), Created: time.Unix(1e9, 0), Count: map[Family]int{}}
	for _, arg := range d.CmdArgs[1:] {
		var count int
		switch arg.Key {
		case "age":
			r.Created = parseAge(t, arg)
		case "ips":
			r.Addresses = parseIPs(arg)
		case "pool":
			r.Pool = arg.Vals[0]
		case "four":
			arg.Scan(t, 0, &count)
			r.Count[IPv4] = count
		case "six":
			arg.Scan(t, 0, &count)
			r.Count[IPv6] = count
		default:
			t.Fatalf("unknown argument %q", arg.Key)
		}
	}
	return r
}

func parseAge(t *testing.T, arg datadriven.CmdArg) time.Time {
	var age int
	arg.Scan(t, 0, &age)
	return time.Unix(1e9, 0).Add(-time.Duration(age) * time.Second)
}

func parseIPs(arg datadriven.CmdArg) []netip.Addr {
	ips := []netip.Addr{}
	for _, v := range arg.Vals {
		ips = append(ips, netip.MustParseAddr(v))
	}
	return ips
}
