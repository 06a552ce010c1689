package kind

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// daemon is a process that outlives this program. PIDs are used again, so the time of its start tells it apart.
type daemon struct {
	PID     int    `json:"pid"`
	Started string `json:"started"` // clock ticks after boot
}

// startTime is when a process began, in clock ticks after boot, or "" if there is no such process.
func startTime(pid int) string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The name, in brackets, may hold anything; the start is field 22, the twentieth after it.
	_, rest, _ := cutLast(string(raw), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	return fields[19]
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func (d *daemon) alive() bool { return d != nil && startTime(d.PID) == d.Started }

// needDaemon sees to it that a docker daemon answers. Where none does it asks systemd to start it, or starts it itself.
func (c *Cluster) needDaemon(ctx context.Context, s *state, out io.Writer) error {
	if _, err := exec.LookPath("docker"); err != nil {
		return errors.New(`the program "docker" is missing: make needs-kind, or apt-get install docker.io`)
	}
	_, err := docker(ctx, "version", "--format", "{{.Server.Version}}")
	if err == nil {
		return nil
	}
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		fmt.Fprintln(out, "starting docker by systemd")
		err := command(ctx, nil, nil, "systemctl", "start", "docker")
		// The daemon stays, and what it has set with it.
		s.Sysctls = nil
		s.rememberSysctls()
		return errors.Join(err, s.write())
	}
	if _, lookErr := exec.LookPath("dockerd"); lookErr != nil || os.Geteuid() != 0 {
		return fmt.Errorf("no docker daemon answers: %w", err)
	}
	log, err := os.Create(c.path("dockerd.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	fmt.Fprintln(out, "starting dockerd, its log is", log.Name())
	cmd := exec.Command("dockerd")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start dockerd: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s.Daemon = &daemon{PID: cmd.Process.Pid, Started: startTime(cmd.Process.Pid)}
	if err := s.write(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return poll(ctx, 200*time.Millisecond, func() error {
		select {
		case err := <-ended:
			return final(fmt.Errorf("dockerd ended, see %s: %w", log.Name(), err))
		default:
		}
		_, err := docker(ctx, "version", "--format", "{{.Server.Version}}")
		return err
	})
}

// stopDaemon ends the docker daemon if we started it and no container runs on it.
func (s *state) stopDaemon(ctx context.Context, out io.Writer) error {
	if !s.Daemon.alive() {
		s.Daemon = nil
		return nil
	}
	running, err := docker(ctx, "ps", "--quiet")
	if err != nil {
		return err
	}
	if running != "" {
		fmt.Fprintln(out, "dockerd stays: other containers run on it")
		return nil
	}
	if err := syscall.Kill(s.Daemon.PID, syscall.SIGTERM); err != nil {
		return fmt.Errorf("end dockerd (%d): %w", s.Daemon.PID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err = poll(ctx, 100*time.Millisecond, func() error {
		if s.Daemon.alive() {
			return fmt.Errorf("dockerd (%d) does not end", s.Daemon.PID)
		}
		return nil
	})
	if err == nil {
		s.Daemon = nil
	}
	return err
}

const capSysResource = 24

// mayAllocateAll tells whether docker can give a container every capability: whether the daemon itself may have
// CAP_SYS_RESOURCE. Some machines withhold that one even from root.
func mayAllocateAll() bool {
	status, err := os.ReadFile("/proc/self/status")
	if raw, pidErr := os.ReadFile("/run/docker.pid"); pidErr == nil {
		if other, otherErr := os.ReadFile("/proc/" + strings.TrimSpace(string(raw)) + "/status"); otherErr == nil {
			status, err = other, nil
		}
	}
	return err != nil || hasCapability(string(status), capSysResource)
}

// hasCapability reads the bounding set in the text of a /proc/PID/status.
func hasCapability(status string, capability int) bool {
	for line := range strings.Lines(status) {
		if hex, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			return err == nil && set&(1<<capability) != 0
		}
	}
	return false
}

type finalError struct{ error }

// final marks an error that trying again cannot help.
func final(err error) error { return finalError{err} }

// poll tries until nil, a final error or the context's end, and then returns the last error.
func poll(ctx context.Context, every time.Duration, try func() error) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		if stop := (finalError{}); errors.As(err, &stop) {
			return stop.error
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (gave up: %w)", err, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}
