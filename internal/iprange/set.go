package iprange

import (
	"net/netip"
	"slices"
)

// Union returns the addresses that are in at least one of the ranges, as the fewest ranges: sorted, IPv4
// before IPv6, with a gap between any two of a family. The argument is left as it is.
func Union(ranges []Range) []Range {
	sorted := slices.DeleteFunc(slices.Clone(ranges), func(r Range) bool { return !r.first.IsValid() })
	slices.SortFunc(sorted, func(a, b Range) int { return a.first.Compare(b.first) })
	var union []Range
	for _, r := range sorted {
		if n := len(union); n > 0 && union[n-1].reaches(r) {
			if union[n-1].last.Less(r.last) {
				union[n-1].last = r.last
			}
			continue
		}
		union = append(union, r)
	}
	return union
}

// reaches reports whether o, which begins no lower than r, begins within r or right after it.
func (r Range) reaches(o Range) bool {
	return r.Is4() == o.Is4() && (!r.last.Less(o.first) || r.last.Next() == o.first)
}

// Subtract returns the addresses that are in at least one of the ranges and in none of the holes, as Union
// does. With n ranges and m holes it takes O((n+m) log(n+m)).
func Subtract(ranges, holes []Range) []Range {
	holes = Union(holes)
	var left []Range
	next := 0 // the first hole that may touch what is still to come
	for _, r := range Union(ranges) {
		for next < len(holes) && holes[next].last.Less(r.first) {
			next++
		}
		rest, more := r, true
		for i := next; more && i < len(holes) && rest.Overlaps(holes[i]); i++ {
			if rest.first.Less(holes[i].first) {
				left = append(left, Range{rest.first, holes[i].first.Prev()})
			}
			if more = holes[i].last.Less(rest.last); more {
				rest.first = holes[i].last.Next()
			}
		}
		if more {
			left = append(left, rest)
		}
	}
	return left
}

// Intersection returns the addresses that are in both ranges: the empty Range when there are none.
func (r Range) Intersection(o Range) Range {
	if !r.Overlaps(o) {
		return Range{}
	}
	if r.first.Less(o.first) {
		r.first = o.first
	}
	if o.last.Less(r.last) {
		r.last = o.last
	}
	return r
}

// Search returns the index of the range that contains an address, or where one that did would be inserted.
// The ranges must be sorted and must not overlap, as Union returns them.
func Search(sorted []Range, a netip.Addr) (int, bool) {
	i, _ := slices.BinarySearchFunc(sorted, a, func(r Range, a netip.Addr) int { return r.last.Compare(a) })
	return i, i < len(sorted) && sorted[i].Contains(a)
}
