package lab

import (
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// spawners starts processes from threads of its own, one per Privilege. A thread of its own is needed for two reasons:
// "kill the child when the parent dies" is tied by the kernel to the thread that forked, and giving up capabilities for
// good (the bounding set, no_new_privs) cannot be taken back by a thread that does other work later.
type spawners struct {
	mu      sync.Mutex
	threads map[Privilege]chan spawn
	closed  bool
}

type spawn struct {
	host  *Host
	cmd   *exec.Cmd
	bound bool // dies with this process
	reply chan error
}

// start starts cmd in the namespace of host.
func (s *spawners) start(h *Host, cmd *exec.Cmd, privilege Privilege, bound bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("the lab is down")
	}
	if s.threads == nil {
		s.threads = map[Privilege]chan spawn{}
	}
	jobs, ok := s.threads[privilege]
	if !ok {
		jobs = make(chan spawn)
		s.threads[privilege] = jobs
		go spawner(privilege, jobs)
	}
	job := spawn{host: h, cmd: cmd, bound: bound, reply: make(chan error)}
	jobs <- job
	return <-job.reply
}

// close ends the threads, and with them whatever they started and still runs. It is harmless to repeat.
func (s *spawners) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for privilege, jobs := range s.threads {
		close(jobs)
		delete(s.threads, privilege)
	}
}

// spawner serves one thread until its jobs end. It never unlocks the thread, so the thread ends with it.
func spawner(privilege Privilege, jobs <-chan spawn) {
	runtime.LockOSThread()
	unfit := dropPrivileges(privilege)
	for job := range jobs {
		if unfit != nil {
			job.reply <- unfit
			continue
		}
		job.reply <- startIn(job, privilege)
	}
}

// startIn forks in the host's namespace. The thread may stay there: each job enters its own.
func startIn(job spawn, privilege Privilege) error {
	if err := netns.Set(netns.NsHandle(job.host.FD())); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", job.host.Name(), err)
	}
	attr := &syscall.SysProcAttr{Setsid: true}
	if job.bound {
		attr.Pdeathsig = syscall.SIGKILL
	}
	if privilege != AsRoot {
		attr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	attr.AmbientCaps = privilege.capabilities()
	job.cmd.SysProcAttr = attr
	return job.cmd.Start()
}

const nobody = 65534

// capabilities that an ordinary user is given.
func (p Privilege) capabilities() []uintptr {
	switch p {
	case AsNobodyNetRaw:
		return []uintptr{unix.CAP_NET_RAW}
	case AsNobodyInKernel:
		return []uintptr{unix.CAP_NET_RAW, unix.CAP_NET_ADMIN, unix.CAP_BPF}
	}
	return nil
}

// dropPrivileges takes from the calling thread, for good, what its children must not have: all of the bounding set but
// what the privilege names, and the chance to gain by exec. What the thread itself holds it keeps, to enter namespaces.
func dropPrivileges(privilege Privilege) error {
	if privilege == AsRoot {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if slices.Contains(privilege.capabilities(), c) {
			continue
		}
		// EINVAL: this kernel is older than the capability.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && err != unix.EINVAL {
			return fmt.Errorf("drop capability %d from the bounding set: %w", c, err)
		}
	}
	return nil
}
