package membership

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
)

// Config says who we are and how we gossip. Only Name is required.
type Config struct {
	// Name is this node's member name, unique in the cluster.
	Name string
	// Bind is host:port for UDP and TCP, by default ":7946". The host is an IP address, which is then
	// also told to the others; without one, or with an unspecified one, we listen on all addresses and
	// tell the others the first global unicast address of an interface that is up and not the loopback,
	// by interface index, IPv4 before IPv6.
	Bind    string
	Profile Profile
	// Tuning replaces single values of the profile.
	Tuning Tuning
	// Key is the content of the key file: a secret per line; blank lines and those that begin with # don't
	// count. Each AES-256 key is the SHA-256 sum of a line without the white space around. The first is to
	// encrypt with, see SetKeys; all serve to decrypt. Nil means that gossip is neither encrypted nor
	// authenticated; blank is an error.
	Key []byte
	// Label keeps clusters apart that can reach each other: members with another label are not heard.
	// At most 255 bytes; all members of a cluster have the same, by default none.
	Label string
	// Logger takes what changes. By default nothing is logged.
	Logger log.Logger
	// Transport replaces the sockets, for tests; Bind is then not used. Run shuts it down.
	Transport memberlist.NodeAwareTransport
}

// Gossip is our membership in the cluster. Its methods are safe for concurrent use.
type Gossip struct {
	cfg      Config
	bind     netip.Addr
	port     uint16
	keys     *rotation
	roster   *roster
	store    *store
	wanted   chan struct{}
	failures *failures
	traffic  *traffic
	hostAddr func() ([]hostAddr, error)

	mu      sync.Mutex
	ran     bool
	leaving bool
	self    netip.AddrPort // as the others see us, while running
	peers   []Peer
	asked   bool // SetPeers was called

	listMu sync.Mutex             // held while starting, leaving and shutting down
	list   *memberlist.Memberlist // while running
	busy   sync.WaitGroup         // exchanges under way

	reminders chan struct{} // holds one for each reminder under way
}

// New checks the configuration and starts nothing.
func New(cfg Config) (*Gossip, error) {
	addr, port, err := parseBind(cfg.Bind)
	if err != nil {
		return nil, err
	}
	switch {
	case cfg.Name == "":
		return nil, errors.New("gossip: a member needs a name")
	case !cfg.Profile.valid():
		return nil, fmt.Errorf("gossip: unknown profile %v", cfg.Profile)
	case len(cfg.Label) > memberlist.LabelMaxSize:
		return nil, fmt.Errorf("gossip label has %d bytes: at most %d fit", len(cfg.Label), memberlist.LabelMaxSize)
	}
	if _, err := cfg.memberlistConfig(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = log.NewNopLogger()
	}
	keys, err := newRotation(cfg.Key, cfg.Logger)
	if err != nil {
		return nil, err
	}
	r := newRoster(cfg.Logger)
	s := newStore(cfg.Name, packetRoom(cfg.Label), cfg.Logger, r.changed)
	r.watch, r.deaths.leaves, keys.told = s.setLive, s.leaves, s.setKeys
	keys.tell()
	g := &Gossip{
		cfg: cfg, bind: addr, port: port, keys: keys, reminders: make(chan struct{}, joinAtOnce),
		roster: r, store: s, wanted: make(chan struct{}, 1), failures: new(failures), traffic: new(traffic), hostAddr: hostAddrs,
	}
	r.deaths.remind = g.remind
	return g, nil
}

// Members returns the names of the live members, sorted. We are one of them while Run runs and until
// Leave; before and after Run there are none. A member under suspicion is alive. Nobody may change what the slice
// holds: while nothing has changed, it is the same one.
func (g *Gossip) Members() []string { return g.roster.names() }

// Changed has a signal waiting whenever Members or Reports may have changed since the last one was taken.
// There is one channel: it has one reader.
func (g *Gossip) Changed() <-chan struct{} { return g.roster.changed }

// SetPeers replaces the peers that ought to be members: it takes all of them each time. While Run runs,
// those that are not alive are joined at once, and again until they are or are no longer wanted. We are
// never joined to ourselves, and a peer without address or port is left out.
func (g *Gossip) SetPeers(peers []Peer) {
	peers = slices.DeleteFunc(slices.Clone(peers), func(p Peer) bool { return !p.Addr.IsValid() || p.Addr.Port() == 0 })
	for i, p := range peers {
		peers[i].Addr = netip.AddrPortFrom(p.Addr.Addr().Unmap(), p.Addr.Port())
	}
	slices.SortFunc(peers, func(a, b Peer) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Addr.Compare(b.Addr))
	})
	peers = slices.Compact(peers)
	g.mu.Lock()
	same := slices.Equal(peers, g.peers)
	g.peers, g.asked = peers, true
	g.mu.Unlock()
	if !same {
		signal(g.wanted)
	}
}

// SetKeys takes the content of a key file that has changed; if it is faulty, that is returned and the keys
// stay. No member is lost by it, in whatever order members are told: new keys are installed at once, but
// used only when all other members have them, or after five minutes; those that are gone from the file
// are dropped when nobody encrypts with them any more. Keys can't be set where there were none.
func (g *Gossip) SetKeys(content []byte) error { return g.keys.set(content) }

// otherKeys is what the other members told of their keys.
func (g *Gossip) otherKeys() others {
	g.mu.Lock()
	asked := g.asked
	g.mu.Unlock()
	return others{keys: g.store.otherKeys(), missing: !asked || len(g.missing()) > 0}
}

// Run gossips until ctx ends, then leaves unless Leave did, and frees the port. It returns nil when ctx
// ended it, else why it could not begin; it runs once. Nothing of ours is left when it returns; the
// pings that memberlist may be waiting for end by themselves within a few probe intervals, unheard.
func (g *Gossip) Run(ctx context.Context) error {
	g.mu.Lock()
	ran := g.ran
	g.ran = true
	g.mu.Unlock()
	if ran {
		return errors.New("gossip: a second Run")
	}
	logs := newLogAdapter(g.cfg.Logger)
	carrier := newCarrier(g.store, g.cfg.Logger)
	list, err := g.create(logs, carrier)
	if err != nil {
		return err
	}
	var group errgroup.Group
	group.Go(func() error {
		g.newJoiner(list).run(ctx)
		return nil
	})
	carrying, stop := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error {
		carrier.run(carrying)
		return nil
	})
	group.Go(func() error {
		g.keys.run(carrying, g.otherKeys)
		return nil
	})
	<-ctx.Done()
	if err := g.Leave(context.WithoutCancel(ctx)); err != nil {
		_ = level.Warn(g.cfg.Logger).Log("msg", "left without being sure that others know", "err", err)
	}
	stop()
	logs.mute()
	g.shutdown(list)
	g.busy.Wait()
	return group.Wait()
}

// Leave tells the others that we leave, so that they count us out at once, and returns when they were
// told: within half a second in the Fast profile (1 s in LAN, 2.5 s in WAN), or when ctx's deadline is
// earlier, by then. We go on listening until Run ends, but join nobody any more and don't come back. It
// does nothing when Run does not run or when we have left.
func (g *Gossip) Leave(ctx context.Context) error {
	g.listMu.Lock()
	defer g.listMu.Unlock()
	if g.list == nil {
		return nil
	}
	g.mu.Lock()
	g.leaving = true
	g.mu.Unlock()
	g.store.leave()
	wait := g.cfg.leaveLimit()
	if deadline, ok := ctx.Deadline(); ok {
		// Zero would mean to wait without bound.
		wait = max(min(wait, time.Until(deadline)), time.Nanosecond)
	}
	if err := g.list.Leave(wait); err != nil {
		return fmt.Errorf("leave the gossip within %s: %w", wait, err)
	}
	return nil
}

// create opens the sockets, unless there is a transport, and makes us a cluster of one.
func (g *Gossip) create(logs *logAdapter, carry *carrier) (*memberlist.Memberlist, error) {
	g.listMu.Lock() // we are a member before we have the list
	defer g.listMu.Unlock()
	c, err := g.cfg.memberlistConfig()
	if err != nil {
		return nil, err
	}
	inner := g.cfg.Transport
	if inner == nil {
		have, err := g.hostAddr()
		if err != nil {
			return nil, err
		}
		addr, err := advertise(g.bind, have)
		if err != nil {
			return nil, err
		}
		sockets, err := listen(g.bind, g.port, logs)
		if err != nil {
			return nil, err
		}
		c.AdvertiseAddr, c.AdvertisePort = addr.String(), sockets.port()
		inner = sockets
	}
	t := newTransport(inner, g.cfg.Profile.limits().dial, g.traffic, g.roster.hear)
	c.Name, c.Label, c.Keyring, c.Transport = g.cfg.Name, g.cfg.Label, g.keys.ring, t
	c.Logger = stdlog.New(logs, "", 0)
	c.Events, c.Delegate, c.Ping = g.roster, carry, carry
	g.roster.open()
	g.store.open(uint64(time.Now().UnixNano()))
	list, err := memberlist.Create(c)
	if err != nil {
		g.forgetAll()
		return nil, errors.Join(fmt.Errorf("start gossip: %w", err), t.Shutdown())
	}
	carry.post = func(to string, msg []byte) error { return g.send(to, msg, list.SendBestEffort) }
	carry.deliver = func(to string, msg []byte) error { return g.send(to, msg, list.SendReliable) }
	g.roster.askBy(list, c)
	g.started(list)
	return list, nil
}

// started keeps the list; listMu is held.
func (g *Gossip) started(list *memberlist.Memberlist) {
	node := list.LocalNode()
	addr, _ := netip.AddrFromSlice(node.Addr)
	g.mu.Lock()
	g.self = netip.AddrPortFrom(addr.Unmap(), node.Port)
	g.mu.Unlock()
	g.list = list
}

func (g *Gossip) shutdown(list *memberlist.Memberlist) {
	g.listMu.Lock()
	defer g.listMu.Unlock()
	g.list = nil
	g.roster.close()    // first: a socket that is closed is not the others' death
	_ = list.Shutdown() // it logs what its transport says, and has no error of its own
	g.forgetAll()
}

func (g *Gossip) forgetAll() {
	g.roster.close()
	g.store.close()
}

// send hands a message for a live member to one of memberlist's ways to send it.
func (g *Gossip) send(to string, msg []byte, by func(*memberlist.Node, []byte) error) error {
	at, ok := g.roster.addr(to)
	if !ok {
		return fmt.Errorf("%s is not a live member", to)
	}
	return by(&memberlist.Node{Name: to, Addr: at.Addr().AsSlice(), Port: at.Port()}, msg)
}

func (g *Gossip) newJoiner(list *memberlist.Memberlist) *joiner {
	j := newJoiner(g.cfg.Logger)
	j.failed = g.failures
	j.missing = g.missing
	j.absent = func(p Peer) bool { return !g.isLeaving() && !g.roster.has(p) }
	j.join = func(addr string) error {
		if _, err := list.Join([]string{addr}); err != nil {
			return cmp.Or(errors.Unwrap(err), err) // it comes in a list of one
		}
		return nil
	}
	j.wanted, j.gained, j.lost = g.wanted, g.roster.gained, g.roster.lost
	return j
}

func (g *Gossip) isLeaving() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.leaving
}

// missing returns the wanted peers that are not alive; none when we are leaving.
func (g *Gossip) missing() []Peer {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.leaving {
		return nil
	}
	var missing []Peer
	for _, p := range g.peers {
		if p.Name != g.cfg.Name && p.Addr != g.self && !g.roster.has(p) {
			missing = append(missing, p)
		}
	}
	return missing
}
