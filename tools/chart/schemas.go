package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

const (
	// schemaDir gets a JSON schema for each kind that objects are checked against.
	schemaDir = "bin/schemas"
	// schemaFile is how kubeconform finds them.
	schemaFile = "{{ .Group }}_{{ .ResourceAPIVersion }}_{{ .ResourceKind }}.json"

	// The Prometheus operator's CRDs, which the chart's monitoring is checked against.
	operatorModule = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
	operatorSum    = "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s="
)

// checkSchemas checks all that the chart and config/ render against the schemas of the API, of our CRDs and of the
// Prometheus operator's, and refuses fields that these do not know.
func checkSchemas() error {
	if err := makeSchemas(); err != nil {
		return fmt.Errorf("make the schemas: %w", err)
	}
	manifests, err := run("kustomize", "build", "config")
	if err != nil {
		return err
	}
	if err := conform(manifests); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	return each(func(i installation) error {
		stream, err := i.render("helm")
		if err != nil {
			return err
		}
		return conform(stream)
	})
}

func conform(stream []byte) error {
	file, err := os.CreateTemp("", "objects-*.yaml")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	if _, err := file.Write(stream); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	_, err = run("kubeconform", "-strict", "-schema-location", filepath.Join(schemaDir, schemaFile), file.Name())
	return err
}

// makeSchemas writes the schemas of all kinds that are needed, from Go modules: Kubernetes' own, of the version that the lab
// runs, and the Prometheus operator's; and from our CRDs.
func makeSchemas() error {
	if err := errors.Join(os.RemoveAll(schemaDir), os.MkdirAll(schemaDir, 0o755)); err != nil {
		return err
	}
	kubernetes, err := moduleDir("e2etest/controlplane", "k8s.io/kubernetes", "")
	if err != nil {
		return err
	}
	operator, err := moduleDir(os.TempDir(), operatorModule, operatorSum)
	if err != nil {
		return err
	}
	return errors.Join(
		writeAPISchemas(filepath.Join(kubernetes, "api/openapi-spec/swagger.json")),
		writeCRDSchemas("config/crd/lanyard.dev_*.yaml"),
		writeCRDSchemas(filepath.Join(operator, "example/prometheus-operator-crd/monitoring.coreos.com_p*.yaml")),
	)
}

// moduleDir downloads a module, unless it is in the cache, and returns its directory. With a sum it has to be that; without,
// the go.sum where it is asked for vouches for it.
func moduleDir(where, module, sum string) (string, error) {
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Dir, cmd.Stderr = where, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("download %s: %w\n%s", module, err, out)
	}
	var told struct{ Dir, Sum string }
	if err := json.Unmarshal(out, &told); err != nil {
		return "", fmt.Errorf("download %s: %w", module, err)
	}
	if sum != "" && told.Sum != sum {
		return "", fmt.Errorf("%s has the sum %s, want %s", module, told.Sum, sum)
	}
	return told.Dir, nil
}

// writeAPISchemas writes, of the API's description, each kind with the definitions that it needs.
func writeAPISchemas(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var api struct{ Definitions map[string]object }
	if err := json.Unmarshal(content, &api); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	kinds := 0
	for name, definition := range api.Definitions {
		known, _ := definition["x-kubernetes-group-version-kind"].([]any)
		for _, k := range known {
			needed := object{}
			collect(name, api.Definitions, needed)
			schema := object{"$ref": "#/definitions/" + name, "definitions": needed}
			kind := k.(object)
			if err := writeSchema(kind["group"], kind["version"], kind["kind"], schema); err != nil {
				return err
			}
			kinds++
		}
	}
	if kinds == 0 {
		return fmt.Errorf("%s describes no kind", path)
	}
	return nil
}

// collect adds a definition to needed, made strict, and those that it refers to.
func collect(name string, all map[string]object, needed object) {
	if needed[name] != nil {
		return
	}
	made := strict(all[name]).(object)
	needed[name] = made
	switch name { // what JSON schemas cannot say of strings that may be numbers
	case "io.k8s.apimachinery.pkg.util.intstr.IntOrString", "io.k8s.apimachinery.pkg.api.resource.Quantity":
		needed[name] = object{"type": []string{"string", "number"}}
	}
	references(made, func(to string) { collect(strings.TrimPrefix(to, "#/definitions/"), all, needed) })
}

// references calls found with each reference in a schema.
func references(schema any, found func(string)) {
	switch s := schema.(type) {
	case object:
		if ref, ok := s["$ref"].(string); ok {
			found(ref)
		}
		for _, v := range s {
			references(v, found)
		}
	case []any:
		for _, v := range s {
			references(v, found)
		}
	}
}

// strict returns a copy of a schema that refuses fields that it does not name, and of a CRD's schema that says what
// may be a number or a string in the way of JSON schemas.
func strict(schema any) any {
	switch s := schema.(type) {
	case object:
		out := object{}
		for key, value := range s {
			out[key] = strict(value)
		}
		properties, ok := s["properties"].(object)
		_, open := s["additionalProperties"]
		if ok && len(properties) > 0 && !open && s["x-kubernetes-preserve-unknown-fields"] != true {
			out["additionalProperties"] = false
		}
		if s["x-kubernetes-int-or-string"] == true {
			delete(out, "anyOf")
			out["type"] = []any{"string", "number"}
		}
		return out
	case []any:
		out := make([]any, len(s))
		for i, v := range s {
			out[i] = strict(v)
		}
		return out
	}
	return schema
}

// writeCRDSchemas writes a schema for each version of each CRD in the files.
func writeCRDSchemas(pattern string) error {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		return fmt.Errorf("%s: no such files (%w)", pattern, err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var crd object
		if err := yaml.Unmarshal(content, &crd); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		versions, _ := at(crd, "spec", "versions").([]any)
		for _, v := range versions {
			schema := strict(at(v, "schema", "openAPIV3Schema")).(object)
			at(schema, "properties").(object)["metadata"] = object{"type": "object"}
			if err := writeSchema(at(crd, "spec", "group"), at(v, "name"), at(crd, "spec", "names", "kind"), schema); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeSchema(group, version, kind any, schema object) error {
	content, err := json.Marshal(schema)
	if err != nil {
		return err
	}
	if group == "" {
		group = version // as kubeconform has it
	}
	name := strings.ToLower(fmt.Sprintf("%v_%v_%v.json", group, version, kind))
	return os.WriteFile(filepath.Join(schemaDir, name), content, 0o644)
}
