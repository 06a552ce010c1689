package membership

import (
	"fmt"
	"time"

	"github.com/hashicorp/memberlist"
)

// Tuning replaces single values of a Profile; zero leaves the profile's. All speakers of a cluster use
// the same values.
type Tuning struct {
	// ProbeInterval is how often a member probes another; ProbeTimeout, which is less, is how long it
	// waits for the answer before it asks through others. Less than half the interval is best: their
	// answers are to come within it too.
	ProbeInterval, ProbeTimeout time.Duration
	// GossipInterval is how often news is passed on.
	GossipInterval time.Duration
	// PushPullInterval is how often everything is exchanged with some member; more than 32 of them do so
	// less often.
	PushPullInterval time.Duration
	// SuspicionMult times the probe interval, and more with ten and more members, is what a member that
	// does not answer has for saying that it is alive.
	SuspicionMult int
}

// apply checks the values and puts them in place of the profile's.
func (t Tuning) apply(c *memberlist.Config) error {
	for _, d := range []struct {
		name  string
		value time.Duration
		place *time.Duration
	}{
		{"probe interval", t.ProbeInterval, &c.ProbeInterval},
		{"probe timeout", t.ProbeTimeout, &c.ProbeTimeout},
		{"interval", t.GossipInterval, &c.GossipInterval},
		{"push/pull interval", t.PushPullInterval, &c.PushPullInterval},
	} {
		switch {
		case d.value == 0:
		case d.value < time.Millisecond:
			return fmt.Errorf("gossip %s %v: want at least 1ms", d.name, d.value)
		default:
			*d.place = d.value
		}
	}
	if c.ProbeTimeout >= c.ProbeInterval {
		return fmt.Errorf("gossip probe timeout %v: want less than the probe interval, which is %v", c.ProbeTimeout, c.ProbeInterval)
	}
	if t.SuspicionMult < 0 {
		return fmt.Errorf("gossip suspicion multiplier %d: want at least 1", t.SuspicionMult)
	}
	if t.SuspicionMult > 0 {
		c.SuspicionMult = t.SuspicionMult
	}
	return nil
}

// memberlistConfig returns memberlist's settings for the configuration.
func (c Config) memberlistConfig() (*memberlist.Config, error) {
	m := c.Profile.memberlistConfig()
	if err := c.Tuning.apply(m); err != nil {
		return nil, err
	}
	return m, nil
}

// leaveLimit bounds leaving: as the profile says, but for five rounds of gossip at least.
func (c Config) leaveLimit() time.Duration {
	return max(c.Profile.limits().leave, 5*c.Tuning.GossipInterval)
}
