package layer2

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// pause between reads of a socket that fails, as it does once when its interface goes down.
const pause = 100 * time.Millisecond

// responder holds the addresses of one family on one interface. Its interface does not change: another
// index or MAC address means another responder.
//
// Only the announcer, under its lock, calls the methods that change it; handle and announce may be called
// by anyone at any time.
type responder struct {
	ifi     placement.Interface
	family  Family
	proto   *protocol
	network Network
	metrics Metrics
	logger  log.Logger
	groups  *groups // nil for IPv4

	// Reading goes on while an address is looked up and its frame is sent, so that whoever removes
	// the address knows that no frame for it is still to come.
	mu   sync.RWMutex
	held map[netip.Addr]hold
	conn io.ReadWriteCloser // nil while closed

	fresh  []netip.Addr // added since the last sync
	stop   chan struct{}
	done   chan struct{}
	broken atomic.Bool // the socket has failed since it was opened
}

// hold numbers the times an address was added, so that announcements of an earlier time can be told.
type hold uint64

func newResponder(ifi placement.Interface, family Family, cfg Config) *responder {
	r := &responder{
		ifi:     ifi,
		family:  family,
		proto:   family.protocol(),
		network: cfg.Network,
		metrics: cfg.Metrics,
		logger:  cfg.Logger,
		held:    make(map[netip.Addr]hold),
	}
	if family == IPv6 {
		r.groups = newGroups(func() (Member, error) { return r.network.Member(ifi) })
	}
	return r
}

// add makes the responder answer for ip once it is open, and announce it.
func (r *responder) add(ip netip.Addr, h hold) {
	r.mu.Lock()
	r.held[ip] = h
	r.mu.Unlock()
	r.fresh = append(r.fresh, ip)
	if r.groups != nil {
		r.groups.add(ip)
	}
}

// renew has ip, which is held, announced from the start again.
func (r *responder) renew(ip netip.Addr, h hold) {
	r.mu.Lock()
	r.held[ip] = h
	r.mu.Unlock()
	r.fresh = append(r.fresh, ip)
}

// remove makes it silent about ip: when it returns, nothing more is sent for ip.
func (r *responder) remove(ip netip.Addr) {
	r.mu.Lock()
	_, had := r.held[ip]
	delete(r.held, ip)
	r.mu.Unlock()
	if had && r.groups != nil {
		r.groups.remove(ip)
	}
}

// sync opens or closes the socket as the addresses demand, has new addresses announced, and brings the
// multicast groups up to date. Everything is announced again after the socket was opened.
func (r *responder) sync(start func(serve func()), announce func([]burst)) error {
	fresh := r.fresh
	r.fresh = nil
	if len(r.held) == 0 {
		if r.conn != nil {
			r.close()
		}
		return nil
	}
	if r.conn == nil {
		conn, err := r.network.Listen(r.ifi, r.family)
		if err != nil {
			return fmt.Errorf("listen for %s on %s: %w", r.family, r.ifi.Name, err)
		}
		r.open(conn, start)
		fresh = slices.SortedFunc(maps.Keys(r.held), netip.Addr.Compare)
	}
	announce(r.bursts(fresh))
	if r.groups == nil {
		return nil
	}
	if err := r.groups.sync(); err != nil {
		return fmt.Errorf("on %s: %w", r.ifi.Name, err)
	}
	return nil
}

func (r *responder) open(conn io.ReadWriteCloser, start func(serve func())) {
	stop, done := make(chan struct{}), make(chan struct{})
	r.mu.Lock()
	r.conn = conn
	r.mu.Unlock()
	r.stop, r.done = stop, done
	start(func() {
		defer close(done)
		r.serve(conn, stop)
	})
}

// silence forgets all addresses: when it returns, nothing more is sent.
func (r *responder) silence() {
	r.mu.Lock()
	clear(r.held)
	r.mu.Unlock()
}

// close lets go of the socket and the groups, and waits until the goroutine is gone.
func (r *responder) close() {
	if conn := r.conn; conn != nil {
		r.mu.Lock()
		r.conn = nil
		r.mu.Unlock()
		close(r.stop)
		_ = conn.Close()
		<-r.done
	}
	if r.groups != nil {
		r.groups.close()
		r.groups = newGroups(r.groups.open)
	}
}

// bursts of the addresses that are still held.
func (r *responder) bursts(ips []netip.Addr) []burst {
	list := make([]burst, 0, len(ips))
	for _, ip := range ips {
		if h, ok := r.held[ip]; ok {
			list = append(list, burst{responder: r, ip: ip, hold: h})
		}
	}
	return list
}

// serve answers until stop is closed. A failing socket is read again: one whose interface went down works
// again when it is back up, and one whose interface is gone is replaced by the next Set.
func (r *responder) serve(conn io.ReadWriteCloser, stop <-chan struct{}) {
	in, out := make([]byte, frameSize), make([]byte, 0, frameSize)
	failing := false
	for {
		n, err := conn.Read(in)
		select {
		case <-stop:
			return
		default:
		}
		if err == nil {
			failing = false
			r.handle(in[:n], out)
			continue
		}
		r.broken.Store(true)
		if !failing {
			_ = level.Warn(r.logger).Log("msg", "cannot read requests", "interface", r.ifi.Name, "family", r.family, "err", err)
		}
		failing = true
		select {
		case <-stop:
			return
		case <-time.After(pause):
		}
	}
}

// handle answers a frame if it is a request for a held address. It uses the spare capacity of out.
func (r *responder) handle(frame, out []byte) {
	ip, ok := r.proto.target(frame)
	if !ok {
		return
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if _, ok := r.held[ip]; !ok || r.conn == nil {
		return
	}
	reply := r.proto.answer(out[:0], frame, r.ifi.MAC)
	if reply == nil {
		return
	}
	if _, err := r.conn.Write(reply); err != nil {
		r.metrics.Failed(r.ifi.Name, ip)
		return
	}
	r.metrics.Answered(r.ifi.Name, ip)
}

// announce sends the unsolicited frames for an address, unless it has been removed since that hold; then
// held is false. The error is busy if the frames are worth sending again soon.
func (r *responder) announce(ip netip.Addr, h hold, out []byte) (held bool, err error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.held[ip] != h || r.conn == nil {
		return false, nil
	}
	for _, frame := range r.proto.unsolicited {
		if _, err := r.conn.Write(frame(out[:0], r.ifi.MAC, ip)); err != nil {
			r.metrics.Failed(r.ifi.Name, ip)
			return true, err
		}
		r.metrics.Announced(r.ifi.Name, ip)
	}
	return true, nil
}

// busy tells a full send queue from other errors.
func busy(err error) bool { return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ENOBUFS) }
