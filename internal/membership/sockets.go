package membership

import (
	"context"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// largestPacket is what UDP can carry, receiveBuffer what the kernel is asked to keep until it is read.
	largestPacket = 64 << 10
	receiveBuffer = 2 << 20
	// faultPause is the pause after a socket has failed.
	faultPause = 100 * time.Millisecond
)

// sockets are a UDP socket and a TCP listener on one port. Memberlist's own transport takes 64 KiB of memory for each
// packet that arrives, which was half of all that a speaker took, and had to be collected as garbage.
type sockets struct {
	udp     *net.UDPConn
	tcp     *net.TCPListener
	packets chan *memberlist.Packet
	streams chan net.Conn
	logger  *stdlog.Logger

	ctx    context.Context // ends with Shutdown
	cancel context.CancelFunc
	done   sync.WaitGroup
}

var _ memberlist.NodeAwareTransport = (*sockets)(nil)

// listen opens the sockets. An invalid addr means any. With port 0 the kernel chooses one, for TCP first; another is
// tried when that one is taken for UDP.
func listen(addr netip.Addr, port uint16, logs io.Writer) (*sockets, error) {
	host := ""
	if addr.IsValid() {
		host = addr.String()
	}
	tries := 1
	if port == 0 {
		tries = 10
	}
	at := net.JoinHostPort(host, fmt.Sprint(port))
	var err error
	for range tries {
		var s *sockets
		if s, err = open(at, stdlog.New(logs, "", 0)); err == nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("listen on %s: %w", at, err)
}

func open(at string, logger *stdlog.Logger) (*sockets, error) {
	s := &sockets{packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), logger: logger}
	tcp, err := net.Listen("tcp", at)
	if err != nil {
		return nil, err
	}
	s.tcp = tcp.(*net.TCPListener)
	local := s.tcp.Addr().(*net.TCPAddr)
	s.udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: local.IP, Port: local.Port})
	if err == nil {
		err = s.udp.SetReadBuffer(receiveBuffer)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.done.Go(s.receive)
	s.done.Go(s.accept)
	return s, nil
}

func (s *sockets) port() int { return s.tcp.Addr().(*net.TCPAddr).Port }

func (s *sockets) close() {
	_ = s.tcp.Close()
	if s.udp != nil {
		_ = s.udp.Close()
	}
}

// receive passes on what comes by UDP.
func (s *sockets) receive() {
	buffer := make([]byte, largestPacket)
	for {
		n, from, err := s.udp.ReadFromUDPAddrPort(buffer)
		at := time.Now()
		if err != nil {
			if !s.goesOn("receive a packet", err) {
				return
			}
			continue
		}
		if n == 0 {
			continue // it says nothing
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		p := &memberlist.Packet{Buf: slices.Clone(buffer[:n]), From: net.UDPAddrFromAddrPort(from), Timestamp: at}
		select {
		case s.packets <- p:
		case <-s.ctx.Done():
			return
		}
	}
}

// accept passes on connections.
func (s *sockets) accept() {
	for {
		conn, err := s.tcp.Accept()
		if err != nil {
			if !s.goesOn("accept a connection", err) {
				return
			}
			continue
		}
		select {
		case s.streams <- conn:
		case <-s.ctx.Done():
			_ = conn.Close()
			return
		}
	}
}

// goesOn tells whether to try again what has failed, after a pause: not when we have closed the sockets.
func (s *sockets) goesOn(what string, err error) bool {
	if s.ctx.Err() != nil {
		return false
	}
	s.logger.Printf("[ERR] could not %s: %v", what, err)
	select {
	case <-s.ctx.Done():
		return false
	case <-time.After(faultPause):
		return true
	}
}

// FinalAdvertiseAddr implements memberlist.Transport: what to advertise is always given.
func (s *sockets) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return nil, 0, fmt.Errorf("advertise an address: %w", err)
	}
	return addr.AsSlice(), port, nil
}

// PacketCh implements memberlist.Transport.
func (s *sockets) PacketCh() <-chan *memberlist.Packet { return s.packets }

// StreamCh implements memberlist.Transport.
func (s *sockets) StreamCh() <-chan net.Conn { return s.streams }

// WriteTo implements memberlist.Transport.
func (s *sockets) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("send a packet: %w", err)
	}
	// A socket of one family takes no address of the other, be it the same one.
	_, err = s.udp.WriteToUDPAddrPort(b, netip.AddrPortFrom(to.Addr().Unmap(), to.Port()))
	return time.Now(), err
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (s *sockets) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	return s.WriteTo(b, to.Addr)
}

// DialTimeout implements memberlist.Transport. Shutdown ends it.
func (s *sockets) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout}
	return d.DialContext(s.ctx, "tcp", addr)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (s *sockets) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return s.DialTimeout(to.Addr, timeout)
}

// Shutdown implements memberlist.Transport.
func (s *sockets) Shutdown() error {
	s.cancel()
	s.close()
	s.done.Wait()
	return nil
}
