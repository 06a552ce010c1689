package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/lanyard-lb/lanyard/e2etest/agent"
	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// runAgent is what the lab starts on each node.
func runAgent(ctx context.Context, args []string) error {
	var c agent.Config
	flags := flag.NewFlagSet("lab agent", flag.ExitOnError)
	flags.StringVar(&c.Prefix, "prefix", "", "prefix of the lab")
	flags.StringVar(&c.Node, "node", "", "name of the node")
	flags.StringVar(&c.Kubeconfig, "kubeconfig", "", "path of the kubeconfig")
	flags.DurationVar(&c.Heartbeat, "heartbeat", 2*time.Second, "time between signs of life")
	flags.Func("addresses", "IPv4 and IPv6 address of the node", pair(netip.ParseAddr, &c.Addresses))
	flags.Func("pod-cidrs", "IPv4 and IPv6 subnet of its pods", pair(netip.ParsePrefix, &c.PodCIDRs))
	_ = flags.Parse(args)
	return agent.Run(ctx, c)
}

func pair[T any](parse func(string) (T, error), into *[2]T) func(string) error {
	return func(s string) (err error) {
		first, second, _ := strings.Cut(s, ",")
		if into[0], err = parse(first); err == nil {
			into[1], err = parse(second)
		}
		return err
	}
}

// reap waits for the end of its input, which is the end of the lab's owner, and removes the lab if that did not.
func reap(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("want the prefix of a lab and the time it was made")
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return fmt.Errorf("wait for the owner's end: %w", err)
	}
	record, err := lab.ReadRecord(args[0])
	// The prefix may have passed to another lab since.
	if err != nil || record.Persistent || record.Created.Format(time.RFC3339Nano) != args[1] {
		return nil
	}
	return record.Remove(context.WithoutCancel(ctx))
}
