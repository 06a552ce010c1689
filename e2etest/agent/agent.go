package agent

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/lanyard-lb/lanyard/e2etest/netspace"
)

// Config is what an agent must know. The addresses are pairs, IPv4 first.
type Config struct {
	Prefix     string // of the lab; the node's namespace is PREFIX-NODE
	Node       string
	Kubeconfig string
	Addresses  [2]netip.Addr
	PodCIDRs   [2]netip.Prefix
	// Heartbeat is the time between renewals of the node's Lease.
	Heartbeat time.Duration
}

// Run is the agent: it returns when the context ends, and its pods end with it.
func Run(ctx context.Context, c Config) error {
	rest, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	rest.QPS, rest.Burst = -1, 0
	// A request into an unplugged cable must not keep the agent from noticing that the cable is back.
	rest.Timeout = 0
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return fmt.Errorf("make the client: %w", err)
	}
	space, err := netspace.Open(c.Prefix + "-" + c.Node)
	if err != nil {
		return err
	}
	defer space.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return (&heart{Config: c, client: client}).run(ctx) })
	group.Go(func() error { return newPods(c, client, space).run(ctx) })
	return group.Wait()
}
