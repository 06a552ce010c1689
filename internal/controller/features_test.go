package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/ipam"
	"github.com/lanyard-lb/lanyard/internal/record"
)

func annotated(pairs ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Annotations = map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			s.Annotations[pairs[i]] = pairs[i+1]
		}
	}
}

func onPort(port int32) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Ports = []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: port}}
	}
}

func TestRequestFromAnnotations(t *testing.T) {
	dual := []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	for _, tc := range []struct {
		name    string
		change  func(*corev1.Service)
		ips     string
		pools   string
		invalid string
	}{
		{name: "nothing", change: annotated()},
		{name: "addresses", change: annotated("lanyard.dev/addresses", " 10.0.0.1, fd00::1 ,10.0.0.1"), ips: "10.0.0.1 fd00::1"},
		{name: "an alias", change: annotated("metallb.universe.tf/loadBalancerIPs", "10.0.0.1"), ips: "10.0.0.1"},
		{name: "the first alias wins", change: annotated("metallb.universe.tf/loadBalancerIPs", "10.0.0.1", "metallb.io/loadBalancerIPs", "10.0.0.2"), ips: "10.0.0.2"},
		{name: "ours wins", change: annotated("lanyard.dev/addresses", "10.0.0.3", "metallb.io/loadBalancerIPs", "10.0.0.2"), ips: "10.0.0.3"},
		{name: "the field", change: func(s *corev1.Service) { s.Spec.LoadBalancerIP = "10.0.0.4" }, ips: "10.0.0.4"},
		{name: "field and annotation agree", change: func(s *corev1.Service) {
			annotated("lanyard.dev/addresses", "10.0.0.4,fd00::1")(s)
			s.Spec.LoadBalancerIP = "10.0.0.4"
		}, ips: "10.0.0.4 fd00::1"},
		{name: "field and annotation differ", change: func(s *corev1.Service) {
			annotated("metallb.io/loadBalancerIPs", "10.0.0.5")(s)
			s.Spec.LoadBalancerIP = "10.0.0.4"
		}, ips: "10.0.0.5", invalid: "annotation metallb.io/loadBalancerIPs and spec.loadBalancerIP ask for different addresses"},
		{name: "no address", change: annotated("lanyard.dev/addresses", "10.0.0.300"), invalid: `annotation lanyard.dev/addresses: "10.0.0.300" is not an IP address`},
		{name: "a zone", change: annotated("lanyard.dev/addresses", "fe80::1%eth0"), invalid: "is not an IP address"},
		{name: "another family", change: func(s *corev1.Service) {
			annotated("lanyard.dev/addresses", "fd00::1")(s)
			s.Spec.IPFamilies = dual[:1]
		}, invalid: "fd00::1 is of a family that is not in spec.ipFamilies"},
		{name: "pools in order", change: annotated("lanyard.dev/pool", "b, a"), pools: "b a"},
		{name: "a pool by alias", change: annotated("metallb.io/address-pool", "a"), pools: "a"},
		{name: "no boolean", change: annotated("lanyard.dev/reassign", "yes"), invalid: `annotation lanyard.dev/reassign: "yes" is neither true nor false`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &corev1.Service{}
			s.Spec.IPFamilies = dual
			tc.change(s)
			r := request(s)
			var ips []string
			for _, ip := range r.Addresses {
				ips = append(ips, ip.String())
			}
			if got := strings.Join(ips, " "); got != tc.ips {
				t.Errorf("addresses %q, want %q", got, tc.ips)
			}
			if got := strings.Join(r.Pools, " "); got != tc.pools {
				t.Errorf("pools %q, want %q", got, tc.pools)
			}
			if tc.invalid == "" && r.Invalid != "" || !strings.Contains(r.Invalid, tc.invalid) {
				t.Errorf("invalid: %q, want %q", r.Invalid, tc.invalid)
			}
		})
	}
}

func TestSharing(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1-10.0.0.9")
	w.start("")
	key := annotated(v1beta1.AnnotationSharingKey, "k")
	w.apply("web", key, onPort(80))
	w.apply("dns", key, onPort(53))
	w.apply("clash", key, onPort(80))
	w.expect("web", "10.0.0.1 True Assigned")
	w.expect("dns", "10.0.0.1 True Assigned")
	w.expect("clash", "False SharingConflict")
	if got := w.records.holdersOf("10.0.0.1"); got != "web dns" {
		t.Errorf("the records say that 10.0.0.1 is held by %q", got)
	}
	w.apply("web", onPort(81))
	w.expect("clash", "10.0.0.1 True Assigned")
	w.start("")
	w.expect("dns", "10.0.0.1 True Assigned")
}

// TestSharedByAsManyAsCan: who would be one too many in the allocation records is told so, and is served when one goes.
func TestSharedByAsManyAsCan(t *testing.T) {
	if ipam.MaxHolders != record.MaxHolders {
		t.Fatalf("the ledger gives an address to %d, and the records can tell of %d", ipam.MaxHolders, record.MaxHolders)
	}
	w := newWorld(t)
	w.pools("lan: 10.0.0.1-10.0.0.9")
	w.start("")
	for i := range record.MaxHolders + 1 {
		w.apply(fmt.Sprint("s", i), annotated(v1beta1.AnnotationSharingKey, "k"), onPort(int32(1000+i)))
	}
	w.expect("s63", "10.0.0.1 True Assigned")
	w.expect("s64", "False SharingConflict")
	w.delete("s3")
	w.expect("s64", "10.0.0.1 True Assigned")
}

func TestReservation(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1-10.0.0.9 fd00::1-fd00::9")
	one := int32(1)
	w.reservation("db", v1beta1.IPReservationSpec{Addresses: []string{"10.0.0.7"}, Pool: "lan", IPv6: &one})
	w.start("")
	r := &w.objects.Reservations[0]
	if got := strings.Join(r.Status.Held, " "); got != "10.0.0.7 fd00::1" {
		t.Errorf("the reservation holds %q", got)
	}
	w.apply("other", annotated(v1beta1.AnnotationAddresses, "10.0.0.7"))
	w.expect("other", "False AddressInUse")
	w.apply("db", annotated(v1beta1.AnnotationReservation, "db"))
	w.expect("db", "10.0.0.7 True Assigned")
	if got := w.objects.Reservations[0].Status.Addresses[0].Service; got != "db" {
		t.Errorf("the reservation says that %q uses 10.0.0.7, want db", got)
	}
	w.delete("db")
	w.expect("other", "False AddressInUse")
	w.apply("db", annotated(v1beta1.AnnotationReservation, "db"))
	w.expect("db", "10.0.0.7 True Assigned")
	w.unreserve("db")
	w.expect("db", "10.0.0.7 True ReservationMissing")
	w.delete("db")
	w.expect("other", "10.0.0.7 True Assigned")
}

func TestPoolStatusAndFinalizer(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1-10.0.0.2 fd00::/64", "other: 10.1.0.0/31")
	w.start("")
	w.apply("a")
	w.apply("b")
	status := w.pool("lan").Status
	if status.IPv4.Assigned != "2" || status.IPv4.Available != "0" || status.IPv6.Total != "18446744073709551616" {
		t.Errorf("counts %+v %+v", status.IPv4, status.IPv6)
	}
	if len(status.Holders) != 2 || status.Holders[1] != (v1beta1.PoolHolder{Address: "10.0.0.2", Service: "default/b"}) {
		t.Errorf("holders %+v", status.Holders)
	}
	if !slices.Contains(w.pool("lan").Finalizers, v1beta1.FinalizerInUse) || len(w.pool("other").Finalizers) > 0 {
		t.Errorf("finalizers: lan %v, other %v", w.pool("lan").Finalizers, w.pool("other").Finalizers)
	}
	// A manual edit is put right.
	w.pool("lan").Status.IPv4.Assigned = "7"
	w.report = true
	w.settle()
	if got := w.pool("lan").Status.IPv4.Assigned; got != "2" {
		t.Errorf("assigned says %s after a manual edit", got)
	}
	// Deleted while in use: nothing new, and gone with its last holder.
	now := metav1.NewTime(w.now())
	w.pool("lan").DeletionTimestamp = &now
	w.reconfigure()
	w.apply("c")
	w.expect("c", "10.1.0.0 True Assigned")
	w.delete("a")
	if !slices.Contains(w.pool("lan").Finalizers, v1beta1.FinalizerInUse) {
		t.Error("the pool may vanish although b holds an address of it")
	}
	w.delete("b")
	if slices.Contains(w.pool("lan").Finalizers, v1beta1.FinalizerInUse) {
		t.Error("the pool is kept although nobody holds an address of it")
	}
}

func TestRetainAndHistory(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1-10.0.0.9")
	w.pool("lan").Spec.Retain = &metav1.Duration{Duration: time.Hour}
	w.start("")
	w.apply("a")
	w.delete("a")
	w.apply("b")
	w.expect("b", "10.0.0.2 True Assigned")
	w.start("") // what is kept is in the records
	w.apply("c")
	w.expect("c", "10.0.0.3 True Assigned")
	w.apply("a")
	w.expect("a", "10.0.0.1 True Assigned")
	w.delete("a")
	w.clock = w.clock.Add(2 * time.Hour)
	w.apply("d")
	w.expect("d", "10.0.0.1 True Assigned")
	e, _ := w.records.Lookup(w.controller.ipOf("default", "d"))
	if len(e.Previous) != 2 || e.Previous[0].Name != "a" || e.Previous[0].To.Before(e.Previous[0].From) {
		t.Errorf("history of 10.0.0.1: %+v, want a twice", e.Previous)
	}
}

// TestLearnsFromTheRecords: what an earlier controller committed but did not write is kept, and what the
// records say is somebody else's is not given away.
func TestLearnsFromTheRecords(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1-10.0.0.9")
	w.apply("a", ofType(corev1.ServiceTypeClusterIP))
	w.apply("a", ofType(corev1.ServiceTypeLoadBalancer))
	ctx, at := context.Background(), w.now()
	ip := func(n int) record.Change {
		who := record.Holder{Kind: record.Service, Namespace: "default", Name: "a", UID: "a"}
		return record.Hold(addr(fmt.Sprint("10.0.0.", n)), who, "lan", at)
	}
	gone := ip(1)
	gone.Holder.Name, gone.Holder.UID = "gone", "gone"
	if err := w.records.Commit(ctx, gone, ip(5)); err != nil {
		t.Fatal(err)
	}
	w.start("")
	w.expect("a", "10.0.0.5 True Assigned")
	w.apply("b")
	w.expect("b", "10.0.0.1 True Assigned")

	other := ip(2)
	other.Holder.Name, other.Holder.UID = "elsewhere", "elsewhere"
	if err := w.records.Commit(ctx, other); err != nil {
		t.Fatal(err)
	}
	w.tolerate = true
	w.apply("c")
	w.expect("c", "10.0.0.3 True Assigned")
}

func TestAuditTellsOfDuplicates(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1-10.0.0.9")
	twice := withStatus(corev1.LoadBalancerIngress{IP: "10.0.0.4"})
	for _, name := range []string{"old", "young"} {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name),
			CreationTimestamp: metav1.NewTime(w.now()), ResourceVersion: "0"}}
		s.Spec.Type, s.Spec.IPFamilies = corev1.ServiceTypeLoadBalancer, []corev1.IPFamily{corev1.IPv4Protocol}
		twice(s)
		w.services[types.NamespacedName{Namespace: "default", Name: name}] = s
	}
	w.start("")
	w.expect("old", "10.0.0.4 True Assigned")
	w.expect("young", "10.0.0.1 True Assigned")
	duplicates := func() int {
		return len(slices.DeleteFunc(slices.Clone(w.events), func(e string) bool { return e != "Warning DuplicateAddress" }))
	}
	if duplicates() != 2 {
		t.Errorf("events %q, want DuplicateAddress on both", w.events)
	}
	// With a Service of another class: only ours is told, and neither is touched.
	w.asleep(func() {
		w.apply("other", ofClass("example.com/other"), withStatus(corev1.LoadBalancerIngress{IP: "10.0.0.4"}))
	})
	if duplicates() != 3 {
		t.Errorf("events %q, want one DuplicateAddress more", w.events)
	}
	w.expect("old", "10.0.0.4 True Assigned")
	w.expect("other", "10.0.0.4")
}

// TestReleasesOnlyAfterAWrite: an earlier controller may be about to write an address that it committed; the
// address is let go only once that write must fail, because the Service has been written since.
func TestReleasesOnlyAfterAWrite(t *testing.T) {
	w := newWorld(t)
	w.pools("lan: 10.0.0.1-10.0.0.9")
	w.start("")
	w.apply("a")
	who := record.Holder{Kind: record.Service, Namespace: "default", Name: "a", UID: "a"}
	if err := w.records.Commit(context.Background(), record.Hold(addr("10.0.0.5"), who, "lan", w.now())); err != nil {
		t.Fatal(err)
	}
	before := w.services[types.NamespacedName{Namespace: "default", Name: "a"}].ResourceVersion
	w.start("")
	w.expect("a", "10.0.0.1 True Assigned")
	if got := w.records.holdersOf("10.0.0.5"); got != "" {
		t.Errorf("10.0.0.5 is still held by %q", got)
	}
	if after := w.services[types.NamespacedName{Namespace: "default", Name: "a"}].ResourceVersion; after == before {
		t.Error("10.0.0.5 was released although nothing was written: an older write could still succeed")
	}
}
