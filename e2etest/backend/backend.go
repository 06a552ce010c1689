// Package backend is what every pod of a test serves, in the lab's own namespaces and in containers: a line that says who
// answered and whom it saw.
package backend

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

// Backend serves HTTP and UDP until stopped.
type Backend struct {
	pod, node string
	http      *http.Server
	udp       net.PacketConn
	served    sync.WaitGroup
}

// Start serves on a listener and a socket, which Stop closes.
func Start(pod, node string, listener net.Listener, udp net.PacketConn) *Backend {
	b := &Backend{pod: pod, node: node, udp: udp}
	b.http = &http.Server{Handler: http.HandlerFunc(b.serveHTTP)}
	b.served.Go(func() { _ = b.http.Serve(listener) })
	b.served.Go(b.echo)
	return b
}

// Stop ends both servers, with every open connection, and waits for them.
func (b *Backend) Stop() {
	_ = b.http.Close()
	_ = b.udp.Close()
	b.served.Wait()
}

func (b *Backend) serveHTTP(w http.ResponseWriter, r *http.Request) {
	client, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, Line(b.pod, b.node, client))
}

func (b *Backend) echo() {
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
