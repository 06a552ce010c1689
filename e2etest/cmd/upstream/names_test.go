package main

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func TestNames(t *testing.T) {
	n := &names{client: fake.NewClientset(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop"},
		Spec:       corev1.ServiceSpec{ClusterIPs: []string{"10.96.0.5", "fd00:10:96::5"}},
	})}
	for _, c := range []struct {
		name string
		kind dnsmessage.Type
		want string
	}{
		{"web.shop.svc.cluster.local.", dnsmessage.TypeA, "RCodeSuccess [10.96.0.5]"},
		{"WEB.shop.svc.cluster.local.", dnsmessage.TypeAAAA, "RCodeSuccess [fd00:10:96::5]"},
		{"web.shop.svc.cluster.local.", dnsmessage.TypeTXT, "RCodeSuccess []"},
		{"web.other.svc.cluster.local.", dnsmessage.TypeA, "RCodeNameError []"},
		{"web.shop.svc.cluster.local.shop.svc.cluster.local.", dnsmessage.TypeA, "RCodeNameError []"},
		{"example.org.", dnsmessage.TypeA, "RCodeNameError []"},
	} {
		query := dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{
			{Name: dnsmessage.MustNewName(c.name), Type: c.kind, Class: dnsmessage.ClassINET},
		}}
		raw, err := query.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, n, raw); got != c.want {
			t.Errorf("%s %s: got %s, want %s", c.kind, c.name, got, c.want)
		}
	}
	if _, err := n.answer([]byte("no query")); err == nil {
		t.Error("what is no query got an answer")
	}
}

func ask(t *testing.T, n *names, query []byte) string {
	t.Helper()
	raw, err := n.answer(query)
	if err != nil {
		t.Fatal(err)
	}
	var answer dnsmessage.Message
	if err := answer.Unpack(raw); err != nil {
		t.Fatal(err)
	}
	if answer.ID != 7 || !answer.Response {
		t.Errorf("%+v does not answer the query", answer.Header)
	}
	ips := []string{}
	for _, a := range answer.Answers {
		switch body := a.Body.(type) {
		case *dnsmessage.AResource:
			ips = append(ips, netip.AddrFrom4(body.A).String())
		case *dnsmessage.AAAAResource:
			ips = append(ips, netip.AddrFrom16(body.AAAA).String())
		}
	}
	return fmt.Sprintf("%s %v", answer.RCode, ips)
}
