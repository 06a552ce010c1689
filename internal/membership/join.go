package membership

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"golang.org/x/sync/errgroup"
)

const (
	// joinMin and joinMax bound the pause between two attempts to join what is missing; it doubles from
	// one to the other.
	joinMin = 200 * time.Millisecond
	joinMax = 2 * time.Second
	// joinSettled is how long nobody must have been missing for a new loss to be hurried about: a peer
	// that flaps is joined at the slow pace.
	joinSettled = 5 * time.Second
	// joinAtOnce bounds the joins that one node has under way. The first that works brings everybody whom
	// that peer knows, and every node does the same, so a few are quick enough. More do harm: with 16, at
	// 50 nodes, each exchange put live members under suspicion (memberlist prefers that to believing the
	// other side's dead), faster than their refutations came round.
	joinAtOnce = 4
)

// A Peer is a speaker that ought to be a member.
type Peer struct {
	// Name is its member name. It may be empty where only the address is known.
	Name string
	Addr netip.AddrPort
}

// joiner joins the peers that are missing, all of them, until none is. That heals a partition from both
// sides at once: memberlist itself never asks again for a member that it holds for dead.
type joiner struct {
	logger  log.Logger
	missing func() []Peer           // wanted and not alive
	absent  func(Peer) bool         // one of them still is
	join    func(addr string) error // exchanges states with a peer
	wanted  <-chan struct{}         // signals that other peers are wanted
	lost    <-chan struct{}         // signals that a member was lost
	gained  <-chan struct{}         // signals that a member appeared
	failed  *failures
	jitter  func() float64            // in [0, 1)
	shuffle func(int, func(int, int)) // as rand.Shuffle
}

func newJoiner(logger log.Logger) *joiner {
	return &joiner{logger: logger, failed: new(failures), jitter: rand.Float64, shuffle: rand.Shuffle}
}

// run joins until ctx ends: at once when other peers are wanted, and after pauses that grow from joinMin
// to joinMax while some stay missing.
func (j *joiner) run(ctx context.Context) {
	pause := joinMin
	for ctx.Err() == nil {
		if missing := j.missing(); len(missing) == 0 {
			pause = j.rest(ctx, pause)
		} else {
			if j.attempt(ctx, missing) {
				pause = joinMin // somebody answers again
			}
			pause = j.wait(ctx, pause)
		}
	}
}

// rest waits for something to do while nobody is missing, and returns the pause to go on with. After a
// loss it waits a pause before: the member may be restarting, and the one that left is still a peer.
func (j *joiner) rest(ctx context.Context, pause time.Duration) time.Duration {
	since := time.Now()
	for {
		select {
		case <-ctx.Done():
			return pause
		case <-j.wanted:
			return joinMin
		case <-j.gained:
		case <-j.lost:
			if time.Since(since) > joinSettled {
				pause = joinMin
			}
			return j.wait(ctx, pause)
		}
	}
}

// wait waits for a pause and returns the next one, which is longer. It is cut short when other peers are
// wanted, and when a member appears: then a partition is healing, and gossip alone reaches nearly
// everybody but not all.
func (j *joiner) wait(ctx context.Context, pause time.Duration) time.Duration {
	over := time.After(j.spread(pause))
	gained := j.gained
	for {
		select {
		case <-ctx.Done():
			return pause
		case <-j.wanted:
			return joinMin
		case <-gained:
			if pause > joinMin {
				pause, over = joinMin, time.After(j.spread(joinMin))
			}
			gained = nil // more of them don't prolong it
		case <-over:
			return min(2*pause, joinMax)
		}
	}
}

// spread varies a pause by a quarter to either side, so that the nodes don't keep step.
func (j *joiner) spread(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.75 + j.jitter()/2))
}

// attempt tries to join every missing peer, in random order so that not all nodes ask the same one first.
// It tells whether one answered that had not before.
func (j *joiner) attempt(ctx context.Context, missing []Peer) (progress bool) {
	j.shuffle(len(missing), func(a, b int) { missing[a], missing[b] = missing[b], missing[a] })
	errs := make([]error, len(missing))
	var group errgroup.Group
	group.SetLimit(joinAtOnce)
	for i, p := range missing {
		group.Go(func() error {
			errs[i] = j.joinPeer(ctx, p)
			return nil
		})
	}
	_ = group.Wait()
	if ctx.Err() != nil {
		return false
	}
	failed := make(map[Peer]string)
	for i, p := range missing {
		progress = j.note(failed, p, errs[i]) || progress
	}
	j.failed.set(failed)
	return progress
}

// failures is why the last attempts to join peers failed. It is safe for concurrent use.
type failures struct {
	mu     sync.Mutex
	byPeer map[Peer]string
}

func (f *failures) set(byPeer map[Peer]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.byPeer = byPeer
}

// reason returns why the last attempt to join a peer failed; empty if it did not.
func (f *failures) reason(p Peer) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.byPeer[p]
}

// joinPeer exchanges states with a peer unless another join has brought it meanwhile. If both sides hold
// each other for dead, the first exchange only makes each refute that; the second carries the refutations.
func (j *joiner) joinPeer(ctx context.Context, p Peer) error {
	for range 2 {
		if ctx.Err() != nil || !j.absent(p) {
			return nil
		}
		if err := j.join(p.Addr.String()); err != nil {
			return err
		}
	}
	return nil
}

// note records in failed how joining a peer went and logs it if that differs from the last time.
func (j *joiner) note(failed map[Peer]string, p Peer, err error) (progress bool) {
	before := j.failed.reason(p)
	if err == nil {
		if before != "" {
			_ = level.Info(j.logger).Log("msg", "joined peer", "peer", p.Name, "addr", p.Addr)
		}
		return before != ""
	}
	reason := joinFailure(err)
	failed[p] = reason
	if reason != before {
		_ = level.Warn(j.logger).Log("msg", "can't join peer", "peer", p.Name, "addr", p.Addr,
			"reason", reason, "err", err)
	}
	return false
}

// joinFailure gives the reason for a failed join, the same for the same trouble; the error's own words
// hold ports and times. Memberlist and the other side pass errors on as text, so text is all there is.
func joinFailure(err error) string {
	text := strings.ToLower(err.Error())
	for _, r := range joinReasons {
		if strings.Contains(text, r.sign) {
			return r.reason
		}
	}
	return "failed"
}

// joinReasons is in order of preference: an error may carry several signs.
var joinReasons = [...]struct{ sign, reason string }{
	{"no installed keys could decrypt", "wrong key? the peer has another gossip key"},
	{"encryption is not configured", "wrong key? the peer has a gossip key and this node has none"},
	{"remote state is not encrypted", "wrong key? this node has a gossip key and the peer has none"},
	{"protocol version", "incompatible gossip protocol version"},
	{"connection refused", "connection refused"},
	{"timeout", "timeout"},
	{"no route to host", "unreachable"},
	{"network is unreachable", "unreachable"},
	{"eof", "closed by the peer: other gossip label, or no speaker?"},
	{"connection reset", "closed by the peer: other gossip label, or no speaker?"},
	{"pipe", "closed by the peer: other gossip label, or no speaker?"},
}
