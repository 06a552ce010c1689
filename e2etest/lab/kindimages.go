package lab

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
)

// imageRegistry begins the names of all images.
const imageRegistry = "ghcr.io/lanyard-lb"

// images are those that the pods of a test need. `make kind-images` writes each to bin/image/NAME.tar.
var images = []string{"controller", "speaker", "kubectl-lanyard", "backend"}

// loadImages gives every node the images that it does not have in this very version, and finds out what their tag is.
func (k *onKind) loadImages(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, name := range images {
		file := filepath.Join(k.opts.binDir, "image", name+".tar")
		tag, sum, err := readImage(file)
		if err != nil {
			return fmt.Errorf("image %s: %w; make kind-images makes it", name, err)
		}
		if k.installs.tag != "" && k.installs.tag != tag {
			return fmt.Errorf("image %s has the tag %s, others have %s: make kind-images makes them anew", name, tag, k.installs.tag)
		}
		k.installs.tag = tag
		for _, c := range k.containers() {
			group.Go(func() error { return k.loadImage(ctx, c, file, name+"-"+sum) })
		}
	}
	return group.Wait()
}

// loadedDir holds, on a node, an empty file for each image that it has.
const loadedDir = "/var/lib/lanyard-lab-images"

func (k *onKind) loadImage(ctx context.Context, c container, file, mark string) error {
	if c.has(loadedDir + "/" + mark) {
		return nil
	}
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	name := mark[:strings.LastIndexByte(mark, '-')]
	script := fmt.Sprintf("set -e; ctr --namespace k8s.io images import - >/dev/null; mkdir -p %[1]s; rm -f %[1]s/%[2]s-*; touch %[1]s/%[3]s",
		loadedDir, name, mark)
	if _, err := docker(ctx, in, "exec", "-i", c.Name, "sh", "-c", script); err != nil {
		return fmt.Errorf("load image %s into %s: %w", name, c.Name, err)
	}
	return nil
}

// readImage reads the tag that an image in a tar has, and sums the file up.
func readImage(file string) (tag, sum string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	hash := sha256.New()
	content := io.TeeReader(f, hash)
	for r := tar.NewReader(content); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", "", fmt.Errorf("read %s: %w", file, err)
		}
		if header.Name != "manifest.json" {
			continue
		}
		var manifest []struct{ RepoTags []string }
		if err := json.NewDecoder(r).Decode(&manifest); err != nil || len(manifest) != 1 || len(manifest[0].RepoTags) != 1 {
			return "", "", fmt.Errorf("read %s: want a manifest with one tag: %v, %w", file, manifest, err)
		}
		tag = manifest[0].RepoTags[0]
	}
	if _, err := io.Copy(io.Discard, content); err != nil {
		return "", "", fmt.Errorf("read %s: %w", file, err)
	}
	return tag[strings.LastIndexByte(tag, ':')+1:], hex.EncodeToString(hash.Sum(nil))[:16], nil
}
