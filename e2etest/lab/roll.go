package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"
)

// rollPace is the time between two questions of a roll call: many at once would be a flood, which no client makes.
const rollPace = time.Millisecond

// RollCall asks the LAN for many addresses one after the other as WhoHas does, over one socket, and returns the replies
// to each that come until wait after the last question; addresses without a reply are left out. It takes as many
// milliseconds as there are addresses, and wait. The time of a reply counts from the first question.
func (l *Lab) RollCall(host string, ips []netip.Addr, wait time.Duration) (map[netip.Addr][]Answer, error) {
	h := l.Host(host)
	nic := h.NICs()[0]
	mac, err := nic.MAC()
	if err != nil {
		return nil, err
	}
	socket, err := openRaw(h.Namespace, nic.Name)
	if err != nil {
		return nil, err
	}
	defer socket.close()
	begun := time.Now()
	done := make(chan error, 1)
	go func() {
		var fault error
		for _, ip := range ips {
			request := arpRequest(mac, h.addrIn(nic.Segment, ip), ip)
			if ip.Is6() {
				request = solicitation(mac, h.addrIn(nic.Segment, ip), ip)
			}
			fault = errors.Join(fault, socket.write(request))
			time.Sleep(rollPace)
		}
		done <- errors.Join(fault, socket.setReadDeadline(time.Now().Add(wait)))
	}()
	answers, err := l.hear(socket, mac, ips, begun)
	if err = errors.Join(err, <-done); err != nil {
		return nil, fmt.Errorf("call the roll from %s: %w", host, err)
	}
	return answers, nil
}

// hear reads replies to a host until the socket's deadline.
func (l *Lab) hear(socket *rawSocket, mac []byte, asked []netip.Addr, begun time.Time) (map[netip.Addr][]Answer, error) {
	answers := map[netip.Addr][]Answer{}
	hosts := map[string]string{} // by MAC address
	for {
		f, err := socket.read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return answers, nil
		}
		if err != nil {
			return nil, err
		}
		ip := f.Sender
		switch {
		case f.Outgoing || !slices.Equal(f.Dst, mac):
			continue
		case f.Kind == ARPReply:
		case f.Kind == NeighborAdvertisement && f.Solicited:
			ip = f.Target
		default:
			continue
		}
		if !slices.Contains(asked, ip) {
			continue
		}
		name := f.Claimant().String()
		if _, known := hosts[name]; !known {
			hosts[name] = l.HostByMAC(f.Claimant())
		}
		answers[ip] = append(answers[ip], Answer{MAC: f.Claimant(), Host: hosts[name], In: f.Time.Sub(begun)})
	}
}
