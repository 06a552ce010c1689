// Command kind-lab makes a kind cluster with kubelets on this machine, and takes it down.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/lanyard-lb/lanyard/e2etest/kind"
	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

const usage = `usage: kind-lab COMMAND

  up [-proxy nftables|iptables] [-node-image IMAGE]
              make the cluster "lanyard", or use the one there is
  status      show its nodes
  load TAR... give images, as docker save writes them, to all its nodes
  down        remove the cluster and what was changed of this machine for it
`

// command is one verb. Its error is printed by main.
type command func(ctx context.Context, args []string) error

func main() {
	commands := map[string]command{"up": up, "status": status, "load": load, "down": down}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := commands[os.Args[1]](ctx, os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "kind-lab "+os.Args[1]+":", err)
		os.Exit(1)
	}
}

func up(ctx context.Context, args []string) error {
	opts := kind.Options{Out: os.Stdout}
	flags := flag.NewFlagSet("kind-lab up", flag.ExitOnError)
	flags.StringVar((*string)(&opts.Proxy), "proxy", string(lab.NFTables), "kube-proxy mode: nftables or iptables")
	flags.StringVar(&opts.NodeImage, "node-image", "", "a stock node image (default: one made here, of nothing but packages and source)")
	_ = flags.Parse(args)
	c, err := kind.Up(ctx, opts)
	if err != nil {
		return err
	}
	fmt.Printf("try:  KUBECONFIG=%s kubectl get nodes -o wide\nend:  make kind-down\n", c.Kubeconfig())
	return nil
}

func down(ctx context.Context, _ []string) error { return kind.Down(ctx, os.Stdout) }

func status(ctx context.Context, _ []string) error {
	c, err := kind.Open(ctx)
	if err != nil {
		return err
	}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		fmt.Printf("%-22s %-8s pid %-7d %s %s\n", n.Name, n.Status, n.PID, n.IPv4, n.IPv6)
	}
	fmt.Println("kubeconfig", c.Kubeconfig())
	return nil
}

func load(ctx context.Context, args []string) error {
	c, err := kind.Open(ctx)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return fmt.Errorf("want the name of a tar file")
	}
	for _, tar := range args {
		if err := c.LoadImage(ctx, tar); err != nil {
			return err
		}
		fmt.Println("loaded", tar)
	}
	return nil
}
