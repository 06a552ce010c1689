package netspace

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Dir is where named network namespaces are mounted; `ip netns` reads the same folder.
const Dir = "/run/netns"

// Namespace is an open network namespace. All methods may be called concurrently, but not after Close.
type Namespace struct {
	name string
	ns   netns.NsHandle
	link *netlink.Handle
}

// Create makes a namespace, brings its loopback interface up and opens it. It fails if the name is taken.
func Create(ctx context.Context, name string) (*Namespace, error) {
	if out, err := exec.CommandContext(ctx, "ip", "netns", "add", name).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("create network namespace %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	n, err := Open(name)
	if err != nil {
		return nil, errors.Join(err, Delete(name))
	}
	if err := n.loopbackUp(); err != nil {
		return nil, errors.Join(err, n.Close(), Delete(name))
	}
	return n, nil
}

// Open opens a namespace that exists.
func Open(name string) (*Namespace, error) {
	return open(name, func() (netns.NsHandle, error) { return netns.GetFromName(name) })
}

// OpenProcess opens the namespace of a process, as a container's, and gives it a name for messages.
func OpenProcess(name string, pid int) (*Namespace, error) {
	return open(name, func() (netns.NsHandle, error) { return netns.GetFromPid(pid) })
}

// OpenHere opens the namespace that this process is in, and gives it a name for messages.
func OpenHere(name string) (*Namespace, error) { return open(name, netns.Get) }

func open(name string, get func() (netns.NsHandle, error)) (*Namespace, error) {
	ns, err := get()
	if err != nil {
		return nil, fmt.Errorf("open network namespace %s: %w", name, err)
	}
	link, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open netlink in namespace %s: %w", name, err), ns.Close())
	}
	return &Namespace{name: name, ns: ns, link: link}, nil
}

// Delete removes the name of a namespace. The kernel frees it, with every interface in it, once nothing uses it. A
// namespace that does not exist is no error.
func Delete(name string) error {
	path := filepath.Join(Dir, name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount network namespace %s: %w", name, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove network namespace %s: %w", name, err)
	}
	return nil
}

// List returns the sorted names of the namespaces that begin with prefix.
func List(prefix string) ([]string, error) {
	entries, err := os.ReadDir(Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	return names, nil
}

// Name is the namespace's name as `ip netns` shows it.
func (n *Namespace) Name() string { return n.name }

// FD is the open file descriptor of the namespace.
func (n *Namespace) FD() int { return int(n.ns) }

// Netlink returns the routing socket of the namespace.
func (n *Namespace) Netlink() *netlink.Handle { return n.link }

// Close closes the descriptors; the namespace itself stays.
func (n *Namespace) Close() error {
	n.link.Close()
	return n.ns.Close()
}

// Do runs fn on a thread that is in the namespace. Goroutines that fn starts are not; sockets that it opens are.
func (n *Namespace) Do(fn func() error) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("read the current network namespace: %w", err)
	}
	defer home.Close()
	if err := netns.Set(n.ns); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace %s: %w", n.name, err)
	}
	// A thread that cannot go home stays locked: the runtime ends it with its goroutine, and no other ever runs on it.
	defer func() {
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return fn()
}

// DialContext connects from the namespace. The address must be literal (ip:port): a name would be resolved elsewhere.
func (n *Namespace) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = n.Do(func() error {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens for streams in the namespace.
func (n *Namespace) Listen(network, address string) (l net.Listener, err error) {
	err = n.Do(func() error {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// ListenPacket listens for datagrams in the namespace.
func (n *Namespace) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = n.Do(func() error {
		c, err = net.ListenPacket(network, address)
		return err
	})
	return c, err
}

// Sysctl writes a network sysctl of the namespace, named with slashes: "ipv4/ip_forward".
func (n *Namespace) Sysctl(name, value string) error {
	return n.Do(func() error {
		if err := os.WriteFile(filepath.Join("/proc/sys/net", name), []byte(value), 0o644); err != nil {
			return fmt.Errorf("set sysctl net/%s=%s in %s: %w", name, value, n.name, err)
		}
		return nil
	})
}

func (n *Namespace) loopbackUp() error {
	lo, err := n.link.LinkByName("lo")
	if err == nil {
		err = n.link.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("bring up loopback in %s: %w", n.name, err)
	}
	return nil
}
