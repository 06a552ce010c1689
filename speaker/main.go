// Command speaker announces, from the node it runs on, the addresses that this node owns.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/lanyard-lb/lanyard/internal/announce/layer2"
	"github.com/lanyard-lb/lanyard/internal/daemon"
	"github.com/lanyard-lb/lanyard/internal/kube"
	"github.com/lanyard-lb/lanyard/internal/link"
	"github.com/lanyard-lb/lanyard/internal/membership"
	"github.com/lanyard-lb/lanyard/internal/placement"
	"github.com/lanyard-lb/lanyard/internal/speaker"
)

const (
	name = "lanyard-speaker"
	// keyFilePace is how often the key file is read.
	keyFilePace = 5 * time.Second
	// answerInKernel is a flag.
	answerInKernel = "answer-in-kernel"
)

type options struct {
	daemon.Flags
	nodeName      string
	gossipBind    string
	gossipKeyFile string
	gossip        membership.Tuning
	failover      string
	stateDir      string
	rebalance     string
	notReadyAfter time.Duration
	refresh       time.Duration
	recheck       time.Duration
	inKernel      bool
	set           *pflag.FlagSet
}

func main() {
	var o options
	os.Exit(daemon.Main(name, os.Args[1:], o.add, o.run))
}

func (o *options) add(set *pflag.FlagSet) *daemon.Flags {
	o.Flags.Add(set)
	o.set = set
	set.StringVar(&o.nodeName, "node-name", os.Getenv("NODE_NAME"), "name of the Node this speaker runs on; default: the environment's NODE_NAME")
	set.StringVar(&o.gossipBind, "gossip-bind-address", ":7946", "host:port to gossip on, UDP and TCP; without a host: all addresses")
	set.StringVar(&o.gossipKeyFile, "gossip-key-file", "", "file with the secrets that encrypt gossip, one per line, the one to use first; it is read again when it changes; empty: gossip is not encrypted")
	set.StringVar(&o.failover, "failover", "fast", "how soon a silent node counts as dead: fast, lan or wan")
	set.DurationVar(&o.gossip.ProbeInterval, "gossip-probe-interval", 0, "how often to probe another speaker; 0: as --failover says, like the ones below")
	set.DurationVar(&o.gossip.ProbeTimeout, "gossip-probe-timeout", 0, "how long to wait for the answer before asking through others")
	set.DurationVar(&o.gossip.GossipInterval, "gossip-interval", 0, "how often to pass news on")
	set.DurationVar(&o.gossip.PushPullInterval, "gossip-push-pull-interval", 0, "how often to exchange everything with some other speaker")
	set.IntVar(&o.gossip.SuspicionMult, "gossip-suspicion-mult", 0, "how many probe intervals a silent speaker has to say that it is alive")
	set.StringVar(&o.stateDir, "state-dir", "", "directory to keep what is known of the cluster, for a restart while the API server is away; empty: nowhere")
	set.StringVar(&o.rebalance, "rebalance", "lazy", "when addresses move to preferred nodes and away from nodes with too many, one at a time: off, lazy (after five quiet minutes) or now")
	set.DurationVar(&o.notReadyAfter, "node-not-ready-after", 0, "how long a node may be NotReady before others come first, although its speaker is alive; 0: for ever")
	set.DurationVar(&o.refresh, "announce-refresh", 0, "how often each address is announced anew although nothing has changed, for switches that forget; 0: never")
	set.DurationVar(&o.recheck, "conflict-recheck", 30*time.Second, "how often an address is probed again that a stranger on the LAN uses")
	set.BoolVar(&o.inKernel, answerInKernel, true, "let the kernel answer plain ARP requests and neighbour solicitations, by eBPF, where it can: with Linux 6.6, CAP_BPF and CAP_NET_ADMIN; otherwise this process answers")
	return &o.Flags
}

func (o *options) run(ctx context.Context, logger log.Logger) error {
	if o.nodeName == "" {
		return errors.New("--node-name: the name of this node is needed")
	}
	logger = log.With(logger, "node", o.nodeName)
	gossip, err := o.membership(logger)
	if err != nil {
		return err
	}
	cluster, err := kube.Connect(kube.Options{
		Component:              name,
		Kubeconfig:             o.Kubeconfig,
		Namespace:              o.Namespace,
		MetricsBindAddress:     o.MetricsBindAddress,
		HealthProbeBindAddress: o.HealthProbeBindAddress,
		PprofBindAddress:       o.PprofBindAddress,
		Logger:                 logger,
	})
	if err != nil {
		return err
	}
	metrics, err := speaker.NewMetrics(cluster.Metrics())
	if err != nil {
		return err
	}
	options, err := o.options()
	if err != nil {
		return err
	}
	bind, _ := netip.ParseAddrPort(o.gossipBind)
	inKernel, lend := o.answerInKernel(logger)
	pulse := speaker.NewPulse(lend)
	s := speaker.New(speaker.Config{
		Node:       o.nodeName,
		Class:      o.LBClass,
		PreferIPv6: bind.Addr().Is6(),
		StateDir:   o.stateDir,
		Options:    options,
		Announcer:  layer2.New(layer2.Config{Logger: logger, Metrics: metrics, InKernel: inKernel, Awake: pulse.Awake, Refresh: o.refresh}),
		Pulse:      pulse,
		Membership: gossip,
		Links:      link.New(logger),
		Reporter: speaker.NewReporter(speaker.ReporterConfig{Class: o.LBClass, Writer: cluster,
			Event: cluster.Events(name), Metrics: metrics, Logger: logger}),
		Quarantine: speaker.NewQuarantine(speaker.QuarantineConfig{Node: o.nodeName, Write: cluster.WriteQuarantine, Logger: logger}),
		NodeEvent:  cluster.NodeEvents(name),
		Metrics:    metrics,
		Logger:     logger,
	})
	if err := errors.Join(cluster.Observe(s.Observe), cluster.AddReadyCheck("announcing", s.Ready)); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return cluster.Run(ctx) })
	group.Go(func() error { return s.Run(ctx) })
	if o.gossipKeyFile != "" {
		group.Go(func() error {
			return membership.WatchKeyFile(ctx, o.gossipKeyFile, keyFilePace, gossip.SetKeys, logger)
		})
	}
	return group.Wait()
}

// answerInKernel returns what answers in the kernel, and what is to be told how long it may, or nil where that is not wanted or
// not possible.
func (o *options) answerInKernel(logger log.Logger) (k *layer2.InKernel, lend func(until time.Time)) {
	if !o.inKernel {
		return nil, nil
	}
	k, err := layer2.NewInKernel()
	if err != nil {
		if o.set.Changed(answerInKernel) {
			logger = level.Warn(logger)
		} else {
			logger = level.Info(logger)
		}
		_ = logger.Log("msg", "requests are not answered in the kernel, but by this process", "err", err)
		return nil, nil
	}
	_ = level.Info(logger).Log("msg", "the kernel can answer requests, and will")
	return k, k.AnswerUntil
}

func (o *options) options() (placement.Options, error) {
	rebalance, err := placement.ParseRebalance(o.rebalance)
	if err != nil {
		return placement.Options{}, fmt.Errorf("--rebalance: %w", err)
	}
	return placement.Options{Rebalance: rebalance, NotReadyAfter: o.notReadyAfter, Recheck: o.recheck}, nil
}

func (o *options) membership(logger log.Logger) (*membership.Gossip, error) {
	profile, err := membership.ParseProfile(o.failover)
	if err != nil {
		return nil, fmt.Errorf("--failover: %w", err)
	}
	var key []byte
	if o.gossipKeyFile != "" {
		if key, err = os.ReadFile(o.gossipKeyFile); err != nil {
			return nil, fmt.Errorf("--gossip-key-file: %w", err)
		}
	} else {
		_ = level.Warn(logger).Log("msg", "gossip is neither encrypted nor authenticated: --gossip-key-file names no key")
	}
	return membership.New(membership.Config{
		Name: o.nodeName, Bind: o.gossipBind, Profile: profile, Tuning: o.gossip, Key: key, Logger: logger,
	})
}
