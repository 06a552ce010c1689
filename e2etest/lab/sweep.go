package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lanyard-lb/lanyard/e2etest/netspace"
)

// Remove takes a lab down by its record: processes, namespaces, data folder, state folder, in that order, so that it can
// be repeated after an interruption. Only what the record names is touched, and nothing if the prefix has passed to
// another lab since the record was read.
func (r Record) Remove(ctx context.Context) error {
	unlock, err := lockFile(filepath.Join(stateRoot, ".lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if now, err := ReadRecord(r.Prefix); !r.same(now, err) {
		return nil
	}
	if err := r.removeAll(ctx); err != nil {
		return fmt.Errorf("remove lab %s: %w", r.Prefix, err)
	}
	return os.RemoveAll(stateDir(r.Prefix))
}

// same tells whether the record that is there now, if any, is that of the same lab.
func (r Record) same(now Record, err error) bool {
	if r.Owner.PID == 0 {
		return err != nil
	}
	return err == nil && r.Owner == now.Owner && r.Created.Equal(now.Created)
}

func (r Record) removeAll(ctx context.Context) error {
	namespaces, err := netspace.List(r.Prefix + "-")
	if err != nil {
		return err
	}
	if err := r.killAll(ctx, namespaces); err != nil {
		return err
	}
	// A node agent may have made one more pod namespace before it died: list again.
	if namespaces, err = netspace.List(r.Prefix + "-"); err != nil {
		return err
	}
	var faults []error
	for _, name := range namespaces {
		faults = append(faults, netspace.Delete(name))
	}
	if r.DataDir != "" && strings.HasPrefix(filepath.Base(r.DataDir), dataDirName(r.Prefix)) {
		faults = append(faults, os.RemoveAll(r.DataDir))
	}
	return errors.Join(faults...)
}

// Sweep removes every abandoned lab and returns the prefixes.
func Sweep(ctx context.Context) ([]string, error) {
	records, err := List()
	if err != nil {
		return nil, err
	}
	var swept []string
	var faults []error
	for _, r := range records {
		if r.Status() != "abandoned" {
			continue
		}
		if err := r.Remove(ctx); err != nil {
			faults = append(faults, err)
			continue
		}
		swept = append(swept, r.Prefix)
	}
	return swept, errors.Join(faults...)
}

// killAll kills the recorded processes and whatever else lives in the lab's namespaces, and waits until they are gone.
func (r Record) killAll(ctx context.Context, namespaces []string) error {
	victims := map[ProcessID]bool{}
	for _, p := range r.Processes {
		victims[p.ProcessID] = true
	}
	for _, p := range inhabitants(namespaces) {
		victims[p] = true
	}
	for p := range victims {
		if p.Alive() {
			_ = unix.Kill(p.PID, unix.SIGKILL)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for p := range victims {
		if err := poll(ctx, 5*time.Millisecond, func() bool { return !p.Alive() }); err != nil {
			return fmt.Errorf("process %d does not end: %w", p.PID, err)
		}
	}
	return nil
}

// inhabitants are the processes whose network namespace is one of those named, apart from this one.
func inhabitants(namespaces []string) []ProcessID {
	type inode struct{ dev, ino uint64 }
	ours := map[inode]bool{}
	for _, name := range namespaces {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(netspace.Dir, name), &st) == nil {
			ours[inode{st.Dev, st.Ino}] = true
		}
	}
	entries, _ := os.ReadDir("/proc")
	var found []ProcessID
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		var st unix.Stat_t
		if unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &st) != nil || !ours[inode{st.Dev, st.Ino}] {
			continue
		}
		if id, err := processID(pid); err == nil {
			found = append(found, id)
		}
	}
	return found
}

// poll asks until the answer is yes or the context ends.
func poll(ctx context.Context, every time.Duration, done func() bool) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}
