package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"
)

// fact is one measured figure.
type fact struct {
	what string
	took time.Duration
}

func (s *story) title(text string) { fmt.Printf("\n\033[1m== %s\033[0m\n", text) }

func (s *story) say(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) }

func (s *story) good(format string, args ...any) {
	fmt.Printf(" \033[32m✔\033[0m "+format+"\n", args...)
}

func (s *story) show(text string) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		fmt.Println("   | " + strings.TrimRight(line, "\n"))
	}
}

func (s *story) measured(what string, took time.Duration) {
	s.facts = append(s.facts, fact{what, took})
}

func (s *story) summary() {
	s.title("Measured in this run")
	for _, f := range s.facts {
		fmt.Printf("   %8s  %s\n", f.took.Round(time.Millisecond), f.what)
	}
	fmt.Printf("\n\033[32mAll of it was so.\033[0m\n")
}

// farewell says how to go on playing with a lab that stays.
func (s *story) farewell() {
	p := s.lab.Prefix
	s.title("The lab stays up")
	exec := "bin/lab exec -prefix " + p + " "
	for _, line := range [][2]string{
		{"bin/lab status", "what runs where"},
		{exec + "cp kubectl get svc,ippool", "the cluster"},
		{exec + "c1 curl -s http://" + s.ip4.String() + "/", "a client on the LAN (apt-get install curl)"},
		{exec + "c1 ip neigh", "what its kernel has learned"},
		{exec + "switch ip link set " + s.owner4 + " down", "pull the plug of " + s.owner4},
		{"ls " + s.lab.StateDir() + "/log", "logs of everything"},
		{"bin/lab down " + p, "end it"},
	} {
		fmt.Printf("   %-62s # %s\n", line[0], line[1])
	}
}

func (s *story) ownerOf(ip netip.Addr) string {
	if ip.Is4() {
		return s.owner4
	}
	return s.owner6
}

// onlyOwner waits until exactly one node answers for an address, shows it and returns its name.
func (s *story) onlyOwner(ctx context.Context, client string, ip netip.Addr) (string, error) {
	var owner string
	err := s.until(ctx, 10*time.Second, "not exactly one node answers for "+ip.String(), func() (bool, error) {
		answers, err := s.lab.WhoHas(client, ip, 300*time.Millisecond)
		if err != nil || len(answers) != 1 || answers[0].Host == "" {
			return false, err
		}
		owner = answers[0].Host
		s.good("%s is at %s, that is %s (answered in %s); nobody else answers", ip, answers[0].MAC, owner, answers[0].In.Round(time.Microsecond))
		return true, nil
	})
	return owner, err
}

// waitReady waits until the daemon on a host says that it is ready.
func (s *story) waitReady(ctx context.Context, host string) error {
	return s.until(ctx, 20*time.Second, "the daemon on "+host+" is not ready", func() (bool, error) {
		err := s.lab.Ready(ctx, host)
		return err == nil, err
	})
}

// until asks every 50 ms until it is so; after the limit, the wrong is the error.
func (s *story) until(ctx context.Context, limit time.Duration, wrong string, so func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		done, err := so()
		if done && err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			fmt.Fprintln(os.Stderr, " ✘ "+wrong)
			if err != nil {
				return fmt.Errorf("%s: %w", wrong, err)
			}
			return fmt.Errorf("%s, after %s", wrong, limit)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
