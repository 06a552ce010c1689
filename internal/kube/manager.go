package kube

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
)

// Options say how to reach the API server and what to offer to its operators.
type Options struct {
	Component              string // name in events, leases and user agents, as in lanyard-controller
	Kubeconfig             string // path; empty: the Pod's service account
	Namespace              string // of Lanyard itself: the lease and the speakers' Service
	LeaderElect            bool
	Class                  string // of the Services to serve: each has a lease, and a leader, of its own
	MetricsBindAddress     string // host:port; "0" serves none
	HealthProbeBindAddress string // host:port; "0" serves none
	PprofBindAddress       string // host:port; empty serves none
	Logger                 log.Logger
}

// Cluster is a connection to the API server, with caches that fill once Run runs.
type Cluster struct {
	manager   manager.Manager
	namespace string
	logger    log.Logger
}

// Connect prepares a connection. It starts nothing and does not need the API server to answer.
func Connect(o Options) (*Cluster, error) {
	logger := newLogr(o.Logger)
	klog.SetLogger(logger)
	ctrllog.SetLogger(logger)
	config, err := clientcmd.BuildConfigFromFlags("", o.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %q: %w", o.Kubeconfig, err)
	}
	// No limit on the client's side: the API server's priority and fairness does that better.
	config.QPS = -1
	// From 1.37 on the API server compresses a watch that began with a list event by event, for each client: a lot of work
	// on its side for some kilobytes.
	config.DisableCompression = true
	config.UserAgent = rest.DefaultKubernetesUserAgent() + " " + o.Component
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme, networkingv1.AddToScheme, v1beta1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register API types: %w", err)
		}
	}
	shared, trim := true, Trim(o.Namespace)
	m, err := manager.New(config, manager.Options{
		Scheme:                        scheme,
		Logger:                        logger,
		LeaderElection:                o.LeaderElect,
		LeaderElectionID:              LeaseName(o.Component, o.Class),
		LeaderElectionNamespace:       o.Namespace,
		LeaderElectionReleaseOnCancel: true,
		Metrics:                       metricsserver.Options{BindAddress: o.MetricsBindAddress},
		HealthProbeBindAddress:        o.HealthProbeBindAddress,
		PprofBindAddress:              o.PprofBindAddress,
		Cache: cache.Options{
			DefaultTransform:             trim,
			NewInformer:                  newInformer(trim, o.Logger),
			DefaultUnsafeDisableDeepCopy: &shared,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("prepare the connection to the API server %s: %w", config.Host, err)
	}
	if err := errors.Join(m.AddHealthzCheck("ping", healthz.Ping), m.AddReadyzCheck("ping", healthz.Ping)); err != nil {
		return nil, err
	}
	return &Cluster{manager: m, namespace: o.Namespace, logger: o.Logger}, nil
}

// LeaseName returns the name of the lease that the leader of a class holds: the component's, and for a class the
// first 8 digits of its SHA-256 sum after that.
func LeaseName(component, class string) string {
	if class == "" {
		return component
	}
	sum := sha256.Sum256([]byte(class))
	return component + "-" + hex.EncodeToString(sum[:4])
}

// AddReadyCheck makes the readiness probe fail, with the error as its reason, while check returns one.
func (c *Cluster) AddReadyCheck(name string, check func() error) error {
	return c.manager.AddReadyzCheck(name, func(*http.Request) error { return check() })
}

func init() {
	metrics.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
}

// Metrics is the registry that the metrics address serves.
func (c *Cluster) Metrics() prometheus.Registerer { return metrics.Registry }

// Run serves caches, probes and metrics, and whatever was added before, until ctx ends.
func (c *Cluster) Run(ctx context.Context) error { return c.manager.Start(ctx) }

// informer waits for the API server to know the kind: it may be away as we start, or the CRDs may come later.
func (c *Cluster) informer(ctx context.Context, kind client.Object) (cache.Informer, error) {
	for told := false; ; told = true {
		// It need not have its first list: those of all kinds are on their way at the same time.
		informer, err := c.manager.GetCache().GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err == nil {
			return informer, nil
		}
		if !told {
			_ = level.Warn(c.logger).Log("msg", "cannot watch yet, trying again", "kind", fmt.Sprintf("%T", kind), "err", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("watch %T: %w", kind, err)
		case <-time.After(500 * time.Millisecond):
		}
	}
}
