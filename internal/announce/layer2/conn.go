package layer2

import (
	"net"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/mdlayher/packet"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// Network opens what announcing on an interface needs. The default is the kernel's; tests bring their own.
type Network interface {
	// Listen opens a socket for the requests of one family.
	Listen(ifi placement.Interface, family Family) (Conn, error)
	// Member opens a socket that can be a member of IPv6 multicast groups on the interface.
	Member(ifi placement.Interface) (Member, error)
}

// Conn is a socket for Ethernet frames.
type Conn interface {
	// Serve calls handle with each frame that may be a request, as it comes, until the socket fails or is closed; then it
	// returns why. It may be called again after a failure. The frame is handle's until it returns.
	Serve(handle func(frame []byte)) error
	// Write sends one frame and does not wait. It may be called by several goroutines, and by handle, but not once Close has
	// been called.
	Write(frame []byte) (int, error)
	// Narrow has Serve get only frames that may be about addresses in near; others may still come, and frames that came before
	// stay. At first, near is everywhere. If it fails, nothing has changed.
	Narrow(near []Span) error
	// Close ends Serve, after the frame that it handles.
	Close() error
}

// kernel opens sockets in the network namespace of the calling thread.
type kernel struct{}

func (kernel) Listen(ifi placement.Interface, family Family) (Conn, error) {
	program, err := filter(ifi.Index, family.protocol(), everywhere)
	if err != nil {
		return nil, err
	}
	conn, err := packet.Listen(&net.Interface{Index: ifi.Index}, packet.Raw,
		int(family.protocol().etherType), &packet.Config{Filter: program})
	if err != nil {
		return nil, err
	}
	s := &socket{conn: conn, index: ifi.Index, proto: family.protocol(), buf: make([]byte, frameSize)}
	if s.raw, err = conn.SyscallConn(); err == nil {
		err = s.raw.Control(func(fd uintptr) { s.fd = int(fd) })
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return s, nil
}

// socket reads and writes frames without the addresses that package packet would allocate for each, and with as few steps
// between a request and its reply as can be: most requests come when the code of each step has left the processor's caches.
type socket struct {
	conn   *packet.Conn
	index  int
	proto  *protocol
	raw    syscall.RawConn
	fd     int
	closed atomic.Bool
	buf    []byte // of Serve
}

// Serve never leaves the poller's Read while all is well: that is where it waits, and what keeps the descriptor open.
func (s *socket) Serve(handle func(frame []byte)) error {
	var fault syscall.Errno
	err := s.raw.Read(func(uintptr) (done bool) {
		for !s.closed.Load() {
			switch n, errno := receive(s.fd, s.buf); errno {
			case 0:
				handle(s.buf[:n])
			case syscall.EAGAIN:
				return false
			case syscall.EINTR:
			default:
				fault = errno
				return true
			}
		}
		return true
	})
	switch {
	case s.closed.Load():
		return net.ErrClosed
	case err != nil:
		return err
	}
	return fault
}

// Write sends a frame if the kernel takes it now: a reply that waits is worth nothing.
func (s *socket) Write(b []byte) (int, error) {
	if errno := send(s.fd, b); errno != 0 {
		return 0, errno
	}
	return len(b), nil
}

func (s *socket) Narrow(near []Span) error {
	program, err := filter(s.index, s.proto, near)
	if err != nil {
		return err
	}
	return s.conn.SetBPF(program)
}

func (s *socket) Close() error {
	s.closed.Store(true)
	return s.conn.Close()
}

// receive and send make system calls that do not wait, and so need not tell Go's scheduler of them. Telling it costs most where
// nothing else goes on: it wakes a thread that watches over long system calls, before the call is made.
func receive(fd int, b []byte) (int, syscall.Errno) {
	n, _, err := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if err != 0 {
		return 0, err
	}
	return int(n), 0
}

func send(fd int, b []byte) syscall.Errno {
	_, _, err := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return err
}
