package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

func up(ctx context.Context, args []string) error {
	opts := lab.Options{Persistent: true, Out: os.Stdout}
	flags := flag.NewFlagSet("lab up", flag.ExitOnError)
	flags.StringVar(&opts.Prefix, "prefix", "", "name of the lab (default: the first free of lab1, lab2, ...)")
	flags.IntVar(&opts.Nodes, "nodes", 3, "number of nodes")
	flags.IntVar(&opts.Clients, "clients", 1, "number of clients")
	flags.IntVar(&opts.Segments, "segments", 1, "number of layer-2 segments; nodes have a NIC in each")
	flags.StringVar((*string)(&opts.Proxy), "proxy", string(lab.NFTables), "kube-proxy mode: nftables, iptables or none")
	flags.BoolVar(&opts.MLDSnooping, "mld-snooping", false, "switches forward IPv6 multicast to listeners only")
	_ = flags.Parse(args)
	if err := lab.NeedRoot(); err != nil {
		return err
	}
	if err := lab.Build(ctx, os.Stdout); err != nil {
		return err
	}
	l, err := lab.Up(ctx, opts)
	if err != nil {
		return err
	}
	fmt.Printf("try:  lab exec -prefix %[1]s cp kubectl get nodes -o wide\nend:  lab down %[1]s\n", l.Prefix)
	return nil
}

func down(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("lab down", flag.ExitOnError)
	all := flags.Bool("all", false, "remove every lab, those in use by a running test too")
	_ = flags.Parse(args)
	records, err := lab.List()
	if err != nil {
		return err
	}
	named := map[string]bool{}
	for _, prefix := range flags.Args() {
		named[prefix] = true
	}
	for _, r := range records {
		busy := r.Status() == "in use" || r.Status() == "starting"
		if !*all && !named[r.Prefix] && (len(named) > 0 || busy) {
			continue
		}
		delete(named, r.Prefix)
		if busy && !*all {
			return fmt.Errorf("lab %s is in use by process %d: end that, or say -all", r.Prefix, r.Owner.PID)
		}
		if err := r.Remove(ctx); err != nil {
			return err
		}
		fmt.Println("removed lab", r.Prefix)
	}
	for prefix := range named {
		return fmt.Errorf("there is no lab %s", prefix)
	}
	return nil
}

func status(context.Context, []string) error {
	records, err := lab.List()
	if err != nil {
		return err
	}
	if len(records) == 0 {
		fmt.Println("no labs")
	}
	for _, r := range records {
		fmt.Printf("lab %s: %s, since %s\n", r.Prefix, r.Status(), r.Created.Format(time.DateTime))
		for _, host := range r.Hosts {
			fmt.Printf("  %-8s netns %s-%s\n", host, r.Prefix, host)
			for _, p := range r.Processes {
				if p.Host != host {
					continue
				}
				state := fmt.Sprintf("pid %d", p.PID)
				if !p.Alive() {
					state = "ended"
				}
				fmt.Printf("           %-24s %-10s %s\n", p.Name, state, p.Log)
			}
		}
	}
	return nil
}

func execute(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("lab exec", flag.ExitOnError)
	prefix := flags.String("prefix", "", "the lab; needed only if there are several")
	_ = flags.Parse(args)
	if flags.NArg() < 2 {
		return fmt.Errorf("want HOST CMD [ARG...]")
	}
	record, err := choose(*prefix)
	if err != nil {
		return err
	}
	cmd, err := record.Command(ctx, flags.Arg(0), flags.Args()[1:])
	if err != nil {
		return err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}

// choose finds a lab by its prefix, or the only one there is.
func choose(prefix string) (lab.Record, error) {
	if prefix != "" {
		return lab.ReadRecord(prefix)
	}
	records, err := lab.List()
	if err != nil {
		return lab.Record{}, err
	}
	if len(records) != 1 {
		return lab.Record{}, fmt.Errorf("there are %d labs: choose one with -prefix", len(records))
	}
	return records[0], nil
}

func build(ctx context.Context, _ []string) error {
	if _, err := exec.LookPath("go"); err != nil {
		return fmt.Errorf("building needs Go: %w", err)
	}
	return lab.Build(ctx, os.Stdout)
}
