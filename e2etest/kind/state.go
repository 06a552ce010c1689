package kind

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stateDir is the machine's, not the repository's: there is one cluster on a machine, whichever checkout made it.
const stateDir = "/run/lanyard-kind"

// state is what Down must know of what Up did.
type state struct {
	// Sysctls of this machine as they were before docker and the kubelets changed them.
	Sysctls map[string]string `json:"sysctls,omitempty"`
	// Daemon is the docker daemon, if we started it.
	Daemon *daemon `json:"daemon,omitempty"`
}

// lockState waits until no other Up or Down is at work, and keeps them away until unlock.
func lockState(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(stateDir, 0o755); err != nil {
		return nil, fmt.Errorf("make %s: %w", stateDir, err)
	}
	f, err := os.OpenFile(filepath.Join(stateDir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = poll(ctx, 200*time.Millisecond, func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("another kind-lab is at work: %w", err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

func readState() (state, error) {
	var s state
	raw, err := os.ReadFile(filepath.Join(stateDir, "state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		return s, fmt.Errorf("read what kind-up left: %w", err)
	}
	return s, nil
}

// write keeps the state, or removes it when there is nothing to keep.
func (s state) write() error {
	path := filepath.Join(stateDir, "state.json")
	if s.Daemon == nil && len(s.Sysctls) == 0 {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}

	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}

const inotifyInstances = "fs.inotify.max_user_instances"

// sysctlNames are the settings of the whole machine that docker, kubelets in containers and Up change.
var sysctlNames = []string{
	inotifyInstances,
	"vm.overcommit_memory", "vm.panic_on_oom", "kernel.panic", "kernel.panic_on_oops",
	"kernel.keys.root_maxkeys", "kernel.keys.root_maxbytes",
	"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.default.forwarding",
}

func sysctlPath(name string) string { return "/proc/sys/" + strings.ReplaceAll(name, ".", "/") }

// rememberSysctls reads those settings that are not remembered yet, and leaves out what the machine does not have.
func (s *state) rememberSysctls() {
	values := map[string]string{}
	for _, name := range sysctlNames {
		if raw, err := os.ReadFile(sysctlPath(name)); err == nil {
			values[name] = strings.TrimSpace(string(raw))
		}
	}
	maps.Copy(values, s.Sysctls)
	s.Sysctls = values
}

// raiseInotify gives root enough of what every systemd, container runtime and kubelet takes some of. Where it runs out
// kube-proxy ends with "too many open files".
func raiseInotify() error {
	const want = 1024
	raw, err := os.ReadFile(sysctlPath(inotifyInstances))
	if err != nil {
		return err
	}
	if have, err := strconv.Atoi(strings.TrimSpace(string(raw))); err == nil && have >= want {
		return nil
	}
	return os.WriteFile(sysctlPath(inotifyInstances), []byte(strconv.Itoa(want)), 0o644)
}

// putBack restores the machine's settings and forgets them, except those that a docker daemon of ours still needs.
func (s *state) putBack() error {
	var faults []error
	for _, name := range sysctlNames {
		value, ok := s.Sysctls[name]
		if !ok || s.Daemon != nil && strings.HasPrefix(name, "net.") {
			continue
		}
		if err := os.WriteFile(sysctlPath(name), []byte(value), 0o644); err != nil {
			faults = append(faults, fmt.Errorf("put back %s=%s: %w", name, value, err))
			continue
		}
		delete(s.Sysctls, name)
	}
	return errors.Join(faults...)
}
