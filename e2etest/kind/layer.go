package kind

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// proxyPackages are the packages that kube-proxy's programs are in, with the libraries they load.
var proxyPackages = []string{
	"nftables", "iptables", "conntrack", "libbsd0", "libc6", "libedit2", "libgmp10", "libjansson4", "libmd0", "libmnl0",
	"libnetfilter-conntrack3", "libnfnetlink0", "libnftables1", "libnftnl11", "libtinfo6", "libxtables12",
}

// controlPlanePrograms are the names that the lab's control plane answers to and nodes use.
var controlPlanePrograms = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy"}

// archive writes a tar file that depends on nothing but its content: owner root, no times.
type archive struct {
	*tar.Writer
	dirs map[string]bool
}

func newArchive(w io.Writer) *archive {
	return &archive{Writer: tar.NewWriter(w), dirs: map[string]bool{}}
}

// parents adds the folders above a path.
func (a *archive) parents(name string) error {
	dir := path.Dir(name)
	if dir == "." || a.dirs[dir] {
		return nil
	}
	a.dirs[dir] = true
	if err := a.parents(dir); err != nil {
		return err
	}
	return a.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755})
}

func (a *archive) link(name, target string) error {
	if err := a.parents(name); err != nil {
		return err
	}
	return a.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777})
}

func (a *archive) content(name string, content []byte) error {
	if err := a.parents(name); err != nil {
		return err
	}
	if err := a.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := a.Write(content)
	return err
}

// file adds a file, or the link it is, of this machine.
func (a *archive) file(name, from string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSymlink != 0 {
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return a.link(name, target)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is neither a file nor a link", from)
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := a.parents(name); err != nil {
		return err
	}
	err = a.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(info.Mode().Perm()), Size: info.Size()})
	if err != nil {
		return err
	}
	_, err = io.Copy(a, f)
	return err
}

// writeComponents writes the image that all of Kubernetes' own containers run, as `docker save` would: one layer, under
// every name that kubeadm asks for. kubeadm says which program to run; where nobody says, it is pause.
func (c *Cluster) writeComponents(ctx context.Context, rootfs, out string) error {
	names, err := c.componentNames(ctx)
	if err != nil {
		return err
	}
	l := layer{path: out + ".layer"}
	defer os.Remove(l.path)
	l.sum, err = writeTo(l.path, func(w io.Writer) error {
		a := newArchive(w)
		return errors.Join(c.componentLayer(ctx, a, rootfs), a.Close())
	})
	if err != nil {
		return fmt.Errorf("layer of Kubernetes' image: %w", err)
	}
	return writeImage(out, []layer{l}, names, map[string]any{
		"Entrypoint": []string{"/usr/local/bin/pause"}, "Env": []string{"PATH=/usr/local/bin:/usr/sbin:/usr/bin"}})
}

// layer is a layer of an image: a tar file and its SHA-256.
type layer struct{ path, sum string }

// writeImage writes an image as `docker save` would.
func writeImage(out string, layers []layer, names []string, config map[string]any) error {
	var sums, paths []string
	var history []any
	for _, l := range layers {
		sums, paths = append(sums, "sha256:"+l.sum), append(paths, l.sum+".tar")
		history = append(history, map[string]any{"created_by": "make kind-up"})
	}
	image, err := json.Marshal(map[string]any{"architecture": runtime.GOARCH, "os": "linux", "config": config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": sums}, "history": history})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]any{map[string]any{"Config": "config.json", "RepoTags": names, "Layers": paths}})
	if err != nil {
		return err
	}
	_, err = writeTo(out, func(w io.Writer) error {
		a := newArchive(w)
		faults := []error{a.content("manifest.json", manifest), a.content("config.json", image)}
		for i, l := range layers {
			faults = append(faults, a.file(paths[i], l.path))
		}
		return errors.Join(append(faults, a.Close())...)
	})
	return err
}

// writeTo makes a file and returns its SHA-256.
func writeTo(name string, fill func(io.Writer) error) (sum string, err error) {
	f, err := os.Create(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha256.New()
	if err := fill(io.MultiWriter(f, hash)); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), f.Close()
}

// componentNames are the images of kubeadm's list, without that of cluster DNS, and pause once more under the name that
// containerd is configured with.
func (c *Cluster) componentNames(ctx context.Context) ([]string, error) {
	var out bytes.Buffer
	if err := command(ctx, nil, &out, c.bin("node"), "kubeadm", "config", "images", "list",
		"--kubernetes-version", lab.KubernetesVersion); err != nil {
		return nil, err
	}
	names := []string{"registry.k8s.io/pause:latest"}
	for _, name := range strings.Fields(out.String()) {
		if !strings.Contains(name, "/coredns:") {
			names = append(names, name)
		}
	}
	return names, nil
}

func (c *Cluster) componentLayer(ctx context.Context, a *archive, rootfs string) error {
	var list bytes.Buffer
	err := command(ctx, nil, &list, "chroot", append([]string{rootfs, "dpkg-query", "--listfiles"}, proxyPackages...)...)
	if err != nil {
		return err
	}
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := a.link(dir, "usr/"+dir); err != nil {
			return err
		}
	}
	for _, name := range filesOf(list.String()) {
		from := filepath.Join(rootfs, name)
		if info, err := os.Lstat(from); err != nil || info.IsDir() {
			continue // documentation was stripped
		}
		if err := a.file(name, from); err != nil {
			return err
		}
	}
	// What Debian's alternatives say is not part of a package.
	for _, tables := range []string{"iptables", "ip6tables"} {
		for _, suffix := range []string{"", "-save", "-restore"} {
			if err := a.link("usr/sbin/"+tables+suffix, "xtables-nft-multi"); err != nil {
				return err
			}
		}
	}
	for _, name := range controlPlanePrograms {
		if err := a.link("usr/local/bin/"+name, "controlplane"); err != nil {
			return err
		}
	}
	if err := a.file("usr/local/bin/pause", c.path("pause")); err != nil {
		return err
	}
	return a.file("usr/local/bin/controlplane", c.bin("controlplane"))
}

// filesOf turns dpkg's list of paths into names in a file system whose /bin, /lib and so on are links into /usr.
func filesOf(list string) []string {
	var names []string
	for line := range strings.Lines(list) {
		name := strings.Trim(strings.TrimSpace(line), "/")
		first, _, _ := strings.Cut(name, "/")
		if slices.Contains([]string{"bin", "sbin", "lib", "lib64"}, first) {
			name = "usr/" + name
		}
		// Character sets are a third of the C library, and no program here converts any.
		if strings.HasPrefix(name, "usr/") && !strings.Contains(name, "/gconv/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
