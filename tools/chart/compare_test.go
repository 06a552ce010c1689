package main

import (
	"strings"
	"testing"
)

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: a, namespace: ns, labels: {x: "1"}}
spec: {replicas: 2, template: {spec: {containers: [{name: c, args: [one, two]}]}}}
`

// TestDifferences changes one thing at a time, and wants it told with object and path.
func TestDifferences(t *testing.T) {
	for name, c := range map[string]struct{ old, new, says string }{
		"nothing":          {"", "", ""},
		"a value":          {"replicas: 2", "replicas: 3", "Deployment ns/a: .spec.replicas is 2 in chart, 3 in kustomize"},
		"a type":           {`x: "1"`, "x: 1", `Deployment ns/a: .metadata.labels.x is "1" in chart, 1 in kustomize`},
		"a missing field":  {", args: [one, two]", "", "Deployment ns/a: .spec.template.spec.containers[0].args is [one two] in chart, absent in kustomize"},
		"a field more":     {"name: c,", "name: c, image: i,", `.containers[0].image is absent in chart, "i" in kustomize`},
		"the order":        {"[one, two]", "[two, one]", `.args[0] is "one" in chart, "two" in kustomize`},
		"a longer list":    {"[one, two]", "[one, two, three]", ".args is [one two] in chart, [one two three] in kustomize"},
		"an empty value":   {"replicas: 2", "replicas: null", ".spec.replicas is 2 in chart, <nil> in kustomize"},
		"another object":   {"name: a", "name: b", "Deployment ns/a: only chart has it"},
		"an object of two": {"", "---" + deployment, "an object is there twice"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := parse([]byte(deployment))
			if err != nil {
				t.Fatal(err)
			}
			changed := strings.Replace(deployment, c.old, c.new, 1)
			if c.old == "" {
				changed = deployment + c.new
			}
			b, err := parse([]byte(changed))
			if err != nil {
				t.Fatal(err)
			}
			err = differences("chart", a, "kustomize", b)
			switch {
			case c.says == "" && err != nil:
				t.Errorf("differences: %v, want none", err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("differences: %v, want %q", err, c.says)
			}
		})
	}
}

// TestLongTexts wants to see of long texts only where they differ.
func TestLongTexts(t *testing.T) {
	long := strings.Repeat("x", 1000)
	all := differ(".data", object{"a": long + "1" + long}, object{"a": long + "2" + long})
	if len(all) != 1 || !strings.Contains(all[0].path, ".data.a, at byte 1000") || len(all[0].a) > 200 || !strings.Contains(all[0].b, "2") {
		t.Errorf("the differences are %+v, want one, around byte 1000", all)
	}
	if all := differ("", long, long+"\n"); len(all) != 1 || !strings.Contains(all[0].b, `\n`) {
		t.Errorf("the differences are %+v, want one, at the end", all)
	}
}

// TestParse wants a key that is there twice refused: the API server would take one of them.
func TestParse(t *testing.T) {
	if _, err := parse([]byte("kind: A\nkind: B\n")); err == nil {
		t.Error("a key that is there twice is not refused")
	}
	all, err := parse([]byte("# nothing\n---\n---\nkind: A\n---\nkind: B\n"))
	if err != nil || len(all) != 2 {
		t.Errorf("parsed %v (%v), want two objects", all, err)
	}
}

// TestStrict looks at what a schema is made to refuse, and what not.
func TestStrict(t *testing.T) {
	made := strict(object{
		"properties": object{
			"closed": object{"type": "object", "properties": object{"a": object{"type": "string"}}},
			"map":    object{"type": "object", "additionalProperties": object{"type": "string"}},
			"open":   object{"type": "object", "properties": object{"a": object{}}, "x-kubernetes-preserve-unknown-fields": true},
			"any":    object{"type": "object"},
			"port":   object{"anyOf": []any{object{"type": "integer"}, object{"type": "string"}}, "x-kubernetes-int-or-string": true},
		},
	})
	for _, c := range []struct {
		path []string
		want any
	}{
		{[]string{"additionalProperties"}, false},
		{[]string{"properties", "closed", "additionalProperties"}, false},
		{[]string{"properties", "map", "additionalProperties", "type"}, "string"},
		{[]string{"properties", "open", "additionalProperties"}, nil},
		{[]string{"properties", "any", "additionalProperties"}, nil},
		{[]string{"properties", "port", "anyOf"}, nil},
	} {
		if have := at(made, c.path...); have != c.want {
			t.Errorf("%s is %v, want %v", strings.Join(c.path, "."), have, c.want)
		}
	}
}
