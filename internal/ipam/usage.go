package ipam

import (
	"cmp"
	"net/netip"
	"slices"
)

// Holding is one holder of one address of a pool.
type Holding struct {
	IP            netip.Addr
	Key           Key
	IsReservation bool
}

// Usage is what is held of one pool.
type Usage struct {
	Assigned    map[Family]int // addresses that somebody holds, each counted once
	Kept        map[Family]int // addresses that are free, but kept for a Service of some name
	Quarantined map[Family]int // addresses that are free, but that a stranger uses
	Holdings    []Holding      // sorted by address, then reservations first, then by name
}

// Usage returns what is held of each pool in force, by name: also what others hold.
func (l *Ledger) Usage() map[string]Usage {
	all := map[string]Usage{}
	for _, p := range l.pools {
		all[p.Name] = Usage{Assigned: map[Family]int{}, Kept: map[Family]int{}, Quarantined: map[Family]int{}}
	}
	for ip, holders := range l.held {
		u, known := all[l.poolName(ip)]
		if !known {
			continue
		}
		u.Assigned[FamilyOf(ip)]++
		for _, e := range holders {
			u.Holdings = append(u.Holdings, Holding{ip, e.Service, e.isReservation})
		}
		all[l.poolName(ip)] = u
	}
	for ip, o := range l.denied {
		u, known := all[l.poolName(ip)]
		if !known || len(o.By) == 0 {
			continue
		}
		if len(l.held[ip]) == 0 {
			u.Assigned[FamilyOf(ip)]++
		}
		for _, k := range o.By {
			u.Holdings = append(u.Holdings, Holding{IP: ip, Key: k})
		}
		all[l.poolName(ip)] = u
	}
	for ip := range l.retained {
		_, bad := l.quarantine[ip]
		if u, known := all[l.poolName(ip)]; known && !bad {
			u.Kept[FamilyOf(ip)]++
		}
	}
	for ip := range l.quarantine {
		if u, known := all[l.poolName(ip)]; known && len(l.held[ip]) == 0 {
			u.Quarantined[FamilyOf(ip)]++
		}
	}
	for name := range all {
		slices.SortFunc(all[name].Holdings, Holding.compare)
	}
	return all
}

func (h Holding) compare(o Holding) int {
	if h.IP == o.IP && h.IsReservation != o.IsReservation {
		if h.IsReservation {
			return -1
		}
		return 1
	}
	return cmp.Or(h.IP.Compare(o.IP), cmp.Compare(h.Key.Namespace, o.Key.Namespace), cmp.Compare(h.Key.Name, o.Key.Name))
}
