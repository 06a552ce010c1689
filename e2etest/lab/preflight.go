package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// preflight checks, before anything is made, that a lab can work here, and names everything that is missing at once.
func preflight(opts Options) error {
	if err := NeedRoot(); err != nil {
		return err
	}
	faults := []error{needTool("ip", "iproute2"), needTool("nft", "nftables"), needBinary(opts.binDir, "lab")}
	if !opts.NoCluster {
		faults = append(faults, needTool("conntrack", "conntrack"), needBinary(opts.binDir, "controlplane"))
	}
	if opts.Proxy == IPTables {
		faults = append(faults, needTool("iptables", "iptables"), needTool("ip6tables", "iptables"))
	}
	if err := errors.Join(append(faults, needKernel())...); err != nil {
		return fmt.Errorf("the lab cannot run here:\n%w", err)
	}
	return nil
}

// NeedRoot returns an error that tells what to do, unless this process runs as root.
func NeedRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("needs root: the lab makes network namespaces; run it with sudo")
	}
	return nil
}

func needTool(name, pkg string) error {
	if _, err := exec.LookPath(name); err != nil {
		return fmt.Errorf("the program %q is missing: apt-get install %s", name, pkg)
	}
	return nil
}

func needBinary(dir, name string) error {
	if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
		return fmt.Errorf("%s is not built: run `go run ./cmd/lab build` in e2etest (%w)", name, err)
	}
	return nil
}

// needKernel makes a namespace without a name, with a bridge and a veth pair in it, and lets it go.
func needKernel() error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here, and the namespace with it
		result <- tryKernel()
	}()
	return <-result
}

func tryKernel() error {
	ns, err := netns.New()
	if err != nil {
		return fmt.Errorf("the kernel gives no network namespace (CONFIG_NET_NS, CAP_SYS_ADMIN): %w", err)
	}
	defer ns.Close()
	link, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("the kernel gives no netlink socket: %w", err)
	}
	defer link.Close()
	var faults []error
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br"
	if err := link.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		faults = append(faults, fmt.Errorf("the kernel makes no bridge (module bridge): %w", err))
	}
	attrs.Name = "a"
	veth := netlink.NewVeth(attrs)
	veth.PeerName = "b"
	if err := link.LinkAdd(veth); err != nil {
		faults = append(faults, fmt.Errorf("the kernel makes no veth pair (module veth): %w", err))
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		faults = append(faults, fmt.Errorf("the kernel has IPv6 disabled: %w", err))
	}
	return errors.Join(faults...)
}
