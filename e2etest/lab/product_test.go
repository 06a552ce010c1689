package lab_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// TestProduct installs the product and looks at what the lab is responsible for: the speakers' peers, and that each
// program runs with the privileges and the identity of its own.
func TestProduct(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"controller", "speaker"} {
		if _, err := os.Stat(filepath.Join("..", "..", "bin", name)); err != nil {
			t.Skipf("needs bin/%s, which is not built", name)
		}
	}
	l := lab.New(t, lab.Options{Nodes: 2})
	ctx := within(t, time.Minute)
	must(t, l.InstallProduct(ctx))
	eventually(t, 10*time.Second, func() error {
		slices, err := l.Client().DiscoveryV1().EndpointSlices(lab.Namespace).List(ctx,
			metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + lab.SpeakerService})
		if err != nil {
			return err
		}
		peers := map[string]bool{}
		for _, s := range slices.Items {
			if len(s.Ports) != 1 || s.Ports[0].Port == nil || *s.Ports[0].Port != lab.GossipPort {
				return fmt.Errorf("the ports of %s are %+v, want that of gossip", s.Name, s.Ports)
			}
			for _, e := range s.Endpoints {
				peers[e.Addresses[0]] = true
			}
		}
		if len(peers) != 4 || !peers["10.77.0.11"] || !peers["fd77::12"] {
			return fmt.Errorf("the peers are %v, want both nodes in both families", peers)
		}
		return nil
	})
	controller, err := l.StartController(ctx, "cp", "controller")
	must(t, err)
	speaker, err := l.StartSpeaker(ctx, "n1")
	must(t, err)
	for p, want := range map[*lab.Process]string{controller: "0000000000000000", speaker: "0000000000002000"} {
		eventually(t, 5*time.Second, func() error {
			if have := procStatus(t, p.PID())["CapEff"]; have != want {
				return fmt.Errorf("%s has capabilities %s, want %s", p.Name, have, want)
			}
			return nil
		})
		if !p.Alive() {
			t.Errorf("%s has ended:\n%s", p.Name, p.LogTail(20))
		}
	}
	again, err := l.StartSpeaker(ctx, "n1", "--failover=lan")
	must(t, err)
	if again != speaker || !again.Alive() {
		t.Errorf("starting the speaker again made %v, want the same Process with a new pid", again)
	}
}
