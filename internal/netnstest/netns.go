package netnstest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// NS is one network namespace of its own. It has no name, no route out and lives until the test ends.
type NS struct {
	handle netns.NsHandle
}

// New makes a namespace with loopback up, and removes it when the test ends. IPv6 addresses are usable
// there at once: duplicate address detection and router solicitation are off. Without root, the test is
// skipped.
func New(t testing.TB) *NS {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: SKIPPED, nothing was tested against the real kernel")
	}
	ns := &NS{handle: create(t)}
	t.Cleanup(func() { _ = ns.handle.Close() })
	ns.Do(t, func() {
		for _, conf := range []string{"all", "default"} {
			ns.Sysctl(t, "net/ipv6/conf/"+conf+"/accept_dad", "0")
			ns.Sysctl(t, "net/ipv6/conf/"+conf+"/router_solicitations", "0")
			ns.Sysctl(t, "net/ipv6/conf/"+conf+"/accept_ra", "0")
		}
		ns.Up(t, "lo")
	})
	return ns
}

// Here is the namespace that the test runs in.
func Here(t testing.TB) *NS {
	t.Helper()
	handle, err := netns.Get()
	must(t, err, "open own network namespace")
	t.Cleanup(func() { _ = handle.Close() })
	return &NS{handle: handle}
}

// create makes the namespace and brings the thread back to where it was.
func create(t testing.TB) netns.NsHandle {
	t.Helper()
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatalf("open own network namespace: %v", err)
	}
	defer func() { _ = home.Close() }()
	handle, err := netns.New()
	if err != nil {
		t.Fatalf("create network namespace: %v", err)
	}
	goHome(home)
	return handle
}

// goHome returns a locked thread to its namespace, or leaves it locked: a locked thread dies with its
// goroutine and cannot leak the namespace into other tests.
func goHome(home netns.NsHandle) {
	if err := netns.Set(home); err == nil {
		runtime.UnlockOSThread()
	}
}

// Do runs f on a thread inside the namespace: sockets that f opens belong there. Goroutines that f starts
// run outside, but may use those sockets.
func (n *NS) Do(t testing.TB, f func()) {
	t.Helper()
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatalf("open own network namespace: %v", err)
	}
	defer func() { _ = home.Close() }()
	if err := netns.Set(n.handle); err != nil {
		t.Fatalf("enter network namespace: %v", err)
	}
	defer goHome(home)
	f()
}

// Sysctl writes one setting of the namespace, such as net/ipv6/conf/eth0/accept_dad.
func (n *NS) Sysctl(t testing.TB, key, value string) {
	t.Helper()
	n.Do(t, func() {
		if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0); err != nil {
			t.Fatalf("set %s to %s: %v", key, value, err)
		}
	})
}

// Proc reads a file below the namespace's /proc/net, such as igmp6.
func (n *NS) Proc(t testing.TB, name string) string {
	t.Helper()
	var text []byte
	n.Do(t, func() {
		var err error
		if text, err = os.ReadFile("/proc/thread-self/net/" + name); err != nil {
			t.Fatalf("read %s: %v", name, err)
		}
	})
	return string(text)
}

// link returns the device called name. The caller is inside the namespace.
func link(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err, "find link %s", name)
	return l
}

func must(t testing.TB, err error, format string, args ...any) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", strings.TrimSpace(fmt.Sprintf(format, args...)), err)
	}
}
