package main

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the list of tests into docs/conformance.md")

const document = "../../../docs/conformance.md"

// The document shows the list that the runner goes by.
func TestDocumentShowsTheList(t *testing.T) {
	list, err := readList()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	marked := regexp.MustCompile(`(?s)<!-- tests.yaml begins -->\n(.*?)<!-- tests.yaml ends -->`)
	found := marked.FindStringSubmatchIndex(string(raw))
	if found == nil {
		t.Fatalf("%s has no place for the list", document)
	}
	if string(raw[found[2]:found[3]]) == table(list) {
		return
	}
	if !*update {
		t.Fatalf("%s does not show tests.yaml: run `go test ./cmd/upstream -update`", document)
	}
	text := string(raw[:found[2]]) + table(list) + string(raw[found[3]:])
	if err := os.WriteFile(document, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestCompareFindsDrift(t *testing.T) {
	specs := func(names ...string) (list []spec) {
		for _, name := range names {
			list = append(list, spec{LeafNodeType: "It", ContainerHierarchyTexts: []string{"[sig-network]"}, LeafNodeText: name})
		}
		return list
	}
	list := []entry{{Name: "[sig-network] LoadBalancers a"}, {Name: "[sig-network] Services b"}}
	for _, c := range []struct {
		reason, want string
		specs        []spec
	}{
		{"what is not about load balancers need not be listed", "",
			specs("LoadBalancers a", "Services b", "Services c")},
		{"a test was added", `does not list "[sig-network] LoadBalancers d"`,
			specs("LoadBalancers a", "Services b", "LoadBalancers d")},
		{"a test was renamed or removed", `"[sig-network] Services b", which Kubernetes does not have`,
			specs("LoadBalancers a")},
	} {
		err := compare(list, c.specs)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.reason, err, c.want)
		}
	}
}

func TestTitleHasNoTags(t *testing.T) {
	e := entry{Name: "[sig-network] LoadBalancers [Feature:LoadBalancer] should be so [LinuxOnly] [Slow]"}
	if got, want := e.title(), "[sig-network] LoadBalancers should be so"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
