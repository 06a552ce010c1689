package v1beta1

import (
	"net/netip"
	"strings"
)

// recordBits is how many bits of an address tell the 64 addresses of one record's block apart.
const recordBits = 6

// RecordBlock returns the block of 64 addresses whose IPAllocationRecord tells of an address: the IPv4 /26 or
// IPv6 /122 around it. IPv4-mapped IPv6 addresses count as IPv4; the invalid address has the invalid block.
func RecordBlock(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	block, _ := a.Prefix(a.BitLen() - recordBits) // fails only for the invalid address
	return block
}

// RecordName returns the name of the IPAllocationRecord of a block, as in 10-77-0-192 or
// fd00-0000-0000-0000-0000-0000-0000-0040: the block's first address, written out, so that names sort as the
// addresses of IPv6 do and no two blocks have one name. It is a valid DNS-1123 label.
func RecordName(block netip.Prefix) string {
	first := block.Masked().Addr().StringExpanded()
	return strings.NewReplacer(".", "-", ":", "-").Replace(first)
}
