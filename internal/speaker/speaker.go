package speaker

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/lanyard-lb/lanyard/internal/announce"
	"github.com/lanyard-lb/lanyard/internal/kube"
	"github.com/lanyard-lb/lanyard/internal/membership"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

const (
	// settling is how long a speaker that starts waits for its peers before it decides without them: alone it would take
	// every address for its own. Who is back on the LAN waits for settlingBack, for those that it saw there before: they
	// have what it had, and may be a while coming, for of a neighbour whose frame is lost the kernel asks for the MAC
	// address once a second, three times (RFC 1122, 2.3.2.1; RFC 4861, 7.2.2).
	settling     = time.Second
	settlingBack = 3 * time.Second
	// foreboding is how long before the LAN is lost others may be missed for the same reason.
	foreboding = time.Minute
	// parting is how long a speaker that leaves may take to hand over, and lingering how long it goes on
	// answering for what nobody has taken until then.
	parting   = 1500 * time.Millisecond
	lingering = 300 * time.Millisecond
	// resyncing is how long a speaker asks the others what it has missed, and asking the pause between two tries.
	resyncing = time.Second
	asking    = 50 * time.Millisecond
	// remembering is how long a node that is no member any more is still no stranger on the wire.
	remembering = time.Hour
	// retrying is the pause before what could not be announced is tried again.
	retrying = time.Second
)

// Membership tells who is alive, and what each has claimed. *membership.Gossip is one.
type Membership interface {
	Run(ctx context.Context) error
	SetPeers([]membership.Peer)
	Members() []string
	// Reports of the live members that have told, ours included.
	Reports() map[string]placement.Report
	Changed() <-chan struct{} // Members or Reports
	Publish(placement.Report)
	Resync(ctx context.Context) error
	// Problems says of the peers that are not members why not.
	Problems() map[string]string
	Health() membership.Health
	Leave(ctx context.Context) error
}

// Links tells of the interfaces of this node. *link.Watcher is one.
type Links interface {
	Run(ctx context.Context, changed func([]placement.Interface)) error
}

// Config of a Speaker. Every field is needed, but Class, PreferIPv6, StateDir, Reporter and Quarantine.
type Config struct {
	Node       string
	Class      string // the loadBalancerClass to serve; empty: Services that name none
	PreferIPv6 bool   // gossip over IPv6 with peers that have both families
	StateDir   string // where to keep what is known of the cluster; empty: nowhere
	Options    placement.Options
	Announcer  announce.Announcer
	Pulse      *Pulse // that the Announcer asks, too
	Membership Membership
	Links      Links
	Reporter   *Reporter   // nil: nothing is reported
	Quarantine *Quarantine // nil: strangers are not told of
	// NodeEvent records an event on a Node.
	NodeEvent func(node, eventType, reason, action, note string)
	Metrics   *Metrics
	Logger    log.Logger
}

// Speaker is the loop of one node.
type Speaker struct {
	Config
	dirty      chan struct{}
	world      *world            // of Observe, which alone uses it
	learned    chan struct{}     // the API server has told something that is not kept yet
	elector    *placement.Layer2 // of the loop, which alone uses it
	neighbours neighbours        // the loop's, too
	told       placement.Report  // what the others were told of last; the loop's, too
	handed     chan struct{}     // closed when all has been handed over that can be

	mu         sync.Mutex
	observed   *knowledge                 // nil until the API server's state is known
	unread     bool                       // no pass goes by it yet
	news       map[string]*corev1.Service // Services that have changed and that the Reporter does not know of
	due        map[string]*corev1.Service // those of them that the pass under way goes by
	reported   *Reporting                 // what the Reporter knows of the last pass; nil: it is not to know, or of a newer one
	interfaces []placement.Interface
	lanFacts   lanFacts
	onLAN      bool // what follows from it
	joined     joined
	settled    bool      // all peers have told of themselves, or were waited for long enough
	waiting    time.Time // since when they are waited for; zero: they are not
	companions companions
	leaving    bool
	members    []string // of the last pass
	verdicts   verdicts // of the last pass
	failed     error    // of the last pass
	troubled   error    // what is wrong with the gossip
	passed     bool     // whether there has been a pass
}

// New returns a Speaker. It starts nothing.
func New(c Config) *Speaker {
	return &Speaker{Config: c, dirty: make(chan struct{}, 1), learned: make(chan struct{}, 1),
		elector: placement.NewLayer2(c.Options), world: newWorld(c.Class), handed: make(chan struct{})}
}

// Observe takes in what has changed of the cluster. It returns at once, and is called by one goroutine. What
// changes nothing that counts for announcing is for the Reporter alone.
func (s *Speaker) Observe(seen kube.Observed) {
	known, changed := s.world.take(seen, s.PreferIPv6)
	s.mu.Lock()
	if seen.Speakers != nil {
		s.Membership.SetPeers(known.Peers)
	}
	if s.Reporter != nil {
		s.news = merged(s.news, seen.Services)
	}
	if changed { // until a pass has gone by it, what was reported and the Services do not go together
		s.observed, s.unread, s.reported = &known, true, nil
	} else {
		s.tellNews()
	}
	s.mu.Unlock()
	if changed {
		touch(s.dirty)
		touch(s.learned)
	}
}

// merged adds newer entries to a map, which may be nil.
func merged[V any](m, newer map[string]V) map[string]V {
	if m == nil {
		return newer
	}
	maps.Copy(m, newer)
	return m
}

// tellNews tells the Reporter of the Services that have changed, if it may know of the last pass. The mutex is held.
func (s *Speaker) tellNews() {
	if s.reported != nil && len(s.news) > 0 {
		n := *s.reported
		n.Services, s.due, s.news = merged(s.due, s.news), nil, nil
		s.Reporter.Tell(n)
	}
}

// report tells the Reporter what a pass has come to, with the Services that it went by. The mutex is held.
func (s *Speaker) report(r Reporting) {
	n := r
	n.Services, s.due = s.due, nil
	s.Reporter.Tell(n)
	if !s.unread {
		s.reported = &r
		s.tellNews()
	}
}

// Ready returns nil while everything that this node owns is announced and gossip reaches its peers.
func (s *Speaker) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.passed {
		return errors.New("waiting for the API server, the interfaces and the other speakers")
	}
	return errors.Join(s.failed, s.troubled)
}

// Run serves until ctx ends; then it leaves in good order: it hands over what it owns, tells the others, and
// falls silent.
func (s *Speaker) Run(ctx context.Context) error {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, serving := errgroup.WithContext(serving)
	deciding, freeze := context.WithCancel(serving)
	defer freeze()
	group.Go(func() error { return s.Announcer.Run(serving) })
	group.Go(func() error { return s.Membership.Run(serving) })
	group.Go(func() error { return s.Links.Run(serving, s.setInterfaces) })
	group.Go(func() error { return s.Pulse.Run(serving) })
	group.Go(func() error { return s.decide(deciding) })
	group.Go(func() error { return s.inspect(deciding) })
	if s.StateDir != "" {
		group.Go(func() error { return s.remember(serving) })
	}
	if s.Reporter != nil {
		group.Go(func() error { return s.Reporter.Run(serving) })
	}
	if s.Quarantine != nil {
		group.Go(func() error { return s.Quarantine.Run(serving) })
	}
	select {
	case <-serving.Done():
	case <-ctx.Done():
		s.handOver(serving)
		freeze()
		s.leave(serving)
	}
	stop()
	return group.Wait()
}

// handOver has the loop hand over all that we own, and waits until that is done, or for long enough.
func (s *Speaker) handOver(ctx context.Context) {
	s.mu.Lock()
	s.leaving = true
	passed := s.passed
	s.mu.Unlock()
	_ = level.Info(s.Logger).Log("msg", "leaving", "owned", len(s.owned()))
	if !passed {
		return // there is nothing to hand over
	}
	touch(s.dirty)
	select {
	case <-ctx.Done():
	case <-s.handed:
	case <-time.After(parting):
		_ = level.Warn(s.Logger).Log("msg", "not everything has been handed over", "left", len(s.owned()))
	}
}

func (s *Speaker) leave(ctx context.Context) {
	if err := s.Membership.Leave(ctx); err != nil {
		_ = level.Warn(s.Logger).Log("msg", "left without being sure that others know", "err", err)
	}
	if len(s.owned()) == 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(lingering):
	}
}

func (s *Speaker) setInterfaces(list []placement.Interface) {
	list = sortedByName(list)
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
	var wake <-chan time.Time
	apart := false // from the LAN
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.Pulse.Standing():
		case <-s.dirty:
		case <-s.Membership.Changed():
		case <-s.Announcer.Changed():
		case <-wake:
		}
		stood, back := s.Pulse.Stood(), apart
		if stood {
			s.Metrics.stood.Inc()
		}
		apart = s.apart()
		if back = back && !apart; back {
			s.await()
		}
		if stood || back {
			s.catchUp(ctx, stood)
		}
		facts, wait := s.facts()
		if wait {
			wake = s.introduce(facts)
		} else {
			facts.Stood = stood
			wake = s.pass(*facts)
		}
		if stood {
			s.Pulse.GoOn()
		}
	}
}

// await begins to wait for peers.
func (s *Speaker) await() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = time.Now()
}

// introduce tells the others of our interfaces before we decide anything, and returns when to look again.
func (s *Speaker) introduce(f *placement.Facts) <-chan time.Time {
	if f == nil {
		return nil
	}
	s.tell(placement.Report{Interfaces: f.Reports[s.Node].Interfaces, Claims: s.told.Claims, Leaving: f.Leaving})
	return time.After(time.Until(s.waiting.Add(s.waits())))
}

// waits is how long to wait for peers.
func (s *Speaker) waits() time.Duration {
	if !s.companions.none() {
		return settlingBack
	}
	return settling
}

// linked reports whether this node is on the LAN, as far as its interfaces tell. The mutex is held.
func (s *Speaker) linked() bool {
	l := lanFacts{interfaces: s.interfaces}
	if s.observed != nil {
		l.cluster, l.peers = s.observed.Cluster, s.observed.Peers
	}
	if !l.same(s.lanFacts) {
		s.lanFacts, s.onLAN = l, l.linked(s.Node)
	}
	return s.onLAN
}

// apart reports whether this node is not on the LAN.
func (s *Speaker) apart() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.interfaces != nil && !s.linked()
}

// catchUp asks the others what we have missed, while this process stood still or had no LAN, until one tells.
// They hear first that our claims are weak: asking brings them our report, and by its older claims we would win back
// what they have taken over.
func (s *Speaker) catchUp(ctx context.Context, stood bool) {
	why := "the LAN is back"
	if stood {
		why = "this process stood still"
	}
	_ = level.Warn(s.Logger).Log("msg", "asking the others what was missed", "why", why)
	if len(s.told.Claims) > 0 {
		s.tell(s.told.Weakened())
	}
	limited, cancel := context.WithTimeout(ctx, resyncing)
	defer cancel()
	err := s.Membership.Resync(limited)
	for err != nil && limited.Err() == nil {
		select {
		case <-limited.Done():
		case <-time.After(asking):
			err = s.Membership.Resync(limited)
		}
	}
	if err != nil && ctx.Err() == nil {
		_ = level.Warn(s.Logger).Log("msg", "nobody tells what was missed", "err", err)
	}
}

func (s *Speaker) tell(r placement.Report) {
	s.told = r
	s.Membership.Publish(r)
}

// settle finds out whether there is nobody to wait for any more. The mutex is held.
func (s *Speaker) settle(f *placement.Facts) {
	switch {
	case s.settled:
	case s.complete(f), f.Leaving:
		s.settled = true
	case f.Apart: // nobody can come
	case s.waiting.IsZero():
		s.waiting = f.Now
	case f.Now.Sub(s.waiting) >= s.waits():
		_ = level.Warn(s.Logger).Log("msg", "going ahead without all other speakers", "alive", len(f.Members), "known", len(s.observed.Peers))
		s.settled = true
	}
	if s.settled || f.Apart {
		s.waiting = time.Time{}
	}
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
	s.unread, s.due, s.news = false, merged(s.due, s.news), nil
	f = &placement.Facts{
		Cluster: s.observed.Cluster, Services: s.observed.Services,
		Self: s.Node, Now: time.Now(), Members: members, Leaving: s.leaving, Apart: !s.linked(), Known: known(s.observed.Running, s.Node),
		Reports: s.joined.reports(s.Membership.Reports(), s.Node, s.interfaces), Standings: s.Announcer.Standings(),
	}
	f.Unheard = s.neighbours.unheard(f, s.observed.Peers)
	s.settle(f)
	return f, !s.settled && !f.Apart
}

// known counts the speakers that should run, ours among them.
func known(running map[string]bool, self string) int {
	if running[self] {
		return len(running)
	}
	return len(running) + 1
}

// joined is what the members have told, with what we know better of ourselves.
type joined struct {
	told map[string]placement.Report
	own  []placement.Interface
	all  map[string]placement.Report
}

// reports of all members; ours has the interfaces as they are now. While nothing has changed, it is the same map.
func (j *joined) reports(told map[string]placement.Report, self string, interfaces []placement.Interface) map[string]placement.Report {
	if own, known := told[self]; known && sameSlice(own.Interfaces, interfaces) {
		return told
	}
	if j.all == nil || !sameMap(told, j.told) || !sameSlice(interfaces, j.own) {
		*j = joined{told, interfaces, maps.Clone(told)}
		if j.all == nil {
			j.all = map[string]placement.Report{}
		}
		j.all[self] = placement.Report{Interfaces: interfaces}
	}
	return j.all
}

// sameMap reports whether two maps are one.
func sameMap[K comparable, V any](a, b map[K]V) bool {
	return reflect.ValueOf(a).UnsafePointer() == reflect.ValueOf(b).UnsafePointer()
}

// sameSlice reports whether two slices are one.
func sameSlice[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func sortedByName(list []placement.Interface) []placement.Interface {
	own := slices.DeleteFunc(slices.Clone(list), func(i placement.Interface) bool { return i.MAC == placement.MAC{} })
	slices.SortFunc(own, func(a, b placement.Interface) int { return cmp.Compare(a.Name, b.Name) })
	return own
}

// complete reports whether all are alive and have told of themselves that are waited for: of the speakers that the API
// server knows, and we are one of them, those that we saw on the LAN before; all, if we have not been there.
func (s *Speaker) complete(f *placement.Facts) bool {
	listed := slices.ContainsFunc(s.observed.Peers, func(p membership.Peer) bool { return p.Name == s.Node })
	missing := slices.ContainsFunc(s.observed.Peers, func(p membership.Peer) bool {
		_, told := f.Reports[p.Name]
		return (s.companions.none() || s.companions.had(p.Name)) && (!told || !slices.Contains(f.Members, p.Name))
	})
	return listed && !missing
}

// pass decides, and carries the decision out: the announcer first, for others to hear of what has been done.
// The channel tells when to pass again.
func (s *Speaker) pass(f placement.Facts) (wake <-chan time.Time) {
	lost := s.lost(f.Members)
	d := s.elector.Decide(f)
	s.Metrics.taken(d.Taken, lost, f.Now)
	err := s.Announcer.Set(announce.Want{Interfaces: f.Reports[s.Node].Interfaces, Announcements: d.Announcements, Peers: s.neighbours.peers(&f)})
	s.tell(placement.Report{Interfaces: f.Reports[s.Node].Interfaces, Claims: d.Claims, Leaving: f.Leaving})
	s.Metrics.passing.Observe(time.Since(f.Now).Seconds())
	if err != nil {
		_ = level.Error(s.Logger).Log("msg", "not everything could be announced, trying again", "err", err)
	}
	s.conclude(f, d, err)
	if f.Leaving && len(d.Announcements) == 0 {
		s.close()
	}
	return s.wakeAt(d.Wake, err)
}

func (s *Speaker) wakeAt(at time.Time, err error) <-chan time.Time {
	if retry := time.Now().Add(retrying); err != nil && (at.IsZero() || at.After(retry)) {
		at = retry
	}
	if at.IsZero() {
		return nil
	}
	return time.After(time.Until(at))
}

// close says that all has been handed over. Only the loop calls it.
func (s *Speaker) close() {
	select {
	case <-s.handed:
	default:
		close(s.handed)
	}
}

// conclude tells all who want to know what a pass has come to.
func (s *Speaker) conclude(f placement.Facts, d placement.Decision, err error) {
	s.mu.Lock()
	changes := changesOf(s.verdicts, d.Verdicts)
	s.verdicts, s.failed, s.passed = d.Verdicts, err, true
	// Off the LAN, we are to wait for the others again when we are back: they have what we had.
	if f.Apart {
		s.companions.part(f.Now)
		s.settled = false
	} else {
		s.companions.meet(f.Members, f.Now)
	}
	s.reported = nil
	switch {
	case s.Reporter == nil:
	case f.Outnumbered():
		s.Reporter.Hush() // the others know more, and report as well
	default:
		s.report(Reporting{Self: s.Node, Members: f.Members, Verdicts: d.Verdicts, Reports: f.Reports})
	}
	s.mu.Unlock()
	s.Metrics.passed(f, d, changes)
	s.logChanges(changes, d)
	if s.Quarantine != nil {
		s.Quarantine.Tell(f.Cluster.Pools, d.Found, d.Gone)
	}
}

// lost lists the members that are not there any more.
func (s *Speaker) lost(members []string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.members
	if s.members = members; slices.Equal(before, members) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(before), func(m string) bool { return slices.Contains(members, m) })
}

// neighbours are the interfaces of the other nodes, also of those that were members within the last hour: after a
// partition, their frames come before their gossip does.
type neighbours struct {
	reports map[string]placement.Report // that all were found in
	present map[placement.MAC]bool      // those that are told of
	gone    map[placement.MAC]time.Time // the others, and when they were told of last
	left    map[string]time.Time        // nodes that are not told of any more, and when they were last
	forget  time.Time                   // after which one of them is to be forgotten; zero: none
	at      time.Time                   // when it was looked at last
	all     map[placement.MAC]bool
}

// peers returns the MAC addresses of all neighbours. While they are the same, it is the same map.
func (n *neighbours) peers(f *placement.Facts) map[placement.MAC]bool {
	if n.all == nil || !n.sameInterfaces(f.Reports) || !n.forget.IsZero() && f.Now.After(n.forget) {
		n.look(f)
	}
	n.reports, n.at = f.Reports, f.Now
	return n.all
}

// unheard reports whether one of the wanted speakers has not told of its interfaces within the last hour, whether it
// is a member now or not.
func (n *neighbours) unheard(f *placement.Facts, wanted []membership.Peer) bool {
	n.peers(f)
	return slices.ContainsFunc(wanted, func(p membership.Peer) bool {
		if _, told := f.Reports[p.Name]; told || p.Name == f.Self {
			return false
		}
		last, told := n.left[p.Name]
		return !told || f.Now.Sub(last) > remembering
	})
}

func (n *neighbours) sameInterfaces(reports map[string]placement.Report) bool {
	return sameMap(reports, n.reports) || maps.EqualFunc(reports, n.reports, func(a, b placement.Report) bool {
		return sameSlice(a.Interfaces, b.Interfaces)
	})
}

func (n *neighbours) look(f *placement.Facts) {
	n.part(f)
	present := map[placement.MAC]bool{}
	for node, r := range f.Reports {
		for _, i := range r.Interfaces {
			if node != f.Self {
				present[i.MAC] = true
			}
		}
	}
	gone, all := map[placement.MAC]time.Time{}, maps.Clone(present)
	remember := func(mac placement.MAC, last time.Time) {
		if present[mac] || f.Now.Sub(last) > remembering {
			return
		}
		gone[mac], all[mac] = last, true
		if until := last.Add(remembering); n.forget.IsZero() || until.Before(n.forget) {
			n.forget = until
		}
	}
	n.forget = time.Time{}
	for mac, last := range n.gone {
		remember(mac, last)
	}
	for mac := range n.present {
		remember(mac, n.at)
	}
	if n.present, n.gone = present, gone; n.all == nil || !maps.Equal(all, n.all) {
		n.all = all
	}
}

// part remembers which nodes are not told of any more.
func (n *neighbours) part(f *placement.Facts) {
	left := map[string]time.Time{}
	for node, last := range n.left {
		if f.Now.Sub(last) <= remembering {
			left[node] = last
		}
	}
	for node := range n.reports {
		left[node] = n.at
	}
	for node := range f.Reports {
		delete(left, node)
	}
	n.left = left
}

func (s *Speaker) owned() []*placement.Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ours []*placement.Verdict
	for v := range s.verdicts.All() {
		if v.Owner == s.Node {
			ours = append(ours, v)
		}
	}
	return ours
}
