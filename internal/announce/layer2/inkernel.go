package layer2

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// mostInKernel is how many addresses of a family on an interface can be answered for in the kernel.
const mostInKernel = 1 << 14

// InKernel has the kernel answer requests by programs (eBPF) on the interfaces: sooner than a process that has to be woken,
// and also while this process waits for a processor. It needs Linux 6.6, CAP_BPF and CAP_NET_ADMIN.
//
// A program answers until the time that AnswerUntil was told last, never when this process is gone, and nothing but what the
// responder's socket would answer if it got the request; what the program leaves alone gets there. Other filters of the kernel
// come after it. Its methods may be called by anyone at any time.
type InKernel struct {
	mu    sync.Mutex
	until int64 // in nanoseconds of CLOCK_MONOTONIC
	open  map[*answering]bool
}

// NewInKernel fails where the kernel does not let this process do so. It tries that on the loopback interface of the network
// namespace of the calling thread, where nobody asks.
func NewInKernel() (*InKernel, error) {
	// The kernel's programs have its own clock, from which ours may differ then.
	if offsets, err := os.ReadFile("/proc/self/timens_offsets"); err == nil && shifted(string(offsets)) {
		return nil, errors.New("this process has a time namespace of its own")
	}
	k := &InKernel{open: make(map[*answering]bool)}
	for _, f := range families {
		a, err := k.attach(placement.Interface{Name: "lo", Index: 1}, f)
		if err != nil {
			return nil, fmt.Errorf("try it on the loopback interface: %w", err)
		}
		a.close()
	}
	return k, nil
}

// shifted reports whether offsets of a time namespace, as time_namespaces(7) has them, move the monotonic clock.
func shifted(offsets string) bool {
	for line := range strings.Lines(offsets) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "monotonic" {
			return f[1] != "0" || f[2] != "0"
		}
	}
	return false
}

// AnswerUntil has the programs answer until t, which must have a monotonic reading. If the caller stands still meanwhile, they
// fall silent no later for that.
func (k *InKernel) AnswerUntil(t time.Time) {
	now := monotonic()
	until := now + time.Until(t).Nanoseconds()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.until = until
	for a := range k.open {
		a.word(sharedUntil).Store(uint64(max(until, 0)))
	}
}

func monotonic() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // there always is one
	return now.Nano()
}

// answering is the program on one interface for one family. What is said to it is said under the book's lock, and the rest is the
// announcer's to call; silence may come at any time.
type answering struct {
	kernel  *InKernel
	tables  tables
	memory  []byte // the shared one
	program *ebpf.Program
	link    link.Link
	counted uint64
}

// attach puts a program on an interface, in the network namespace of the calling thread. It answers once it is told to begin.
func (k *InKernel) attach(ifi placement.Interface, family Family) (_ *answering, err error) {
	a := &answering{kernel: k}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	key, build := uint32(4), answerARP
	if family == IPv6 {
		key, build = 16, answerNDP
	}
	if a.tables.held, err = ebpf.NewMap(&ebpf.MapSpec{Name: "held", Type: ebpf.Hash, KeySize: key, ValueSize: 1,
		MaxEntries: mostInKernel, Flags: unix.BPF_F_NO_PREALLOC}); err != nil {
		return nil, err
	}
	if a.tables.shared, err = ebpf.NewMap(&ebpf.MapSpec{Name: "shared", Type: ebpf.Array, KeySize: 4, ValueSize: sharedSize,
		MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE}); err != nil {
		return nil, err
	}
	if a.memory, err = unix.Mmap(a.tables.shared.FD(), 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map memory: %w", err)
	}
	if a.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{Name: "answer_" + family.String(), Type: ebpf.SchedCLS,
		Instructions: build(a.tables, ifi.MAC), License: "Apache-2.0"}); err != nil {
		return nil, err
	}
	if a.link, err = link.AttachTCX(link.TCXOptions{Interface: ifi.Index, Program: a.program,
		Attach: ebpf.AttachTCXIngress, Anchor: link.Head()}); err != nil {
		return nil, err
	}
	return a, nil
}

// begin has the program answer. It must know of all addresses that are held, or it would take in who claims one of the others.
func (a *answering) begin() {
	k := a.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	k.open[a] = true
	a.word(sharedUntil).Store(uint64(max(k.until, 0)))
}

// hold has the program know of an address, and answer for it or not. After an error it is silent for ever.
func (a *answering) hold(ip netip.Addr, answer bool) error {
	value := byte(0)
	if answer {
		value = 1
	}
	err := a.tables.held.Put(ip.AsSlice(), []byte{value})
	if err != nil {
		a.silence()
	}
	return err
}

// drop has the program know nothing of an address. After an error it is silent for ever.
func (a *answering) drop(ip netip.Addr) error {
	err := a.tables.held.Delete(ip.AsSlice())
	if err == nil || errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	a.silence()
	return err
}

// silence ends the program's answers: when it returns, none is begun any more.
func (a *answering) silence() {
	a.kernel.mu.Lock()
	defer a.kernel.mu.Unlock()
	delete(a.kernel.open, a)
	if a.memory != nil {
		a.word(sharedUntil).Store(0)
	}
}

// answered returns how many requests the program has answered since the last call.
func (a *answering) answered() uint64 {
	all := a.word(sharedAnswered).Load()
	n := all - a.counted
	a.counted = all
	return n
}

// close removes the program, which may take the kernel some time. It may be called on what was only opened in part.
func (a *answering) close() {
	a.silence()
	if a.link != nil {
		_ = a.link.Close()
	}
	if a.program != nil {
		_ = a.program.Close()
	}
	if memory := a.memory; memory != nil {
		a.memory = nil
		_ = unix.Munmap(memory)
	}
	for _, m := range []*ebpf.Map{a.tables.shared, a.tables.held} {
		if m != nil {
			_ = m.Close()
		}
	}
}

// word of the shared memory at an offset.
func (a *answering) word(offset uintptr) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&a.memory[offset]))
}
