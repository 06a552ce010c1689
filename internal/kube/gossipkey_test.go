package kube

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// vault holds at most one Secret, and is away while fault says so.
type vault struct {
	mu     sync.Mutex
	secret *corev1.Secret
	fault  error
	made   int
}

var secretsResource = schema.GroupResource{Resource: "secrets"}

func (v *vault) Get(_ context.Context, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.fault != nil {
		return v.fault
	}
	if v.secret == nil || client.ObjectKeyFromObject(v.secret) != key {
		return apierrors.NewNotFound(secretsResource, key.Name)
	}
	v.secret.DeepCopyInto(o.(*corev1.Secret))
	return nil
}

func (v *vault) Create(_ context.Context, o client.Object, _ ...client.CreateOption) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.secret != nil {
		return apierrors.NewAlreadyExists(secretsResource, o.GetName())
	}
	v.secret = o.(*corev1.Secret).DeepCopy()
	v.made++
	return nil
}

// change changes what the vault holds.
func (v *vault) change(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f()
}

// TestGossipKey: made once, by whichever leader is first; never changed; made anew when it was deleted.
func TestGossipKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &vault{fault: errors.New("the API server is away")}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		run := func() {
			g := &gossipKey{api: v, name: client.ObjectKey{Namespace: "lanyard-system", Name: "k"}, logger: log.NewNopLogger()}
			go func() { done <- g.Start(ctx) }()
			synctest.Wait()
		}
		later := func() { time.Sleep(gossipKeyRetry); synctest.Wait() }
		run()
		if v.made != 0 {
			t.Fatal("made although nobody could tell whether there is one")
		}
		v.change(func() { v.fault = nil })
		later()
		if v.made != 1 {
			t.Fatalf("made %d times", v.made)
		}
		key, err := base64.StdEncoding.DecodeString(string(v.secret.Data[GossipKeyField]))
		if err != nil || len(key) != 32 || bytes.Equal(key, make([]byte, 32)) {
			t.Errorf("the key is %q (%v)", v.secret.Data[GossipKeyField], err)
		}
		run() // another leader
		later()
		v.change(func() { v.secret.Data[GossipKeyField] = nil }) // somebody's mistake
		later()
		if v.made != 1 || v.secret.Data[GossipKeyField] != nil {
			t.Errorf("a Secret that was there has been changed, or made %d times", v.made)
		}
		v.change(func() { v.secret = nil })
		later()
		if v.made != 2 || len(v.secret.Data[GossipKeyField]) == 0 {
			t.Errorf("made %d times after its deletion", v.made)
		}
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}
