// Command kubectl-lanyard is a plugin of kubectl: who has an address and who had it, and why a Service has the
// addresses that it has.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/lanyard-lb/lanyard/internal/cli"
	"github.com/lanyard-lb/lanyard/internal/kube"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := cli.Main(ctx, os.Args[1:], os.Stdout, os.Stderr, kube.NewClient)
	stop()
	os.Exit(code)
}
