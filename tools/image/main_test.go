package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// TestImage writes images of a program twice, and looks at what is in them.
func TestImage(t *testing.T) {
	binaries := t.TempDir()
	for _, arch := range []string{"amd64", "arm64"} {
		if err := os.Mkdir(filepath.Join(binaries, arch), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(binaries, arch, "speaker"), []byte("program for "+arch), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	o := options{
		binaries: binaries, registry: "registry.example.com/lanyard", version: "v1.2.3", revision: "abc",
		source: "https://example.com/lanyard", created: time.Unix(1700000000, 0).UTC(), arches: []string{"amd64", "arm64"}, tarArch: "arm64",
	}
	outs := []string{t.TempDir(), t.TempDir()}
	for _, out := range outs {
		o.out = out
		if err := o.write("speaker"); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(binaries, "arm64", "speaker"), time.Now(), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"speaker.tar", "speaker/index.json"} {
		one, two := read(t, filepath.Join(outs[0], file)), read(t, filepath.Join(outs[1], file))
		if !bytes.Equal(one, two) {
			t.Errorf("%s: the same input has given other bytes", file)
		}
	}
	tag, err := name.NewTag("registry.example.com/lanyard/speaker:v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	loadable, err := tarball.ImageFromPath(filepath.Join(outs[0], "speaker.tar"), &tag)
	if err != nil {
		t.Fatal(err)
	}
	checkImage(t, loadable, "arm64")
	index, err := layout.ImageIndexFromPath(filepath.Join(outs[0], "speaker"))
	if err != nil {
		t.Fatal(err)
	}
	top, err := index.IndexManifest()
	if err != nil || len(top.Manifests) != 1 || top.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != tag.String() {
		t.Fatalf("the layout holds %+v (%v), want one index under its tag", top, err)
	}
	platforms, err := index.ImageIndex(top.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := platforms.IndexManifest()
	if err != nil || len(manifest.Manifests) != 2 {
		t.Fatalf("the index holds %+v (%v), want two platforms", manifest, err)
	}
	for _, m := range manifest.Manifests {
		image, err := platforms.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, image, m.Platform.Architecture)
	}
}

func checkImage(t *testing.T, image v1.Image, arch string) {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Architecture != arch || config.OS != "linux" || config.Config.User != "65532:65532" || config.Config.Entrypoint[0] != "/speaker" {
		t.Errorf("%s: the configuration is %+v", arch, config)
	}
	if config.Config.Labels["org.opencontainers.image.version"] != "v1.2.3" || config.Config.Labels["org.opencontainers.image.revision"] != "abc" {
		t.Errorf("%s: the labels are %v", arch, config.Config.Labels)
	}
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%s: %d layers (%v), want one", arch, len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := io.ReadAll(content)
	if err != nil || !bytes.Contains(unpacked, []byte("program for "+arch)) {
		t.Errorf("%s: the layer does not hold the program (%v)", arch, err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
