// Package layer2 announces addresses on the LAN: it answers ARP requests for IPv4 and neighbour
// solicitations for IPv6 with this node's MAC address, and tells neighbours unasked when an address
// arrives. The addresses themselves are never put on an interface, so nothing is left behind; all it holds
// are packet sockets and multicast memberships, and all it needs is CAP_NET_RAW.
package layer2
