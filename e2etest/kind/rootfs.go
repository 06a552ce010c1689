package kind

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The file system of a node, before anything of ours: this Debian release with what systemd, containerd, the kubelet
// and kube-proxy use, and what one likes to have when looking at a network.
const release = "bookworm"

var packages = []string{
	"systemd-sysv", "containerd", "runc", "containernetworking-plugins",
	"iptables", "nftables", "conntrack", "ebtables", "iproute2", "ethtool", "kmod", "mount", "procps", "socat",
	"curl", "iputils-arping", "iputils-ping", "tcpdump",
}

// makeRootfs makes the folder of a node's file system, unless that was done before.
func (c *Cluster) makeRootfs(ctx context.Context, out io.Writer) (string, error) {
	dir := c.path("rootfs")
	made := filepath.Join(dir, "kind", "packages")
	if raw, err := os.ReadFile(made); err == nil && string(raw) == packageList() {
		return dir, nil
	}
	if _, err := exec.LookPath("debootstrap"); err != nil {
		return "", errors.New(`the program "debootstrap" is missing: make needs-kind, or apt-get install debootstrap`)
	}
	done := step(out, "Debian %s for the nodes, by debootstrap", release)
	// A debootstrap that was killed leaves these mounted, and nothing in them must be removed.
	for _, mounted := range []string{"proc", "sys"} {
		if err := unix.Unmount(filepath.Join(dir+".new", mounted), unix.MNT_DETACH); err == nil {
			fmt.Fprintf(out, "  unmounted %s of an earlier try\n", mounted)
		}
	}
	if err := errors.Join(os.RemoveAll(dir), os.RemoveAll(dir+".new")); err != nil {
		return "", err
	}
	log, err := os.Create(c.path("debootstrap.log"))
	if err != nil {
		return "", err
	}
	defer log.Close()
	err = command(ctx, nil, log, "debootstrap", "--variant=minbase", "--include="+strings.Join(packages, ","), release, dir+".new")
	if err != nil {
		return "", fmt.Errorf("%w (log: %s)", err, log.Name())
	}
	if err := strip(dir + ".new"); err != nil {
		return "", fmt.Errorf("strip the file system of a node: %w", err)
	}
	if err := os.Rename(dir+".new", dir); err != nil {
		return "", err
	}
	done()
	return dir, errors.Join(os.MkdirAll(filepath.Dir(made), 0o755), os.WriteFile(made, []byte(packageList()), 0o644))
}

func packageList() string { return release + " " + strings.Join(packages, " ") + "\n" }

// strip removes what a node does not need, and takes from systemd what it would start by itself.
func strip(root string) error {
	for _, pattern := range []string{
		"var/cache/apt/*", "var/lib/apt/lists/*", "usr/share/doc/*", "usr/share/man/*", "usr/share/locale/*",
		"etc/systemd/system/*.wants", "lib/systemd/system/multi-user.target.wants/*",
		"lib/systemd/system/local-fs.target.wants/*", "lib/systemd/system/sockets.target.wants/*udev*",
	} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return err
		}
		for _, path := range paths {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	system := filepath.Join(root, "etc/systemd/system")
	links := map[string]string{"default.target": "/lib/systemd/system/multi-user.target"}
	for _, unit := range []string{
		"systemd-udevd.service", "systemd-logind.service", "systemd-timesyncd.service", "systemd-binfmt.service",
		"console-getty.service", "getty.target",
	} {
		links[unit] = "/dev/null" // masked
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(system, name)); err != nil {
			return err
		}
	}
	return nil
}

// step says what begins and, by the function it returns, how long it took.
func step(out io.Writer, format string, args ...any) (done func()) {
	begun, name := time.Now(), fmt.Sprintf(format, args...)
	fmt.Fprintln(out, name)
	return func() { fmt.Fprintf(out, "  done in %.0f s\n", time.Since(begun).Seconds()) }
}
