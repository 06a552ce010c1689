package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// copies are the directories of config/ that the chart has copies of: files that Helm reads have to be in the chart.
var copies = map[string]string{
	"config/crd/lanyard.dev_*.yaml": chartDir + "/crds",
	"config/rbac/*.yaml":            chartDir + "/files/rbac",
}

func generate() error {
	var errs []error
	for from, to := range copies {
		errs = append(errs, copyFiles(from, to))
	}
	return errors.Join(append(errs, generateValuesSchema())...)
}

// copyFiles makes a directory hold the files that match a pattern, but for kustomize's own, and no others.
func copyFiles(pattern, to string) error {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		return fmt.Errorf("%s: no such files (%w)", pattern, err)
	}
	if err := errors.Join(os.RemoveAll(to), os.MkdirAll(to, 0o755)); err != nil {
		return err
	}
	for _, file := range files {
		if filepath.Base(file) == "kustomization.yaml" {
			continue
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(file)), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generated separates what is written by hand in values.schema.json, before it, from what is made of the CRDs.
const generated = "\n    \"what follows is written by make generate\": true,\n"

// kept are the fields of a CRD's schema that say the same in a schema of values. Defaults are the API server's business.
var kept = []string{"type", "properties", "items", "additionalProperties", "required", "enum", "pattern", "minimum", "maximum",
	"minLength", "maxLength", "minItems", "maxItems"}

// generateValuesSchema has values.schema.json know the fields of pools and advertisements, so that a typo there is refused before
// anything is installed.
func generateValuesSchema() error {
	path := chartDir + "/values.schema.json"
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	byHand, _, found := strings.Cut(string(content), generated)
	if !found {
		return fmt.Errorf("%s: there is no line that says where the generated part begins", path)
	}
	var made []string
	for _, one := range []struct{ name, crd string }{{"pools", "ipaddresspools"}, {"advertisements", "l2advertisements"}} {
		spec, err := specSchema("config/crd/lanyard.dev_" + one.crd + ".yaml")
		if err != nil {
			return err
		}
		schema, err := indented(objectsSchema(spec))
		if err != nil {
			return err
		}
		made = append(made, fmt.Sprintf("    %q: %s", one.name, schema))
	}
	return os.WriteFile(path, []byte(byHand+generated+strings.Join(made, ",\n")+"\n  }\n}\n"), 0o644)
}

func indented(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("    ", "  ")
	err := e.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}

// objectsSchema is the schema of objects by name.
func objectsSchema(spec any) object {
	strings := object{"$ref": "#/$defs/strings"}
	return object{
		"type":          "object",
		"propertyNames": object{"pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "maxLength": 253},
		"additionalProperties": object{
			"type":                 "object",
			"additionalProperties": false,
			"required":             []string{"spec"},
			"properties":           object{"labels": strings, "annotations": strings, "spec": spec},
		},
	}
}

// specSchema is what the schema of a CRD says of spec, as far as a schema of values can.
func specSchema(path string) (any, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema struct {
						Properties struct{ Spec object }
					}
				}
			}
		}
	}
	if err := yaml.Unmarshal(content, &crd); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(crd.Spec.Versions) != 1 {
		return nil, fmt.Errorf("%s: there is not one version, but %d: choose one", path, len(crd.Spec.Versions))
	}
	return valueSchema("spec", crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties.Spec), nil
}

// valueSchema reduces the schema of a field to what Helm understands, and refuses what it does not name.
func valueSchema(name string, in object) object {
	if name == "addresses" || name == "excludedAddresses" {
		in = with(in, "items", with(in["items"].(map[string]any), "$ref", "#/$defs/addresses"))
	}
	out := object{}
	for _, key := range kept {
		if value, there := in[key]; there {
			out[key] = value
		}
	}
	if ref, there := in["$ref"]; there {
		return object{"$ref": ref}
	}
	if properties, ok := in["properties"].(map[string]any); ok {
		reduced := object{}
		for field, schema := range properties {
			reduced[field] = valueSchema(field, schema.(map[string]any))
		}
		out["properties"], out["additionalProperties"] = reduced, false
	}
	if items, ok := in["items"].(map[string]any); ok {
		out["items"] = valueSchema("", items)
	}
	return out
}

// with returns a copy of an object with one more field.
func with(in object, key string, value any) object {
	out := object{key: value}
	for k, v := range in {
		if k != key {
			out[k] = v
		}
	}
	return out
}
