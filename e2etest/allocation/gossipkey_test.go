package allocation

import (
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

const gossipSecret = "lanyard-gossip"

// gossipKey: the Secret with the key of the speakers' gossip is made once, whoever leads. One that is there stays as it is.
func gossipKey(t *testing.T, c *cluster) {
	made := c.gossipSecret(t)
	key, err := base64.StdEncoding.DecodeString(string(made.Data["key"]))
	if err != nil || len(key) != 32 {
		t.Errorf("the key is %q (%v), want 32 bytes in base64", made.Data["key"], err)
	}
	c.stop(t)
	c.start(t)
	throughout(t, 400*time.Millisecond, func() error {
		if now := c.gossipSecret(t); now.ResourceVersion != made.ResourceVersion {
			return fmt.Errorf("it has been written anew: %v", now.ManagedFields)
		}
		return nil
	})

	secrets := c.Client().CoreV1().Secrets(lab.Namespace)
	must(t, secrets.Delete(within(t, 10*time.Second), gossipSecret, metav1.DeleteOptions{}))
	c.stop(t)
	c.start(t, "--gossip-key-secret=")
	c.service(t, "any")
	c.expect(t, "any", "False NoPool")
	if _, err := secrets.Get(within(t, 10*time.Second), gossipSecret, metav1.GetOptions{}); err == nil {
		t.Error("it is made although nobody wants it")
	}
	c.stop(t)
	c.start(t)
	if again := c.gossipSecret(t); string(again.Data["key"]) == string(made.Data["key"]) {
		t.Error("two keys are the same")
	}
	// The controller may read its own Secret, and no other.
	for name, want := range map[string]string{gossipSecret: "yes", "other": "no"} {
		out, _ := c.Kubectl(within(t, 20*time.Second), "auth", "can-i", "get", "secrets/"+name, "-n", lab.Namespace,
			"--as=system:serviceaccount:"+lab.Namespace+":lanyard-controller")
		if len(out) < len(want) || out[:len(want)] != want {
			t.Errorf("may the controller read the Secret %s? %q, want %s", name, out, want)
		}
	}
}

// gossipSecret waits for the Secret.
func (c *cluster) gossipSecret(t *testing.T) (secret *corev1.Secret) {
	t.Helper()
	eventually(t, patience, func() (err error) {
		secret, err = c.Client().CoreV1().Secrets(lab.Namespace).Get(within(t, 10*time.Second), gossipSecret, metav1.GetOptions{})
		return err
	})
	return secret
}
