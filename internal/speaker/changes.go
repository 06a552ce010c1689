package speaker

import (
	"net/netip"
	"strings"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// logChanges logs each address that this node begins or ceases to announce, and each whose owner or reason
// is another now, once per change; and why claims changed hands.
func (s *Speaker) logChanges(before []*placement.Verdict, d placement.Decision) {
	after := d.Verdicts
	old := make(map[netip.Addr]*placement.Verdict, len(before))
	for _, v := range before {
		old[v.IP] = v
	}
	for _, v := range after {
		was := old[v.IP]
		delete(old, v.IP)
		if was == v {
			continue
		}
		if was == nil {
			was = &placement.Verdict{}
		}
		switch {
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
	for _, v := range before {
		if _, gone := old[v.IP]; gone && v.Owner == s.Node {
			_ = level.Info(describe(s.Logger, v)).Log("msg", "no longer announcing: no Service has the address any more")
		}
	}
}

func describe(l log.Logger, v *placement.Verdict) log.Logger {
	return log.With(l, "ip", v.IP, "service", strings.Join(v.Services, ","), "reason", v.Reason, "interfaces", strings.Join(v.Interfaces, ","))
}
