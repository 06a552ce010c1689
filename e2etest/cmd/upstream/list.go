package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// loadBalancers is how the names begin of all tests that Kubernetes has for implementations of load balancers.
const loadBalancers = "[sig-network] LoadBalancers"

//go:embed tests.yaml
var listed []byte

// entry is one test of tests.yaml.
type entry struct {
	Name  string `json:"name"`
	Shows string `json:"shows,omitempty"`
	Why   string `json:"why,omitempty"`
}

// applies tells whether Lanyard must pass the test.
func (e entry) applies() bool { return e.Why == "" }

// tags are what a name says about the test to machines, as in [Slow].
var tags = regexp.MustCompile(` ?\[(Feature:|Slow|LinuxOnly|Conformance|Provider:)[^]]*]`)

// title is the test's name without tags.
func (e entry) title() string { return tags.ReplaceAllString(e.Name, "") }

func readList() (list []entry, err error) {
	if err := yaml.UnmarshalStrict(listed, &list); err != nil {
		return nil, fmt.Errorf("read tests.yaml: %w", err)
	}
	for i, e := range list {
		if (e.Shows == "") == (e.Why == "") {
			return nil, fmt.Errorf("tests.yaml, test %d, %q: wants either `shows` or `why`", i+1, e.Name)
		}
	}
	return list, nil
}

// report is what of ginkgo's JSON report is read here.
type report []struct {
	SpecReports []spec
}

type spec struct {
	ContainerHierarchyTexts []string
	LeafNodeType            string
	LeafNodeText            string
	State                   string
	RunTime                 int64 // nanoseconds
	Failure                 struct{ Message string }
}

func (s spec) name() string {
	return strings.Join(slices.Concat(s.ContainerHierarchyTexts, []string{s.LeafNodeText}), " ")
}

func readReport(raw []byte) (specs []spec, err error) {
	var r report
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, fmt.Errorf("read ginkgo's report: %w", err)
	}
	for _, suite := range r {
		specs = append(specs, suite.SpecReports...)
	}
	return specs, nil
}

// compare says which listed tests Kubernetes does not have, and which of its tests of load balancers are not listed.
func compare(list []entry, specs []spec) error {
	var errs []error
	has := map[string]bool{}
	for _, s := range specs {
		if s.LeafNodeType != "It" {
			continue
		}
		has[s.name()] = true
		named := func(e entry) bool { return e.Name == s.name() }
		if strings.HasPrefix(s.name(), loadBalancers) && !slices.ContainsFunc(list, named) {
			errs = append(errs, fmt.Errorf("tests.yaml does not list %q, which Kubernetes has", s.name()))
		}
	}
	for _, e := range list {
		if !has[e.Name] {
			errs = append(errs, fmt.Errorf("tests.yaml lists %q, which Kubernetes does not have", e.Name))
		}
	}
	return errors.Join(errs...)
}

// table is the list as docs/conformance.md shows it: first what passes, then what does not apply.
func table(list []entry) string {
	var b strings.Builder
	b.WriteString("| must pass | what it shows |\n|---|---|\n")
	for _, e := range list {
		if e.applies() {
			fmt.Fprintf(&b, "| %s | %s |\n", e.title(), e.Shows)
		}
	}
	b.WriteString("\n| does not apply | because |\n|---|---|\n")
	for _, e := range list {
		if !e.applies() {
			fmt.Fprintf(&b, "| %s | %s |\n", e.title(), e.Why)
		}
	}
	return b.String()
}
