// Command backend is the backend of a pod in a cluster with kubelets. It serves until it is killed: with a grace period a pod
// serves on while it terminates, as the pods of the lab's own namespaces do.
package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/lanyard-lb/lanyard/e2etest/backend"
)

func main() {
	unready := flag.Bool("unready", false, "begin not ready")
	flag.Parse()
	if err := serve(!*unready); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(ready bool) error {
	signal.Ignore(syscall.SIGTERM)
	listener, err := net.Listen("tcp", fmt.Sprintf(":%d", backend.HTTPPort))
	if err != nil {
		return fmt.Errorf("listen for HTTP: %w", err)
	}
	udp, err := net.ListenPacket("udp", fmt.Sprintf(":%d", backend.EchoPort))
	if err != nil {
		return fmt.Errorf("listen for UDP: %w", err)
	}
	b := backend.Start(os.Getenv("POD_NAME"), os.Getenv("NODE_NAME"), listener, udp)
	defer b.Stop()
	return http.ListenAndServe(fmt.Sprintf(":%d", backend.ReadyPort), backend.NewReadiness(ready))
}
