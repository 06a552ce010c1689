package membership

import (
	"context"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// listen opens the sockets, UDP and TCP on one port. An invalid addr means any. With port 0 the kernel
// chooses one, for TCP first; another is tried when that one is taken for UDP.
func listen(addr netip.Addr, port uint16, logs io.Writer) (*memberlist.NetTransport, error) {
	host := ""
	if addr.IsValid() {
		host = addr.String()
	}
	tries := 1
	if port == 0 {
		tries = 10
	}
	var err error
	for range tries {
		var t *memberlist.NetTransport
		t, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{host}, BindPort: int(port), Logger: stdlog.New(logs, "", 0),
		})
		if err == nil {
			return t, nil
		}
	}
	return nil, fmt.Errorf("listen on %s: %w", net.JoinHostPort(host, fmt.Sprint(port)), err)
}

// transport adds to memberlist's transport what it lacks: connecting takes no longer than dialTimeout,
// and Shutdown ends connections at once, where memberlist would let them run into their deadlines.
type transport struct {
	memberlist.NodeAwareTransport
	dialTimeout time.Duration
	// dial connects and gives up when ctx ends.
	dial func(ctx context.Context, a memberlist.Address, timeout time.Duration) (net.Conn, error)

	ctx     context.Context // ends with Shutdown
	cancel  context.CancelFunc
	streams chan net.Conn
	done    sync.WaitGroup
}

// newTransport wraps inner. Its goroutine ends with Shutdown.
func newTransport(inner memberlist.NodeAwareTransport, dialTimeout time.Duration) *transport {
	t := &transport{NodeAwareTransport: inner, dialTimeout: dialTimeout, streams: make(chan net.Conn)}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.dial = func(_ context.Context, a memberlist.Address, timeout time.Duration) (net.Conn, error) {
		return inner.DialAddressTimeout(a, timeout)
	}
	if _, ok := inner.(*memberlist.NetTransport); ok {
		t.dial = func(ctx context.Context, a memberlist.Address, timeout time.Duration) (net.Conn, error) {
			d := net.Dialer{Timeout: timeout}
			return d.DialContext(ctx, "tcp", a.Addr)
		}
	}
	t.done.Go(t.accept)
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

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	conn, err := t.dial(t.ctx, a, min(timeout, t.dialTimeout))
	if err != nil {
		return nil, err
	}
	return t.bind(conn), nil
}

// Shutdown implements memberlist.Transport. It may be called again.
func (t *transport) Shutdown() error {
	err := t.NodeAwareTransport.Shutdown() // first: its listeners may be waiting for accept
	t.cancel()
	t.done.Wait()
	return err
}

// bind makes the connection end with the transport.
func (t *transport) bind(conn net.Conn) net.Conn {
	return &boundConn{Conn: conn, release: context.AfterFunc(t.ctx, func() { _ = conn.Close() })}
}

type boundConn struct {
	net.Conn
	release func() bool
}

func (c *boundConn) Close() error {
	c.release()
	return c.Conn.Close()
}
