package agent

import (
	"errors"
	"fmt"

	"github.com/lanyard-lb/lanyard/e2etest/backend"
)

// serving is a pod that runs: its network, and the backend in it.
type serving struct {
	wire *wire
	*backend.Backend
}

func startBackend(w *wire, pod, node string) (*serving, error) {
	listener, err := w.space.Listen("tcp", fmt.Sprintf(":%d", backend.HTTPPort))
	if err != nil {
		return nil, fmt.Errorf("listen for HTTP: %w", err)
	}
	udp, err := w.space.ListenPacket("udp", fmt.Sprintf(":%d", backend.EchoPort))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for UDP: %w", err), listener.Close())
	}
	return &serving{w, backend.Start(pod, node, listener, udp)}, nil
}
