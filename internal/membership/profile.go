package membership

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

// A Profile says how quickly a dead member must be noticed, and so how much packet delay is tolerated
// before a live one is taken for dead. All speakers of a cluster use the same one.
type Profile int

const (
	// Fast notices a dead member in about half a second; it wants a LAN with round trips of a few milliseconds.
	Fast Profile = iota
	// LAN is memberlist's default for a LAN: a few seconds.
	LAN
	// WAN is memberlist's default for a WAN: tens of seconds.
	WAN
)

var profileNames = [...]string{Fast: "fast", LAN: "lan", WAN: "wan"}

// ParseProfile reads "fast", "lan" or "wan".
func ParseProfile(s string) (Profile, error) {
	for p, name := range profileNames {
		if s == name {
			return Profile(p), nil
		}
	}
	return 0, fmt.Errorf("unknown failover profile %q: choose one of %s", s, strings.Join(profileNames[:], ", "))
}

func (p Profile) String() string {
	if !p.valid() {
		return fmt.Sprintf("Profile(%d)", int(p))
	}
	return profileNames[p]
}

func (p Profile) valid() bool { return p >= 0 && int(p) < len(profileNames) }

// limits are the bounds of a profile that memberlist has no setting for.
type limits struct {
	// dial bounds connecting to a member. Peers behind a partition swallow packets: memberlist's own
	// bound (10 s, 30 s) would be the pace at which they are tried again.
	dial time.Duration
	// leave bounds waiting until the leave message went out as often as it should: up to four gossip
	// rounds, and one to begin with.
	leave time.Duration
}

func (p Profile) limits() limits {
	switch p {
	case LAN:
		return limits{dial: time.Second, leave: time.Second}
	case WAN:
		return limits{dial: 3 * time.Second, leave: 2500 * time.Millisecond}
	default:
		return limits{dial: 500 * time.Millisecond, leave: 500 * time.Millisecond}
	}
}

// memberlistConfig returns memberlist's settings for the profile. For LAN and WAN these are its defaults
// but for what common sets.
func (p Profile) memberlistConfig() *memberlist.Config {
	var c *memberlist.Config
	switch p {
	case LAN:
		c = memberlist.DefaultLANConfig()
	case WAN:
		c = memberlist.DefaultWANConfig()
	default:
		c = fastConfig()
	}
	common(c)
	return c
}

// common sets what differs from memberlist's defaults in every profile.
func common(c *memberlist.Config) {
	// A restarted speaker may come back under its name with another address as soon as the old one is
	// known dead. The default is never; zero would mean that too.
	c.DeadNodeReclaimTime = time.Millisecond
	// Packets hold about a hundred bytes, where LZW gains nothing and costs 64 KiB of garbage each.
	// Members that compress are still understood.
	c.EnableCompression = false
}

// fastConfig starts from memberlist's LAN defaults. What it keeps on purpose: TCP pings when UDP is not
// answered (where UDP is filtered, members would flap for ever otherwise), 1400-byte packets (they fit a
// VXLAN), four retransmissions per decade of members.
func fastConfig() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	// A member is probed by each other member in turn, so by somebody about every 100 ms.
	c.ProbeInterval = 100 * time.Millisecond
	// The direct answer counts until the interval ends; this is only when to begin asking through
	// others. Less than half the interval, or their nacks would come too late and every probe of a dead
	// member would count against the prober's own health, which slows it down.
	c.ProbeTimeout = 40 * time.Millisecond
	// How soon others hear of a death, a departure or a refutation.
	c.GossipInterval = 20 * time.Millisecond
	// A suspect has 2 * max(1, log10(members)) * 100 ms to refute. With 2, memberlist waits for no
	// confirmation by others and takes the minimum at once, so the maximum below rests until somebody
	// raises this.
	c.SuspicionMult = 2
	c.SuspicionMaxTimeoutMult = 3
	// A prober in poor health probes at worst every 400 ms, not every 800 ms.
	c.AwarenessMaxMultiplier = 4
	// How long the dead and departed are remembered. While they are, joining after a partition makes all
	// of both sides refute, each within its time as a suspect; once forgotten, they are simply new. Long
	// enough that by then everybody has probed everybody (up to 100 members), so nobody is left who
	// could bring a dead one back by hearsay.
	c.GossipToTheDeadTime = 10 * time.Second
	// What lost packets left unsaid is repaired within some ten seconds instead of thirty.
	c.PushPullInterval = 10 * time.Second
	// Bounds state exchanges; on a LAN two seconds means that the other side hangs.
	c.TCPTimeout = 2 * time.Second
	return c
}
