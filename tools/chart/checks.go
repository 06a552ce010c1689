package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

func checkLint() error {
	return each(func(i installation) error {
		var errs []error
		for _, helm := range []string{"helm", "helm3"} {
			_, err := run(helm, "lint", "--strict", "--quiet", chartDir, "--namespace", i.namespace, "--values", i.values)
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}

// checkRepeat renders twice: tools that compare what is with what should be would see a change each time. And no secret
// is in what they compare: the controller makes the gossip key when it runs.
func checkRepeat() error {
	return each(func(i installation) error {
		once, err := i.render("helm")
		if err != nil {
			return err
		}
		again, err := i.render("helm")
		if err != nil {
			return err
		}
		if !bytes.Equal(once, again) {
			return errors.New("a second render differs")
		}
		all, err := parse(once)
		if err != nil {
			return err
		}
		for _, o := range all {
			if o["kind"] == "Secret" {
				return fmt.Errorf("%s is in the render", id(o))
			}
		}
		return nil
	})
}

func checkHelm3() error {
	return each(func(i installation) error {
		four, err := i.objects("helm")
		if err != nil {
			return err
		}
		three, err := i.objects("helm3")
		if err != nil {
			return err
		}
		return differences("helm 4", four, "helm 3", three)
	})
}

// checkParity compares the chart's default values with config/, but for what is Helm's own: two labels, hooks. The
// namespace is in config/ only; Helm makes it with --create-namespace.
func checkParity() error {
	chart, err := installation{release: release, namespace: namespace}.objects("helm")
	if err != nil {
		return err
	}
	stream, err := run("kustomize", "build", "config")
	if err != nil {
		return err
	}
	manifests, err := parse(stream)
	if err != nil {
		return err
	}
	for _, o := range chart {
		if labels, ok := at(o, "metadata", "labels").(object); ok {
			delete(labels, "helm.sh/chart")
			delete(labels, "app.kubernetes.io/managed-by")
		}
	}
	manifests = slices.DeleteFunc(manifests, func(o object) bool { return o["kind"] == "Namespace" })
	return differences("chart", slices.DeleteFunc(chart, isHook), "kustomize", manifests)
}

// checkRefusals has Helm refuse wrong values with words that say which.
func checkRefusals() error {
	content, err := os.ReadFile("tools/chart/testdata/refused.yaml")
	if err != nil {
		return err
	}
	var cases []struct {
		Values object
		Says   []string
	}
	if err := yaml.UnmarshalStrict(content, &cases); err != nil || len(cases) == 0 {
		return fmt.Errorf("read the wrong values: %w", err)
	}
	file, err := os.CreateTemp("", "values-*.yaml")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	var errs []error
	for _, c := range cases {
		values, err := yaml.Marshal(c.Values)
		if err != nil {
			return err
		}
		if err := os.WriteFile(file.Name(), values, 0o600); err != nil {
			return err
		}
		_, err = installation{release, namespace, file.Name()}.render("helm")
		if err == nil {
			errs = append(errs, fmt.Errorf("not refused:\n%s", values))
			continue
		}
		for _, words := range c.Says {
			if !strings.Contains(err.Error(), words) {
				errs = append(errs, fmt.Errorf("refused, but not with the words %q:\n%s%w", words, values, err))
			}
		}
	}
	return errors.Join(errs...)
}

// checkTwoReleases renders a second release, of another class, and looks for what it would share with the first.
func checkTwoReleases() error {
	const values = chartDir + "/ci/second-class.yaml"
	first, err := installation{release, namespace, chartDir + "/ci/everything.yaml"}.objects("helm")
	if err != nil {
		return err
	}
	second, err := installation{"second", "elsewhere", values}.objects("helm")
	if err != nil {
		return err
	}
	var errs []error
	names, ports := map[string]bool{}, map[any]bool{}
	for _, o := range first {
		names[id(o)] = true
		for _, port := range hostPorts(o) {
			ports[port] = true
		}
	}
	if len(ports) != 3 {
		errs = append(errs, fmt.Errorf("the first release has the ports %v of the node, not three", ports))
	}
	for _, o := range second {
		if names[id(o)] && o["kind"] != "CustomResourceDefinition" {
			errs = append(errs, fmt.Errorf("%s is in both", id(o)))
		}
		for _, port := range hostPorts(o) {
			if ports[port] {
				errs = append(errs, fmt.Errorf("%s: port %v of the node is in both", id(o), port))
			}
		}
	}
	return errors.Join(append(errs, checkLease(values, second))...)
}

// hostPorts are the ports that the pods of a workload take of their node.
func hostPorts(o object) (all []any) {
	containers, _ := at(o, "spec", "template", "spec", "containers").([]any)
	for _, c := range containers {
		ports, _ := at(c, "ports").([]any)
		for _, p := range ports {
			if port := at(p, "hostPort"); port != nil {
				all = append(all, port)
			}
		}
	}
	return all
}

// checkLease looks whether the controller may use the lease of its class, and no other.
func checkLease(values string, rendered []object) error {
	content, err := os.ReadFile(values)
	if err != nil {
		return err
	}
	var v struct{ LoadBalancerClass string }
	if err := yaml.Unmarshal(content, &v); err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(v.LoadBalancerClass))
	want := "lanyard-controller-" + hex.EncodeToString(sum[:4])
	var named []any
	for _, o := range rendered {
		if o["kind"] != "Role" || at(o, "metadata", "name") != "lanyard-controller" {
			continue
		}
		rules, _ := o["rules"].([]any)
		for _, rule := range rules {
			resources, _ := at(rule, "resources").([]any)
			names, _ := at(rule, "resourceNames").([]any)
			if slices.Contains(resources, any("leases")) {
				named = append(named, names...)
			}
		}
	}
	if len(named) != 1 || named[0] != want {
		return fmt.Errorf("the Role lanyard-controller names the leases %v, want %s", named, want)
	}
	return nil
}
