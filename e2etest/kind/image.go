package kind

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

//go:embed files
var files embed.FS

// nodeBinary is where a node keeps the binary of its programs.
const nodeBinary = "/usr/local/lib/kubernetes/node"

const stampLabel = "test.lanyard.kind-node"

const ownImage = "lanyard.test/kind-node:" + lab.KubernetesVersion

// buildImage makes the nodes' image, unless docker has it already, made of the same things.
func (c *Cluster) buildImage(ctx context.Context, out io.Writer) error {
	if err := lab.BuildNode(ctx, out); err != nil {
		return err
	}
	if err := c.buildPause(ctx); err != nil {
		return err
	}
	rootfs, err := c.makeRootfs(ctx, out)
	if err != nil {
		return err
	}
	stamp, err := c.imageStamp()
	if err != nil {
		return err
	}
	have, err := docker(ctx, "image", "inspect", "--format", "{{index .Config.Labels \""+stampLabel+"\"}}", ownImage)
	if err == nil && have == stamp {
		return nil
	}
	done := step(out, "making the node image %s", ownImage)
	ours := c.path("node")
	defer os.RemoveAll(ours)
	if err := errors.Join(os.RemoveAll(ours), c.placeFiles(ours)); err != nil {
		return fmt.Errorf("files of a node: %w", err)
	}
	if err := c.writeComponents(ctx, rootfs, filepath.Join(ours, "kind", "images.tar")); err != nil {
		return err
	}
	if err := c.loadNodeImage(ctx, rootfs, ours, stamp); err != nil {
		return fmt.Errorf("make the node image: %w", err)
	}
	done()
	// Of those made before, what no cluster uses.
	_, err = docker(ctx, "image", "prune", "--force", "--filter", "label="+stampLabel)
	return err
}

func (c *Cluster) buildPause(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", c.path("pause"), "./kind/pause")
	cmd.Dir = filepath.Join(filepath.Dir(filepath.Dir(c.dir)), "e2etest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	return run(cmd, nil, nil)
}

// imageStamp is a hash of what the node image is made of.
func (c *Cluster) imageStamp() (string, error) {
	hash := sha256.New()
	for _, path := range []string{c.bin(".controlplane.stamp"), c.bin(".node.stamp"), c.path("pause"), c.path("rootfs/kind/packages")} {
		raw, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(hash, len(raw))
		hash.Write(raw)
	}
	fmt.Fprintln(hash, proxyPackages)
	err := fs.WalkDir(files, "files", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := files.ReadFile(path)
		fmt.Fprintln(hash, path, len(raw))
		hash.Write(raw)
		return err
	})
	return hex.EncodeToString(hash.Sum(nil))[:16], err
}

// loadNodeImage hands docker an image of two layers: Debian's files, and ours over them.
func (c *Cluster) loadNodeImage(ctx context.Context, rootfs, ours, stamp string) error {
	layers := []layer{{path: c.path("debian.layer")}, {path: c.path("node.layer")}}
	for i, dir := range []string{rootfs, ours} {
		l := &layers[i]
		defer os.Remove(l.path)
		var err error
		// Tar knows of owners, hard links and capabilities.
		l.sum, err = writeTo(l.path, func(w io.Writer) error {
			return command(ctx, nil, w, "tar", "--create", "--xattrs", "--numeric-owner", "--directory", dir, ".")
		})
		if err != nil {
			return err
		}
	}
	image := c.path("node.tar")
	defer os.Remove(image)
	err := writeImage(image, layers, []string{ownImage}, map[string]any{
		"Entrypoint": []string{"/usr/local/bin/entrypoint", "/sbin/init"}, "StopSignal": "SIGRTMIN+3",
		"Env":    []string{"container=docker", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		"Labels": map[string]string{stampLabel: stamp}})
	if err != nil {
		return err
	}
	_, err = docker(ctx, "load", "--quiet", "--input", image)
	return err
}

// placeFiles makes a folder of what is on a node besides Debian.
func (c *Cluster) placeFiles(dir string) error {
	place := func(name string, mode os.FileMode, content []byte) error {
		to := filepath.Join(dir, name)
		return errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, content, mode))
	}
	link := func(name, target string) error {
		to := filepath.Join(dir, name)
		return errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.Symlink(target, to))
	}
	const ours = "files/node"
	err := fs.WalkDir(files, ours, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, mode := strings.TrimPrefix(path, ours+"/"), os.FileMode(0o644)
		if strings.HasPrefix(name, "usr/local/bin/") {
			mode = 0o755
		}
		content, err := files.ReadFile(path)
		return errors.Join(err, place(name, mode, content))
	})
	binary, readErr := os.ReadFile(c.bin("node"))
	policy, policyErr := files.ReadFile("files/audit-policy.yaml")
	faults := []error{err, readErr, policyErr, place("kind/audit-policy.yaml", 0o644, policy),
		place(nodeBinary, 0o755, binary), place("kind/version", 0o644, []byte(lab.KubernetesVersion))}
	for _, name := range []string{"kubeadm", "kubectl", "kubelet"} {
		faults = append(faults, link("usr/bin/"+name, nodeBinary))
	}
	for _, unit := range []string{"containerd", "kubelet", "kubernetes-images", "pod-routes"} {
		where := "/etc/systemd/system/"
		if unit == "containerd" {
			where = "/lib/systemd/system/"
		}
		faults = append(faults, link("etc/systemd/system/multi-user.target.wants/"+unit+".service", where+unit+".service"))
	}
	for _, empty := range []string{"etc/kubernetes/manifests", "etc/cni/net.d", "var/lib/kubelet"} {
		faults = append(faults, os.MkdirAll(filepath.Join(dir, empty), 0o755))
	}
	return errors.Join(faults...)
}
