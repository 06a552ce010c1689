package layer2

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/lanyard-lb/lanyard/internal/announce"
	"github.com/lanyard-lb/lanyard/internal/netnstest"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// The node's own addresses, which its kernel answers for, and those of who asks.
var (
	nodeIPs  = map[Family]netip.Addr{IPv4: netip.MustParseAddr("10.77.255.1"), IPv6: netip.MustParseAddr("fd77::ffff:1")}
	askerIPs = map[Family]netip.Addr{IPv4: netip.MustParseAddr("10.77.255.2"), IPv6: netip.MustParseAddr("fd77::ffff:2")}
)

// The time from a request to its reply as seen by a neighbour, beside that of the kernel for an address that the node really
// has, over the same cable. Requests for the two alternate, so that noise hits both.
//
// As in reality, the announcer is a process of its own that does nothing else meanwhile, and most requests come one by one:
// spaced ones find it asleep and its caches cold. In a row they measure how quickly the machine switches between two
// processes. The asker is a thread that blocks in the kernel, for it to add little: what it adds all the same, its own waking
// included, is part of the times.
func BenchmarkLatency(b *testing.B) {
	for _, count := range []int{1, 10000} {
		node, peer := netnstest.New(b), netnstest.New(b)
		netnstest.Veth(b, node, "eth0", peer, "far")
		node.AddAddr(b, "eth0", nodeIPs[IPv4].String()+"/16")
		node.AddAddr(b, "eth0", nodeIPs[IPv6].String()+"/64")
		startHolder(b, node, count, "")
		for _, f := range families {
			asker := newBlockingAsker(b, peer, f)
			for _, c := range []struct {
				name  string
				pause time.Duration
			}{{"in-a-row", 0}, {"every-2ms", 2 * time.Millisecond}} {
				b.Run(fmt.Sprintf("%s/of=%d/%s", f, count, c.name), func(b *testing.B) { asker.compare(b, numbered(f, 0), c.pause) })
			}
		}
	}
}

// blockingAsker is a neighbour that asks from a thread of its own and waits in the kernel for the answer.
type blockingAsker struct {
	fd     int
	buf    []byte
	source station
}

func newBlockingAsker(t testing.TB, ns *netnstest.NS, f Family) *blockingAsker {
	far := describe(t, ns, "far")
	a := &blockingAsker{fd: -1, buf: make([]byte, frameSize), source: station{mac: far.MAC, ip: askerIPs}}
	ns.Do(t, func() {
		var err error
		a.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		check(t, err)
		program, err := filter(far.Index, f.protocol(), everywhere)
		check(t, err)
		list := make([]unix.SockFilter, len(program))
		for i, p := range program {
			list[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
		}
		check(t, errors.Join(
			unix.SetsockoptSockFprog(a.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(list)), Filter: &list[0]}),
			unix.SetsockoptTimeval(a.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}),
			unix.Bind(a.fd, &unix.SockaddrLinklayer{Protocol: bigEndian(f.protocol().etherType), Ifindex: far.Index})))
	})
	t.Cleanup(func() { _ = unix.Close(a.fd) })
	return a
}

// ask returns the time from the request to the answer, or false if there is none within a second.
func (a *blockingAsker) ask(request []byte, ip netip.Addr) (time.Duration, bool) {
	f := FamilyOf(ip)
	begun := time.Now()
	if send(a.fd, request) != 0 {
		return 0, false
	}
	for {
		n, fault := receive(a.fd, a.buf)
		took := time.Since(begun)
		if fault != 0 && fault != syscall.EINTR || took > time.Second {
			return 0, false
		}
		if claimed, _ := f.protocol().claimed(a.buf[:n]); claimed == ip && fault == 0 {
			return took, true
		}
	}
}

func (a *blockingAsker) compare(b *testing.B, ip netip.Addr, pause time.Duration) {
	own := nodeIPs[FamilyOf(ip)]
	targets := []netip.Addr{own, ip}
	requests := [][]byte{a.source.request(b, own, placement.MAC{}), a.source.request(b, ip, placement.MAC{})}
	var times [2][]time.Duration
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	turn := 1
	if pause == 0 {
		turn = 100 // or what we have still to do after a reply would delay the kernel's
	}
	for b.Loop() {
		for i, request := range requests {
			for range turn {
				if pause > 0 {
					sleep(pause)
				}
				took, ok := a.ask(request, targets[i])
				if !ok {
					b.Fatalf("%s is not answered", targets[i])
				}
				times[i] = append(times[i], took)
				runtime.Gosched() // or the thread would be interrupted in the middle of a later one
			}
		}
	}
	for i, name := range []string{"kernel", "ours"} {
		slices.Sort(times[i])
		for _, p := range []int{25, 50, 99} {
			b.ReportMetric(float64(quantile(times[i], p).Nanoseconds())/1000, fmt.Sprintf("%s-p%d-us", name, p))
		}
	}
	b.ReportMetric(float64(quantile(times[1], 50))/float64(quantile(times[0], 50)), "p50-ratio")
	b.ReportMetric(0, "ns/op")
}

// sleep as a program does that has no scheduler of its own, which would wake another thread before this one goes on.
func sleep(d time.Duration) {
	spec := unix.NsecToTimespec(d.Nanoseconds())
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&spec)), 0, 0)
}

func quantile(sorted []time.Duration, percent int) time.Duration {
	return sorted[(len(sorted)-1)*percent/100]
}

// The processor time that requests for other addresses cost who holds some: with the filter as it is, with one that tells
// only what is a request, and with none. An iteration is a frame; they come at a pace at which a machine that does nothing
// else drops none.
func BenchmarkFlood(b *testing.B) {
	const perMilli = 20
	for _, hears := range []string{hearsAll, hearsKinds, ""} {
		node, peer := netnstest.New(b), netnstest.New(b)
		netnstest.Veth(b, node, "eth0", peer, "far")
		holder := startHolder(b, node, 1, hears)
		for _, f := range families {
			asker := newBlockingAsker(b, peer, f)
			var requests [][]byte
			for i := range 1000 {
				ip := netip.MustParseAddr("10.78.0.0")
				if f == IPv6 {
					ip = netip.MustParseAddr("fd77::eeee:0")
				}
				raw := ip.As16()
				raw[14], raw[15] = byte(i>>8), byte(i)
				requests = append(requests, asker.source.request(b, netip.AddrFrom16(raw).Unmap(), placement.MAC{}))
			}
			b.Run(fmt.Sprintf("%s/%s", cmp.Or(hears, "filtered"), f), func(b *testing.B) {
				before := processorTime(b, holder)
				begun := time.Now()
				for i := range b.N {
					if i%perMilli == 0 {
						sleep(time.Until(begun.Add(time.Duration(i/perMilli) * time.Millisecond)))
					}
					if errno := send(asker.fd, requests[i%len(requests)]); errno != 0 {
						b.Fatal(errno)
					}
				}
				// What still waits in the socket is taken before an answer comes. A socket that has overflowed gives none.
				request, lost := asker.source.request(b, numbered(f, 0), placement.MAC{}), 0.0
				for {
					if _, ok := asker.ask(request, numbered(f, 0)); ok {
						break
					}
					if lost++; lost == 10 {
						b.Fatal("no answer after the flood")
					}
				}
				b.ReportMetric(lost, "unanswered")
				b.ReportMetric((processorTime(b, holder)-before).Seconds()/float64(b.N)*1e6, "cpu-s/Mframe")
			})
		}
	}
}

// processorTime is what all threads of a process have used since it began.
func processorTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	clock := int32(^pid)<<3 | 2 // CPUCLOCK_SCHED of a process, see clock_getcpuclockid(3)
	var used unix.Timespec
	check(t, unix.ClockGettime(clock, &used))
	return time.Duration(used.Nano())
}

// hearing is a Network whose sockets have another filter.
type hearing struct {
	kernel
	what string
}

const (
	hearsAll   = "unfiltered"    // every frame of the family's type
	hearsKinds = "any-neighbour" // what may be a request, for whatever address
)

func (h hearing) Listen(ifi placement.Interface, family Family) (Conn, error) {
	conn, err := h.kernel.Listen(ifi, family)
	if err == nil && h.what == hearsAll {
		err = conn.(*socket).conn.SetBPF([]bpf.RawInstruction{{Op: unix.BPF_RET, K: whole}})
	}
	return loud{conn}, err
}

type loud struct{ Conn }

func (loud) Narrow([]Span) error { return nil }

const holderEnv, hearsEnv = "LAYER2_HOLDER_OF", "LAYER2_HOLDER_HEARS"

// startHolder starts a process in the namespace that announces that many addresses of each family on eth0, and waits
// until it does nothing more unasked.
func startHolder(b *testing.B, node *netnstest.NS, count int, hears string) (pid int) {
	holder := exec.Command(os.Args[0], "-test.run=^TestHolder$", "-test.timeout=0")
	holder.Env = append(os.Environ(), fmt.Sprintf("%s=%d", holderEnv, count), hearsEnv+"="+hears)
	holder.Stderr = os.Stderr
	in, err := holder.StdinPipe()
	check(b, err)
	out, err := holder.StdoutPipe()
	check(b, err)
	node.Do(b, func() { check(b, holder.Start()) })
	b.Cleanup(func() { _ = in.Close(); _ = holder.Wait() })
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.Contains(lines.Text(), holderEnv) {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return holder.Process.Pid
		}
	}
	b.Fatal("the announcer's process has ended")
	return 0
}

// TestHolder is no test but the process that startHolder starts.
func TestHolder(t *testing.T) {
	count, err := strconv.Atoi(os.Getenv(holderEnv))
	if err != nil {
		t.Skip("only for benchmarks")
	}
	self := netnstest.Here(t)
	w := announce.Want{Interfaces: []placement.Interface{describe(t, self, "eth0")}}
	for _, f := range families {
		for i := range count {
			w.Announcements = append(w.Announcements, &placement.Announcement{IP: numbered(f, i), Interfaces: []string{"eth0"}})
		}
	}
	var network Network
	if hears := os.Getenv(hearsEnv); hears != "" {
		network = hearing{what: hears}
	}
	a := inside{t, self, New(Config{Network: network})}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	check(t, a.Set(w))
	go func() { done <- a.Run(ctx) }()
	// The last repetition, and what the pace of so many adds.
	time.Sleep(repeats[len(repeats)-1] + time.Duration(2*count*len(repeats))*repeatEvery + 2*time.Second)
	fmt.Println(holderEnv)
	_, _ = io.Copy(io.Discard, os.Stdin)
	cancel()
	check(t, <-done)
}
