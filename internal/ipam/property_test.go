package ipam

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lanyard-lb/lanyard/internal/iprange"
)

// world is a cluster in small: the ledger, and every Service's status as somebody writes it sooner or later.
type world struct {
	ledger   *Ledger
	pools    []Pool
	requests map[Key]Request
	statuses map[Key][]netip.Addr
	reserved map[Key]Reservation
	// strangers are the addresses in quarantine.
	strangers map[netip.Addr]Stranger
}

var someRanges = []string{"10.0.0.0/30", "10.0.0.4/31", "10.0.0.8-10.0.0.10", "fd00::/126", "fd00::8", "10.0.0.6"}

func drawPools(t *rapid.T) []Pool {
	var pools []Pool
	for i, s := range someRanges {
		owner := rapid.IntRange(0, 3).Draw(t, "owner of "+s)
		if owner == 0 {
			continue
		}
		r, err := iprange.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprint("pool", owner)
		at := slices.IndexFunc(pools, func(p Pool) bool { return p.Name == name })
		if at < 0 {
			pools = append(pools, Pool{Name: name, AutoAssign: i%5 != 4})
			at = len(pools) - 1
		}
		pools[at].Ranges = append(pools[at].Ranges, r)
	}
	for _, p := range pools {
		sortRanges(p.Ranges)
	}
	return pools
}

func drawRequest(t *rapid.T) Request {
	families := rapid.SampledFrom([][]Family{{IPv4}, {IPv6}, {IPv4, IPv6}, {IPv6, IPv4}}).Draw(t, "families")
	r := Request{
		Service:      Key{rapid.SampledFrom([]string{"red", "blue"}).Draw(t, "namespace"), fmt.Sprint("svc", rapid.IntRange(0, 5).Draw(t, "service"))},
		Created:      time.Unix(int64(rapid.IntRange(0, 3).Draw(t, "created")), 0),
		Families:     families,
		AllOrNothing: len(families) == 2 && rapid.Bool().Draw(t, "require"),
		Reservation:  rapid.SampledFrom([]string{"", "", "", "r"}).Draw(t, "reservation"),
	}
	if rapid.IntRange(0, 3).Draw(t, "asks") == 0 {
		r.Addresses = rapid.SliceOfNDistinct(rapid.SampledFrom(someAddresses), 1, 2, rapid.ID[netip.Addr]).Draw(t, "addresses")
	}
	r.Sharing = Sharing{
		Key:      rapid.SampledFrom([]string{"", "", "k"}).Draw(t, "key"),
		Spill:    rapid.Bool().Draw(t, "spill"),
		Ports:    []Port{{"TCP", uint16(rapid.IntRange(80, 82).Draw(t, "port"))}},
		Local:    rapid.Bool().Draw(t, "local"),
		Backends: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "backends"),
	}
	if rapid.Bool().Draw(t, "open") {
		r.Sharing.Namespaces = []string{"red", "blue"}
	}
	return r
}

var someAddresses = []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("fd00::1")}

// mayShare is the rule of sharing said once more, as plainly as possible.
func mayShare(a, b Request) bool {
	x, y := a.Sharing, b.Sharing
	consent := a.Service.Namespace == b.Service.Namespace || len(x.Namespaces) > 0 && len(y.Namespaces) > 0
	backends := !x.Local || !y.Local || x.Backends == y.Backends && a.Service.Namespace == b.Service.Namespace
	return x.Key != "" && x.Key == y.Key && x.Ports[0] != y.Ports[0] && consent && backends
}

func (w *world) tell(r Request) {
	r.Status = slices.Clone(w.statuses[r.Service])
	r.Ours = len(r.Status) > 0
	w.requests[r.Service] = r
	w.ledger.Set(r)
}

func (w *world) write(k Key) {
	d, _ := w.ledger.Decision(k)
	w.statuses[k] = d.IPs()
	w.tell(w.requests[k])
}

func (w *world) restart() {
	all := make([]Request, 0, len(w.requests))
	for _, r := range w.requests {
		r.Status = w.statuses[r.Service]
		r.Ours = len(r.Status) > 0
		all = append(all, r)
	}
	var reservations []Reservation
	for k, r := range w.reserved {
		d, _ := w.ledger.ReservationDecision(k)
		r.Status = d.IPs()
		reservations = append(reservations, r)
	}
	w.ledger = NewLedger()
	w.ledger.SetPools(w.pools)
	w.ledger.Quarantine(w.strangers)
	w.ledger.Load(all, reservations)
}

// check is the slow, obvious twin of the ledger: it looks at every Service and every address.
func (w *world) check(t *rapid.T) {
	uses := map[netip.Addr][]Key{} // assigned to, or named in the status of
	for k := range w.requests {
		d, _ := w.ledger.Decision(k)
		for _, ip := range slices.Concat(d.IPs(), w.statuses[k]) {
			if !slices.Contains(uses[ip], k) {
				uses[ip] = append(uses[ip], k)
			}
		}
	}
	reserved := map[netip.Addr]Key{}
	for k := range w.reserved {
		d, _ := w.ledger.ReservationDecision(k)
		for _, ip := range d.IPs() {
			if other, twice := reserved[ip]; twice {
				t.Fatalf("%s is reserved by %s and by %s", ip, other, k)
			}
			reserved[ip] = k
		}
	}
	for ip, keys := range uses {
		w.checkHolders(t, ip, keys, reserved)
	}
	for k, r := range w.requests {
		w.checkWaiting(t, k, r, uses, reserved)
		w.checkMessage(t, k)
	}
}

// checkMessage: who is told that somebody else has an address is told who has it now, and not who had it.
func (w *world) checkMessage(t *rapid.T, k Key) {
	e := w.ledger.services[k]
	byName := !slices.ContainsFunc(e.slots, func(s slot) bool { return !s.ip.IsValid() })
	missing := w.ledger.unfilled(e)
	watched := e.watched
	defer func() { e.watched = watched }()
	if reason, message := w.ledger.explain(e, missing); byName && len(missing) > 0 && message != e.Message {
		t.Fatalf("%s is told %s: %s; and should be: %s: %s", k, e.Reason, e.Message, reason, message)
	}
}

func (w *world) checkHolders(t *rapid.T, ip netip.Addr, keys []Key, reserved map[netip.Addr]Key) {
	for i, a := range keys {
		for _, b := range keys[i+1:] {
			if !mayShare(w.requests[a], w.requests[b]) && !w.bothStatusOnly(ip, a, b) {
				t.Fatalf("%s is held by %s and %s, which may not share", ip, a, b)
			}
		}
		if r, is := reserved[ip]; is && r.Namespace != a.Namespace {
			t.Fatalf("%s is reserved by %s and held by %s", ip, r, a)
		}
	}
}

// bothStatusOnly: two that shared by right until one of them changed; its status is not written yet.
func (w *world) bothStatusOnly(ip netip.Addr, a, b Key) bool {
	x, _ := w.ledger.Decision(a)
	y, _ := w.ledger.Decision(b)
	return !slices.Contains(x.IPs(), ip) || !slices.Contains(y.IPs(), ip)
}

// checkWaiting: nobody who would be content with any address waits while a pool has a free one.
func (w *world) checkWaiting(t *rapid.T, k Key, r Request, uses map[netip.Addr][]Key, reserved map[netip.Addr]Key) {
	d, _ := w.ledger.Decision(k)
	if len(d.Missing) == 0 || r.Reservation != "" || len(r.Addresses) > 0 || r.Sharing.Key != "" {
		return
	}
	free := w.freeFor(d.Missing, uses, reserved)
	if !r.AllOrNothing && free > 0 || r.AllOrNothing && free == len(d.Missing) {
		t.Fatalf("%s misses %v although addresses are free: %s", k, d.Missing, d.Message)
	}
}

// freeFor counts the families of which some pool that may serve has a free address.
func (w *world) freeFor(families []Family, uses map[netip.Addr][]Key, reserved map[netip.Addr]Key) int {
	count := 0
	for _, f := range families {
		if slices.ContainsFunc(w.pools, func(p Pool) bool {
			return p.AutoAssign && slices.ContainsFunc(p.Ranges, func(r iprange.Range) bool {
				for ip := r.First(); r.Contains(ip); ip = ip.Next() {
					_, is := reserved[ip]
					_, bad := w.strangers[ip]
					if FamilyOf(ip) == f && len(uses[ip]) == 0 && !is && !bad {
						return true
					}
				}
				return false
			})
		}) {
			count++
		}
	}
	return count
}

// TestLedgerProperties: whatever comes in whatever order, no address has two holders nor stands in two
// statuses, nobody waits for what is free, and nobody loses what it has to anybody else's change.
func TestLedgerProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{ledger: NewLedger(), requests: map[Key]Request{}, statuses: map[Key][]netip.Addr{}, reserved: map[Key]Reservation{}}
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				r := drawRequest(t)
				w.undisturbed(t, r.Service, func() { w.tell(r) })
			},
			"delete": func(t *rapid.T) {
				k := drawRequest(t).Service
				delete(w.requests, k)
				delete(w.statuses, k)
				w.undisturbed(t, k, func() { w.ledger.Delete(k) })
			},
			"write": func(t *rapid.T) {
				k := drawRequest(t).Service
				if _, known := w.requests[k]; known {
					w.undisturbed(t, k, func() { w.write(k) })
				}
			},
			"reserve": func(t *rapid.T) {
				r := Reservation{Key: Key{"red", "r"}, Pool: "pool1", Count: map[Family]int{IPv4: rapid.IntRange(0, 2).Draw(t, "four"), IPv6: 1}}
				if rapid.Bool().Draw(t, "by name") {
					r.Addresses = someAddresses[:1]
				}
				w.reserved[r.Key] = r
				w.undisturbed(t, Key{}, func() { w.ledger.SetReservation(r) })
			},
			"unreserve": func(t *rapid.T) {
				delete(w.reserved, Key{"red", "r"})
				w.undisturbed(t, Key{}, func() { w.ledger.DeleteReservation(Key{"red", "r"}) })
			},
			"pools": func(t *rapid.T) {
				w.pools = drawPools(t)
				w.undisturbed(t, Key{}, func() { w.ledger.SetPools(w.pools) })
			},
			"quarantine": func(t *rapid.T) {
				w.strangers = map[netip.Addr]Stranger{}
				for _, ip := range rapid.SliceOfNDistinct(rapid.SampledFrom(someAddresses), 0, 3, rapid.ID[netip.Addr]).Draw(t, "strangers") {
					w.strangers[ip] = Stranger{Known: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "who"), Held: rapid.Bool().Draw(t, "held")}
				}
				w.undisturbed(t, Key{}, func() { w.ledger.Quarantine(w.strangers) })
			},
			"restart": func(t *rapid.T) {
				for _, k := range slices.SortedFunc(maps.Keys(w.requests), func(a, b Key) int { return strings.Compare(a.String(), b.String()) }) {
					w.write(k)
				}
				w.undisturbed(t, Key{}, w.restart)
			},
			"": w.check,
		})
	})
}

// undisturbed checks that a change of one Service takes nothing from the others.
func (w *world) undisturbed(t *rapid.T, except Key, change func()) {
	before := map[Key][]netip.Addr{}
	for k := range w.requests {
		d, _ := w.ledger.Decision(k)
		before[k] = d.IPs()
	}
	change()
	for k, r := range w.reserved { // their statuses are written at once
		d, _ := w.ledger.ReservationDecision(k)
		r.Status = d.IPs()
		w.ledger.SetReservation(r)
	}
	for k, ips := range before {
		d, known := w.ledger.Decision(k)
		for _, ip := range ips {
			if s, bad := w.strangers[ip]; bad && !s.Held {
				continue // nobody stays where a stranger was first
			}
			if len(d.IPs()) > 0 && w.standIn(k, ip) {
				continue // what only stood in for another wish goes when that one is met
			}
			if k != except && known && !slices.Contains(d.IPs(), ip) {
				t.Fatalf("%s lost %s", k, ip)
			}
		}
	}
}

// standIn reports whether an address was not what the Service asks for.
func (w *world) standIn(k Key, ip netip.Addr) bool {
	r := w.requests[k]
	named := slices.ContainsFunc(r.Addresses, func(a netip.Addr) bool { return FamilyOf(a) == FamilyOf(ip) })
	return r.Reservation != "" || named && !slices.Contains(r.Addresses, ip)
}

// One more Service with 100,000 addresses of a /8 held comes, gets one, and goes.
func BenchmarkAssignIntoSlash8With100kHeld(b *testing.B) {
	const held = 100_000
	l := NewLedger()
	r, err := iprange.Parse("10.0.0.0/8")
	if err != nil {
		b.Fatal(err)
	}
	l.SetPools([]Pool{{Name: "lan", Ranges: []iprange.Range{r}, AutoAssign: true}})
	request := func(i int) Request {
		return Request{Service: Key{"ns", fmt.Sprint(i)}, Families: []Family{IPv4}}
	}
	assigned := func(i int) netip.Addr {
		d, _ := l.Decision(request(i).Service)
		if len(d.IPs()) != 1 || !r.Contains(d.IPs()[0]) {
			b.Fatalf("Service %d has %v, want one address of %v", i, d.IPs(), r)
		}
		return d.IPs()[0]
	}
	holder := map[netip.Addr]int{}
	for i := range held {
		l.Set(request(i))
		holder[assigned(i)] = i
	}
	if len(holder) != held {
		b.Fatalf("%d Services have %d addresses", held, len(holder))
	}
	b.ReportAllocs()
	for b.Loop() {
		if changed := l.Set(request(-1)); len(changed.Services) != 1 {
			b.Fatalf("%v are served when one comes", changed.Services)
		}
		l.Delete(Key{"ns", "-1"})
	}
	l.Set(request(-1))
	if other, taken := holder[assigned(-1)]; taken {
		b.Fatalf("%v is given to two, of whom one is Service %d", assigned(-1), other)
	}
	for ip, i := range holder {
		if assigned(i) != ip {
			b.Fatalf("Service %d has lost %v", i, ip)
		}
	}
}
