package lab

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/lanyard-lb/lanyard/e2etest/netspace"
)

// rawSocket sees and sends every frame of one interface. Reading and writing may go on at once.
type rawSocket struct {
	file  *os.File
	raw   syscall.RawConn
	index int
}

// openRaw opens a raw socket on an interface of a namespace.
func openRaw(space *netspace.Namespace, name string) (*rawSocket, error) {
	link, err := space.Netlink().LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("open a raw socket on %s of %s: %w", name, space.Name(), err)
	}
	index := link.Attrs().Index
	fd := -1
	err = space.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err == nil {
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
			unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
				&unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC}),
			// Bound last: with a protocol from the start, frames of other interfaces would come in before.
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL), Ifindex: index}))
	}
	if err != nil {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		return nil, fmt.Errorf("open a raw socket on %s of %s: %w", name, space.Name(), err)
	}
	s := &rawSocket{file: os.NewFile(uintptr(fd), "raw "+name), index: index}
	if s.raw, err = s.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, s.file.Close())
	}
	return s, nil
}

// read waits for the next frame, until the deadline or the end of the socket (os.ErrDeadlineExceeded, os.ErrClosed).
func (s *rawSocket) read() (Frame, error) {
	buffer, control := make([]byte, 2048), make([]byte, 128)
	var n, controlLen int
	var from unix.Sockaddr
	var fault error
	err := s.raw.Read(func(fd uintptr) bool {
		n, controlLen, _, from, fault = unix.Recvmsg(int(fd), buffer, control, 0)
		return !errors.Is(fault, unix.EAGAIN) && !errors.Is(fault, unix.EINTR)
	})
	if err = errors.Join(err, fault); err != nil {
		return Frame{}, err
	}
	f := decodeFrame(buffer[:n])
	f.Time = timestamp(control[:controlLen])
	if ll, ok := from.(*unix.SockaddrLinklayer); ok {
		f.Outgoing = ll.Pkttype == unix.PACKET_OUTGOING
	}
	return f, nil
}

func (s *rawSocket) write(frame []byte) error {
	var fault error
	err := s.raw.Write(func(fd uintptr) bool {
		fault = unix.Sendto(int(fd), frame, 0, &unix.SockaddrLinklayer{Ifindex: s.index})
		return !errors.Is(fault, unix.EAGAIN)
	})
	return errors.Join(err, fault)
}

func (s *rawSocket) setReadDeadline(t time.Time) error { return s.file.SetReadDeadline(t) }

func (s *rawSocket) close() error { return s.file.Close() }

// timestamp reads the kernel's time of a frame.
func timestamp(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Now()
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
			ts := (*unix.Timespec)(unsafe.Pointer(&m.Data[0]))
			return time.Unix(ts.Unix())
		}
	}
	return time.Now()
}

func bigEndian(v uint16) uint16 { return v<<8 | v>>8 }
