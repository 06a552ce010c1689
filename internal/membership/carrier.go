package membership

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
)

const (
	// lettersAtOnce bounds the connections that letters take, lettersQueued the answers that wait; who
	// gets none asks again.
	lettersAtOnce = 8
	lettersQueued = 64
	// repairPause is how long gaps are gathered before one looks what to do about them.
	repairPause = 10 * time.Millisecond
)

// carrier joins the store to memberlist: it is the delegate that gossip and state exchanges go through,
// and sends what has a destination.
type carrier struct {
	store  *store
	logger *logAdapter
	// post sends a message in a packet, deliver over a connection.
	post    func(to string, msg []byte) error
	deliver func(to string, msg []byte) error
	answers chan letter
	shuffle func(int, func(int, int))
}

var (
	_ memberlist.Delegate     = (*carrier)(nil)
	_ memberlist.PingDelegate = (*carrier)(nil)
)

func newCarrier(s *store, logger log.Logger) *carrier {
	return &carrier{
		store: s, logger: &logAdapter{logger: logger, seen: make(map[string]*seenLine)},
		answers: make(chan letter, lettersQueued), shuffle: rand.Shuffle,
	}
}

// NodeMeta implements memberlist.Delegate. Nothing of ours is in it.
func (c *carrier) NodeMeta(int) []byte { return nil }

// NotifyMsg implements memberlist.Delegate.
func (c *carrier) NotifyMsg(b []byte) { _ = c.receive(b) }

// GetBroadcasts implements memberlist.Delegate.
func (c *carrier) GetBroadcasts(overhead, limit int) [][]byte {
	return c.store.broadcasts(overhead, limit)
}

// LocalState implements memberlist.Delegate.
func (c *carrier) LocalState(bool) []byte { return c.store.state() }

// MergeRemoteState implements memberlist.Delegate.
func (c *carrier) MergeRemoteState(b []byte, _ bool) {
	if from := c.receive(b); from != "" && from != c.store.self {
		c.store.exchanges.Add(1)
	}
}

// AckPayload implements memberlist.PingDelegate.
func (c *carrier) AckPayload() []byte { return binary.BigEndian.AppendUint64(nil, c.store.digest()) }

// NotifyPingComplete implements memberlist.PingDelegate.
func (c *carrier) NotifyPingComplete(n *memberlist.Node, _ time.Duration, payload []byte) {
	if len(payload) == 8 {
		c.store.compare(n.Name, binary.BigEndian.Uint64(payload), time.Now())
	}
}

// receive takes in a message, and returns who sent it, if that is told and it could be read.
func (c *carrier) receive(b []byte) (from string) {
	msg, err := decode(b, c.store.knows)
	if err != nil {
		c.refused(err)
		return ""
	}
	c.store.merge(msg)
	if msg.kind != askMsg && msg.kind != askAllMsg {
		return msg.from
	}
	if answer := c.store.answer(msg); answer != nil {
		select {
		case c.answers <- letter{msg.from, answer}:
		default:
		}
	}
	return msg.from
}

// refused logs that a message was not understood, once in a while.
func (c *carrier) refused(err error) {
	text := err.Error()
	if held, ok := c.logger.admit(text, time.Now()); ok {
		what := "ignored a message of a member that can't be read"
		if errors.Is(err, errVersion) {
			what = "ignored a message of a member that runs another version"
		}
		_ = level.Warn(c.logger.logger).Log("msg", what, "err", text, "repeated", held)
	}
}

// run sends what is to be sent until ctx ends.
func (c *carrier) run(ctx context.Context) {
	var group sync.WaitGroup
	group.Go(func() { c.runPost(ctx) })
	group.Go(func() { c.runLetters(ctx) })
	group.Wait()
}

// runPost sends our changes. It never waits for anybody.
func (c *carrier) runPost(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.store.news:
			c.postFresh()
		}
	}
}

// runLetters sends questions and answers.
func (c *carrier) runLetters(ctx context.Context) {
	var group errgroup.Group
	group.SetLimit(lettersAtOnce)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	soon := false
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case a := <-c.answers:
			c.send(&group, a)
		case <-c.store.gapped:
			if !soon { // there may be more to come
				timer.Reset(repairPause)
			}
			soon = true
		case <-timer.C:
			timer.Reset(c.repair(&group))
			soon = false
		}
	}
	_ = group.Wait()
}

// postFresh sends our changes to those that get them at once.
func (c *carrier) postFresh() {
	for _, p := range c.store.parcels(c.shuffled) {
		for _, to := range p.to {
			_ = c.post(to, p.packet) // gossip makes up for what is lost
		}
	}
}

// repair asks for what we lack, and returns for how long that does.
func (c *carrier) repair(group *errgroup.Group) time.Duration {
	now := time.Now()
	letters, next := c.store.asks(now, c.shuffled)
	for _, l := range letters {
		c.send(group, l)
	}
	if next.IsZero() {
		return time.Hour
	}
	return max(next.Sub(now), time.Millisecond)
}

// send delivers a letter, when not too many are under way.
func (c *carrier) send(group *errgroup.Group, l letter) {
	group.Go(func() error {
		_ = c.deliver(l.to, l.msg) // who lacks something asks again, somebody else too
		return nil
	})
}

func (c *carrier) shuffled(names []string) []string {
	c.shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names
}
