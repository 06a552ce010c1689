// Command lab builds a LAN of network namespaces with a real Kubernetes control plane on it, and takes it down.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

const usage = `usage: lab COMMAND

  up [-prefix P] [-nodes N] [-clients N] [-segments N] [-proxy nftables|iptables] [-mld-snooping]
                      build a lab that stays until "lab down"
  status              list the labs of this machine, their hosts and processes
  exec [-prefix P] HOST CMD [ARG...]
                      run a command on a host: cp, n1, c1, switch, ...; "kubectl" is at hand everywhere
  down [P... | -all]  remove labs; without an argument, what "lab up" made and what dead owners left
  build               build the control plane and this command into bin/
`

// command is one verb. Its error is printed by main.
type command func(ctx context.Context, args []string) error

func main() {
	commands := map[string]command{"up": up, "status": status, "exec": execute, "down": down, "build": build,
		"agent": runAgent, "reap": reap}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := commands[os.Args[1]](ctx, os.Args[2:])
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() && os.Args[1] == "exec" {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab "+os.Args[1]+":", err)
		os.Exit(1)
	}
}
