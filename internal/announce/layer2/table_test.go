package layer2

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// sameNumber returns the n-th of many addresses that share a number.
func sameNumber(t *testing.T, n uint64) netip.Addr {
	t.Helper()
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], 0xfd77<<48+n)
	binary.BigEndian.PutUint64(b[8:], number(netip.AddrFrom16(b)))
	ip := netip.AddrFrom16(b)
	if number(ip) != 0 {
		t.Fatalf("%s has the number %d, want 0", ip, number(ip))
	}
	return ip
}

// Whatever is put and taken, a table holds what a map would.
func TestATableIsAMapOfAddresses(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var ips []netip.Addr
	for n := range uint64(6) {
		ips = append(ips, sameNumber(t, n), numbered(IPv6, int(n)))
	}
	got, want := make(table), make(map[netip.Addr]*holding)
	for range 5000 {
		ip := ips[random.IntN(len(ips))]
		old := want[ip]
		if random.IntN(2) == 0 {
			want[ip] = &holding{address: &address{ip: ip}}
			if h := got.put(want[ip]); h != old {
				t.Fatalf("put %s in place of %p, want %p", ip, h, old)
			}
		} else {
			delete(want, ip)
			if h := got.take(ip); h != old {
				t.Fatalf("took %p of %s, want %p", h, ip, old)
			}
		}
		for _, ip := range ips {
			if got.get(ip) != want[ip] {
				t.Fatalf("%s is %p, want %p", ip, got.get(ip), want[ip])
			}
		}
		if list := got.all(); len(list) != len(want) || len(got) > len(want) {
			t.Fatalf("%d in all, want %d", len(list), len(want))
		}
	}
}
