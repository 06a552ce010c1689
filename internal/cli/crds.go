package cli

import (
	"context"
	"fmt"
	"io/fs"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/version"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/lanyard-lb/lanyard/config/crd"
	"github.com/lanyard-lb/lanyard/internal/daemon"
)

// versionAnnotation, on a CustomResourceDefinition, is the version of the program that wrote it.
const versionAnnotation = "lanyard.dev/version"

// fieldOwner is what the API server notes down as the owner of what apply writes.
const fieldOwner = "kubectl-lanyard"

var crdKind = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}

// definitions are the CustomResourceDefinitions that belong to this program, by name.
func definitions() ([]*unstructured.Unstructured, error) {
	files, err := fs.Glob(crd.Files, "*.yaml")
	if err != nil {
		return nil, err
	}
	var all []*unstructured.Unstructured
	for _, file := range files {
		raw, err := crd.Files.ReadFile(file)
		if err != nil {
			return nil, err
		}
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(raw, &o.Object); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		annotate(o, daemon.VersionName())
		all = append(all, o)
	}
	return all, nil
}

func annotate(o *unstructured.Unstructured, version string) {
	annotations := o.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[versionAnnotation] = version
	o.SetAnnotations(annotations)
}

// crds prints the CustomResourceDefinitions of this version, or with --apply puts them in force.
func (c *command) crds(ctx context.Context, _ string) error {
	all, err := definitions()
	if err != nil {
		return err
	}
	for _, wanted := range all {
		if c.apply {
			if err := c.putCRD(ctx, wanted); err != nil {
				return err
			}
			continue
		}
		raw, err := yaml.Marshal(wanted.Object)
		if err != nil {
			return fmt.Errorf("print %s: %w", wanted.GetName(), err)
		}
		fmt.Fprintf(c.out, "---\n%s", raw)
	}
	return nil
}

// putCRD makes a definition, or replaces the spec of an older one. One that a later version has written stays as it
// is: what that version keeps in the new fields would be lost.
func (c *command) putCRD(ctx context.Context, wanted *unstructured.Unstructured) error {
	have := &unstructured.Unstructured{}
	have.SetGroupVersionKind(crdKind)
	err := c.api.Get(ctx, client.ObjectKeyFromObject(wanted), have)
	switch {
	case apierrors.IsNotFound(err):
		// By apply, and not by create: so the right to do it can be limited to these names.
		if err := c.api.Patch(ctx, wanted, client.Apply, client.FieldOwner(fieldOwner)); err != nil { //nolint:staticcheck // of raw objects
			return fmt.Errorf("create the CRD %s: %w", wanted.GetName(), err)
		}
		fmt.Fprintf(c.out, "%s created\n", wanted.GetName())
		return nil
	case err != nil:
		return fmt.Errorf("read the CRD %s: %w", wanted.GetName(), err)
	}
	mine, theirs := wanted.GetAnnotations()[versionAnnotation], have.GetAnnotations()[versionAnnotation]
	if newer(theirs, mine) {
		fmt.Fprintf(c.out, "%s kept: it is that of %s, newer than this program's (%s)\n", wanted.GetName(), theirs, mine)
		return nil
	}
	if theirs == mine && within(wanted.Object["spec"], have.Object["spec"]) {
		fmt.Fprintf(c.out, "%s unchanged\n", wanted.GetName())
		return nil
	}
	have.Object["spec"] = wanted.Object["spec"]
	annotations := have.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	for key, value := range wanted.GetAnnotations() {
		annotations[key] = value
	}
	have.SetAnnotations(annotations)
	if err := c.api.Update(ctx, have); err != nil {
		return fmt.Errorf("update the CRD %s: %w", wanted.GetName(), err)
	}
	fmt.Fprintf(c.out, "%s updated\n", wanted.GetName())
	return nil
}

// newer reports whether a is a later version than b; what is no semantic version is neither newer nor older.
func newer(a, b string) bool {
	x, errA := version.ParseSemantic(strings.TrimPrefix(a, "v"))
	y, errB := version.ParseSemantic(strings.TrimPrefix(b, "v"))
	return errA == nil && errB == nil && y.LessThan(x)
}

// within reports whether all that want says is so in have, which may say more: the API server fills in defaults.
func within(want, have any) bool {
	switch want := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok {
			return false
		}
		for key, value := range want {
			if !within(value, h[key]) {
				return false
			}
		}
		return true
	case []any:
		h, ok := have.([]any)
		if !ok || len(h) != len(want) {
			return false
		}
		for i := range want {
			if !within(want[i], h[i]) {
				return false
			}
		}
		return true
	}
	return number(want) == number(have)
}

// number makes the integers of decoded JSON comparable with its floating-point numbers.
func number(v any) any {
	if n, ok := v.(int64); ok {
		return float64(n)
	}
	return v
}
