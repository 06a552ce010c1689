package kube

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// GossipKeyField is the field of the Secret that holds the key.
const GossipKeyField = "key"

// gossipKeyRetry is how long it takes until it is looked again whether the Secret is there: a deleted one is
// made anew, with another key.
const gossipKeyRetry = time.Minute

// secretsAPI is what a gossipKey needs of the API server. Reads must come from it and not from a cache: to
// fill one, we would have to be allowed to list all Secrets.
type secretsAPI interface {
	Get(ctx context.Context, key client.ObjectKey, o client.Object, _ ...client.GetOption) error
	Create(ctx context.Context, o client.Object, _ ...client.CreateOption) error
}

// directAPI reads from the API server what the manager's own client reads from its caches.
type directAPI struct {
	client.Reader
	writer client.Writer
}

func (d directAPI) Create(ctx context.Context, o client.Object, opts ...client.CreateOption) error {
	return d.writer.Create(ctx, o, opts...)
}

// gossipKey sees to it that there is a Secret with the key of the speakers' gossip.
type gossipKey struct {
	api    secretsAPI
	name   client.ObjectKey
	logger log.Logger
}

// ProvideGossipKey adds to Run that the leader makes the Secret of that name in Lanyard's namespace, with a
// random key for the speakers' gossip, while there is none. One that is there is never changed. What goes
// wrong is logged and tried again; nothing else depends on it.
func (c *Cluster) ProvideGossipKey(secret string) error {
	api := directAPI{Reader: c.manager.GetAPIReader(), writer: c.manager.GetClient()}
	return c.manager.Add(&gossipKey{api: api, name: client.ObjectKey{Namespace: c.namespace, Name: secret}, logger: c.logger})
}

// NeedLeaderElection tells the manager that only the leader makes the Secret.
func (g *gossipKey) NeedLeaderElection() bool { return true }

// Start looks after the Secret until ctx ends.
func (g *gossipKey) Start(ctx context.Context) error {
	tick := time.NewTicker(gossipKeyRetry)
	defer tick.Stop()
	for told := ""; ; {
		problem := ""
		if err := g.provide(ctx); err != nil {
			problem = err.Error()
		}
		if problem != "" && problem != told && ctx.Err() == nil {
			_ = level.Warn(g.logger).Log("msg", "there is no gossip key that speakers could use, trying again", "err", problem)
		}
		told = problem
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// provide makes the Secret if there is none. It fails when there is one without a key: that is somebody's to
// put right.
func (g *gossipKey) provide(ctx context.Context) error {
	var have corev1.Secret
	err := g.api.Get(ctx, g.name, &have)
	switch {
	case err == nil && len(have.Data[GossipKeyField]) == 0:
		return fmt.Errorf("the Secret %s has no field %s", g.name, GossipKeyField)
	case err == nil:
		return nil
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("read the Secret %s: %w", g.name, err)
	}
	err = g.api.Create(ctx, g.fresh())
	if apierrors.IsAlreadyExists(err) {
		return nil // somebody was faster
	}
	if err != nil {
		return fmt.Errorf("create the Secret %s: %w", g.name, err)
	}
	_ = level.Info(g.logger).Log("msg", "gossip key created", "secret", g.name)
	return nil
}

// fresh returns a Secret with a key that nobody has: 32 random bytes in base64, so that it is text.
func (g *gossipKey) fresh() *corev1.Secret {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: g.name.Namespace, Name: g.name.Name, Labels: map[string]string{"app.kubernetes.io/name": "lanyard"}},
		Type:       corev1.SecretTypeOpaque,
		Data:       map[string][]byte{GossipKeyField: []byte(base64.StdEncoding.EncodeToString(key))},
	}
}
