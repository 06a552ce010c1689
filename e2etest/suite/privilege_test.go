package suite

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
	"github.com/lanyard-lb/lanyard/e2etest/labtest"
)

// TestPrivilege: what the daemons may do while they serve, and what a speaker leaves on its node.
func TestPrivilege(t *testing.T) {
	c := install(t, lab.Options{Nodes: 2, Clients: 1})
	before := map[string]labtest.Traces{}
	for _, node := range c.Nodes() {
		c.RunWeb(t, node, "web-"+node)
		c.Settled(t, node)
		before[node] = c.Traces(t, node)
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
			if err := c.Traces(t, node).Compare(before[node], "addresses", "routes", "rules", "neighbours", "sysctls"); err != nil {
				t.Errorf("%s: %v", node, err)
			}
		}
	})
	t.Run("nothing on the node afterwards", func(t *testing.T) {
		for _, node := range c.Nodes() {
			speaker := c.Process(node, "speaker")
			must(t, speaker.Term())
			_, err := speaker.Wait(within(t, 10*time.Second))
			must(t, err)
			if err := c.Traces(t, node).Compare(before[node], "addresses", "routes", "rules", "neighbours", "sysctls", "groups", "links"); err != nil {
				t.Errorf("%s: %v", node, err)
			}
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
