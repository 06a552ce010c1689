package main

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// object is a piece of JSON.
type object = map[string]any

// kubeVersion is the version of Kubernetes to render for: the oldest that the chart takes.
const kubeVersion = "v1.33.0"

// An installation is a way to install the chart.
type installation struct {
	release, namespace string
	values             string // file; empty: none
}

func (i installation) String() string {
	return fmt.Sprintf("%s in %s with %s", i.release, i.namespace, filepath.Base(i.values))
}

// installations are all ways that are tried: each file of values, as the plain release and as one whose names YAML would take for
// numbers where they are not quoted.
func installations() ([]installation, error) {
	files, err := filepath.Glob(chartDir + "/ci/*.yaml")
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("%s/ci has no values to try (%w)", chartDir, err)
	}
	var all []installation
	for _, file := range files {
		all = append(all, installation{release, namespace, file}, installation{"123", "456", file})
	}
	return all, nil
}

// run runs one of the tools and returns its output; when it fails, what it complained about is the error.
func run(tool string, args ...string) ([]byte, error) {
	cmd := exec.Command("bin/tools/"+tool, args...)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s%s", tool, strings.Join(args, " "), err, out.String(), complaints.String())
	}
	return out.Bytes(), nil
}

// render returns what an installation would apply, CRDs, hooks and tests included.
func (i installation) render(helm string) ([]byte, error) {
	args := []string{"template", i.release, chartDir, "--namespace", i.namespace, "--include-crds", "--kube-version", kubeVersion}
	if i.values != "" {
		args = append(args, "--values", i.values)
	}
	return run(helm, args...)
}

// parse reads a stream of YAML documents.
func parse(stream []byte) ([]object, error) {
	var all []object
	for _, document := range bytes.Split(append([]byte("\n"), stream...), []byte("\n---")) {
		var o object
		if err := yaml.UnmarshalStrict(document, &o); err != nil {
			return nil, fmt.Errorf("%w in:\n%s", err, document)
		}
		if o != nil {
			all = append(all, o)
		}
	}
	return all, nil
}

// objects parses what an installation would apply.
func (i installation) objects(helm string) ([]object, error) {
	stream, err := i.render(helm)
	if err != nil {
		return nil, err
	}
	return parse(stream)
}

// at returns what is at a path of an object, or nil.
func at(o any, path ...string) any {
	for _, key := range path {
		m, ok := o.(object)
		if !ok {
			return nil
		}
		o = m[key]
	}
	return o
}

// id names an object: kind, namespace, name.
func id(o object) string {
	space, _ := at(o, "metadata", "namespace").(string)
	return fmt.Sprintf("%v %s/%v", o["kind"], space, at(o, "metadata", "name"))
}

func isHook(o object) bool { return at(o, "metadata", "annotations", "helm.sh/hook") != nil }

// each tries something with each installation, and joins what went wrong.
func each(try func(installation) error) error {
	all, err := installations()
	if err != nil {
		return err
	}
	var errs []error
	for _, i := range all {
		if err := try(i); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", i, err))
		}
	}
	return errors.Join(errs...)
}
