package membership

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

var (
	scaleFile     = flag.String("scale", "", "measure what gossip costs, and write that to this file after each cluster")
	scaleProfiles = flag.String("scale-profiles", "fast,lan,wan", "in these profiles")
	scaleSizes    = flag.String("scale-sizes", "3,100,500", "with so many members")
	scaleClaims   = flag.Int("scale-claims", 5000, "and so many claims of all members together")
	scaleLinks    = flag.Int("scale-links", 1, "and so many interfaces on each node")
	scaleRuns     = flag.Int("scale-runs", 1, "so often")
)

// scaled is what one cluster has shown. Bytes are as they go into UDP and TCP, without their headers.
type scaled struct {
	Profile string `json:"profile"`
	Members int    `json:"members"`
	Claims  int    `json:"claims"`
	Links   int    `json:"links"` // interfaces on each node

	Rest  period `json:"rest"`  // nothing happens
	Churn period `json:"churn"` // see churn
	// Move is of all claims at once, each to another member; Crashes are of one member after another.
	Move    move    `json:"move"`
	Crashes []crash `json:"crashes"`

	Heap   float64 `json:"heap"`   // bytes of live memory for each member
	Alarms int     `json:"alarms"` // members taken for dead that were not
}

// period is a time in which traffic was counted.
type period struct {
	Seconds float64 `json:"seconds"`
	Sent    volume  `json:"sent"` // by all members together; they have received as much
	// CPU is the processor time, in seconds, that the process took for all members.
	CPU float64 `json:"cpu"`
}

// crash of one member, in seconds until the first and until the last of the others knew, and what was sent
// until ten seconds after it.
type crash struct {
	First float64 `json:"first"`
	All   float64 `json:"all"`
	period
}

// move of all claims, in seconds until everybody knew of every one, and what was sent until then. News is
// how many bytes it takes to say it once.
type move struct {
	All  float64 `json:"all"`
	News int     `json:"news"`
	period
}

// TestScale measures what gossip costs on a clock of its own: how fast this machine is makes no difference but to CPU.
// Packets take no time and none is lost; nor does it take time to work on what comes, for which a node has a processor
// of its own. The clock and the settings are those of the profile.
func TestScale(t *testing.T) {
	if *scaleFile == "" {
		t.Skip("it measures, when -scale says where to")
	}
	debug.SetMemoryLimit(3 << 30) // as far as it goes: 500 members have more garbage than that
	var all []scaled
	for run := range *scaleRuns {
		for _, p := range strings.Split(*scaleProfiles, ",") {
			profile, err := ParseProfile(p)
			if err != nil {
				t.Fatal(err)
			}
			for _, size := range strings.Split(*scaleSizes, ",") {
				n, err := strconv.Atoi(size)
				if err != nil || n < 3 {
					t.Fatalf("-scale-sizes: %q is not a number from 3 on", size)
				}
				begin := time.Now()
				synctest.Test(t, func(t *testing.T) { all = append(all, newCluster(t, profile, n).measure()) })
				t.Logf("run %d, %s, %d members: took %v", run+1, profile, n, time.Since(begin).Round(time.Second))
				b, err := json.MarshalIndent(all, "", "\t")
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(*scaleFile, append(b, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// cluster is a world that is measured. Who has a claim is up to it.
type cluster struct {
	*world
	profile Profile
	meter   *meter
	owner   []int   // of each claim, an index of nodes
	since   []int64 // when it came to it
	lost    atomic.Int64
}

// newCluster runs n members, one after another, that share the claims evenly.
func newCluster(t *testing.T, p Profile, n int) *cluster {
	c := &cluster{world: newWorld(t), profile: p, owner: make([]int, *scaleClaims), since: make([]int64, *scaleClaims)}
	c.key = []byte("a key, because clusters have one")
	var err error
	if c.meter, err = newMeter(c.key); err != nil {
		t.Fatal(err)
	}
	c.lan.meter = c.meter
	for i := range c.owner {
		c.owner[i] = i % n
	}
	for i := range n {
		peer := testPeer(i)
		peer.Name = fmt.Sprintf("worker-%04d", i) // about as long as names are
		c.peers = append(c.peers, peer)
	}
	for i, peer := range c.peers {
		m := c.runQuiet(peer)
		c.nodes = append(c.nodes, m)
		c.publish(i)
		m.SetPeers(c.peers[:min(i, 1)]) // it makes no more connections than it must
		pass(20 * time.Millisecond)
	}
	c.awaitAll(c.nodes)
	for _, m := range c.nodes {
		m.SetPeers(c.peers)
	}
	return c
}

// runQuiet runs one member whose log is only counted.
func (c *cluster) runQuiet(p Peer) *node {
	return c.run(p, func(cfg *Config) {
		cfg.Profile = c.profile
		cfg.Logger = log.LoggerFunc(func(words ...any) error {
			if slices.Contains(words, any("member is gone")) {
				c.lost.Add(1)
			}
			return nil
		})
	})
}

// give makes a claim a member's, from now on.
func (c *cluster) give(ip, owner int) { c.owner[ip], c.since[ip] = owner, time.Now().UnixMilli() }

// publish has a member tell which claims are its own.
func (c *cluster) publish(i int) {
	r := placement.Report{}
	for l := range *scaleLinks {
		link := placement.Interface{Name: "eth0", Index: 2 + l, MAC: placement.MAC{2, byte(l >> 8), byte(l), 0, byte(i >> 8), byte(i)}, Up: true, Carrier: true, Ether: true}
		if l == 0 {
			link.Subnets = []netip.Prefix{netip.PrefixFrom(testPeer(i).Addr.Addr(), 16), netip.MustParsePrefix("fd00::1/64")}
		} else { // that of a pod
			link.Name, link.Master = fmt.Sprintf("veth%08x", l), true
			link.Subnets = []netip.Prefix{netip.MustParsePrefix("fe80::ff:fe00:1/64")}
		}
		r.Interfaces = append(r.Interfaces, link)
	}
	for ip, owner := range c.owner {
		if owner == i {
			r.Claims = append(r.Claims, claimOf(ip, c.since[ip]))
		}
	}
	c.nodes[i].Publish(r)
}

// agree tells whether each of the nodes sees all of them, and has the same reports.
func agree(nodes []*node) bool {
	sum := nodes[0].store.digest()
	return !slices.ContainsFunc(nodes, func(n *node) bool {
		n.store.mu.Lock()
		defer n.store.mu.Unlock()
		return n.store.live != len(nodes) || n.store.digest() != sum
	})
}

// awaitAll waits until the nodes agree, and returns how long that took.
func (c *cluster) awaitAll(nodes []*node) time.Duration {
	c.tb.Helper()
	begin := time.Now()
	for !agree(nodes) {
		if time.Since(begin) > 10*time.Minute {
			c.tb.Fatalf("%d members don't agree after %v", len(nodes), time.Since(begin))
		}
		pass(time.Millisecond)
	}
	return time.Since(begin)
}

// while counts what is sent while something is done.
func (c *cluster) while(do func()) period {
	before, begin, cpu := c.meter.read(), time.Now(), processorTime()
	do()
	return period{
		Seconds: time.Since(begin).Seconds(), Sent: c.meter.read().since(before),
		CPU: (processorTime() - cpu).Seconds(),
	}
}

// round is a time in which each member begins the same number of exchanges, which are far apart and large: half a
// minute or more.
func (c *cluster) round() time.Duration {
	d := c.profile.memberlistConfig().PushPullInterval
	for n := 32; n < len(c.nodes); n *= 2 {
		d += c.profile.memberlistConfig().PushPullInterval // as memberlist does
	}
	return d * ((30*time.Second + d - 1) / d)
}

func (c *cluster) measure() scaled {
	s := scaled{Profile: c.profile.String(), Members: len(c.nodes), Claims: len(c.owner), Links: *scaleLinks}
	defer func() {
		c.close()
		pass(time.Minute) // probes being waited for
	}()
	step := func(what string, got any) { c.tb.Logf("%s, %d members, %s: %+v", c.profile, len(c.nodes), what, got) }
	pass(10 * time.Second)
	s.Heap = c.heap()
	s.Rest = c.while(func() { pass(c.round()) })
	step("rest", s.Rest)
	s.Move = c.move()
	step("move", s.Move)
	pass(10 * time.Second)
	gone := 0
	for victim := range min(3, len(c.nodes)) {
		s.Crashes = append(s.Crashes, c.crash(victim))
		step("crash", s.Crashes[victim])
		gone += len(c.nodes) // it leaves for itself, as it ends
	}
	s.Alarms = int(c.lost.Load()) - gone
	s.Churn = c.while(c.churn)
	step("churn", s.Churn)
	return s
}

func (c *cluster) heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / float64(len(c.nodes))
}

// move gives each claim to another member, all at once.
func (c *cluster) move() move {
	var m move
	m.period = c.while(func() {
		for ip, owner := range c.owner {
			c.give(ip, (owner+1)%len(c.nodes))
		}
		for i := range c.nodes {
			c.publish(i)
		}
		for _, n := range c.nodes {
			m.News += len(n.store.lastChange())
		}
		m.All = c.awaitAll(c.nodes).Seconds()
	})
	return m
}

// lastChange is the record of what changed last in our report, and of nothing else.
func (s *store) lastChange() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.own.record()
	for _, i := range s.own.items {
		if i.seq == s.own.head.seq {
			r.items = append(r.items, i)
		}
	}
	return appendRecord(nil, r)
}

// crash has a member vanish, and come back empty ten seconds or more later.
func (c *cluster) crash(victim int) (k crash) {
	old := c.nodes[victim]
	rest := slices.Delete(slices.Clone(c.nodes), victim, victim+1)
	k.period = c.while(func() {
		begin := time.Now()
		c.lan.move(1, old.peer.Addr.Addr())
		old.stop()
		for known := 0; known < len(rest); {
			pass(time.Millisecond)
			known = 0
			for _, n := range rest {
				if !n.roster.has(old.peer) {
					known++
				}
			}
			if known > 0 && k.First == 0 {
				k.First = time.Since(begin).Seconds()
			}
			if time.Since(begin) > 10*time.Minute {
				c.tb.Fatalf("%d of %d members know of the crash after %v", known, len(rest), time.Since(begin))
			}
		}
		k.All = time.Since(begin).Seconds()
		pass(max(0, 10*time.Second-time.Since(begin)))
	})
	c.takeOver(victim)
	pass(10 * time.Second)
	c.back(victim)
	c.awaitAll(c.nodes)
	pass(10 * time.Second)
	return k
}

// takeOver gives a member's claims to the others, as many to each, who tell.
func (c *cluster) takeOver(victim int) {
	heirs := make(map[int]bool)
	for ip, owner := range c.owner {
		if owner == victim {
			heir := (victim + 1 + ip%(len(c.nodes)-1)) % len(c.nodes)
			c.give(ip, heir)
			heirs[heir] = true
		}
	}
	for heir := range heirs {
		c.publish(heir)
	}
}

// back has a member that has ended run again.
func (c *cluster) back(i int) {
	<-c.nodes[i].done
	c.lan.heal()
	c.nodes[i] = c.runQuiet(c.peers[i])
	c.publish(i)
	c.nodes[i].SetPeers(c.peers)
}

// churn goes on for a round: ten claims each second go to other members, and every ten seconds a member is
// stopped in good order; others have its claims, and it is back after two seconds.
func (c *cluster) churn() {
	end := time.Now().Add(c.round())
	for second := 0; time.Now().Before(end); second++ {
		changed := make(map[int]bool)
		for i := range 10 {
			ip := (second*10 + i) * 7 % len(c.owner)
			from := c.owner[ip]
			to := (from + 1 + second) % len(c.nodes)
			c.give(ip, to)
			changed[from], changed[to] = true, true
		}
		away := second / 10 % len(c.nodes)
		for i := range changed {
			if i != away || second%10 > 1 {
				c.publish(i)
			}
		}
		switch second % 10 {
		case 0:
			c.takeOver(away)
			c.nodes[away].stop()
		case 2:
			c.back(away)
		}
		pass(time.Second)
	}
}
