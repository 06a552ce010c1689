package layer2

import (
	"io"
	"net"
	"syscall"
	"unsafe"

	"github.com/mdlayher/packet"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// Network opens what announcing on an interface needs. The default is the kernel's; tests bring their own.
type Network interface {
	// Listen opens a socket for the requests of one family. A Read returns one Ethernet frame that may
	// be a request and waits for it; a Write sends one frame and does not wait. Close ends both.
	Listen(ifi placement.Interface, family Family) (io.ReadWriteCloser, error)
	// Member opens a socket that can be a member of IPv6 multicast groups on the interface.
	Member(ifi placement.Interface) (Member, error)
}

// kernel opens sockets in the network namespace of the calling thread.
type kernel struct{}

func (kernel) Listen(ifi placement.Interface, family Family) (io.ReadWriteCloser, error) {
	program, err := filter(ifi.Index, family.protocol().filter)
	if err != nil {
		return nil, err
	}
	conn, err := packet.Listen(&net.Interface{Index: ifi.Index}, packet.Raw,
		int(family.protocol().etherType), &packet.Config{Filter: program})
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	s := &socket{Conn: conn, raw: raw}
	s.read = s.tryRead
	return s, nil
}

// socket reads and writes frames without the addresses that package packet would allocate for each.
// There may be one reader at a time, and any number of writers.
type socket struct {
	*packet.Conn
	raw  syscall.RawConn
	read func(fd uintptr) bool

	// Of the Read in progress.
	buf []byte
	n   int
	err error
}

func (s *socket) Read(b []byte) (int, error) {
	s.buf = b
	if err := s.raw.Read(s.read); err != nil {
		return 0, err
	}
	return max(s.n, 0), s.err
}

// tryRead returns false to be called again when the socket is readable.
func (s *socket) tryRead(fd uintptr) bool {
	for {
		n, err := receive(int(fd), s.buf)
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return false
		case 0:
			s.n, s.err = n, nil
		default:
			s.n, s.err = 0, err
		}
		return true
	}
}

// Write sends a frame if the kernel takes it now: a reply that waits is worth nothing.
func (s *socket) Write(b []byte) (n int, err error) {
	var fault syscall.Errno
	if err := s.raw.Control(func(fd uintptr) { fault = send(int(fd), b) }); err != nil {
		return 0, err
	}
	if fault != 0 {
		return 0, fault
	}
	return len(b), nil
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
