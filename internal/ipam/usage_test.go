package ipam

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"
	"unique"

	"pgregory.net/rapid"
)

// TestCounts: what the ledger counts with every change is what a count from scratch finds, whatever happens.
func TestCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, now, none := NewLedger(), time.Unix(1000, 0), unique.Handle[string]{}
		l.Tick(now)
		statuses := map[Key][]netip.Addr{}
		address := func(t *rapid.T) netip.Addr { return rapid.SampledFrom(countedAddresses).Draw(t, "address") }
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				r := drawRequest(t)
				r.Status, r.Ours = statuses[r.Service], len(statuses[r.Service]) > 0
				l.Set(r)
			},
			"write": func(t *rapid.T) {
				k := drawRequest(t).Service
				if d, known := l.Decision(k); known {
					r := l.services[k].Request
					statuses[k] = d.IPs()
					r.Status, r.Ours = d.IPs(), true
					l.Set(r)
				}
			},
			"delete": func(t *rapid.T) {
				k := drawRequest(t).Service
				delete(statuses, k)
				l.Delete(k)
			},
			"reserve": func(t *rapid.T) {
				l.SetReservation(Reservation{Key: Key{"red", "r"}, Pool: "pool1", Count: map[Family]int{IPv4: rapid.IntRange(0, 2).Draw(t, "four")}})
			},
			"unreserve": func(*rapid.T) { l.DeleteReservation(Key{"red", "r"}) },
			"pools": func(t *rapid.T) {
				pools := drawPools(t)
				for i := range pools {
					pools[i].Retain = time.Duration(rapid.IntRange(0, 3).Draw(t, "retain")) * time.Second
					pools[i].PerNamespace = rapid.IntRange(0, 4).Draw(t, "quota")
				}
				l.SetPools(pools)
			},
			"quarantine": func(t *rapid.T) {
				strangers := map[netip.Addr]Stranger{}
				for range rapid.IntRange(0, 3).Draw(t, "strangers") {
					strangers[address(t)] = Stranger{Known: "x", Held: rapid.Bool().Draw(t, "held")}
				}
				l.Quarantine(strangers)
			},
			"deny": func(t *rapid.T) {
				loser := drawRequest(t).Service
				l.Deny(address(t), Other{Text: "others", By: []Key{{"other", "a"}, {"other", "b"}}[:rapid.IntRange(0, 2).Draw(t, "by")]}, loser, false)
			},
			"allow": func(t *rapid.T) { l.Allow(address(t)) },
			"tick": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "milliseconds")) * time.Millisecond)
				l.Tick(now)
			},
			"restart": func(t *rapid.T) {
				for range rapid.IntRange(0, 2).Draw(t, "remembered") {
					if k := drawRequest(t).Service; l.services[k] == nil {
						l.Remember(address(t), k, now)
					}
				}
				var requests []Request
				var reservations []Reservation
				for _, e := range l.services {
					requests = append(requests, e.Request)
				}
				for k, e := range l.reservations {
					reservations = append(reservations, Reservation{Key: k, Addresses: e.Addresses, Status: e.IPs()})
				}
				l.Load(requests, reservations)
			},
			"": func(t *rapid.T) {
				first := rapid.IntRange(1, 4).Draw(t, "first")
				compareCounts(t, "usage", l.Usage(first), usageFromScratch(l, first))
				compareCounts(t, "standings", l.Standings(), standingsFromScratch(l))
				compareCounts(t, "tenants", tenants(l), tenantsFromScratch(l))
				compareCounts(t, "users of reservations", maps.Collect(usersOf(l)), usersFromScratch(l))
				compareCounts(t, "first end of a retention", l.Expiry(), expiryFromScratch(l))
				for wish, group := range l.waiting {
					for _, e := range group {
						if wish != none && len(l.choose(e)) != len(l.choose(group[0])) {
							t.Fatalf("%s and %s have the same wish, and one of them could be served", e.Service, group[0].Service)
						}
					}
				}
				for ip := range l.retained.of {
					if len(l.held[ip]) > 0 {
						t.Fatalf("%s is kept for somebody although it is held", ip)
					}
				}
				for k, ips := range l.retained.by {
					for ip := range ips {
						if l.retained.of[ip].key != k {
							t.Fatalf("%s is kept for %v, and known to be for %s", ip, l.retained.of[ip], k)
						}
					}
				}
			},
		})
	})
}

var countedAddresses = func() []netip.Addr {
	list := slices.Clone(someAddresses)
	for _, s := range []string{"10.0.0.0", "10.0.0.2", "10.0.0.4", "10.0.0.8", "10.0.0.9", "10.0.0.200", "fd00::2", "fd00::8"} {
		list = append(list, netip.MustParseAddr(s))
	}
	return list
}()

func compareCounts(t *rapid.T, what string, got, want any) {
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s: counted %v, from scratch %v", what, got, want)
	}
}

func usageFromScratch(l *Ledger, first int) map[string]Usage {
	all := map[string]Usage{}
	for _, p := range l.pools {
		u := Usage{Assigned: map[Family]int{}, Quarantined: map[Family]int{}, Kept: map[Family]int{}}
		for _, r := range p.Ranges {
			for ip := r.First(); r.Contains(ip); ip = ip.Next() {
				for _, e := range l.held[ip] {
					u.First = append(u.First, Holding{ip, e.Service, e.isReservation})
				}
				for _, k := range l.denied[ip].By {
					u.First = append(u.First, Holding{IP: ip, Key: k})
				}
				_, bad := l.quarantine[ip]
				_, kept := l.retained.of[ip]
				switch {
				case len(l.held[ip])+len(l.denied[ip].By) > 0:
					u.Assigned[FamilyOf(ip)]++
				case bad:
					u.Quarantined[FamilyOf(ip)]++
				case kept:
					u.Kept[FamilyOf(ip)]++
				}
			}
		}
		slices.SortFunc(u.First, Holding.compare)
		u.Holdings = len(u.First)
		u.First = u.First[:min(first, len(u.First)):min(first, len(u.First))]
		all[p.Name] = u
	}
	return all
}

func standingsFromScratch(l *Ledger) map[Standing]int {
	count := map[Standing]int{}
	for _, e := range l.services {
		count[Standing{e.Reason, len(e.Assigned) > 0, len(e.Missing) > 0}]++
	}
	return count
}

func tenants(l *Ledger) map[string]map[string]int {
	all := map[string]map[string]int{}
	for _, p := range l.pools {
		all[p.Name] = p.account.tenants
	}
	return all
}

func tenantsFromScratch(l *Ledger) map[string]map[string]int {
	all := map[string]map[string]int{}
	for _, p := range l.pools {
		all[p.Name] = map[string]int{}
		for ip, holders := range l.held {
			if s, bad := l.quarantine[ip]; !p.Contains(ip) || bad && !s.Held {
				continue
			}
			namespaces := map[string]bool{}
			for _, e := range holders {
				namespaces[e.Service.Namespace] = true
			}
			for n := range namespaces {
				all[p.Name][n]++
			}
		}
	}
	return all
}

func usersOf(l *Ledger) func(yield func(string, []string) bool) {
	return func(yield func(string, []string) bool) {
		for k, users := range l.users {
			var names []string
			for e := range users {
				names = append(names, e.Service.String())
			}
			slices.Sort(names)
			if !yield(k.String(), names) {
				return
			}
		}
	}
}

func usersFromScratch(l *Ledger) map[string][]string {
	all := map[string][]string{}
	for k, e := range l.services {
		if e.Reservation != "" {
			name := k.Namespace + "/" + e.Reservation
			all[name] = append(all[name], k.String())
		}
	}
	for name := range all {
		slices.Sort(all[name])
	}
	return all
}

func expiryFromScratch(l *Ledger) time.Time {
	var first time.Time
	for _, r := range l.retained.of {
		if first.IsZero() || r.until.Before(first) {
			first = r.until
		}
	}
	return first
}

// TestLowest: the lowest of a set are always known, and the whole set is looked through once in so many changes.
func TestLowest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set, known, scans, changes := map[netip.Addr]bool{}, lowest{}, 0, 0
		n := rapid.IntRange(1, 5).Draw(t, "n")
		all := func(yield func(netip.Addr) bool) {
			scans++
			for ip := range set {
				if !yield(ip) {
					return
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"change": func(t *rapid.T) {
				ip := netip.AddrFrom4([4]byte{10, 0, 0, rapid.ByteRange(0, 15).Draw(t, "address")})
				in := rapid.IntRange(0, 2).Draw(t, "in") > 0
				if known.set(ip, in); in {
					set[ip] = true
				} else {
					delete(set, ip)
				}
				changes++
			},
			"first": func(t *rapid.T) {
				want := slices.SortedFunc(maps.Keys(set), netip.Addr.Compare)
				want = want[:min(n, len(want))]
				if got := known.first(n, all); !slices.Equal(got, want) {
					t.Fatalf("the lowest %d are %v, want %v", n, got, want)
				}
				if scans > 1+changes/n {
					t.Fatalf("looked through the whole set %d times in %d changes for the lowest %d", scans, changes, n)
				}
			},
		})
	})
}
