package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// A stranger is a host that uses addresses which are not its own, as a printer with a fixed address does, or a second
// cluster with the same pool. Any client will do.

// Squat has a host take addresses without asking the LAN, as a misconfigured one does: its kernel answers for them from now
// on. It says nothing by itself: see Proclaim.
func (l *Lab) Squat(host string, ips ...netip.Addr) error {
	for _, ip := range ips {
		if err := l.Host(host).NICs()[0].AddAddr(hostPrefix(ip)); err != nil {
			return err
		}
	}
	return nil
}

// Unsquat has a host give addresses back.
func (l *Lab) Unsquat(host string, ips ...netip.Addr) error {
	for _, ip := range ips {
		if err := l.Host(host).NICs()[0].RemoveAddr(hostPrefix(ip)); err != nil {
			return err
		}
	}
	return nil
}

// TakeAskingFirst has a host's kernel take an IPv6 address with `ip address add`, the way that RFC 4862 wants it: it asks
// whether somebody has it (Duplicate Address Detection), and leaves it unused if so. The second result says what became
// of it, once the kernel knows: true if it has found that the address is taken.
func (l *Lab) TakeAskingFirst(ctx context.Context, host string, ip netip.Addr) (taken bool, err error) {
	h := l.Host(host)
	nic := h.NICs()[0].Name
	if err := h.Sysctl("ipv6/conf/"+nic+"/accept_dad", "1"); err != nil { // the lab's own addresses do without
		return false, err
	}
	if _, err := h.Exec(ctx, "ip", "address", "add", hostPrefix(ip).String(), "dev", nic); err != nil {
		return false, err
	}
	err = poll(ctx, 20*time.Millisecond, func() bool {
		out, showErr := h.Exec(ctx, "ip", "-oneline", "address", "show", "dev", nic, "to", ip.String(), "tentative")
		failed, failedErr := h.Exec(ctx, "ip", "-oneline", "address", "show", "dev", nic, "to", ip.String(), "dadfailed")
		taken = failed != ""
		return showErr == nil && failedErr == nil && (taken || out == "")
	})
	if err != nil {
		return false, fmt.Errorf("wait for the kernel of %s to have decided about %s: %w", host, ip, err)
	}
	return taken, nil
}

// Proclaim sends one unsolicited claim of an address from a host's first NIC: a gratuitous ARP request (RFC 5227 section 3)
// or a Neighbor Advertisement to all nodes with the Override flag (RFC 4861 section 7.2.6).
func (l *Lab) Proclaim(host string, ip netip.Addr) error {
	return l.sendFrom(host, func(mac net.HardwareAddr) []byte {
		if ip.Is4() {
			return arpRequest(mac, ip, ip)
		}
		return advertisement(mac, ip)
	})
}

// ProbeFor sends one question whether an address is in use, as a host does that wants it: an ARP probe (RFC 5227 section 2.1.1)
// or the Neighbor Solicitation of Duplicate Address Detection (RFC 4862 section 5.4.2), which has no source address.
func (l *Lab) ProbeFor(host string, ip netip.Addr) error {
	return l.sendFrom(host, func(mac net.HardwareAddr) []byte {
		if ip.Is4() {
			return arpRequest(mac, netip.IPv4Unspecified(), ip)
		}
		return solicitation(mac, netip.IPv6Unspecified(), ip)
	})
}

// AskUnicast sends one question for an address to one MAC address alone, as kernels do to see whether what they know still
// holds (RFC 4861 section 7.3.3; RFC 1122 section 2.3.2.1).
func (l *Lab) AskUnicast(host string, ip netip.Addr, to net.HardwareAddr) error {
	h := l.Host(host)
	return l.sendFrom(host, func(mac net.HardwareAddr) []byte {
		frame := arpRequest(mac, h.Addr(ip), ip)
		if ip.Is6() {
			frame = solicitationTo(mac, h.Addr(ip), ip, ip)
		}
		copy(frame, to)
		return frame
	})
}

// sendFrom sends a frame from a host's first NIC.
func (l *Lab) sendFrom(host string, frame func(mac net.HardwareAddr) []byte) error {
	h := l.Host(host)
	nic := h.NICs()[0]
	mac, err := nic.MAC()
	if err != nil {
		return err
	}
	socket, err := openRaw(h.Namespace, nic.Name)
	if err != nil {
		return err
	}
	defer socket.close()
	if err := socket.write(frame(mac)); err != nil {
		return fmt.Errorf("send a frame from %s: %w", host, err)
	}
	return nil
}

func hostPrefix(ip netip.Addr) netip.Prefix { return netip.PrefixFrom(ip, ip.BitLen()) }
