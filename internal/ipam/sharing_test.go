package ipam

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/lanyard-lb/lanyard/internal/iprange"
)

// TestFull: who would be one too many on an address waits until one goes, or takes a second one.
func TestFull(t *testing.T) {
	r, err := iprange.Parse("10.0.0.1-10.0.0.2")
	if err != nil {
		t.Fatal(err)
	}
	l := NewLedger()
	l.SetPools([]Pool{{Name: "lan", Ranges: []iprange.Range{r}, AutoAssign: true}})
	set := func(name string, port int, spill bool) {
		s := Sharing{Key: "k", Spill: spill, Ports: []Port{{"TCP", uint16(port)}}}
		l.Set(Request{Service: Key{"ns", name}, Families: []Family{IPv4}, Sharing: s})
	}
	expect := func(name string, reason Reason, message string) {
		t.Helper()
		if d, _ := l.Decision(Key{"ns", name}); d.Reason != reason || d.Message != message {
			t.Errorf("%s: %s: %s, want %s: %s", name, d.Reason, d.Message, reason, message)
		}
	}
	for i := range MaxHolders {
		set(fmt.Sprint(i), i, false)
	}
	set("waits", 1000, false)
	expect("waits", SharingConflict, "cannot share 10.0.0.1 of sharing key k: 64 hold it, and no more can. "+remedies[SharingConflict])
	l.Delete(Key{"ns", "5"})
	expect("waits", Assigned, "10.0.0.1 from pool lan")
	set("spills", 1001, true)
	expect("spills", Assigned, "10.0.0.2 from pool lan")
	set("0", 1002, false) // who is among them stays
	expect("0", Assigned, "10.0.0.1 from pool lan")
	l.SetReservation(Reservation{Key: Key{"ns", "r"}, Addresses: []netip.Addr{r.First()}})
	if d, _ := l.ReservationDecision(Key{"ns", "r"}); d.Reason != AddressInUse {
		t.Errorf("the reservation: %s: %s", d.Reason, d.Message)
	}
}
