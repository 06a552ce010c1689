package layer2

import (
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// A Member is one socket's multicast memberships on one interface. Closing it ends them.
type Member interface {
	// Join fails with ENOMEM or ENOBUFS when the socket can hold no more memberships.
	Join(group netip.Addr) error
	Leave(group netip.Addr) error
	Close() error
}

// member is a UDP socket that is never bound, so that it receives nothing and opens no port.
type member struct{ fd, index int }

func (kernel) Member(ifi placement.Interface) (Member, error) {
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open UDP socket: %w", os.NewSyscallError("socket", err))
	}
	return member{fd: fd, index: ifi.Index}, nil
}

// Join makes the kernel report the group by MLD and the NIC let its frames in.
func (m member) Join(group netip.Addr) error { return m.option(syscall.IPV6_JOIN_GROUP, group) }

func (m member) Leave(group netip.Addr) error { return m.option(syscall.IPV6_LEAVE_GROUP, group) }

func (m member) Close() error { return syscall.Close(m.fd) }

func (m member) option(name int, group netip.Addr) error {
	request := syscall.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(m.index)}
	err := syscall.SetsockoptIPv6Mreq(m.fd, syscall.IPPROTO_IPV6, name, &request)
	return os.NewSyscallError("setsockopt", err)
}
