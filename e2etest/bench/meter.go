package bench

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
)

// meter stands between a daemon and the API server, as a reverse proxy that leaves everything as it is, and counts.
type meter struct {
	url    string
	ca     []byte // in PEM
	server *http.Server

	mu      sync.Mutex
	traffic traffic
}

// traffic is what went through, by verb and resource, as in "patch services/status".
type traffic map[string]count

// count is of requests; bytes are those of bodies as they are sent, compressed or not.
type count struct{ requests, sent, received int64 }

// newMeter starts a meter on the control plane's host, which all hosts reach.
func (s *Site) newMeter() (*meter, error) {
	config := s.RESTConfig()
	target, err := url.Parse(config.Host)
	if err != nil {
		return nil, err
	}
	trust, err := rest.TLSConfigFor(rest.AnonymousClientConfig(config))
	if err != nil {
		return nil, err
	}
	host := s.Host(controlPlane)
	listener, err := host.Listen("tcp", netip.AddrPortFrom(host.Addr4(), 0).String())
	if err != nil {
		return nil, fmt.Errorf("listen for a daemon's requests: %w", err)
	}
	own, ca, err := certificate(host.Addr4())
	if err != nil {
		return nil, err
	}
	m := &meter{url: "https://" + listener.Addr().String(), ca: ca, traffic: traffic{}}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		// Compression is the daemon's to ask for, and the connections are not to be a limit.
		Transport: &http.Transport{TLSClientConfig: trust, DialContext: host.DialContext, ForceAttemptHTTP2: true,
			DisableCompression: true, MaxIdleConnsPerHost: 100},
		FlushInterval:  -1,
		ModifyResponse: m.count,
		ErrorLog:       log.New(io.Discard, "", 0), // the daemon learns of it, and tells
	}
	m.server = &http.Server{Handler: m.requests(proxy), TLSConfig: &tls.Config{Certificates: []tls.Certificate{own}}, ErrorLog: proxy.ErrorLog}
	go func() { _ = m.server.ServeTLS(listener, "", "") }()
	return m, nil
}

// certificate is one for an address, signed by itself.
func certificate(ip netip.Addr) (own tls.Certificate, ca []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return own, nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "meter"}, NotAfter: time.Now().Add(24 * time.Hour),
		NotBefore: time.Now().Add(-time.Hour), IPAddresses: []net.IP{ip.AsSlice()}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return own, nil, fmt.Errorf("make a certificate: %w", err)
	}
	own = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return own, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// close ends the meter and every connection through it.
func (m *meter) close() { _ = m.server.Close() }

// requests counts a request, and what is sent with it.
func (m *meter) requests(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what := describe(r.Method, r.URL)
		m.add(what, count{requests: 1})
		r.Body = &counted{ReadCloser: r.Body, add: func(n int64) { m.add(what, count{sent: n}) }}
		next.ServeHTTP(w, r)
	})
}

// count has what comes back counted as it comes.
func (m *meter) count(r *http.Response) error {
	what := describe(r.Request.Method, r.Request.URL)
	body := &counted{ReadCloser: r.Body, add: func(n int64) { m.add(what, count{received: n}) }}
	r.Body = body
	return nil
}

func (m *meter) add(what string, c count) {
	m.mu.Lock()
	defer m.mu.Unlock()
	sum := m.traffic[what]
	m.traffic[what] = count{sum.requests + c.requests, sum.sent + c.sent, sum.received + c.received}
}

// now is the traffic so far.
func (m *meter) now() traffic {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := traffic{}
	for what, c := range m.traffic {
		t[what] = c
	}
	return t
}

// counted is a body that tells how much of it is read.
type counted struct {
	io.ReadCloser
	add func(int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.add(int64(n))
	return n, err
}

// describe is the verb and the resource of a request.
func describe(method string, u *url.URL) string {
	verb := strings.ToLower(method)
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	skip := map[string]int{"api": 2, "apis": 3}[parts[0]]
	if skip == 0 || len(parts) <= skip {
		return verb + " " + parts[0]
	}
	parts = parts[skip:]
	if parts[0] == "namespaces" && len(parts) > 2 {
		parts = parts[2:]
	}
	resource := parts[0]
	if len(parts) > 2 {
		resource += "/" + parts[2]
	}
	switch {
	case u.Query().Get("watch") == "true" || u.Query().Get("watch") == "1":
		verb = "watch"
	case method == http.MethodGet && len(parts) == 1:
		verb = "list"
	}
	return verb + " " + resource
}

// since is what came through between two times.
func (t traffic) since(before traffic) traffic {
	d := traffic{}
	for what, c := range t {
		b := before[what]
		if c != b {
			d[what] = count{c.requests - b.requests, c.sent - b.sent, c.received - b.received}
		}
	}
	return d
}

// sum adds up what is of a verb, or of none of the leases that daemons keep whether or not anything happens.
func (t traffic) sum(verbs ...string) (sum count) {
	for what, c := range t {
		verb, resource, _ := strings.Cut(what, " ")
		if resource == "leases" {
			continue
		}
		for _, v := range verbs {
			if v == verb {
				sum = count{sum.requests + c.requests, sum.sent + c.sent, sum.received + c.received}
			}
		}
	}
	return sum
}

// quiet says that nothing is asked any more, nor told. Lists that begin a watch anew, and bookmarks, are told at any time.
func (t traffic) quiet() bool {
	asked, told := t.sum(asking...), t.sum("watch")
	return asked.requests == 0 && asked.received == 0 && told.received < bookmarks
}

// bookmarks is more bytes than what all watches of a daemon tell at a time although nothing has changed.
const bookmarks = 800
