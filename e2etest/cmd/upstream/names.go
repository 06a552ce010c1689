package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// domain is what the names of the cluster's Services end in.
const domain = ".svc.cluster.local."

// nameService has Pods ask the client for names: the kubelets tell Pods this address.
const nameService = `
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec:
  clusterIP: 10.96.0.10
  ports: [{name: dns, protocol: UDP, port: 53}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns-upstream, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
ports: [{name: dns, protocol: UDP, port: 53}]
endpoints: [{addresses: [10.79.0.2]}]
`

// names answers Pods that ask for the name of a Service, as some tests have them do. It knows A and AAAA records of Services
// with cluster addresses, and asks the API server each time.
type names struct {
	client kubernetes.Interface
	conn   net.PacketConn
	done   chan struct{}
}

// serveNames has the client answer for names, unless the cluster has a name service of its own.
func (s *stage) serveNames(ctx context.Context) error {
	found, err := s.kubectl(ctx, nil, "get", "service", "kube-dns", "-n", "kube-system", "--ignore-not-found", "-o", "name")
	if err != nil || len(found) > 0 {
		return err
	}
	config, err := s.Config()
	if err != nil {
		return err
	}
	n := &names{done: make(chan struct{})}
	if n.client, err = kubernetes.NewForConfig(config); err != nil {
		return fmt.Errorf("client of the API server: %w", err)
	}
	if n.conn, err = s.client.ListenPacket("udp4", clientAddresses[0].Addr().String()+":53"); err != nil {
		return fmt.Errorf("listen for names: %w", err)
	}
	go n.serve()
	s.undo = append(s.undo, func(context.Context) error {
		err := n.conn.Close()
		<-n.done
		return err
	})
	return s.apply(ctx, nameService)
}

// serve answers until the connection is closed.
func (n *names) serve() {
	defer close(n.done)
	query := make([]byte, 512)
	for {
		size, from, err := n.conn.ReadFrom(query)
		if err != nil {
			return
		}
		// A query that is none, or an answer that is lost, is asked for again.
		if answer, err := n.answer(query[:size]); err == nil {
			_, _ = n.conn.WriteTo(answer, from)
		}
	}
}

func (n *names) answer(query []byte) ([]byte, error) {
	var parser dnsmessage.Parser
	asked, err := parser.Start(query)
	if err != nil {
		return nil, fmt.Errorf("read a query: %w", err)
	}
	q, err := parser.Question()
	if err != nil {
		return nil, fmt.Errorf("read a question: %w", err)
	}
	ips, known := n.lookup(q.Name.String())
	header := dnsmessage.Header{ID: asked.ID, Response: true, Authoritative: true, RecursionDesired: asked.RecursionDesired}
	if !known {
		header.RCode = dnsmessage.RCodeNameError
	}
	message := dnsmessage.Message{Header: header, Questions: []dnsmessage.Question{q}}
	for _, ip := range ips {
		resource := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 1}}
		switch {
		case ip.Is4() && q.Type == dnsmessage.TypeA:
			resource.Body = &dnsmessage.AResource{A: ip.As4()}
		case ip.Is6() && q.Type == dnsmessage.TypeAAAA:
			resource.Body = &dnsmessage.AAAAResource{AAAA: ip.As16()}
		default:
			continue
		}
		message.Answers = append(message.Answers, resource)
	}
	return message.Pack()
}

// lookup returns the addresses of the Service that the name says.
func (n *names) lookup(name string) (ips []netip.Addr, known bool) {
	name, inside := strings.CutSuffix(strings.ToLower(name), domain)
	service, namespace, two := strings.Cut(name, ".")
	if !inside || !two || strings.Contains(namespace, ".") {
		return nil, false
	}
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Second)
	defer stop()
	s, err := n.client.CoreV1().Services(namespace).Get(ctx, service, metav1.GetOptions{})
	if err != nil {
		return nil, false
	}
	for _, text := range s.Spec.ClusterIPs {
		if ip, err := netip.ParseAddr(text); err == nil {
			ips = append(ips, ip)
		}
	}
	return ips, true
}
