package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// wire is a raw socket of a host for the ARP or NDP frames that come in at its first NIC. Its calls are bare system calls of
// the calling thread, which wait in the kernel: Go's scheduler has no part in them, and adds no time of its own.
type wire struct {
	fd  int
	buf []byte
}

// Where ARP and ICMPv6 have what matters here, in Ethernet frames (RFC 826; RFC 4861 sections 4.3 and 4.4).
const (
	arpOperation, arpSenderMAC, arpSender, arpTargetMAC, arpTarget = 20, 22, 28, 32, 38

	arpIsRequest, arpIsReply    = 1, 2
	arpEnd                      = 42
	icmpType, ndpTarget, ndpEnd = 54, 62, 78
	isAdvertisement             = 136
)

// classic BPF, as far as openWire needs it: see linux/filter.h.
const (
	loadHalf, loadWord, loadByte = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
	jumpEqual, jumpGreater       = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	result                       = unix.BPF_RET | unix.BPF_K
	packetType                   = 0xfffff000 + 4 // SKF_AD_OFF + SKF_AD_PKTTYPE
	wholeFrame                   = 1 << 18
)

// answersTo lets in what may answer a question for ip or another of its family.
func answersTo(ip netip.Addr) []unix.SockFilter {
	if ip.Is4() {
		return incoming(unix.SockFilter{Code: loadHalf, K: arpOperation}, unix.SockFilter{Code: jumpEqual, Jf: 1, K: arpIsReply})
	}
	return incoming(unix.SockFilter{Code: loadByte, K: icmpType}, unix.SockFilter{Code: jumpEqual, Jf: 1, K: isAdvertisement})
}

// requestsFor lets in what may ask for ip, by ARP.
func requestsFor(ip netip.Addr) []unix.SockFilter {
	b := ip.As16()
	return incoming(unix.SockFilter{Code: loadWord, K: arpTarget},
		unix.SockFilter{Code: jumpEqual, Jf: 1, K: binary.BigEndian.Uint32(b[12:])})
}

// incoming lets in what passes tests, which end by going on or skipping one instruction, and has arrived from others.
func incoming(tests ...unix.SockFilter) []unix.SockFilter {
	program := []unix.SockFilter{{Code: loadByte, K: packetType}, {Code: jumpGreater, Jt: uint8(len(tests)) + 1, K: unix.PACKET_MULTICAST}}
	return append(append(program, tests...), unix.SockFilter{Code: result, K: wholeFrame}, unix.SockFilter{Code: result})
}

// openWire opens a wire in the calling thread's namespace, for the family of like. Zero waits for a frame for ever.
func openWire(nic int, like netip.Addr, filter []unix.SockFilter, wait time.Duration) (*wire, error) {
	timeout := unix.NsecToTimeval(wait.Nanoseconds())
	protocol := uint16(unix.ETH_P_ARP)
	if like.Is6() {
		protocol = unix.ETH_P_IPV6
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = errors.Join(
			unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol<<8 | protocol>>8, Ifindex: nic}))
		if err != nil {
			err = errors.Join(err, unix.Close(fd))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open a raw socket: %w", err)
	}
	return &wire{fd: fd, buf: make([]byte, 2048)}, nil
}

// openWireOf opens a wire at the first NIC of a host.
func openWireOf(h *lab.Host, like netip.Addr, filter []unix.SockFilter) (w *wire, err error) {
	link, err := h.Netlink().LinkByName(h.NICs()[0].Name)
	if err != nil {
		return nil, fmt.Errorf("find the NIC of %s: %w", h.Hostname, err)
	}
	err = h.Do(func() error {
		w, err = openWire(link.Attrs().Index, like, filter, answerWithin/10)
		return err
	})
	return w, err
}

func (w *wire) close() { _ = unix.Close(w.fd) }

// receive returns the next frame. It is overwritten by the one after it.
func (w *wire) receive() ([]byte, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(w.fd), uintptr(unsafe.Pointer(&w.buf[0])), uintptr(len(w.buf)))
	if errno != 0 {
		return nil, errno
	}
	return w.buf[:n], 0
}

func (w *wire) send(frame []byte) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(w.fd), uintptr(unsafe.Pointer(&frame[0])), uintptr(len(frame)))
	return errno
}

// sleep sleeps in the kernel.
func sleep(d time.Duration) {
	spec := unix.NsecToTimespec(d.Nanoseconds())
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&spec)), 0, 0)
}

// claims tells whether a frame that answersTo lets in says who has ip.
func claims(frame []byte, ip netip.Addr) bool {
	if ip.Is4() {
		return len(frame) >= arpEnd && [4]byte(frame[arpSender:]) == ip.As4()
	}
	return len(frame) >= ndpEnd && [16]byte(frame[ndpTarget:]) == ip.As16()
}

// question is a request, and the address that it asks for.
type question struct {
	frame []byte
	ip    netip.Addr
}

func (s *Site) questions(host string, ips ...netip.Addr) (list []question, err error) {
	for _, ip := range ips {
		frame, err := s.Request(host, ip)
		if err != nil {
			return nil, err
		}
		list = append(list, question{frame, ip})
	}
	return list, nil
}

// drain forgets the frames that have come: one that answers twice has not answered the next question yet.
func (w *wire) drain() {
	for {
		_, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(w.fd), uintptr(unsafe.Pointer(&w.buf[0])), uintptr(len(w.buf)), unix.MSG_DONTWAIT, 0, 0)
		if errno != 0 && errno != unix.EINTR {
			return
		}
	}
}

// ask returns the time from a request to the answer, as the asking thread sees it; false if there is no answer in time.
func (w *wire) ask(q question) (time.Duration, bool, error) {
	w.drain()
	begun := time.Now()
	if errno := w.send(q.frame); errno != 0 {
		return 0, false, fmt.Errorf("ask for %s: %w", q.ip, errno)
	}
	for {
		frame, errno := w.receive()
		took := time.Since(begun)
		switch {
		case errno == 0 && claims(frame, q.ip):
			return took, true, nil
		case errno != 0 && errno != unix.EAGAIN && errno != unix.EINTR:
			return 0, false, fmt.Errorf("wait for the answer for %s: %w", q.ip, errno)
		case took > answerWithin:
			return 0, false, nil
		}
	}
}

const (
	// answerWithin is how long an answer is waited for.
	answerWithin = 250 * time.Millisecond
	// askWithin is when no more questions are asked that could be.
	askWithin = time.Minute
)

// asked is what came of the questions to one that answers.
type asked struct {
	micros     []float64 // from request to answer
	unanswered int
}

// lost is the part of the questions that were not answered, in percent.
func (a asked) lost() float64 {
	return 100 * float64(a.unanswered) / float64(max(1, len(a.micros)+a.unanswered))
}

// stride leads through n things by steps that visit each once before any again, and far apart: it has no divisor in common
// with n.
func stride(n int) int {
	step := n*618/1000 + 1
	for divisor(step, n) > 1 {
		step++
	}
	return step
}

// divisor is the greatest that two numbers have in common.
func divisor(a, b int) int {
	for b > 0 {
		a, b = b, a%b
	}
	return a
}

// compare asks those that answer in turns, so that whatever else goes on hits all of them alike: n questions of each list, from
// all over it. With a pause before each, the turns are of one question; otherwise of a hundred, lest what one has still to do after
// its answer delays the next. It asks less often where the answers that do not come would take longer than askWithin.
func (w *wire) compare(ctx context.Context, n int, pause time.Duration, lists ...[]question) ([]asked, error) {
	turn := 1
	if pause == 0 {
		turn = 100
	}
	all := make([]asked, len(lists))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for from, begun := 0, time.Now(); from < n && time.Since(begun) < askWithin; from += turn {
		for j, list := range lists {
			step := stride(len(list))
			for i := from; i < min(from+turn, n); i++ {
				if pause > 0 {
					sleep(pause)
				}
				took, ok, err := w.ask(list[i*step%len(list)])
				switch {
				case err != nil:
					return nil, err
				case ok:
					all[j].micros = append(all[j].micros, float64(took.Nanoseconds())/1000)
				default:
					all[j].unanswered++
				}
				runtime.Gosched() // or the thread would be interrupted while it measures
			}
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return all, nil
}

// flood sends frames in turns, so many per millisecond, until ctx ends. It returns how many it has sent.
func (w *wire) flood(ctx context.Context, perMilli int, list []question) (sent int, _ error) {
	for begun := time.Now(); ; sent++ {
		if sent%perMilli == 0 && pass(ctx, time.Until(begun.Add(time.Duration(sent/perMilli)*time.Millisecond))) != nil {
			return sent, nil
		}
		if _, err := unix.Write(w.fd, list[sent%len(list)].frame); err != nil {
			return sent, fmt.Errorf("send a frame: %w", err)
		}
	}
}

// BareReplies answers ARP for an address on a NIC of the namespace that it runs in, with nothing but a read and a write for each
// request: what is left of an implementation without its work, and without a runtime. Without an address it reads every ARP and
// IPv6 frame that comes in, and does nothing.
func BareReplies(ctx context.Context, nic string, ip netip.Addr) error {
	link, err := net.InterfaceByName(nic)
	if err != nil {
		return fmt.Errorf("find the NIC: %w", err)
	}
	families, filter, answer := []netip.Addr{ip}, requestsFor(ip), bareReply
	if !ip.IsValid() {
		families, filter = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}, incoming()
		answer = func([]byte, net.HardwareAddr) []byte { return nil }
	}
	// The threads never give their processors of Go's scheduler back.
	runtime.GOMAXPROCS(len(families) + 2)
	for _, like := range families {
		w, err := openWire(link.Index, like, filter, 0)
		if err != nil {
			return err
		}
		go func() {
			runtime.LockOSThread()
			for {
				frame, errno := w.receive()
				if errno != 0 {
					continue // interrupted
				}
				if reply := answer(frame, link.HardwareAddr); reply != nil {
					_ = w.send(reply)
				}
			}
		}()
	}
	<-ctx.Done()
	return nil
}

// bareReply turns an ARP request into the reply.
func bareReply(frame []byte, mac net.HardwareAddr) []byte {
	if len(frame) < arpEnd || frame[arpOperation+1] != arpIsRequest {
		return nil
	}
	target := [4]byte(frame[arpTarget:])
	copy(frame[0:], frame[6:12])
	copy(frame[6:], mac)
	frame[arpOperation+1] = arpIsReply
	copy(frame[arpTargetMAC:], frame[arpSenderMAC:arpTargetMAC]) // MAC and IPv4 address of who asked
	copy(frame[arpSenderMAC:], mac)
	copy(frame[arpSender:], target[:])
	return frame[:arpEnd]
}

// BareRepliesCommand is the first argument of a program that is to do BareReplies with the others: a NIC, and an address or
// none.
const BareRepliesCommand = "bare-replies"

// startBareReplies starts this program anew on a host, as BareReplies; the zero address is none.
func (s *Site) startBareReplies(host, name string, ip netip.Addr) (*lab.Process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	args := []string{BareRepliesCommand, s.Host(host).NICs()[0].Name}
	if ip.IsValid() {
		args = append(args, ip.String())
	}
	// Go interrupts threads that do not report to its scheduler, unless it is told not to.
	return s.Start(host, lab.ProcessOptions{Name: name, Path: program, Args: args, Env: []string{"GODEBUG=asyncpreemptoff=1"}})
}
