// Command image puts static binaries into container images: for each program an OCI layout with all platforms, and for one
// platform a tar that `docker load` takes. It needs neither docker nor a registry, and the same input gives the same bytes.
package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// user is who the images run as, unless the Pod says otherwise.
const user = "65532:65532"

type options struct {
	binaries string // holds ARCH/PROGRAM
	out      string // gets PROGRAM (the layout) and PROGRAM.tar
	registry string
	version  string
	revision string
	source   string
	created  time.Time
	arches   []string
	tarArch  string
	programs []string
}

func main() {
	var o options
	var arches string
	var created int64
	flag.StringVar(&o.binaries, "binaries", "", "directory with ARCH/PROGRAM")
	flag.StringVar(&o.out, "out", "", "directory to write PROGRAM and PROGRAM.tar to")
	flag.StringVar(&o.registry, "registry", "", "what images are named after, as in ghcr.io/lanyard-lb")
	flag.StringVar(&o.version, "version", "", "version, and the images' tag")
	flag.StringVar(&o.revision, "revision", "", "commit that the programs were built from")
	flag.StringVar(&o.source, "source", "", "URL of the sources")
	flag.Int64Var(&created, "created", 0, "seconds since 1970 that the images say they were made at")
	flag.StringVar(&arches, "arch", "amd64,arm64", "architectures of the layout")
	flag.StringVar(&o.tarArch, "tar-arch", "amd64", "architecture of the tar")
	flag.Parse()
	o.arches, o.created, o.programs = strings.Split(arches, ","), time.Unix(created, 0).UTC(), flag.Args()
	for _, program := range o.programs {
		if err := o.write(program); err != nil {
			fmt.Fprintf(os.Stderr, "image %s: %v\n", program, err)
			os.Exit(1)
		}
	}
}

// write makes the layout and the tar of one program.
func (o options) write(program string) error {
	tag, err := name.NewTag(o.registry+"/"+program+":"+o.version, name.StrictValidation)
	if err != nil {
		return fmt.Errorf("name of the image: %w", err)
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range o.arches {
		image, err := o.image(program, arch)
		if err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: "linux", Architecture: arch},
		}})
		if arch != o.tarArch {
			continue
		}
		if err := tarball.WriteToFile(filepath.Join(o.out, program+".tar"), tag, image); err != nil {
			return fmt.Errorf("write the tar: %w", err)
		}
	}
	return o.writeLayout(filepath.Join(o.out, program), tag, index)
}

// writeLayout replaces the layout at path by one that holds the index under its tag.
func (o options) writeLayout(path string, tag name.Tag, index v1.ImageIndex) error {
	err := errors.Join(os.RemoveAll(path), os.MkdirAll(path, 0o755))
	if err != nil {
		return fmt.Errorf("make room for the layout: %w", err)
	}
	to, err := layout.Write(path, empty.Index)
	if err != nil {
		return fmt.Errorf("begin the layout: %w", err)
	}
	named := layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": tag.String()})
	if err := to.AppendIndex(index, named); err != nil {
		return fmt.Errorf("write the layout: %w", err)
	}
	digest, err := index.Digest()
	if err != nil {
		return fmt.Errorf("digest of the index: %w", err)
	}
	fmt.Printf("%s %s (%s)\n", tag, digest, strings.Join(o.arches, ", "))
	return nil
}

// image has one layer with one file, the program.
func (o options) image(program, arch string) (v1.Image, error) {
	layer, err := o.layer(filepath.Join(o.binaries, arch, program), program)
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.Append(image, mutate.Addendum{Layer: layer, History: v1.History{
		Created: v1.Time{Time: o.created}, CreatedBy: "COPY " + program + " /" + program,
	}})
	if err != nil {
		return nil, fmt.Errorf("add the program: %w", err)
	}
	return mutate.ConfigFile(image, o.config(program, arch, image))
}

func (o options) config(program, arch string, image v1.Image) *v1.ConfigFile {
	config, _ := image.ConfigFile() // of an image that is in memory
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", arch, v1.Time{Time: o.created}
	config.Config = v1.Config{
		Entrypoint: []string{"/" + program},
		User:       user,
		WorkingDir: "/",
		Labels: map[string]string{
			"org.opencontainers.image.title":    program,
			"org.opencontainers.image.version":  o.version,
			"org.opencontainers.image.revision": o.revision,
			"org.opencontainers.image.source":   o.source,
			"org.opencontainers.image.licenses": "Apache-2.0",
		},
	}
	return config
}

// layer is a tar with the program at its root, owned by root and made at the stated time.
func (o options) layer(path, program string) (v1.Layer, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the program: %w", err)
	}
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	header := &tar.Header{Name: program, Mode: 0o755, Size: int64(len(content)), ModTime: o.created, Format: tar.FormatPAX}
	err = w.WriteHeader(header)
	if err == nil {
		_, err = w.Write(content)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("pack the program: %w", err)
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(packed.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
}
