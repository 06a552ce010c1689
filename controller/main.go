// Command controller gives Services of type LoadBalancer their addresses.
package main

import (
	"context"
	"os"
	"time"

	"github.com/go-kit/log"
	"github.com/spf13/pflag"

	"github.com/lanyard-lb/lanyard/internal/controller"
	"github.com/lanyard-lb/lanyard/internal/daemon"
	"github.com/lanyard-lb/lanyard/internal/kube"
)

const name = "lanyard-controller"

type options struct {
	daemon.Flags
	leaderElect     bool
	gossipKeySecret string
}

func main() {
	var o options
	os.Exit(daemon.Main(name, os.Args[1:], o.add, o.run))
}

func (o *options) add(set *pflag.FlagSet) *daemon.Flags {
	o.Flags.Add(set)
	set.BoolVar(&o.leaderElect, "leader-elect", true, "serve only while holding the lease, so that several controllers can run")
	set.StringVar(&o.gossipKeySecret, "gossip-key-secret", "lanyard-gossip", "Secret in the namespace to make, while there is none, with a key for the speakers' gossip; empty: none")
	return &o.Flags
}

func (o *options) run(ctx context.Context, logger log.Logger) error {
	cluster, err := kube.Connect(kube.Options{
		Component:              name,
		Kubeconfig:             o.Kubeconfig,
		Namespace:              o.Namespace,
		LeaderElect:            o.leaderElect,
		Class:                  o.LBClass,
		MetricsBindAddress:     o.MetricsBindAddress,
		HealthProbeBindAddress: o.HealthProbeBindAddress,
		PprofBindAddress:       o.PprofBindAddress,
		Logger:                 logger,
	})
	if err != nil {
		return err
	}
	metrics, err := controller.NewMetrics(cluster.Metrics())
	if err != nil {
		return err
	}
	queueMetrics, err := kube.NewQueueMetrics(cluster.Metrics())
	if err != nil {
		return err
	}
	records, err := cluster.NewRecords(o.LBClass)
	if err != nil {
		return err
	}
	queue := cluster.NewAllocationQueue(queueMetrics)
	if err := queue.Drive(controller.New(controller.Config{
		Class:   o.LBClass,
		Writer:  cluster,
		Records: records,
		Queue:   queue,
		Metrics: metrics,
		Event:   cluster.Events(name),
		Logger:  logger,
		Now:     time.Now,
	})); err != nil {
		return err
	}
	if o.gossipKeySecret != "" {
		if err := cluster.ProvideGossipKey(o.gossipKeySecret); err != nil {
			return err
		}
	}
	return cluster.Run(ctx)
}
