package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/ipam"
)

// reservations returns those in force, sorted by age, then namespace and name.
func (p *parser) reservations(o Objects, last map[string]good[v1beta1.IPReservationSpec]) []ipam.Reservation {
	exists := map[string]bool{}
	for i := range o.Pools {
		exists[o.Pools[i].Name] = true
	}
	var list []ipam.Reservation
	for i := range o.Reservations {
		object := &o.Reservations[i]
		key := ipam.Key{Namespace: object.Namespace, Name: object.Name}
		ref := ref{KindIPReservation, key.String(), object.UID}
		r, ok := orLast(p, ref, &object.Spec, last, p.good.reservations, func(p *parser, spec *v1beta1.IPReservationSpec) (ipam.Reservation, bool) {
			return p.reservation(key, spec, exists)
		})
		if ok {
			r.Created = object.CreationTimestamp.Time
			r.Status = held(object.Status.Addresses)
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b ipam.Reservation) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Key.Namespace, b.Key.Namespace), cmp.Compare(a.Key.Name, b.Key.Name))
	})
	return list
}

func (p *parser) reservation(key ipam.Key, spec *v1beta1.IPReservationSpec, exists map[string]bool) (ipam.Reservation, bool) {
	known, name := len(p.faults), key.String()
	r := ipam.Reservation{Key: key, Pool: spec.Pool, Count: map[ipam.Family]int{}}
	for i, text := range spec.Addresses {
		field := fmt.Sprintf("spec.addresses[%d]", i)
		ip, err := netip.ParseAddr(text)
		switch {
		case err != nil || ip.Zone() != "":
			p.fault(KindIPReservation, name, field, InvalidAddress, "%q is not a single address", text)
		case slices.Contains(r.Addresses, ip.Unmap()):
			p.fault(KindIPReservation, name, field, InvalidAddress, "%s is listed twice", ip)
		default:
			r.Addresses = append(r.Addresses, ip.Unmap())
		}
	}
	p.count(&r, ipam.IPv4, "spec.ipv4", spec.IPv4)
	p.count(&r, ipam.IPv6, "spec.ipv6", spec.IPv6)
	if len(r.Count) > 0 && r.Pool == "" {
		p.fault(KindIPReservation, name, "spec.pool", InvalidValue, "a number of addresses needs a pool to take them from")
	}
	if len(spec.Addresses) == 0 && len(r.Count) == 0 {
		p.fault(KindIPReservation, name, "spec", InvalidValue, "it asks for nothing")
	}
	ok := len(p.faults) == known
	if r.Pool != "" && !exists[r.Pool] {
		p.warn(KindIPReservation, name, "spec.pool", UnknownPool, "there is no IPAddressPool %q", r.Pool)
	}
	return r, ok
}

func (p *parser) count(r *ipam.Reservation, family ipam.Family, field string, n *int32) {
	const most = 32
	switch {
	case n == nil || *n == 0:
	case *n < 0 || *n > most:
		p.fault(KindIPReservation, r.Key.String(), field, InvalidValue, "%d is not between 0 and %d", *n, most)
	default:
		r.Count[family] = int(*n)
	}
}

// held reads the addresses of a status; what is not an address was not written by us.
func held(list []v1beta1.ReservedAddress) []netip.Addr {
	var ips []netip.Addr
	for _, a := range list {
		if ip, err := netip.ParseAddr(a.Address); err == nil {
			ips = append(ips, ip.Unmap())
		}
	}
	return ips
}
