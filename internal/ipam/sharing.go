package ipam

import (
	"fmt"
	"net/netip"
	"slices"
)

// MaxHolders is how many Services and Reservations can hold one address.
const MaxHolders = 64

func (s Sharing) equal(o Sharing) bool {
	return s.Key == o.Key && s.Spill == o.Spill && s.Local == o.Local && s.Backends == o.Backends &&
		slices.Equal(s.Namespaces, o.Namespaces) && slices.Equal(s.Ports, o.Ports)
}

// indexSharing notes that an address is held under a sharing key.
func (l *Ledger) indexSharing(e *entry, ip netip.Addr) {
	if e.Sharing.Key == "" {
		return
	}
	if l.sharing[e.Sharing.Key] == nil {
		l.sharing[e.Sharing.Key] = map[netip.Addr]bool{}
	}
	l.sharing[e.Sharing.Key][ip] = true
}

// unshare takes an entry's addresses out of the index before its sharing changes; share puts them back.
func (l *Ledger) unshare(e *entry) {
	for ip := range l.sharing[e.Sharing.Key] {
		if l.holds(e, ip) && !slices.ContainsFunc(l.held[ip], func(h *entry) bool { return h != e && h.Sharing.Key == e.Sharing.Key }) {
			delete(l.sharing[e.Sharing.Key], ip)
		}
	}
}

func (l *Ledger) share(e *entry) {
	for _, ip := range slices.Concat(e.IPs(), e.lingering) {
		l.indexSharing(e, ip)
	}
}

// shared returns the addresses of a family that others are given under the entry's sharing key, lowest first.
// They do not stay where a stranger is.
func (l *Ledger) shared(e *entry, f Family) []netip.Addr {
	var ips []netip.Addr
	for ip := range l.sharing[e.Sharing.Key] {
		given := slices.ContainsFunc(l.held[ip], func(h *entry) bool {
			return h != e && h.Sharing.Key == e.Sharing.Key && slices.Contains(h.IPs(), ip)
		})
		if FamilyOf(ip) == f && given && !l.spoiled(ip) {
			ips = append(ips, ip)
		}
	}
	slices.SortFunc(ips, netip.Addr.Compare)
	return ips
}

// together reports whether two entries may hold one address.
func (l *Ledger) together(a, b *entry) bool { return l.clash(a, b) == "" }

// clash says why two entries cannot hold one address; "" when they can.
func (l *Ledger) clash(a, b *entry) string {
	switch {
	case a.isReservation && b.isReservation:
		return "it is reserved by " + b.Service.String()
	case a.isReservation || b.isReservation:
		if a.Service.Namespace == b.Service.Namespace {
			return ""
		}
		if b.isReservation {
			return "it is reserved by " + b.Service.String()
		}
		return "it is used by " + b.Service.String()
	case a.Sharing.Key == "" || a.Sharing.Key != b.Sharing.Key:
		return "it is used by " + b.Service.String()
	}
	return shareClash(a, b)
}

// shareClash says why two Services of one sharing key do not go together.
func shareClash(a, b *entry) string {
	x, y := a.Service.Namespace, b.Service.Namespace
	if x != y && (!a.Sharing.accepts(y) || !b.Sharing.accepts(x)) {
		return fmt.Sprintf("%s and %s would have to name each other's namespace to share across namespaces", a.Service, b.Service)
	}
	for _, p := range a.Sharing.Ports {
		if slices.Contains(b.Sharing.Ports, p) {
			return fmt.Sprintf("%s uses port %d/%s too", b.Service, p.Number, p.Protocol)
		}
	}
	if a.Sharing.Local && b.Sharing.Local && (x != y || a.Sharing.Backends != b.Sharing.Backends) {
		return fmt.Sprintf("%s has other backends, and both have externalTrafficPolicy: Local", b.Service)
	}
	return ""
}

func (s Sharing) accepts(namespace string) bool {
	return slices.Contains(s.Namespaces, namespace) || slices.Contains(s.Namespaces, "*")
}
