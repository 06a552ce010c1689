package membership

import (
	"cmp"
	"net"
	"sync/atomic"
)

// Health is how the gossip of this node fares.
type Health struct {
	// Score is 0 when all is well, and grows while we don't hear in time what we should: then the trouble
	// is likely ours, and we take longer to declare others dead.
	Score   int
	Members int // that are alive, we among them
	// Sent and received since New: packets, and bytes in packets and over connections, encrypted if there
	// is a key.
	PacketsSent, PacketsReceived uint64
	BytesSent, BytesReceived     uint64
}

// Health tells how the gossip fares.
func (g *Gossip) Health() Health {
	h := g.traffic.health()
	g.listMu.Lock()
	defer g.listMu.Unlock()
	if g.list != nil {
		h.Score, h.Members = g.list.GetHealthScore(), len(g.roster.names())
	}
	return h
}

// traffic counts what goes over a transport.
type traffic struct {
	packetsSent, packetsReceived, bytesSent, bytesReceived atomic.Uint64
}

func (t *traffic) health() Health {
	return Health{
		PacketsSent: t.packetsSent.Load(), PacketsReceived: t.packetsReceived.Load(),
		BytesSent: t.bytesSent.Load(), BytesReceived: t.bytesReceived.Load(),
	}
}

// countingConn counts what goes over a connection.
type countingConn struct {
	net.Conn
	traffic *traffic
}

func (c countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.traffic.bytesReceived.Add(uint64(n))
	return n, err
}

func (c countingConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.traffic.bytesSent.Add(uint64(n))
	return n, err
}

// notTried is the problem of a peer that no attempt to join has been made at.
const notTried = "not tried yet"

// Problems returns why peers that ought to be members are not, by name, or by address for those without
// one: what the last attempt to join ended in, or that there was none yet. A peer that is a member is not
// among them.
func (g *Gossip) Problems() map[string]string {
	problems := make(map[string]string)
	for _, p := range g.missing() {
		problems[cmp.Or(p.Name, p.Addr.String())] = cmp.Or(g.failures.reason(p), notTried)
	}
	return problems
}
