package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
)

func reservation(name string, age int, spec v1beta1.IPReservationSpec) v1beta1.IPReservation {
	return v1beta1.IPReservation{
		ObjectMeta: metav1.ObjectMeta{Namespace: "red", Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1_000_000-int64(age), 0))},
		Spec:       spec,
	}
}

func TestReservations(t *testing.T) {
	pools := []v1beta1.IPAddressPool{pool("lan", 0, "10.0.0.0/24")}
	for _, tc := range []struct {
		name    string
		spec    v1beta1.IPReservationSpec
		want    string // addresses, pool and counts
		fault   string
		warning bool
	}{
		{name: "by name", spec: v1beta1.IPReservationSpec{Addresses: []string{"10.0.0.1", "fd00::1", "::ffff:10.0.0.2"}}, want: "[10.0.0.1 fd00::1 10.0.0.2] map[]"},
		{name: "by number", spec: v1beta1.IPReservationSpec{Pool: "lan", IPv4: ptr[int32](2), IPv6: ptr[int32](0)}, want: "[] lan map[IPv4:2]"},
		{name: "both", spec: v1beta1.IPReservationSpec{Addresses: []string{"10.0.0.1"}, Pool: "lan", IPv6: ptr[int32](32)}, want: "[10.0.0.1] lan map[IPv6:32]"},
		{name: "the pool may come later", spec: v1beta1.IPReservationSpec{Pool: "lam", IPv4: ptr[int32](1)}, want: "[] lam map[IPv4:1]",
			fault: `IPReservation red/r: spec.pool: there is no IPAddressPool "lam"`, warning: true},
		{name: "bad address", spec: v1beta1.IPReservationSpec{Addresses: []string{"10.0.0.1", "10.0.0.0/24"}}, fault: "spec.addresses[1]"},
		{name: "zone", spec: v1beta1.IPReservationSpec{Addresses: []string{"fe80::1%eth0"}}, fault: "spec.addresses[0]"},
		{name: "twice", spec: v1beta1.IPReservationSpec{Addresses: []string{"fd00::1", "fd00:0::1"}}, fault: "spec.addresses[1]: fd00::1 is listed twice"},
		{name: "nothing", spec: v1beta1.IPReservationSpec{Pool: "lan"}, fault: "spec: it asks for nothing"},
		{name: "too many", spec: v1beta1.IPReservationSpec{Pool: "lan", IPv4: ptr[int32](33), IPv6: ptr[int32](1)}, fault: "spec.ipv4: 33"},
		{name: "no pool", spec: v1beta1.IPReservationSpec{IPv4: ptr[int32](3)}, fault: "spec.pool: a number"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, faults := Parse(Objects{Pools: pools, Reservations: []v1beta1.IPReservation{reservation("r", 0, tc.spec)}})
			if tc.fault == "" && len(faults) > 0 || tc.fault != "" && (len(faults) != 1 || !strings.Contains(faults[0].Error(), tc.fault) || faults[0].Warning != tc.warning) {
				t.Fatalf("faults %v, want %q", faults, tc.fault)
			}
			got := ""
			for _, r := range s.Reservations {
				got = strings.ReplaceAll(fmt.Sprint(r.Addresses, " ", r.Pool, " ", r.Count), "  ", " ")
			}
			if got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

func TestReservationsAreInOrderAndKeepTheLastGood(t *testing.T) {
	spec := v1beta1.IPReservationSpec{Addresses: []string{"10.0.0.1"}}
	old := reservation("z", 9, spec)
	old.Status.Addresses = []v1beta1.ReservedAddress{{Address: "10.0.0.7"}, {Address: "x"}}
	o := Objects{Reservations: []v1beta1.IPReservation{reservation("b", 0, spec), reservation("a", 0, spec), old}}
	last, faults := Parse(o)
	o.Reservations[2].Spec.Addresses = []string{"10.0.0.300"}
	s, edited := ParseAfter(last, o)
	if len(faults) != 0 || len(edited) != 2 || edited[1].Reason != LastGoodInForce || edited[1].Name != "red/z" {
		t.Fatalf("faults %v, after the edit %v", faults, edited)
	}
	for _, s := range []Snapshot{last, s} {
		got := ""
		for _, r := range s.Reservations {
			got += fmt.Sprintln(r.Key, r.Addresses, r.Status)
		}
		if got != "red/z [10.0.0.1] [10.0.0.7]\nred/a [10.0.0.1] []\nred/b [10.0.0.1] []\n" {
			t.Error(got)
		}
	}
}
