package speaker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"golang.org/x/sync/errgroup"

	"github.com/lanyard-lb/lanyard/internal/announce"
	"github.com/lanyard-lb/lanyard/internal/config"
	"github.com/lanyard-lb/lanyard/internal/kube"
	"github.com/lanyard-lb/lanyard/internal/membership"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

const (
	// settling is how long a speaker that starts waits for its peers before it decides without them: alone
	// it would take every address for its own.
	settling = time.Second
	// lingering is how long a speaker that leaves goes on answering, so that nobody is left without an
	// answer while its successors announce themselves.
	lingering = 300 * time.Millisecond
	// stall is how long the process may stand still before others may have taken it for dead, and its addresses
	// over; pulse is how often it looks.
	stall = 500 * time.Millisecond
	pulse = 100 * time.Millisecond
	// retrying is the pause before what could not be announced is tried again.
	retrying = time.Second
)

// Membership tells who is alive. *membership.Gossip is one.
type Membership interface {
	Run(ctx context.Context) error
	SetPeers([]membership.Peer)
	Members() []string
	Changed() <-chan struct{}
	Leave(ctx context.Context) error
}

// Links tells of the interfaces of this node. *link.Watcher is one.
type Links interface {
	Run(ctx context.Context, changed func([]placement.Interface)) error
}

// Config of a Speaker. Every field is needed, but Class, PreferIPv6 and StateDir.
type Config struct {
	Node       string
	Class      string // the loadBalancerClass to serve; empty: Services that name none
	PreferIPv6 bool   // gossip over IPv6 with peers that have both families
	StateDir   string // where to keep what is known of the cluster; empty: nowhere
	Announcer  announce.Announcer
	Membership Membership
	Links      Links
	Metrics    *Metrics
	Logger     log.Logger
}

// Speaker is the loop of one node.
type Speaker struct {
	Config
	dirty    chan struct{}
	snapshot config.Snapshot // of the last Observe, which alone uses it
	learned  chan struct{}   // the API server has told something that is not kept yet

	mu         sync.Mutex
	observed   *knowledge // nil until the API server's state is known
	interfaces []placement.Interface
	settled    bool                // all peers have been seen alive, or waited for long enough
	members    []string            // of the last pass
	round      uint64              // changes when others may have announced our addresses meanwhile
	verdicts   []placement.Verdict // of the last pass
	failed     error               // of the last pass
	passed     bool                // whether there has been a pass
}

// New returns a Speaker. It starts nothing.
func New(c Config) *Speaker {
	return &Speaker{Config: c, dirty: make(chan struct{}, 1), learned: make(chan struct{}, 1)}
}

// Observe takes in the state of the cluster. It returns at once, and is called by one goroutine.
func (s *Speaker) Observe(seen kube.Observed) {
	var f placement.Facts
	f, s.snapshot = facts(seen, s.Class, s.snapshot)
	s.know(knowledge{Facts: f, Peers: peers(seen.Speakers, s.PreferIPv6)})
	touch(s.learned)
}

// know replaces what is known of the cluster.
func (s *Speaker) know(k knowledge) {
	s.Membership.SetPeers(k.Peers)
	s.mu.Lock()
	s.observed = &k
	s.mu.Unlock()
	touch(s.dirty)
}

// Ready returns nil once everything that this node owns is announced.
func (s *Speaker) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.passed {
		return errors.New("waiting for the API server, the interfaces and the other speakers")
	}
	return s.failed
}

// Run serves until ctx ends; then it leaves in good order: it tells the others, goes on answering while they
// take over, and falls silent.
func (s *Speaker) Run(ctx context.Context) error {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, serving := errgroup.WithContext(serving)
	deciding, freeze := context.WithCancel(serving)
	defer freeze()
	group.Go(func() error { return s.Announcer.Run(serving) })
	group.Go(func() error { return s.Membership.Run(serving) })
	group.Go(func() error { return s.Links.Run(serving, s.setInterfaces) })
	group.Go(func() error { return s.decide(deciding) })
	if s.StateDir != "" {
		group.Go(func() error { return s.remember(serving) })
	}
	select {
	case <-serving.Done():
	case <-ctx.Done():
		freeze()
		s.leave(serving)
	}
	stop()
	return group.Wait()
}

func (s *Speaker) leave(ctx context.Context) {
	_ = level.Info(s.Logger).Log("msg", "leaving", "owned", len(s.owned()))
	if err := s.Membership.Leave(ctx); err != nil {
		_ = level.Warn(s.Logger).Log("msg", "left without being sure that others know", "err", err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(lingering):
	}
}

func (s *Speaker) setInterfaces(list []placement.Interface) {
	s.mu.Lock()
	s.interfaces = list
	s.mu.Unlock()
	touch(s.dirty)
}

// touch leaves a signal on a channel that holds one.
func touch(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// decide makes a pass whenever something has changed, until ctx ends.
func (s *Speaker) decide(ctx context.Context) error {
	var settle, retry <-chan time.Time
	beat := time.NewTicker(pulse)
	defer beat.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
			stood := time.Since(last)
			last = time.Now()
			if stood < stall {
				continue
			}
			s.announceAgain("this process stood still", "for", stood)
		case <-s.dirty:
		case <-s.Membership.Changed():
		case <-retry:
		case <-settle:
			s.setSettled()
		}
		facts, wait := s.facts()
		if wait {
			if settle == nil && facts != nil {
				settle = time.After(settling)
			}
			continue
		}
		retry = nil
		if err := s.pass(*facts); err != nil {
			_ = level.Error(s.Logger).Log("msg", "not everything could be announced, trying again", "err", err)
			retry = time.After(retrying)
		}
	}
}

// announceAgain has the next pass announce all that we own again: others may have announced it meanwhile, and
// fallen silent when they heard us.
func (s *Speaker) announceAgain(why string, pairs ...any) {
	s.mu.Lock()
	s.round++
	s.mu.Unlock()
	_ = level.Info(s.Logger).Log(append([]any{"msg", "announcing again", "why", why}, pairs...)...)
}

// returned lists the members that were not there at the last pass, unless this is the first.
func (s *Speaker) returned(members []string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.members
	s.members = members
	if !s.passed {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(members), func(m string) bool { return slices.Contains(before, m) })
}

func (s *Speaker) setSettled() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.settled {
		_ = level.Warn(s.Logger).Log("msg", "going ahead without all other speakers", "alive", len(s.Membership.Members()), "known", len(s.observed.Peers))
	}
	s.settled = true
}

// facts joins what all sources have told. wait says that it is too early to decide; the facts are nil while a
// source has not spoken at all.
func (s *Speaker) facts() (f *placement.Facts, wait bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	members := s.Membership.Members()
	if s.observed == nil || s.interfaces == nil || len(members) == 0 {
		return nil, true
	}
	joined := s.observed.Facts
	joined.Self, joined.Members, joined.Interfaces = s.Node, members, s.interfaces
	s.settled = s.settled || s.complete(members)
	return &joined, !s.settled
}

// complete reports whether all speakers that the API server knows, and we are one of them, are alive.
func (s *Speaker) complete(members []string) bool {
	listed := slices.ContainsFunc(s.observed.Peers, func(p membership.Peer) bool { return p.Name == s.Node })
	missing := slices.ContainsFunc(s.observed.Peers, func(p membership.Peer) bool { return !slices.Contains(members, p.Name) })
	return listed && !missing
}

// pass decides and tells the announcer.
func (s *Speaker) pass(f placement.Facts) error {
	if back := s.returned(f.Members); len(back) > 0 {
		s.announceAgain("members came that may have owned addresses without us", "members", strings.Join(back, ","))
	}
	s.mu.Lock()
	round := s.round
	s.mu.Unlock()
	verdicts := placement.Layer2(f)
	want := announce.Want{Interfaces: f.Interfaces}
	owned := map[string]int{}
	for _, v := range verdicts {
		if v.Owner == s.Node && len(v.Interfaces) > 0 {
			want.Announcements = append(want.Announcements, placement.Announcement{IP: v.IP, Interfaces: v.Interfaces, Round: round})
			owned[family(v.IP)]++
		}
	}
	err := s.Announcer.Set(want)
	s.mu.Lock()
	before, known := s.verdicts, len(s.observed.Peers)
	s.verdicts, s.failed, s.passed = verdicts, err, true
	s.mu.Unlock()
	s.Metrics.passed(len(f.Members), known, owned)
	s.logChanges(before, verdicts)
	return err
}

func (s *Speaker) owned() []placement.Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.verdicts), func(v placement.Verdict) bool { return v.Owner != s.Node })
}
