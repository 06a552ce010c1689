package suite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// TestPrivilege: what the daemons may do while they serve, and what a speaker leaves on its node.
func TestPrivilege(t *testing.T) {
	c := install(t, lab.Options{Nodes: 2, Clients: 1})
	before := map[string]traces{}
	for _, node := range c.Nodes() {
		c.RunWeb(t, node, "web-"+node)
		c.settled(t, node)
		before[node] = c.traces(t, node)
	}
	c.StartSpeakers(t)
	c.Pool(t, "lan", "[10.77.0.200-10.77.0.207, fd77::200-fd77::207]")
	c.Advertise(t, "lan")
	ips := c.Services(t, "web", 8)
	owners := c.Owners(t, ips...)
	for _, ip := range ips {
		c.Fetch(t, "c1", ip)
	}

	t.Run("capabilities", func(t *testing.T) {
		hasCapabilities(t, c.Process("cp", "controller"), 0)
		for _, node := range c.Nodes() {
			hasCapabilities(t, c.Process(node, "speaker"), 1<<13) // CAP_NET_RAW
		}
	})
	t.Run("nothing on the node while it owns addresses", func(t *testing.T) {
		for _, node := range c.Nodes() {
			count := 0
			for _, owner := range owners {
				if owner == node {
					count++
				}
			}
			if count == 0 {
				t.Fatalf("%s owns nothing: %v", node, owners)
			}
			t.Logf("%s owns %d addresses", node, count)
			c.traces(t, node).same(t, before[node], node, "addresses", "routes", "rules", "neighbours", "sysctls")
		}
	})
	t.Run("nothing on the node afterwards", func(t *testing.T) {
		for _, node := range c.Nodes() {
			speaker := c.Process(node, "speaker")
			must(t, speaker.Term())
			_, err := speaker.Wait(within(t, 10*time.Second))
			must(t, err)
			c.traces(t, node).same(t, before[node], node, "addresses", "routes", "rules", "neighbours", "sysctls", "groups", "links")
		}
		c.Silent(t, time.Second, ips...)
	})
}

// hasCapabilities checks the user and the capabilities of every thread of a process: those given must be all it has, and
// all it can ever get.
func hasCapabilities(t *testing.T, p *lab.Process, want uint64) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.PID()))
	if err != nil || len(files) == 0 || !p.Alive() {
		t.Fatalf("%s on %s: alive: %t, threads %v, %v", p.Name, p.Host.Hostname, p.Alive(), files, err)
	}
	for _, file := range files {
		status := procStatus(t, file)
		for field, allowed := range map[string]uint64{"CapEff": want, "CapPrm": want, "CapBnd": want, "CapInh": want, "CapAmb": want} {
			have, err := strconv.ParseUint(status[field], 16, 64)
			must(t, err)
			exact := field == "CapEff" || field == "CapPrm"
			if have&^allowed != 0 || (exact && have != allowed) {
				t.Errorf("%s on %s has %s %#x, want %#x", p.Name, p.Host.Hostname, field, have, allowed)
			}
		}
		for _, field := range []string{"Uid", "Gid"} {
			if p.Privilege != lab.AsRootNetRaw && slices.Contains(strings.Fields(status[field]), "0") {
				t.Errorf("%s on %s has %s %s, want none of root's", p.Name, p.Host.Hostname, field, status[field])
			}
		}
		if status["NoNewPrivs"] != "1" {
			t.Errorf("%s on %s could gain privileges: NoNewPrivs is %s", p.Name, p.Host.Hostname, status["NoNewPrivs"])
		}
	}
}

func procStatus(t *testing.T, file string) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(file)
	must(t, err)
	fields := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			fields[name] = strings.TrimSpace(value)
		}
	}
	return fields
}

// traces is what can be left on a node, by name, as text.
type traces map[string]string

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

// settled waits until the kernel of a node has found no address of its own to be a duplicate, as those of a new pod's link.
func (c *cluster) settled(t *testing.T, node string) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		out, err := c.Host(node).Exec(within(t, 10*time.Second), "ip", "address", "show", "tentative")
		if err == nil && out != "" {
			err = errors.New(out)
		}
		return err
	})
}

func (c *cluster) traces(t *testing.T, node string) traces {
	t.Helper()
	seen := traces{}
	for name, command := range looks {
		out, err := c.Host(node).Exec(within(t, 10*time.Second), "sh", "-c", command)
		must(t, err)
		seen[name] = out
	}
	return seen
}

// same compares some of what is seen with what was seen before, line by line.
func (now traces) same(t *testing.T, before traces, node string, names ...string) {
	t.Helper()
	for _, name := range names {
		if before[name] == "" && name != "neighbours" {
			t.Errorf("%q showed nothing on %s: the test is blind", looks[name], node)
		}
		was, is := strings.Split(before[name], "\n"), strings.Split(now[name], "\n")
		for _, line := range is {
			if !slices.Contains(was, line) {
				t.Errorf("%s of %s: new: %s", name, node, line)
			}
		}
		for _, line := range was {
			if !slices.Contains(is, line) {
				t.Errorf("%s of %s: gone: %s", name, node, line)
			}
		}
	}
}
