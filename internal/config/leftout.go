package config

import (
	"cmp"
	"math/big"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/lanyard-lb/lanyard/internal/ipam"
	"github.com/lanyard-lb/lanyard/internal/iprange"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// leaveOut finds what of the accepted pools is something else: in the cluster for all of them, by their
// subnets for each.
func (s *Snapshot) leaveOut(accepted []*candidate, taken index, o Objects) {
	s.LeftOut = map[string][]LeftOut{}
	for _, hole := range append(nodeAddresses(o.Nodes), serviceCIDRs(o.ServiceCIDRs)...) {
		for _, part := range taken.overlapping(hole.Range) {
			s.LeftOut[part.pool] = append(s.LeftOut[part.pool], LeftOut{part.Intersection(hole.Range), hole.Why})
		}
	}
	for _, c := range accepted {
		for _, hole := range subnetAddresses(c.now.subnets) {
			for _, part := range taken.overlapping(hole.Range) {
				if part.pool == c.name {
					s.LeftOut[c.name] = append(s.LeftOut[c.name], hole)
				}
			}
		}
	}
	for name, list := range s.LeftOut {
		slices.SortFunc(list, func(a, b LeftOut) int {
			return cmp.Or(a.Range.First().Compare(b.Range.First()), b.Range.Last().Compare(a.Range.Last()), cmp.Compare(a.Why, b.Why))
		})
		s.LeftOut[name] = slices.Compact(list)
	}
}

// nodeAddresses are what nodes have for themselves and for their pods. Text that is no address, such as a host
// name, is passed over.
func nodeAddresses(nodes []corev1.Node) []LeftOut {
	var holes []LeftOut
	for i := range nodes {
		for _, a := range nodes[i].Status.Addresses {
			if ip, err := netip.ParseAddr(a.Address); err == nil {
				holes = appendHole(holes, netip.PrefixFrom(ip.Unmap().WithZone(""), ip.Unmap().BitLen()), "an address of node "+nodes[i].Name)
			}
		}
		cidrs := nodes[i].Spec.PodCIDRs
		if len(cidrs) == 0 {
			cidrs = []string{nodes[i].Spec.PodCIDR}
		}
		for _, text := range cidrs {
			if cidr, err := netip.ParsePrefix(text); err == nil {
				holes = appendHole(holes, cidr, "in the pod CIDR of node "+nodes[i].Name)
			}
		}
	}
	return holes
}

func serviceCIDRs(texts []string) []LeftOut {
	var holes []LeftOut
	for _, text := range texts {
		if cidr, err := netip.ParsePrefix(text); err == nil {
			holes = appendHole(holes, cidr, "in the Service CIDR "+cidr.String())
		}
	}
	return holes
}

// subnetAddresses are the addresses that a subnet has for itself: RFC 919 for IPv4, but RFC 3021 leaves a /31
// without any; RFC 4291 section 2.6.1 for IPv6, but RFC 6164 leaves a /127 without any.
func subnetAddresses(subnets []netip.Prefix) []LeftOut {
	var holes []LeftOut
	for _, subnet := range subnets {
		r, err := iprange.FromPrefix(subnet)
		if err != nil || subnet.Bits() >= subnet.Addr().BitLen()-1 {
			continue
		}
		if !r.Is4() {
			holes = appendHole(holes, single(r.First()), "the Subnet-Router anycast address of "+subnet.String())
			continue
		}
		holes = appendHole(holes, single(r.First()), "the network address of "+subnet.String())
		holes = appendHole(holes, single(r.Last()), "the broadcast address of "+subnet.String())
	}
	return holes
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func appendHole(holes []LeftOut, p netip.Prefix, why string) []LeftOut {
	if r, err := iprange.FromPrefix(p); err == nil {
		return append(holes, LeftOut{r, why})
	}
	return holes
}

// remaining returns what of a pool can be handed out.
func remaining(parts []part, leftOut []LeftOut) []iprange.Range {
	holes := make([]iprange.Range, len(leftOut))
	for i, l := range leftOut {
		holes[i] = l.Range
	}
	return iprange.Subtract(rangesOf(parts), holes)
}

func rangesOf(parts []part) []iprange.Range {
	ranges := make([]iprange.Range, len(parts))
	for i, p := range parts {
		ranges[i] = p.Range
	}
	return ranges
}

// totals counts what a pool can hand out, for each family that is written in it.
func totals(pool ipam.Pool, written []iprange.Range) map[ipam.Family]*big.Int {
	count := map[ipam.Family]*big.Int{}
	for _, r := range written {
		count[ipam.FamilyOf(r.First())] = new(big.Int)
	}
	for _, r := range pool.Ranges {
		total := count[ipam.FamilyOf(r.First())]
		total.Add(total, r.Size())
		if pool.AvoidBuggy && r.Is4() {
			total.Sub(total, big.NewInt(ending(r, 0)+ending(r, 255)))
		}
	}
	return count
}

// ending counts the addresses of an IPv4 range whose last byte is the one given.
func ending(r iprange.Range, last int64) int64 {
	upTo := func(a netip.Addr) int64 { // how many there are up to and with a
		b := a.As4()
		n := int64(b[0])<<24 | int64(b[1])<<16 | int64(b[2])<<8 | int64(b[3])
		return (n - last + 256) / 256
	}
	count := upTo(r.Last()) - upTo(r.First())
	if int64(r.First().As4()[3]) == last {
		count++
	}
	return count
}

// written returns the pools with all that they list. Only pools that exclude something can list what is
// another's, or what two of them exclude: that falls to the first by name.
func written(accepted []*candidate, taken index) []placement.Pool {
	byName := slices.SortedFunc(slices.Values(accepted), func(a, b *candidate) int { return cmp.Compare(a.name, b.name) })
	pools := make([]placement.Pool, len(byName))
	var shared []iprange.Range // what pools that exclude something have got beside their own
	for i, c := range byName {
		ranges := slices.Clone(c.now.written)
		if c.now.excepts {
			holes := slices.Clone(shared)
			for _, part := range taken {
				if part.pool != c.name {
					holes = append(holes, part.Range)
				}
			}
			ranges = iprange.Subtract(ranges, holes)
			shared = append(shared, ranges...)
		}
		pools[i] = placement.Pool{Name: c.name, Ranges: ranges}
	}
	return pools
}
