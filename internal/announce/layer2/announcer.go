package layer2

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"golang.org/x/sync/errgroup"

	"github.com/lanyard-lb/lanyard/internal/announce"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// Config of an announcer. Its zero value is useful.
type Config struct {
	Logger  log.Logger // nil logs nothing
	Metrics Metrics    // nil counts nothing
	Network Network    // nil opens the kernel's sockets
	// InKernel answers requests before the sockets hear of them. Nil: the sockets answer. It does not ask Awake: who gives it
	// says until when it may answer.
	InKernel *InKernel
	// Awake is asked before every frame; while it returns false, nothing is sent: requests go unanswered,
	// and the rest waits. Nil: always true. It is called from several goroutines and must be quick.
	Awake func() bool
	// Refresh is the time after which an address that is announced is announced once more, again and
	// again, for switches that forget where we are. All addresses share it out evenly. Zero: never.
	Refresh time.Duration
}

// reviewEvery is how often what the kernel has answered is counted.
const reviewEvery = time.Second

var errRunning = errors.New("layer 2 announcer is running already")

// Announcer announces addresses by ARP and NDP, on each of their interfaces that is suitable. It
// implements announce.Announcer.
//
// Sockets are opened by Set, or by Run for what was set before, in the network namespace of the thread
// that calls them. An interface that comes back, or changes its index or MAC address, is served anew, and
// what is announced there is announced again.
//
// A new round of an address that is to be probed is probed on all its interfaces that are served then, and
// on those that come while that goes on; one that somebody claims on any of them is Taken, everywhere. Once
// announced, an address is announced at once on each interface that comes later in the same round, and kept
// whoever claims it; one that was found Free is Taken as soon as a stranger claims it. What is served on no
// interface is Pending, and is not probed again in a round in which it was announced already. After
// Run has returned, all is Pending and nothing is known.
type Announcer struct {
	cfg Config

	mu         sync.Mutex
	running    *errgroup.Group           // nil unless Run runs
	sender     *sender                   // of the last Run
	set        announce.Want             // as last set; Interfaces are our own
	want       []*placement.Announcement // those, sorted by address
	done       bool                      // all that was set is carried out
	responders map[key]*responder        // of all suitable interfaces, whether they have addresses or not
	book       *book
}

// key of a responder.
type key struct {
	name   string
	family Family
}

var _ announce.Announcer = (*Announcer)(nil)

// New returns an announcer that holds nothing.
func New(cfg Config) *Announcer {
	if cfg.Logger == nil {
		cfg.Logger = log.NewNopLogger()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = noMetrics{}
	}
	if cfg.Network == nil {
		cfg.Network = kernel{}
	}
	if cfg.Awake == nil {
		cfg.Awake = func() bool { return true }
	}
	return &Announcer{cfg: cfg, responders: make(map[key]*responder), book: newBook()}
}

// Run implements announce.Announcer. It can be called again after it has returned.
func (a *Announcer) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	if err := a.start(ctx, group); err != nil {
		return err
	}
	group.Go(func() error { a.review(ctx); return nil })
	<-ctx.Done()
	a.stop()
	return group.Wait()
}

// review looks after what answers in the kernel, until ctx ends.
func (a *Announcer) review(ctx context.Context) {
	if a.cfg.InKernel == nil {
		return
	}
	ticker := time.NewTicker(reviewEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		a.mu.Lock()
		for _, r := range a.responders {
			r.review()
		}
		a.mu.Unlock()
	}
}

func (a *Announcer) start(ctx context.Context, group *errgroup.Group) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.running != nil {
		return errRunning
	}
	a.running = group
	a.sender = newSender(a.cfg.Refresh)
	send := a.sender.run
	group.Go(func() error { send(ctx); return nil })
	if err := a.apply(nil); err != nil {
		_ = level.Error(a.cfg.Logger).Log("msg", "not everything can be announced yet", "err", err)
	}
	return nil
}

func (a *Announcer) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.responders {
		r.silence()
	}
	for _, r := range a.responders {
		r.close()
	}
	clear(a.responders)
	a.book.reset()
	a.running = nil
}

// Set implements announce.Announcer. The errors name the interfaces.
func (a *Announcer) Set(want announce.Want) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done && a.holds(want) {
		return nil
	}
	a.book.know(want.Interfaces, want.Peers)
	var changes []change
	if !sameSlice(a.set.Announcements, want.Announcements) {
		list := byAddress(want.Announcements)
		changes = diff(a.want, list)
		a.want = list
	}
	a.set = announce.Want{Interfaces: slices.Clone(want.Interfaces), Announcements: want.Announcements, Peers: want.Peers}
	return a.apply(changes)
}

// holds reports whether the same has been set as the last time, and no responder has anything to do since.
func (a *Announcer) holds(want announce.Want) bool {
	same := func(i, j placement.Interface) bool {
		return i.Name == j.Name && i.Index == j.Index && i.MAC == j.MAC && i.Suitable() == j.Suitable()
	}
	if !sameSlice(a.set.Announcements, want.Announcements) || !sameMap(a.set.Peers, want.Peers) ||
		!slices.EqualFunc(a.set.Interfaces, want.Interfaces, same) {
		return false
	}
	for _, r := range a.responders {
		if r.broken.Load() || r.due() {
			return false
		}
	}
	return true
}

// sameSlice reports whether two slices are one.
func sameSlice[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// sameMap reports whether two maps are one.
func sameMap[K comparable, V any](a, b map[K]V) bool {
	return reflect.ValueOf(a).UnsafePointer() == reflect.ValueOf(b).UnsafePointer()
}

// apply makes the book and, while Run runs, the responders hold what is wanted, which differs by some changes from what
// they hold if their interfaces are as before.
func (a *Announcer) apply(changes []change) error {
	var fresh map[key]*responder
	if a.running != nil {
		a.dropStale()
		fresh = a.addMissing()
	}
	for _, c := range changes {
		c.again = a.book.change(c)
		a.change(c, fresh)
	}
	if len(fresh) > 0 {
		for _, w := range a.want {
			a.fill(w, fresh)
		}
	}
	if a.running == nil {
		a.done = true
		return nil
	}
	err := a.sync()
	a.done = err == nil
	a.sender.add(a.book.settle())
	return err
}

// dropStale closes the responders whose interface is not suitable any more, is another now, or has failed.
func (a *Announcer) dropStale() {
	now := make(map[string]placement.Interface, len(a.set.Interfaces))
	for _, i := range a.set.Interfaces {
		if i.Suitable() {
			now[i.Name] = i
		}
	}
	for k, r := range a.responders {
		i, ok := now[k.name]
		if !ok || i.Index != r.ifi.Index || i.MAC != r.ifi.MAC || r.broken.Load() {
			r.silence()
			r.close()
			delete(a.responders, k)
		}
	}
}

// addMissing makes a responder for each suitable interface and family without one, and returns them.
func (a *Announcer) addMissing() map[key]*responder {
	var fresh map[key]*responder
	for _, i := range a.set.Interfaces {
		for _, f := range families {
			k := key{i.Name, f}
			if a.responders[k] != nil || !i.Suitable() {
				continue
			}
			if fresh == nil {
				fresh = make(map[key]*responder)
			}
			fresh[k] = newResponder(i, f, a.cfg, a.book, a.later)
			a.responders[k] = fresh[k]
		}
	}
	return fresh
}

// Standings implements announce.Announcer.
func (a *Announcer) Standings() []*announce.Standing {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.book.standings(a.want)
}

// Changed implements announce.Announcer.
func (a *Announcer) Changed() <-chan struct{} { return a.book.changed }

// change adds and removes one address, except at fresh responders, which are filled from scratch.
func (a *Announcer) change(c change, fresh map[key]*responder) {
	family := FamilyOf(c.ip)
	for _, name := range c.old {
		k := key{name, family}
		if r := a.responders[k]; r != nil && fresh[k] == nil && !slices.Contains(c.new, name) {
			r.remove(c.ip)
		}
	}
	for _, name := range c.new {
		k := key{name, family}
		r := a.responders[k]
		if r != nil && fresh[k] == nil && (c.again || !slices.Contains(c.old, name)) {
			r.add(c.ip)
		}
	}
}

func (a *Announcer) fill(w *placement.Announcement, fresh map[key]*responder) {
	for _, name := range w.Interfaces {
		if r := fresh[key{name, FamilyOf(w.IP)}]; r != nil {
			r.add(w.IP)
		}
	}
}

// later does something in a goroutine, which Run waits for.
func (a *Announcer) later(do func()) { a.running.Go(func() error { do(); return nil }) }

// sync carries the changes out, in the order of interfaces and families. Probes wait until all interfaces
// listen, and are in the multicast groups (RFC 4862 section 5.4.2).
func (a *Announcer) sync() error {
	list := make([]*responder, 0, len(a.responders))
	for _, r := range a.responders {
		list = append(list, r)
	}
	slices.SortFunc(list, func(x, y *responder) int {
		return cmp.Or(cmp.Compare(x.ifi.Index, y.ifi.Index), cmp.Compare(x.family, y.family))
	})
	var probes []burst
	probe := func(more []burst) { probes = append(probes, more...) }
	var errs []error
	for _, r := range list {
		errs = append(errs, r.sync(a.later, a.sender.add, probe))
	}
	a.sender.add(probes)
	for _, r := range list {
		r.enlist()
	}
	return errors.Join(errs...)
}
