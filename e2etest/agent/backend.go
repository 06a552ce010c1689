package agent

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// The ports on which every pod serves.
const (
	HTTPPort = 80 // any path answers 200 and one line: see Line
	EchoPort = 7  // UDP: the same line, then the payload
)

// Line is what a backend says of itself and of the client it sees, without the line's end.
func Line(pod, node string, client netip.AddrPort) string {
	client = netip.AddrPortFrom(client.Addr().Unmap(), client.Port())
	return fmt.Sprintf("pod=%s node=%s client=%s", pod, node, client)
}

// backend serves HTTP and UDP in a pod's namespace until stopped.
type backend struct {
	wire      *wire
	pod, node string
	http      *http.Server
	udp       net.PacketConn
	served    sync.WaitGroup
}

func startBackend(w *wire, pod, node string) (*backend, error) {
	b := &backend{wire: w, pod: pod, node: node}
	listener, err := w.space.Listen("tcp", fmt.Sprintf(":%d", HTTPPort))
	if err != nil {
		return nil, fmt.Errorf("listen for HTTP: %w", err)
	}
	if b.udp, err = w.space.ListenPacket("udp", fmt.Sprintf(":%d", EchoPort)); err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("listen for UDP: %w", err)
	}
	b.http = &http.Server{Handler: http.HandlerFunc(b.serveHTTP)}
	b.served.Go(func() { _ = b.http.Serve(listener) })
	b.served.Go(b.echo)
	return b, nil
}

// stop ends both servers, with every open connection, and waits for them.
func (b *backend) stop() {
	_ = b.http.Close()
	_ = b.udp.Close()
	b.served.Wait()
}

func (b *backend) serveHTTP(w http.ResponseWriter, r *http.Request) {
	client, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, Line(b.pod, b.node, client))
}

func (b *backend) echo() {
	buffer := make([]byte, 64<<10)
	for {
		n, from, err := b.udp.ReadFrom(buffer)
		if err != nil {
			return
		}
		line := Line(b.pod, b.node, from.(*net.UDPAddr).AddrPort()) + "\n"
		_, _ = b.udp.WriteTo(append([]byte(line), buffer[:n]...), from)
	}
}
