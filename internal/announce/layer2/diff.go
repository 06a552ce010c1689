package layer2

import (
	"net/netip"
	"slices"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// change is one address that differs between two lists of announcements.
type change struct {
	ip       netip.Addr
	old, new []string // interfaces
	probe    placement.Probe
	again    bool // the round differs: announce or probe it again where it was before
	gone     bool // from the list
}

// byAddress returns announcements in the order of their addresses: the list itself if it is sorted. Of an address
// given twice, the first counts.
func byAddress(list []*placement.Announcement) []*placement.Announcement {
	sorted := true
	for i := 1; i < len(list) && sorted; i++ {
		sorted = list[i-1].IP.Less(list[i].IP)
	}
	if sorted {
		return list
	}
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b *placement.Announcement) int { return a.IP.Compare(b.IP) })
	return slices.CompactFunc(list, func(a, b *placement.Announcement) bool { return a.IP == b.IP })
}

// diff lists each address that differs between two lists sorted by address. Most sets differ from the one before
// by one address of thousands.
func diff(old, new []*placement.Announcement) (changes []change) {
	for len(old) > 0 || len(new) > 0 {
		switch {
		case len(old) > 0 && len(new) > 0 && old[0] == new[0]:
			old, new = old[1:], new[1:]
		case len(old) > 0 && len(new) > 0 && old[0].IP == new[0].IP:
			o, n := old[0], new[0]
			if o.Round != n.Round || o.Probe != n.Probe || !sameNames(o.Interfaces, n.Interfaces) {
				changes = append(changes, change{ip: n.IP, old: o.Interfaces, new: n.Interfaces, probe: n.Probe, again: o.Round != n.Round})
			}
			old, new = old[1:], new[1:]
		case len(new) == 0 || len(old) > 0 && old[0].IP.Less(new[0].IP):
			changes = append(changes, change{ip: old[0].IP, old: old[0].Interfaces, gone: true})
			old = old[1:]
		default:
			changes = append(changes, change{ip: new[0].IP, new: new[0].Interfaces, probe: new[0].Probe})
			new = new[1:]
		}
	}
	return changes
}

// sameNames is quick for slices that are shared, as they usually are.
func sameNames(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	return len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b)
}
