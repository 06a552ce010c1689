package lab_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// testPrivileges reads from the kernel what processes may do.
func testPrivileges(t *testing.T, l *lab.Lab) {
	const none, netRaw, inKernel = "0000000000000000", "0000000000002000", "0000008000003000"
	for privilege, want := range map[lab.Privilege]string{lab.AsNobody: none, lab.AsNobodyNetRaw: netRaw, lab.AsNobodyInKernel: inKernel} {
		p, err := l.Start("n1", lab.ProcessOptions{Name: "sleep-" + string(privilege), Path: "/bin/sleep", Args: []string{"60"}, Privilege: privilege})
		must(t, err)
		// Between fork and exec the child is still a copy of the parent.
		eventually(t, 5*time.Second, func() error {
			status := procStatus(t, p.PID())
			for _, field := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
				if status[field] != want {
					return fmt.Errorf("%q: %s is %s, want %s", privilege, field, status[field], want)
				}
			}
			if !strings.HasPrefix(status["Uid"], "65534\t65534\t65534") || status["NoNewPrivs"] != "1" || status["Groups"] != "" {
				return fmt.Errorf("%q: uid %s, no_new_privs %s, groups %q", privilege, status["Uid"], status["NoNewPrivs"], status["Groups"])
			}
			return nil
		})
		must(t, p.Freeze())
		eventually(t, 5*time.Second, func() error {
			if state := procStatus(t, p.PID())["State"]; !strings.HasPrefix(state, "T") {
				return fmt.Errorf("frozen process is in state %s", state)
			}
			return nil
		})
		must(t, p.Thaw())
		must(t, p.Term())
		exit, err := p.Wait(within(t, 5*time.Second))
		must(t, err)
		if exit == nil || p.Alive() {
			t.Errorf("after SIGTERM: exit %v, alive %t", exit, p.Alive())
		}
	}
}

func procStatus(t *testing.T, pid int) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	fields := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.TrimSpace(value)
	}
	return fields
}
