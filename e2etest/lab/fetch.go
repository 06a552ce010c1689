package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/lanyard-lb/lanyard/e2etest/backend"
)

// Reply is what a backend of the lab answered.
type Reply struct {
	Pod, Node string
	Client    netip.AddrPort // as the backend saw it
	Took      time.Duration
}

// URL is the URL of a web server, with brackets around an IPv6 address.
func URL(ip netip.Addr, port int) string {
	return "http://" + netip.AddrPortFrom(ip, uint16(port)).String() + "/"
}

// HTTPGet fetches a URL from a host over a connection of its own. The host in the URL must be a literal address. A status
// other than 200, or a server that is no backend of the lab, is an error.
func (l *Lab) HTTPGet(host, url string, timeout time.Duration) (Reply, error) {
	return httpGet(l.Host(host), url, timeout)
}

func httpGet(h *Host, url string, timeout time.Duration) (Reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	begun := time.Now()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return Reply{}, fmt.Errorf("get %s: %w", url, err)
	}
	transport := &http.Transport{DialContext: h.DialContext, DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return Reply{}, fmt.Errorf("get %s from %s: %w", url, h.Hostname, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return Reply{}, fmt.Errorf("get %s from %s: %w", url, h.Hostname, err)
	}
	if response.StatusCode != http.StatusOK {
		return Reply{}, fmt.Errorf("get %s from %s: %s", url, h.Hostname, response.Status)
	}
	return parseReply(string(body), begun)
}

// UDPEcho sends one datagram to a backend from a host, from a port of its own, and waits for the answer.
func (l *Lab) UDPEcho(host string, to netip.AddrPort, timeout time.Duration) (Reply, error) {
	return udpEcho(l.Host(host), to, timeout)
}

func udpEcho(h *Host, to netip.AddrPort, timeout time.Duration) (Reply, error) {
	begun := time.Now()
	conn, err := h.DialContext(context.Background(), "udp", to.String())
	if err != nil {
		return Reply{}, fmt.Errorf("echo to %s from %s: %w", to, h.Hostname, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(begun.Add(timeout)); err != nil {
		return Reply{}, fmt.Errorf("echo to %s from %s: %w", to, h.Hostname, err)
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		return Reply{}, fmt.Errorf("echo to %s from %s: %w", to, h.Hostname, err)
	}
	line, _, err := readEcho(conn)
	if err != nil {
		return Reply{}, fmt.Errorf("echo to %s from %s: %w", to, h.Hostname, err)
	}
	return parseReply(line, begun)
}

// readEcho reads one answer of an echo: the backend's line, and the payload.
func readEcho(conn net.Conn) (line, payload string, err error) {
	buffer := make([]byte, 2048)
	n, err := conn.Read(buffer)
	if err != nil {
		return "", "", err
	}
	line, payload, _ = strings.Cut(string(buffer[:n]), "\n")
	return line, payload, nil
}

func parseReply(line string, begun time.Time) (Reply, error) {
	r := Reply{Took: time.Since(begun)}
	var client string
	_, err := fmt.Sscanf(line, "pod=%s node=%s client=%s", &r.Pod, &r.Node, &client)
	if err == nil {
		r.Client, err = netip.ParseAddrPort(client)
	}
	if err != nil || backend.Line(r.Pod, r.Node, r.Client) != strings.TrimSuffix(line, "\n") {
		return Reply{}, fmt.Errorf("not an answer of a backend of the lab: %q", line)
	}
	return r, nil
}
