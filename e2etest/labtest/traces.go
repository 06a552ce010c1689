package labtest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// Traces is what can be left on a node, by name, as text.
type Traces map[string]string

// looks are the commands that show it. The neighbour entries that the kernel learns by itself come and go; only those that
// a program puts there are of interest.
var looks = map[string]string{
	"addresses":  "ip address show",
	"routes":     "ip -4 route show table all; ip -6 route show table all",
	"rules":      "ip -4 rule; ip -6 rule",
	"neighbours": "ip neighbour show nud permanent; ip neighbour show proxy; ip -6 neighbour show proxy",
	"sysctls":    "grep -r . /proc/sys/net/ipv4 /proc/sys/net/ipv6 /proc/sys/net/core 2>/dev/null || true",
	"groups":     "ip maddress show dev eth0",
	"links":      "ip -details link show | sed 's/_timer *[0-9.]*//g'", // a bridge's timers run
}

// Settled waits until the kernel of a node has made sure of all its IPv6 addresses, as those of a new pod's link.
func (c *Cluster) Settled(t *testing.T, node string) {
	t.Helper()
	Eventually(t, 20*time.Second, func() error {
		out, err := c.Host(node).Exec(Within(t, 10*time.Second), "ip", "address", "show", "tentative")
		if err == nil && out != "" {
			err = errors.New(out)
		}
		return err
	})
}

// Traces looks at a node's network: addresses, routes, rules, neighbours, sysctls, groups and links.
func (c *Cluster) Traces(t *testing.T, node string) Traces {
	t.Helper()
	seen := Traces{}
	for name, command := range looks {
		out, err := c.Host(node).Exec(Within(t, 10*time.Second), "sh", "-c", command)
		Must(t, err)
		seen[name] = out
	}
	return seen
}

// Names are the names of all that was looked at, in order.
func (now Traces) Names() []string { return slices.Sorted(maps.Keys(now)) }

// Compare compares some of what is seen with what was seen before, line by line, and returns all that is new or gone. It is an error,
// too, if there was nothing to see.
func (now Traces) Compare(before Traces, names ...string) error {
	var faults []error
	for _, name := range names {
		if before[name] == "" && name != "neighbours" {
			faults = append(faults, fmt.Errorf("%s: there was nothing to see", name))
		}
		was, is := strings.Split(before[name], "\n"), strings.Split(now[name], "\n")
		for _, line := range is {
			if !slices.Contains(was, line) {
				faults = append(faults, fmt.Errorf("%s: new: %s", name, line))
			}
		}
		for _, line := range was {
			if !slices.Contains(is, line) {
				faults = append(faults, fmt.Errorf("%s: gone: %s", name, line))
			}
		}
	}
	return errors.Join(faults...)
}
