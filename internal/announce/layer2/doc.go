// Package layer2 announces addresses on the LAN: it answers ARP requests for IPv4 and neighbour
// solicitations for IPv6 with this node's MAC address, and tells neighbours unasked when an address
// arrives. It can probe first whether somebody else uses an address (RFC 5227, RFC 4862), and watches for
// others who claim one that it announces. The addresses themselves are never put on an interface, so nothing
// is left behind; all it holds are packet sockets and multicast memberships, and all it needs is CAP_NET_RAW. With more, it has
// the kernel answer plain requests by programs, which end with the process.
package layer2
