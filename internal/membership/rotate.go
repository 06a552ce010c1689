package membership

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/hashicorp/memberlist"
)

const (
	// rotatePatience is how long we wait for members that don't tell that they have the key we are to
	// encrypt with: they may be of a version that doesn't, or their file may never come.
	rotatePatience = 5 * time.Minute
	// rotatePace is how often we look while keys are changing.
	rotatePace = 250 * time.Millisecond
	// dropGrace is how long nobody must have used a key before it is dropped: messages are under way.
	dropGrace = 5 * time.Second
	// aloneTurn is how long we try each key while no other member is there: see turn.
	aloneTurn = 3 * time.Second
)

// errNoKeys is what SetKeys says when there were none to begin with.
var errNoKeys = errors.New("gossip runs without encryption: it takes a restart to begin with keys")

// rotation brings the keys in use to those wanted, without a moment in which two members can't read each
// other, in whatever order they learn of new keys. Keys are installed at once, and the others told. We
// encrypt with the first one once every other member has it, and drop what is no longer wanted once
// every other member encrypts with something that we keep. It is safe for concurrent use.
type rotation struct {
	logger log.Logger
	ring   *memberlist.Keyring // nil: no encryption
	told   func(keyState)      // has the others know
	wake   chan struct{}

	mu     sync.Mutex
	wanted []gossipKey
	since  time.Time // when the first of them became that
	idle   time.Time // since when nobody uses what is not wanted; zero: somebody does
	turned time.Time // when we last tried another key for want of company
}

// others is what a rotation has to know of the other members.
type others struct {
	keys    []keyState // of each live one; without a primary where it has not told
	missing bool       // peers ought to be members that are not, or we don't know yet who ought to
}

func newRotation(content []byte, logger log.Logger) (*rotation, error) {
	r := &rotation{logger: logger, wake: make(chan struct{}, 1), told: func(keyState) {}, since: time.Now()}
	if content == nil {
		return r, nil
	}
	var err error
	if r.wanted, err = parseKeys(content); err != nil {
		return nil, err
	}
	r.ring, err = newKeyring(r.wanted)
	return r, err
}

// set makes the keys in a key file's content those wanted.
func (r *rotation) set(content []byte) error {
	keys, err := parseKeys(content)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ring == nil {
		return errNoKeys
	}
	if slices.Equal(keys, r.wanted) {
		return nil
	}
	for _, k := range keys {
		if err := r.ring.AddKey(slices.Clone(k[:])); err != nil {
			return err
		}
	}
	if keys[0] != r.wanted[0] {
		r.since = time.Now()
	}
	r.wanted, r.idle = keys, time.Time{}
	_ = level.Info(r.logger).Log("msg", "gossip keys changed", "keys", len(keys))
	r.tell()
	signal(r.wake)
	return nil
}

// tell has the others know which keys we have.
func (r *rotation) tell() {
	var k keyState
	if r.ring != nil {
		k.primary = r.primary().fingerprint()
		for _, key := range r.installed() {
			k.installed = append(k.installed, key.fingerprint())
		}
		slices.SortFunc(k.installed, func(a, b fingerprint) int { return slices.Compare(a[:], b[:]) })
	}
	r.told(k)
}

func (r *rotation) primary() gossipKey { return gossipKey(r.ring.GetPrimaryKey()) }

func (r *rotation) installed() []gossipKey {
	var keys []gossipKey
	for _, k := range r.ring.GetKeys() {
		keys = append(keys, gossipKey(k))
	}
	return keys
}

// settled tells that there is nothing to do.
func (r *rotation) settled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ring == nil || r.primary() == r.wanted[0] && len(r.installed()) == len(r.wanted)
}

// run makes steps until ctx ends.
func (r *rotation) run(ctx context.Context, look func() others) {
	for ctx.Err() == nil {
		var tick <-chan time.Time
		if !r.settled() {
			tick = time.After(rotatePace)
		}
		select {
		case <-ctx.Done():
		case <-r.wake:
		case <-tick:
		}
		r.step(look(), time.Now())
	}
}

// step does what can be done now.
func (r *rotation) step(o others, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ring == nil {
		return
	}
	if r.primary() != r.wanted[0] {
		switch patient := now.Sub(r.since) < rotatePatience; {
		case !patient || !o.missing && o.allHave(r.wanted[:1]):
			r.use(r.wanted[0], "waited", now.Sub(r.since) >= rotatePatience)
		case len(o.keys) == 0:
			r.turn(now)
		}
	}
	r.drop(o, now)
}

// use encrypts with a key from now on.
func (r *rotation) use(k gossipKey, pairs ...any) {
	_ = r.ring.UseKey(k[:]) // it is installed
	_ = level.Info(r.logger).Log(append([]any{"msg", "gossip is encrypted with another key"}, pairs...)...)
	r.tell()
}

// turn tries one installed key after the other while there is no other member, as those we can't reach
// may have any of them.
func (r *rotation) turn(now time.Time) {
	if r.turned.IsZero() {
		r.turned = now
	}
	if now.Sub(r.turned) < aloneTurn {
		return
	}
	r.turned = now
	have := r.installed()
	_ = r.ring.UseKey(have[len(have)-1][:]) // this moves it to the front
	r.tell()
}

// drop takes out keys that are not wanted and that nobody has used for a while.
func (r *rotation) drop(o others, now time.Time) {
	have := r.installed()
	if len(have) == len(r.wanted) || !slices.Contains(r.wanted, have[0]) || !o.allUse(r.wanted) {
		r.idle = time.Time{}
		return
	}
	if r.idle.IsZero() {
		r.idle = now
	}
	grace := dropGrace
	if o.missing { // who can't be asked may come back with the old key alone
		grace = rotatePatience
	}
	if now.Sub(r.idle) < grace || !r.putLast(o) {
		return
	}
	for _, k := range slices.Backward(r.installed()) {
		if slices.Contains(r.wanted, k) {
			break
		}
		_ = r.ring.RemoveKey(k[:]) // it is installed, and not the primary
		_ = level.Info(r.logger).Log("msg", "dropped a gossip key that is no longer in the file")
	}
	r.tell()
}

// putLast brings the keys that are not wanted behind the others, as memberlist's Keyring overwrites what
// its readers hold when it removes one from the middle. The way to do so is to make each of the others
// the primary in turn, so all members must have them; until then it does nothing and says so.
func (r *rotation) putLast(o others) bool {
	have := r.installed()
	if !slices.ContainsFunc(have[len(r.wanted):], func(k gossipKey) bool { return slices.Contains(r.wanted, k) }) {
		return true
	}
	if !o.allHave(r.wanted) {
		return false
	}
	primary := r.primary()
	for _, k := range r.wanted {
		_ = r.ring.UseKey(k[:])
	}
	_ = r.ring.UseKey(primary[:])
	return true
}

// allHave tells that every other member has the keys installed.
func (o others) allHave(keys []gossipKey) bool {
	for _, m := range o.keys {
		for _, k := range keys {
			if !slices.Contains(m.installed, k.fingerprint()) {
				return false
			}
		}
	}
	return true
}

// allUse tells that every other member encrypts with one of the keys.
func (o others) allUse(keys []gossipKey) bool {
	for _, m := range o.keys {
		if !slices.ContainsFunc(keys, func(k gossipKey) bool { return m.primary == k.fingerprint() }) {
			return false
		}
	}
	return true
}
