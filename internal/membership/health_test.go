package membership

import (
	"maps"
	"testing"
	"time"
)

func TestProblems(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.key = []byte("secret")
		g, err := New(Config{Name: "n00"})
		if err != nil {
			t.Fatal(err)
		}
		g.SetPeers([]Peer{testPeer(0), testPeer(1), {Addr: testPeer(2).Addr}})
		want := map[string]string{"n01": notTried, "10.0.0.3:7946": notTried}
		if got := g.Problems(); !maps.Equal(got, want) {
			t.Errorf("before Run: %v, want %v", got, want)
		}
		w.start(2)
		w.run(testPeer(3), func(c *Config) { c.Key = nil })
		n := w.nodes[0]
		n.SetPeers([]Peer{testPeer(0), testPeer(1), testPeer(2), testPeer(3)})
		<-time.After(time.Second)
		want = map[string]string{"n02": "connection refused", "n03": "wrong key? this node has a gossip key and the peer has none"}
		if got := n.Problems(); !maps.Equal(got, want) {
			t.Errorf("problems %v, want %v", got, want)
		}
		w.nodes = append(w.nodes, w.run(testPeer(2), nil))
		w.await(5*time.Second, w.nodes...)
		delete(want, "n02")
		if got := n.Problems(); !maps.Equal(got, want) {
			t.Errorf("when n02 is there: %v, want %v", got, want)
		}
	})
}

func TestHealth(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.start(3)
		<-time.After(5 * time.Second)
		n := w.nodes[0]
		h := n.Health()
		if h.Score != 0 || h.Members != 3 {
			t.Errorf("health %+v, want 3 members and a score of 0", h)
		}
		// It probes ten times a second and is probed as often: 20 packets a second each way, and gossip.
		for _, packets := range []uint64{h.PacketsSent, h.PacketsReceived} {
			if packets < 80 || packets > 1000 {
				t.Errorf("%d packets in five seconds", packets)
			}
		}
		if h.BytesSent < 10*h.PacketsSent || h.BytesReceived < 10*h.PacketsReceived {
			t.Errorf("few bytes in %+v", h)
		}
		w.lan.move(1, n.peer.Addr.Addr())
		<-time.After(150 * time.Millisecond) // it fails to reach anybody
		n.end()
		if after := n.Health(); after.Members != 0 || after.PacketsSent < h.PacketsSent {
			t.Errorf("after Run: %+v", after)
		}
	})
}
