package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const usage = `Tell who has an address and who had it, and why a Service has the addresses that it has.

  kubectl lanyard who ADDRESS            who has the address now, and had it before
  kubectl lanyard history [-n NS] NAME   the addresses that a Service has and had
  kubectl lanyard explain [-n NS] NAME   a Service's addresses, why it has them, and what happened lately

Flags:
`

// Connect reads the cluster by kubectl's rules; namespace is the one of the context.
type Connect func(kubeconfig, context string) (_ client.Reader, namespace string, _ error)

// command is one invocation.
type command struct {
	kubeconfig, context, namespace, output string

	reader client.Reader
	out    io.Writer
}

// commands take one argument each.
var commands = map[string]func(*command, context.Context, string) error{
	"who":     (*command).who,
	"history": (*command).history,
	"explain": (*command).explain,
}

// Main carries a command line out and returns the exit code: 1 when it fails, 2 when it cannot be read.
func Main(ctx context.Context, args []string, out, complaints io.Writer, connect Connect) int {
	c := command{out: out}
	set := pflag.NewFlagSet("kubectl-lanyard", pflag.ContinueOnError)
	set.SetOutput(complaints)
	set.Usage = func() { fmt.Fprint(complaints, usage, set.FlagUsages()) }
	set.StringVar(&c.kubeconfig, "kubeconfig", "", "path of the kubeconfig; default: as for kubectl")
	set.StringVar(&c.context, "context", "", "context of the kubeconfig; default: the current one")
	set.StringVarP(&c.namespace, "namespace", "n", "", "namespace of the Service; default: that of the context")
	set.StringVarP(&c.output, "output", "o", "table", "table or json")
	switch err := set.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err != nil:
		return complain(complaints, 2, err)
	case set.NArg() == 0:
		set.Usage()
		return 2
	}
	do, known := commands[set.Arg(0)]
	switch {
	case !known:
		return complain(complaints, 2, fmt.Errorf("unknown command %q: there are who, history and explain", set.Arg(0)))
	case set.NArg() != 2:
		return complain(complaints, 2, fmt.Errorf("%s needs one argument, and has %d", set.Arg(0), set.NArg()-1))
	case c.output != "table" && c.output != "json":
		return complain(complaints, 2, fmt.Errorf("--output=%s: must be table or json", c.output))
	}
	if err := c.run(ctx, do, set.Arg(1), connect); err != nil {
		return complain(complaints, 1, err)
	}
	return 0
}

func (c *command) run(ctx context.Context, do func(*command, context.Context, string) error, argument string, connect Connect) error {
	reader, namespace, err := connect(c.kubeconfig, c.context)
	if err != nil {
		return err
	}
	c.reader = reader
	if c.namespace == "" {
		c.namespace = namespace
	}
	err = do(c, ctx, argument)
	if meta.IsNoMatchError(err) {
		return fmt.Errorf("Lanyard is not installed in this cluster: %w", err) //nolint:staticcheck,revive // it is a name
	}
	return err
}

func complain(to io.Writer, code int, err error) int {
	fmt.Fprintf(to, "error: %v\n", err)
	return code
}
