package lab

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// FlowOptions say how a Flow asks.
type FlowOptions struct {
	// Every is the time between requests; 0 means 5 ms.
	Every time.Duration
	// Timeout is how long an answer may take; 0 means 1 s. Stop waits as long for those that are still out.
	Timeout time.Duration
	// FreshPort sends each datagram of a UDP flow from a new port, so that each is balanced anew; otherwise all come from
	// one, as a long-lived client's do. HTTP requests always have connections of their own.
	FreshPort bool
}

// Flow asks a backend steadily, whether or not answers come, and keeps account. Methods may be called concurrently.
type Flow struct {
	opts   FlowOptions
	cancel context.CancelFunc
	done   chan struct{} // sending has ended and no answer is out

	mu      sync.Mutex
	samples []Sample
	settled int       // all before this one are answered or given up
	since   time.Time // of the last Reset, or zero
	stopped time.Time
}

// Sample is one request of a Flow.
type Sample struct {
	Sent     time.Time
	Answered time.Time // zero while there is no answer
	Reply    Reply
	Err      error // why there is none, once that is clear
}

// HTTPFlow begins to fetch a URL from a host: see HTTPGet.
func (l *Lab) HTTPFlow(host, url string, opts FlowOptions) *Flow {
	h := l.Host(host)
	return startFlow(opts, func(f *Flow, n int) {
		reply, err := httpGet(h, url, f.opts.Timeout)
		f.settle(n, reply, err)
	})
}

// UDPFlow begins to send datagrams to a backend's echo port from a host.
func (l *Lab) UDPFlow(host string, to netip.AddrPort, opts FlowOptions) (*Flow, error) {
	h := l.Host(host)
	if opts.FreshPort {
		return startFlow(opts, func(f *Flow, n int) {
			reply, err := udpEcho(h, to, f.opts.Timeout)
			f.settle(n, reply, err)
		}), nil
	}
	conn, err := h.DialContext(context.Background(), "udp", to.String())
	if err != nil {
		return nil, err
	}
	f := startFlow(opts, func(f *Flow, n int) { f.throughSocket(conn, n) })
	go f.listen(conn)
	return f, nil
}

func startFlow(opts FlowOptions, ask func(f *Flow, n int)) *Flow {
	if opts.Every == 0 {
		opts.Every = 5 * time.Millisecond
	}
	if opts.Timeout == 0 {
		opts.Timeout = time.Second
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &Flow{opts: opts, cancel: cancel, done: make(chan struct{})}
	go f.run(ctx, ask)
	return f
}

// run sends at every tick and at its end waits for the requests that are out.
func (f *Flow) run(ctx context.Context, ask func(f *Flow, n int)) {
	defer close(f.done)
	defer f.drain()
	var out sync.WaitGroup
	defer out.Wait()
	tick := time.NewTicker(f.opts.Every)
	defer tick.Stop()
	for {
		f.mu.Lock()
		n := len(f.samples)
		f.samples = append(f.samples, Sample{Sent: time.Now()})
		f.mu.Unlock()
		out.Go(func() { ask(f, n) })
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// settle books the outcome of request n. The first outcome counts.
func (f *Flow) settle(n int, reply Reply, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &f.samples[n]
	now := time.Now()
	if !s.Answered.IsZero() || s.Err != nil || (err == nil && now.Sub(s.Sent) > f.opts.Timeout) {
		return
	}
	if s.Err = err; err == nil {
		s.Answered, s.Reply = now, reply
	}
}

// throughSocket sends request n from the flow's one socket.
func (f *Flow) throughSocket(conn net.Conn, n int) {
	_, err := conn.Write([]byte(strconv.Itoa(n)))
	// A refusal is the late echo of an earlier datagram: this one was not sent at all.
	if errors.Is(err, unix.ECONNREFUSED) {
		_, err = conn.Write([]byte(strconv.Itoa(n)))
	}
	if err != nil {
		f.settle(n, Reply{}, err)
	}
}

// expire gives up the requests whose time is over and tells whether others are still out. The lock is held.
func (f *Flow) expire(now time.Time) (pending bool) {
	for i := f.settled; i < len(f.samples); i++ {
		s := &f.samples[i]
		if s.Answered.IsZero() && s.Err == nil {
			if now.Sub(s.Sent) < f.opts.Timeout+expiryGrace {
				return true // and so are all after it
			}
			s.Err = context.DeadlineExceeded
		}
		f.settled = i + 1
	}
	return false
}

// expiryGrace leaves time for a request that notices its own end, and knows more about why.
const expiryGrace = 50 * time.Millisecond

// drain waits until no request is out.
func (f *Flow) drain() {
	_ = poll(context.Background(), 5*time.Millisecond, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return !f.expire(time.Now())
	})
}

// listen books what comes back to the flow's one socket, until the flow has ended.
func (f *Flow) listen(conn net.Conn) {
	go func() {
		<-f.done
		_ = conn.Close()
	}()
	for {
		line, payload, err := readEcho(conn)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error about some datagram; its request will time out
		}
		n, err := strconv.Atoi(payload)
		if err != nil {
			continue
		}
		f.mu.Lock()
		known := n >= 0 && n < len(f.samples)
		var sent time.Time
		if known {
			sent = f.samples[n].Sent
		}
		f.mu.Unlock()
		if known {
			reply, err := parseReply(line, sent)
			f.settle(n, reply, err)
		}
	}
}

// Reset forgets what was: the account, and the first gap, begin now. Without it no gap is counted before the first answer,
// for a flow may begin before its service is there.
func (f *Flow) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.since = time.Now()
}

// Stop ends the flow and returns its account. It may be repeated.
func (f *Flow) Stop() Report {
	f.mu.Lock()
	if f.stopped.IsZero() {
		f.stopped = time.Now()
	}
	f.mu.Unlock()
	f.cancel()
	<-f.done
	return f.Report()
}

// WaitAnswer waits until a request that was sent after the call is answered, and returns the sample.
func (f *Flow) WaitAnswer(ctx context.Context) (Sample, error) {
	begun := time.Now()
	var found Sample
	err := poll(ctx, f.opts.Every, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		for i := len(f.samples) - 1; i >= 0 && f.samples[i].Sent.After(begun); i-- {
			if !f.samples[i].Answered.IsZero() {
				found = f.samples[i]
			}
		}
		return !found.Sent.IsZero()
	})
	return found, err
}
