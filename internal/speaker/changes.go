package speaker

import (
	"strings"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/lanyard-lb/lanyard/internal/placement"
	"github.com/lanyard-lb/lanyard/internal/sortedlist"
)

// change is a verdict that another one has taken the place of; nil stands for none.
type change struct{ was, now *placement.Verdict }

// verdicts are sorted by address.
type verdicts = sortedlist.List[*placement.Verdict]

// changesOf are the changes from some verdicts to others.
func changesOf(before, after verdicts) (list []change) {
	sortedlist.Differences(before, after, func(a, b *placement.Verdict) int { return a.IP.Compare(b.IP) },
		func(was, now *placement.Verdict) { list = append(list, change{was, now}) })
	return list
}

// logChanges logs each address that this node begins or ceases to announce, and each whose owner or reason
// is another now, once per change; and why claims changed hands.
func (s *Speaker) logChanges(changes []change, d placement.Decision) {
	for _, c := range changes {
		var was placement.Verdict
		if c.was != nil {
			was = *c.was
		}
		switch v := c.now; {
		case v == nil && was.Owner == s.Node:
			_ = level.Info(describe(s.Logger, c.was)).Log("msg", "no longer announcing: no Service has the address any more")
		case v == nil:
		case v.Owner == s.Node && was.Owner != s.Node:
			_ = level.Info(describe(s.Logger, v)).Log("msg", "announcing", "from", was.Owner)
		case v.Owner != s.Node && was.Owner == s.Node:
			_ = level.Info(describe(s.Logger, v)).Log("msg", "no longer announcing", "to", v.Owner)
		case v.Owner != was.Owner || v.Reason != was.Reason:
			_ = level.Debug(describe(s.Logger, v)).Log("msg", "owner", "node", v.Owner)
		}
	}
	for _, c := range d.Taken {
		_ = level.Debug(s.Logger).Log("msg", "claimed", "ip", c.IP, "cause", c.Cause, "from", c.Other)
	}
	for _, c := range d.Lost {
		_ = level.Debug(s.Logger).Log("msg", "let go", "ip", c.IP, "cause", c.Cause, "to", c.Other)
	}
}

func describe(l log.Logger, v *placement.Verdict) log.Logger {
	return log.With(l, "ip", v.IP, "service", strings.Join(v.Services, ","), "reason", v.Reason, "interfaces", strings.Join(v.Interfaces, ","))
}
