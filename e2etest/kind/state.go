package kind

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// state is what Down must know of what Up did, in state.json.
type state struct {
	// Sysctls of this machine as they were before docker and the kubelets changed them.
	Sysctls map[string]string `json:"sysctls,omitempty"`
	// Daemon is the docker daemon, if we started it.
	Daemon *daemon `json:"daemon,omitempty"`
	// NodeImage and Proxy are the options that the cluster was made with.
	NodeImage string        `json:"nodeImage,omitempty"`
	Proxy     lab.ProxyMode `json:"proxy,omitempty"`
}

func (c *Cluster) readState() (state, error) {
	var s state
	raw, err := os.ReadFile(c.path("state.json"))
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

func (c *Cluster) writeState(s state) error {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(c.path("state.json"), append(raw, '\n'), 0o644)
}

// sysctlNames are the settings of the whole machine that docker and kubelets in containers change.
var sysctlNames = []string{
	"vm.overcommit_memory", "vm.panic_on_oom", "kernel.panic", "kernel.panic_on_oops",
	"kernel.keys.root_maxkeys", "kernel.keys.root_maxbytes",
	"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.default.forwarding",
}

func sysctlPath(name string) string { return "/proc/sys/" + strings.ReplaceAll(name, ".", "/") }

// readSysctls leaves out what the machine does not have.
func readSysctls() map[string]string {
	values := map[string]string{}
	for _, name := range sysctlNames {
		if raw, err := os.ReadFile(sysctlPath(name)); err == nil {
			values[name] = strings.TrimSpace(string(raw))
		}
	}
	return values
}

func restoreSysctls(values map[string]string) error {
	var faults []error
	for _, name := range sysctlNames {
		if value, ok := values[name]; ok {
			faults = append(faults, os.WriteFile(sysctlPath(name), []byte(value), 0o644))
		}
	}
	return errors.Join(faults...)
}
