package membership

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// transport adds to memberlist's transport what it lacks: connecting takes no longer than dialTimeout,
// Shutdown ends connections at once, where memberlist would let them run into their deadlines, and what
// goes over it is counted.
type transport struct {
	memberlist.NodeAwareTransport
	dialTimeout time.Duration
	traffic     *traffic
	hear        func(from net.Addr) // is told of each packet

	ctx     context.Context // ends with Shutdown
	cancel  context.CancelFunc
	streams chan net.Conn
	packets chan *memberlist.Packet
	done    sync.WaitGroup
}

// newTransport wraps inner. Its goroutines end with Shutdown.
func newTransport(inner memberlist.NodeAwareTransport, dialTimeout time.Duration, count *traffic, hear func(net.Addr)) *transport {
	t := &transport{
		NodeAwareTransport: inner, dialTimeout: dialTimeout, traffic: count, hear: hear,
		streams: make(chan net.Conn), packets: make(chan *memberlist.Packet),
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.done.Go(t.accept)
	t.done.Go(t.receive)
	return t
}

// accept passes incoming connections on.
func (t *transport) accept() {
	for {
		select {
		case <-t.ctx.Done():
			return
		case conn := <-t.NodeAwareTransport.StreamCh():
			select {
			case t.streams <- t.bind(conn):
			case <-t.ctx.Done():
				_ = conn.Close()
				return
			}
		}
	}
}

// receive passes incoming packets on.
func (t *transport) receive() {
	for {
		select {
		case <-t.ctx.Done():
			return
		case p := <-t.NodeAwareTransport.PacketCh():
			t.traffic.packetsReceived.Add(1)
			t.traffic.bytesReceived.Add(uint64(len(p.Buf)))
			t.hear(p.From)
			select {
			case t.packets <- p:
			case <-t.ctx.Done():
				return
			}
		}
	}
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	at, err := t.NodeAwareTransport.WriteToAddress(b, a)
	if err == nil {
		t.traffic.packetsSent.Add(1)
		t.traffic.bytesSent.Add(uint64(len(b)))
	}
	return at, err
}

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	conn, err := t.NodeAwareTransport.DialAddressTimeout(a, min(timeout, t.dialTimeout))
	if err != nil {
		return nil, err
	}
	return t.bind(conn), nil
}

// Shutdown implements memberlist.Transport. It may be called again.
func (t *transport) Shutdown() error {
	err := t.NodeAwareTransport.Shutdown()
	t.cancel()
	t.done.Wait()
	return err
}

// bind makes the connection end with the transport.
func (t *transport) bind(conn net.Conn) net.Conn {
	return &boundConn{Conn: countingConn{conn, t.traffic}, release: context.AfterFunc(t.ctx, func() { _ = conn.Close() })}
}

type boundConn struct {
	net.Conn
	release func() bool
}

func (c *boundConn) Close() error {
	c.release()
	return c.Conn.Close()
}
