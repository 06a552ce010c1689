package lab

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// KubernetesVersion is what the control plane calls itself; it must be the version in controlplane/go.mod.
const KubernetesVersion = "v1.37.2"

// target is a binary to build. Its flags must not vary: other flags would compile all of Kubernetes again.
type target struct {
	name   string
	module string // folder of the go.mod, from the root of the repository
	pkg    string
	inputs []string // files and folders, from module, that a rebuild depends on
	flags  []string
}

func targets() []target {
	major, minor, _ := strings.Cut(strings.TrimPrefix(KubernetesVersion, "v"), ".")
	minor, _, _ = strings.Cut(minor, ".")
	version := "-X k8s.io/component-base/version."
	kubernetes := []string{"-trimpath", "-ldflags=-s -w " + version + "gitVersion=" + KubernetesVersion + " " + version + "gitMajor=" + major +
		" " + version + "gitMinor=" + minor + " " + version + "gitTreeState=clean"}
	return []target{
		{name: "controlplane", module: "e2etest/controlplane", pkg: ".", inputs: []string{"go.mod", "go.sum", "main.go"}, flags: kubernetes},
		{name: "node", module: "e2etest/controlplane", pkg: "./node", inputs: []string{"go.mod", "go.sum", "node"}, flags: kubernetes},
		{name: "lab", module: "e2etest", pkg: "./cmd/lab", inputs: []string{"go.mod", "go.sum", "agent", "cmd", "lab", "netspace"},
			flags: []string{"-trimpath"}},
	}
}

// Build builds the control plane and the lab's command into bin of the repository, unless they are up to date, and
// shows progress on w. The first build of the control plane takes minutes. Builds wait for each other.
func Build(ctx context.Context, w io.Writer) error { return build(ctx, w, "controlplane", "lab") }

// BuildNode builds, as Build does, the control plane and the binary with the rest of Kubernetes that a kubelet's node needs.
func BuildNode(ctx context.Context, w io.Writer) error { return build(ctx, w, "controlplane", "node") }

func build(ctx context.Context, w io.Writer, names ...string) error {
	root, err := repoRoot()
	if err != nil {
		return err
	}
	bin := filepath.Join(root, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", bin, err)
	}
	unlock, err := lockFile(filepath.Join(bin, ".build.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	for _, t := range targets() {
		if !slices.Contains(names, t.name) {
			continue
		}
		if err := t.build(ctx, root, bin, w); err != nil {
			return fmt.Errorf("build %s: %w", t.name, err)
		}
	}
	return nil
}

func (t target) build(ctx context.Context, root, bin string, w io.Writer) error {
	stamp, err := t.stamp(filepath.Join(root, t.module))
	if err != nil {
		return err
	}
	out, stampFile := filepath.Join(bin, t.name), filepath.Join(bin, "."+t.name+".stamp")
	if old, err := os.ReadFile(stampFile); err == nil && string(old) == stamp {
		if _, err := os.Stat(out); err == nil {
			return nil
		}
	}
	if err := t.compile(ctx, filepath.Join(root, t.module), out+".new", w); err != nil {
		return err
	}
	// A running binary is replaced, not overwritten.
	return errors.Join(os.Rename(out+".new", out), os.WriteFile(stampFile, []byte(stamp), 0o644))
}

// stamp is a hash of what the binary is made from. Modules are pinned by go.sum.
func (t target) stamp(dir string) (string, error) {
	hash := sha256.New()
	fmt.Fprintln(hash, t.flags)
	for _, input := range t.inputs {
		err := filepath.WalkDir(filepath.Join(dir, input), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || strings.HasSuffix(path, "_test.go") {
				return err
			}
			raw, err := os.ReadFile(path)
			fmt.Fprintln(hash, strings.TrimPrefix(path, dir), len(raw))
			hash.Write(raw)
			return err
		})
		if err != nil {
			return "", fmt.Errorf("read the sources: %w", err)
		}
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// compile runs go build. With -v it names each package when that is done, and of those there are as many as `go list
// -deps` counts, fewer if some are cached.
func (t target) compile(ctx context.Context, dir, out string, w io.Writer) error {
	total := countPackages(ctx, dir, t.pkg)
	args := append(append([]string{"build", "-v", "-o", out}, t.flags...), t.pkg)
	cmd := goCommand(ctx, dir, args...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run go build: %w", err)
	}
	var tail []string
	progress := newProgress(w, t.name, total)
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		tail = append(tail, lines.Text())
		tail = tail[max(0, len(tail)-20):]
		progress.step(lines.Text())
	}
	err = cmd.Wait()
	progress.end(err)
	if err != nil {
		return fmt.Errorf("go build in %s: %w\n%s", dir, err, strings.Join(tail, "\n"))
	}
	return nil
}

func countPackages(ctx context.Context, dir, pkg string) int {
	out, err := goCommand(ctx, dir, "list", "-deps", pkg).Output()
	if err != nil {
		return 0
	}
	return strings.Count(string(out), "\n")
}

// goCommand runs go as the lab always does: no cgo, and no workspace that a user may have around it.
func goCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	return cmd
}

// progress shows a line that is rewritten on a terminal, and a new line every ten seconds elsewhere.
type progress struct {
	w           io.Writer
	name        string
	total, done int
	begun, last time.Time
	every       time.Duration
	eol         string
}

func newProgress(w io.Writer, name string, total int) *progress {
	p := &progress{w: w, name: name, total: total, begun: time.Now(), every: 10 * time.Second, eol: "\n"}
	if f, ok := w.(*os.File); ok {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			p.every, p.eol = 200*time.Millisecond, "\x1b[K\r"
		}
	}
	fmt.Fprintf(w, "building %s (%d packages; those in Go's cache are skipped)\n", name, total)
	return p
}

func (p *progress) step(pkg string) {
	p.done++
	if time.Since(p.last) < p.every {
		return
	}
	p.last = time.Now()
	fmt.Fprintf(p.w, "  %4.0fs  %d of %d packages  %s%s", time.Since(p.begun).Seconds(), p.done, p.total, pkg, p.eol)
}

func (p *progress) end(err error) {
	if err == nil {
		fmt.Fprintf(p.w, "built %s: compiled %d packages in %.0f s\n", p.name, p.done, time.Since(p.begun).Seconds())
	}
}

// RepoRoot finds the repository: upwards from the working directory, or from this program's own file.
func RepoRoot() (string, error) { return repoRoot() }

func repoRoot() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	self, _ := os.Executable()
	for _, from := range []string{wd, filepath.Dir(self)} {
		for dir := from; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
			raw, err := os.ReadFile(filepath.Join(dir, "go.mod"))
			if err == nil && slices.Contains(strings.Split(string(raw), "\n"), "module github.com/lanyard-lb/lanyard") {
				return dir, nil
			}
		}
	}
	return "", fmt.Errorf("find the repository of Lanyard: neither %s nor %s is in it", wd, self)
}

// lockFile takes an exclusive lock that ends with the process at the latest.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}
