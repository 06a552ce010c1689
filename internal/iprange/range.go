package iprange

import (
	"fmt"
	"math/big"
	"net/netip"
	"strings"
)

// Range is a set of consecutive addresses of one family, both ends included. The zero Range is empty and
// contains nothing. Ranges are comparable.
type Range struct {
	first, last netip.Addr
}

// New returns the range from first to last, both included. The ends must be valid, of one family, without a
// zone and in order.
func New(first, last netip.Addr) (Range, error) {
	first, last = first.Unmap(), last.Unmap()
	switch {
	case !first.IsValid() || !last.IsValid():
		return Range{}, fmt.Errorf("a range needs two addresses")
	case first.Zone() != "" || last.Zone() != "":
		return Range{}, fmt.Errorf("an address with a zone (%%) cannot be part of a range")
	case first.Is4() != last.Is4():
		return Range{}, fmt.Errorf("%s and %s are of different families", first, last)
	case last.Less(first):
		return Range{}, fmt.Errorf("%s is above %s: the first address must not be above the last", first, last)
	}
	return Range{first: first, last: last}, nil
}

// Parse reads a CIDR (its host bits are ignored), a range "first-last" (blanks around the ends are allowed)
// or a single address.
func Parse(s string) (Range, error) {
	if from, to, isRange := strings.Cut(s, "-"); isRange {
		first, err := netip.ParseAddr(strings.TrimSpace(from))
		if err != nil {
			return Range{}, fmt.Errorf("range %q: first end: %w", s, err)
		}
		last, err := netip.ParseAddr(strings.TrimSpace(to))
		if err != nil {
			return Range{}, fmt.Errorf("range %q: last end: %w", s, err)
		}
		r, err := New(first, last)
		if err != nil {
			return Range{}, fmt.Errorf("range %q: %w", s, err)
		}
		return r, nil
	}
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return Range{}, fmt.Errorf("CIDR %q: %w", s, err)
		}
		return FromPrefix(p)
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return Range{}, fmt.Errorf("address %q: %w", s, err)
	}
	return New(a, a)
}

// FromPrefix returns the range of all addresses of a prefix. IPv4-mapped IPv6 prefixes are refused.
func FromPrefix(p netip.Prefix) (Range, error) {
	if !p.IsValid() || p.Addr().Is4In6() {
		return Range{}, fmt.Errorf("prefix %s is neither an IPv4 nor an IPv6 prefix", p)
	}
	first := p.Masked().Addr()
	bytes := first.AsSlice()
	for bit := p.Bits(); bit < first.BitLen(); bit++ {
		bytes[bit/8] |= 1 << (7 - bit%8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return New(first, last)
}

// First returns the lowest address.
func (r Range) First() netip.Addr { return r.first }

// Last returns the highest address.
func (r Range) Last() netip.Addr { return r.last }

// Is4 reports whether the range is one of IPv4 addresses.
func (r Range) Is4() bool { return r.first.Is4() }

// Contains reports whether a is in the range. IPv4-mapped IPv6 addresses are in no range.
func (r Range) Contains(a netip.Addr) bool {
	return r.first.IsValid() && a.Is4() == r.Is4() && a.Zone() == "" && !a.Less(r.first) && !r.last.Less(a)
}

// Overlaps reports whether the two ranges have an address in common.
func (r Range) Overlaps(o Range) bool {
	return r.first.IsValid() && o.first.IsValid() && r.Is4() == o.Is4() &&
		!o.last.Less(r.first) && !r.last.Less(o.first)
}

// Size returns how many addresses the range has, exactly: up to 2^128.
func (r Range) Size() *big.Int {
	if !r.first.IsValid() {
		return new(big.Int)
	}
	size := new(big.Int).SetBytes(r.last.AsSlice())
	size.Sub(size, new(big.Int).SetBytes(r.first.AsSlice()))
	return size.Add(size, big.NewInt(1))
}

// String writes the shortest form that Parse reads back: an address, a CIDR or a range.
func (r Range) String() string {
	if !r.first.IsValid() {
		return "empty"
	}
	if r.first == r.last {
		return r.first.String()
	}
	for bits := 0; bits < r.first.BitLen(); bits++ {
		p := netip.PrefixFrom(r.first, bits)
		if whole, err := FromPrefix(p); err == nil && whole == r {
			return p.String()
		}
	}
	return r.first.String() + "-" + r.last.String()
}

// MarshalText writes what String does.
func (r Range) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what Parse does.
func (r *Range) UnmarshalText(text []byte) error {
	parsed, err := Parse(string(text))
	if err != nil {
		return err
	}
	*r = parsed
	return nil
}
