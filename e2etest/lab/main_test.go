package lab_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

const webService = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports:
  - {name: http, port: 80, nodePort: 30080}
  - {name: echo, port: 7, nodePort: 30007, protocol: UDP}
`

var web = map[string]string{"app": "web"}

// within is the context of one step of a test.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually asks every 20 ms until there is no error.
func eventually(t *testing.T, limit time.Duration, f func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still after %v: %v", limit, err)
		}
		<-tick.C
	}
}

// bothFamilies runs a subtest with an address of each family of a host.
func bothFamilies(t *testing.T, l *lab.Lab, host string, f func(t *testing.T, ip netip.Addr)) {
	t.Helper()
	h := l.Host(host)
	t.Run("IPv4", func(t *testing.T) { f(t, h.Addr4()) })
	t.Run("IPv6", func(t *testing.T) { f(t, h.Addr6()) })
}
