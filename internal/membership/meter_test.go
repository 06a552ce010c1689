package membership

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// volume is what all members of a testLAN have sent, in bytes as they go into UDP and TCP, by what they are for.
// What a compound packet holds counts each for itself, and its heads as its first part does.
type volume struct {
	// Probes are pings, their answers, and those that go through others.
	Probes uint64 `json:"probes"`
	// News are changes of reports and of who is a member, wherever they ride along.
	News uint64 `json:"news"`
	// Exchanges are the states of push/pull, and of joining.
	Exchanges uint64 `json:"exchanges"`
	// Letters are questions for what was missed, and their answers.
	Letters uint64 `json:"letters"`
	// Packets is how many packets all that took, and Connections how many connections.
	Packets     uint64 `json:"packets"`
	Connections uint64 `json:"connections"`
}

func (v volume) bytes() uint64 { return v.Probes + v.News + v.Exchanges + v.Letters }

// since returns what came after before.
func (v volume) since(before volume) volume {
	return volume{
		Probes: v.Probes - before.Probes, News: v.News - before.News,
		Exchanges: v.Exchanges - before.Exchanges, Letters: v.Letters - before.Letters,
		Packets: v.Packets - before.Packets, Connections: v.Connections - before.Connections,
	}
}

// meter reads what goes over a testLAN whose members share a key and have no label.
type meter struct {
	block cipher.Block

	mu  sync.Mutex
	sum volume
}

func newMeter(secret []byte) (*meter, error) {
	keys, err := parseKeys(secret)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(keys[0][:])
	return &meter{block: block}, err
}

func (m *meter) read() volume {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sum
}

// Memberlist's types of messages, and sizes of its format.
const (
	pingType = iota
	indirectPingType
	ackType
	suspectType
	aliveType
	deadType
	pushPullType
	compoundType
	userType
	compressType
	encryptType
	nackType
	crcType

	sealHead = 1 + 12 // the version of the encryption, and a nonce
	sealTag  = 16
	sizeRoom = 4 // of a message on a connection
)

// plain decrypts what memberlist has sealed, without checking it.
func (m *meter) plain(sealed []byte) []byte {
	if len(sealed) < sealHead+sealTag {
		return nil
	}
	first := binary.BigEndian.AppendUint32(append([]byte(nil), sealed[1:sealHead]...), 2) // GCM's first counter block
	secret := sealed[sealHead : len(sealed)-sealTag]
	b := make([]byte, len(secret))
	cipher.NewCTR(m.block, first).XORKeyStream(b, secret)
	return b
}

// packet counts one.
func (m *meter) packet(b []byte) {
	msg := m.plain(b)
	if len(msg) > crcRoom && msg[0] == crcType {
		msg = msg[crcRoom:]
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sum.Packets++
	rest := len(b)
	if len(msg) > 1 && msg[0] == compoundType {
		n := int(msg[1])
		sizes, parts := msg[2:2+2*n], msg[2+2*n:]
		for i := range n {
			size := int(binary.BigEndian.Uint16(sizes[2*i:]))
			if i == 0 {
				msg = parts
			} else {
				m.count(parts[0], 2+size, false)
				rest -= 2 + size
			}
			parts = parts[size:]
		}
	}
	m.count(msg[0], rest, false)
}

// count adds bytes to what messages of a type are for.
func (m *meter) count(kind byte, n int, connection bool) {
	var to *uint64
	switch kind {
	case pingType, indirectPingType, ackType, nackType:
		to = &m.sum.Probes
	case suspectType, aliveType, deadType:
		to = &m.sum.News
	case userType:
		if to = &m.sum.News; connection {
			to = &m.sum.Letters
		}
	case pushPullType:
		to = &m.sum.Exchanges
	default:
		panic(fmt.Sprintf("a message of type %d", kind))
	}
	*to += uint64(n)
}

// meteredConn counts what is written to a connection, which is one message at a time.
type meteredConn struct {
	net.Conn
	meter *meter
}

// Write implements net.Conn.
func (c meteredConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	head := c.meter.plain(b[1+sizeRoom : min(len(b), 1+sizeRoom+sealHead+sealTag+1)])
	c.meter.mu.Lock()
	defer c.meter.mu.Unlock()
	c.meter.count(head[0], n, true)
	return n, err
}

// connected counts a connection, and what goes over its two ends.
func (m *meter) connected(ours, theirs net.Conn) (a, b net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sum.Connections++
	return meteredConn{ours, m}, meteredConn{theirs, m}
}

// The meter on the LAN finds what the members themselves count.
func TestTrafficAddsUp(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.key = []byte("secret")
		m, err := newMeter(w.key)
		if err != nil {
			t.Fatalf("newMeter: %v", err)
		}
		w.lan.meter = m
		w.start(10)
		for i, n := range w.nodes {
			n.Publish(reportOf(600, int64(i))) // more than gossip carries: they are asked for
		}
		<-time.After(15 * time.Second)
		w.nodes[3].Publish(reportOf(5, 7))
		<-time.After(3 * time.Second)
		synctest.Wait()
		sum := uint64(0)
		for _, n := range w.nodes {
			sum += n.Health().BytesSent
		}
		got := m.read()
		if got.bytes() != sum {
			t.Errorf("the meter has %d bytes, the members %d", got.bytes(), sum)
		}
		if got.Probes == 0 || got.News == 0 || got.Exchanges == 0 || got.Letters == 0 {
			t.Errorf("something is missing: %+v", got)
		}
	})
}

// While nothing happens, members probe each other and exchange states now and then: nothing is told twice.
func TestSilenceAtRest(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.key = []byte("secret")
		m, err := newMeter(w.key)
		if err != nil {
			t.Fatalf("newMeter: %v", err)
		}
		w.lan.meter = m
		w.start(20)
		for i, n := range w.nodes {
			n.Publish(reportOf(50, int64(i)))
		}
		<-time.After(10 * time.Second)
		before := m.read()
		<-time.After(20 * time.Second)
		if got := m.read().since(before); got.Probes == 0 || got.Exchanges == 0 || got.News+got.Letters > 0 {
			t.Errorf("in 20 s at rest: %+v", got)
		}
	})
}
