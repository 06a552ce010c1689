// Command demo shows Lanyard's main job on a LAN made of network namespaces: a Service gets an address on
// the LAN, the address answers over IPv4 and IPv6, and goes on answering when the node behind it drops off.
// It checks what it shows, and exits with 1 when anything is not so.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

func main() {
	keep := flag.Bool("keep", false, "leave the lab up, and say how to play with it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if err := run(ctx, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, keep bool) (err error) {
	s := &story{begun: time.Now()}
	s.title("A LAN with a Kubernetes cluster on it: three nodes and two clients, each a network namespace")
	if s.lab, err = lab.Up(ctx, lab.Options{Clients: 2, Persistent: keep, Out: os.Stdout}); err != nil {
		return err
	}
	if keep {
		defer s.farewell()
	} else {
		defer func() {
			if down := s.lab.Down(); down != nil && err == nil {
				err = down
			}
		}()
	}
	if err := s.tell(ctx); err != nil {
		return errors.Join(err, s.logs())
	}
	return nil
}

// logs is how the logs of the speakers end, which go with the lab.
func (s *story) logs() error {
	var ends []error
	for _, n := range s.lab.Nodes() {
		if p := s.lab.Process(n, "speaker"); p != nil {
			ends = append(ends, fmt.Errorf("the log of the speaker on %s ends:\n%s", n, p.LogTail(60)))
		}
	}
	return errors.Join(ends...)
}
