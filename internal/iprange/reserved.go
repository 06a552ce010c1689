package iprange

import "net/netip"

// reserved are the blocks that no Service can be reached at, whatever the network: RFC 6890 for IPv4, RFC
// 4291 section 2.4 for IPv6.
var reserved = [...]struct{ block, what string }{
	{"0.0.0.0/8", "unspecified"},
	{"127.0.0.0/8", "loopback"},
	{"169.254.0.0/16", "link-local"},
	{"224.0.0.0/4", "multicast"},
	{"255.255.255.255/32", "broadcast"},
	{"::/128", "unspecified"},
	{"::1/128", "loopback"},
	{"fe80::/10", "link-local"},
	{"ff00::/8", "multicast"},
}

// Reserved says which addresses of the range can never be given to a Service, as in "loopback addresses
// (127.0.0.0/8)"; of several, the first kind. It is empty when there are none.
func (r Range) Reserved() string {
	for _, b := range reserved {
		if block, err := FromPrefix(netip.MustParsePrefix(b.block)); err == nil && r.Overlaps(block) {
			return b.what + " addresses (" + b.block + ")"
		}
	}
	return ""
}
