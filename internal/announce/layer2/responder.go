package layer2

import (
	"errors"
	"fmt"
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

// enlistEvery is how often it is tried again to have the kernel answer.
const enlistEvery = time.Minute

// pause between reads of a socket that fails, as it does once when its interface goes down.
const pause = 100 * time.Millisecond

// responder holds the addresses of one family on one interface. Its interface does not change: another
// index or MAC address means another responder.
//
// Only the announcer, under its lock, calls the methods that change it; those that handle frames and send
// some may be called by anyone at any time.
type responder struct {
	ifi     placement.Interface
	family  Family
	proto   *protocol
	network Network
	metrics Metrics
	logger  log.Logger
	awake   func() bool
	book    *book
	groups  *groups   // nil for IPv4
	kernel  *InKernel // nil: only the socket answers

	// Reading goes on while an address is looked up and its frame is sent, so that whoever removes
	// the address knows that no frame for it is still to come.
	mu   sync.RWMutex
	held table
	conn Conn // nil while closed

	// program answers in the kernel while conn is open, if it may. The announcer changes it, under the book's lock as well; others
	// use it under that.
	program  *answering
	doubt    atomic.Pointer[error] // why the program could not be told something: it is silent
	told     bool                  // the announcer's: that is logged
	enlistAt time.Time             // the announcer's: no other program before
	later    func(func())          // does something beside the announcer's work, before that ends

	fresh  []*holding    // added since the last sync
	near   neighbourhood // covers held while conn is open
	fitted int           // how many were held when near fitted best
	stop   chan struct{}
	done   chan struct{}
	broken atomic.Bool // the socket has failed since it was opened, or cannot be told what to hear
}

func newResponder(ifi placement.Interface, family Family, cfg Config, book *book, later func(func())) *responder {
	r := &responder{
		ifi:     ifi,
		family:  family,
		proto:   family.protocol(),
		network: cfg.Network,
		metrics: cfg.Metrics,
		logger:  cfg.Logger,
		awake:   cfg.Awake,
		book:    book,
		kernel:  cfg.InKernel,
		later:   later,
		held:    make(table),
	}
	if family == IPv6 {
		r.groups = newGroups(func() (Member, error) { return r.network.Member(ifi) })
	}
	return r
}

// add makes the responder serve ip once it is open, from the start: announce it and answer for it, or probe
// it first. What it was sending for ip is over.
func (r *responder) add(ip netip.Addr) {
	h := r.book.hold(ip, r)
	r.mu.Lock()
	old := r.held.get(ip)
	if old != nil {
		r.book.succeed(h, old)
	}
	r.held.put(h)
	r.mu.Unlock()
	r.fresh = append(r.fresh, h)
	switch {
	case old != nil:
		r.book.detach(old)
	case r.groups != nil:
		r.groups.add(ip)
	}
}

// remove makes it silent about ip: when it returns, nothing more is sent for ip, but for a reply that the kernel is about to
// send.
func (r *responder) remove(ip netip.Addr) {
	r.mu.Lock()
	old := r.held.take(ip)
	r.mu.Unlock()
	if old == nil {
		return
	}
	r.book.forget(old)
	if r.groups != nil {
		r.groups.remove(ip)
	}
}

// sync opens or closes the socket as the addresses demand, has new addresses announced or probed, and brings
// the multicast groups up to date. Everything starts again after the socket was opened.
func (r *responder) sync(start func(serve func()), announce, probe func([]burst)) error {
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
		fresh = r.held.all()
		slices.SortFunc(fresh, func(a, b *holding) int { return a.ip.Compare(b.ip) })
	}
	fresh = r.still(fresh)
	if err := r.narrow(fresh); err != nil {
		r.broken.Store(true)
		return fmt.Errorf("filter %s on %s: %w", r.family, r.ifi.Name, err)
	}
	announcements, probes := r.book.attach(fresh)
	announce(announcements)
	probe(probes)
	if r.groups == nil {
		return nil
	}
	if err := r.groups.sync(); err != nil {
		return fmt.Errorf("on %s: %w", r.ifi.Name, err)
	}
	return nil
}

// due reports whether to have the kernel answer, or to try that again.
func (r *responder) due() bool {
	return r.kernel != nil && r.conn != nil && !r.broken.Load() && (r.program == nil || r.doubt.Load() != nil) &&
		len(r.held) <= mostInKernel && !time.Now().Before(r.enlistAt)
}

// enlist has the kernel answer too, while the socket is open. Where it cannot, the socket does it all. It is done last: the
// kernel may be long in doing it.
func (r *responder) enlist() {
	if !r.due() {
		return
	}
	r.dismiss()
	r.doubt.Store(nil)
	r.told, r.enlistAt = false, time.Now().Add(enlistEvery)
	program, err := r.kernel.attach(r.ifi, r.family)
	if err != nil {
		r.tell(err)
		return
	}
	r.book.enlist(r, program, r.held.all())
}

// check takes in what the program could be told. The book calls it.
func (r *responder) check(err error) {
	if err != nil {
		r.doubt.CompareAndSwap(nil, &err)
	}
}

func (r *responder) tell(err error) {
	_ = level.Warn(r.logger).Log("msg", "requests are not answered in the kernel, but by this process", "interface", r.ifi.Name,
		"family", r.family, "err", err)
}

// dismiss ends that: when it returns, nothing is answered in the kernel, but for a reply that is about to be sent.
func (r *responder) dismiss() {
	program := r.program
	if program == nil {
		return
	}
	r.book.enlist(r, nil, nil)
	program.silence()
	r.count(program)
	r.later(program.close)
}

// review looks after the program: it counts what that has answered, and tells why it is silent.
func (r *responder) review() {
	if r.program != nil {
		r.count(r.program)
	}
	if err := r.doubt.Load(); err != nil && !r.told {
		r.told = true
		r.tell(*err)
	}
}

func (r *responder) count(program *answering) {
	if n := program.answered(); n > 0 {
		r.metrics.AnsweredInKernel(r.ifi.Name, r.family == IPv6, n)
	}
}

// narrow has the socket hear of fresh addresses before they are used. It is made to fit anew when half of the addresses are gone.
func (r *responder) narrow(fresh []*holding) error {
	near := slices.Clone(r.near)
	switch {
	case 2*len(r.held) < r.fitted:
		near, fresh = nil, r.held.all()
		r.fitted = len(r.held)
	case len(fresh) == 0:
		return nil
	}
	r.fitted = max(r.fitted, len(r.held))
	for _, h := range fresh {
		near.cover(h.ip)
	}
	if slices.Equal(near, r.near) {
		return nil
	}
	if err := r.conn.Narrow(near); err != nil {
		return err
	}
	r.near = near
	return nil
}

// still drops those from the list that are not held any more.
func (r *responder) still(list []*holding) []*holding {
	return slices.DeleteFunc(list, func(h *holding) bool { return r.held.get(h.ip) != h })
}

func (r *responder) open(conn Conn, start func(serve func())) {
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

// silence forgets all addresses: when it returns, nothing more is sent, but for a reply that the kernel is about to send.
func (r *responder) silence() {
	r.dismiss()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.held.all() {
		r.book.detach(h)
	}
	clear(r.held)
}

// close lets go of the socket and the groups, and waits until the goroutine is gone.
func (r *responder) close() {
	r.dismiss()
	if conn := r.conn; conn != nil {
		r.mu.Lock()
		r.conn = nil
		r.mu.Unlock()
		close(r.stop)
		_ = conn.Close()
		<-r.done
		r.near, r.fitted, r.enlistAt = nil, 0, time.Time{}
	}
	if r.groups != nil {
		r.groups.close()
		r.groups = newGroups(r.groups.open)
	}
}

// serve answers until stop is closed. A failing socket is read again: one whose interface went down works
// again when it is back up, and one whose interface is gone is replaced by the next Set.
func (r *responder) serve(conn Conn, stop <-chan struct{}) {
	out := make([]byte, 0, frameSize)
	failing := false
	handle := func(frame []byte) {
		failing = false
		r.handle(frame, out)
	}
	for {
		err := conn.Serve(handle)
		select {
		case <-stop:
			return
		default:
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

// handle answers a frame if it is a request for an address that is announced, and takes in what it claims.
// It uses the spare capacity of out.
func (r *responder) handle(frame, out []byte) {
	ip, ok := r.proto.target(frame)
	if !ok {
		return
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.conn == nil {
		return
	}
	h := r.held.get(ip)
	if h != nil && h.announced() {
		r.answer(h, frame, out)
	}
	claimed, tentative := r.proto.claimed(frame)
	if !claimed.IsValid() {
		return
	}
	if claimed != ip {
		h = r.held.get(claimed)
	}
	if h != nil && (!tentative || !h.announced()) {
		r.watch(h, frame, tentative, out)
	}
}

func (r *responder) answer(h *holding, frame, out []byte) {
	if reply := r.proto.answer(out[:0], frame, r.ifi.MAC); reply != nil && r.awake() {
		_ = r.write(h, reply, r.metrics.Answered)
	}
}

// watch takes in a claim, and defends the address if that is called for (RFC 5227 section 2.4(c)).
func (r *responder) watch(h *holding, frame []byte, tentative bool, out []byte) {
	mac, ok := r.proto.claimant(frame, r.ifi.MAC)
	if !ok {
		return
	}
	now := time.Now()
	by := r.book.heard(h, claim{mac, tentative}, now)
	if by == nobody {
		return
	}
	r.metrics.Conflicted(r.ifi.Name, h.ip, by == peer)
	if by == stranger && r.awake() && r.book.defend(h, now) {
		_ = r.write(h, r.proto.unsolicited[0](out[:0], r.ifi.MAC, h.ip), r.metrics.Defended)
	}
}

// write sends a frame and counts it.
func (r *responder) write(h *holding, frame []byte, count func(ifi string, ip netip.Addr)) error {
	if _, err := r.conn.Write(frame); err != nil {
		r.metrics.Failed(r.ifi.Name, h.ip)
		return err
	}
	count(r.ifi.Name, h.ip)
	return nil
}

// announce sends the unsolicited frames for an address, unless it is not announced any more since that
// holding; then held is false. The error is busy if the frames are worth sending again soon.
func (r *responder) announce(h *holding, out []byte) (held bool, err error) {
	return r.send(h, placement.Announcing, func() error {
		for _, frame := range r.proto.unsolicited {
			if err := r.write(h, frame(out[:0], r.ifi.MAC, h.ip), r.metrics.Announced); err != nil {
				return err
			}
		}
		return nil
	})
}

// probe does the same with a probe, while the address is probed.
func (r *responder) probe(h *holding, out []byte) (held bool, err error) {
	return r.send(h, placement.Probing, func() error {
		return r.write(h, r.proto.probe(out[:0], r.ifi.MAC, h.ip), r.metrics.Probed)
	})
}

// conclude ends the probe of an address on this interface, and returns the announcements to be made then.
// The error says that it may not be ended yet: who stood still has not read the answers yet.
func (r *responder) conclude(h *holding) (list []burst, err error) {
	_, err = r.send(h, placement.Probing, func() error {
		list = r.book.cleared(h)
		return nil
	})
	return list, err
}

// send calls do if the holding is the present one and in that phase.
func (r *responder) send(h *holding, phase placement.Phase, do func() error) (held bool, err error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.conn == nil || r.held.get(h.ip) != h || h.phase() != phase {
		return false, nil
	}
	if !r.awake() {
		return true, errAsleep
	}
	return true, do()
}

// busy tells a full send queue from other errors.
func busy(err error) bool { return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ENOBUFS) }
