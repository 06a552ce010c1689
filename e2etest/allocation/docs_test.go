package allocation

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

const repository = "../.."

// step is a part of a page that a test carries out: a block of YAML to apply, a block of commands to run, or something to
// expect.
type step struct {
	line    int
	section string
	kind    string // yaml, sh or expect
	text    string
}

var expectation = regexp.MustCompile(`^<!-- expect: (.*) -->$`)

// steps reads a page.
func steps(t *testing.T, page string) (all []step) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(repository, "docs", page))
	must(t, err)
	section, block := "", (*step)(nil)
	for i, line := range strings.Split(string(raw), "\n") {
		switch fence, isFence := strings.CutPrefix(line, "```"); {
		case isFence && block != nil:
			all = append(all, *block)
			block = nil
		case isFence:
			block = &step{line: i + 1, section: section, kind: fence}
		case block != nil:
			block.text += line + "\n"
		case strings.HasPrefix(line, "## "):
			section = strings.TrimPrefix(line, "## ")
		default:
			if m := expectation.FindStringSubmatch(line); m != nil {
				all = append(all, step{i + 1, section, "expect", m[1]})
			}
		}
	}
	return all
}

// TestDocs applies every example of docs/allocation.md in order, section by section, and checks what is promised beside it.
func TestDocs(t *testing.T) {
	all := steps(t, "allocation.md")
	c := serve(t, lab.Options{Nodes: 1, Clients: -1})
	bySection, sections := map[string][]step{}, []string{}
	for _, s := range all {
		if len(bySection[s.section]) == 0 {
			sections = append(sections, s.section)
		}
		bySection[s.section] = append(bySection[s.section], s)
	}
	if len(sections) < 10 {
		t.Errorf("the page has %d sections with examples: %q", len(sections), sections)
	}
	for _, section := range sections {
		t.Run(section, func(t *testing.T) {
			c.noPools(t)
			list := bySection[section]
			for i, s := range list {
				if s.kind == "yaml" && (i+1 == len(list) || list[i+1].kind == "yaml") {
					t.Errorf("line %d: nothing is expected of this example", s.line)
				}
				c.carryOut(t, s)
			}
		})
	}
}

func (c *cluster) carryOut(t *testing.T, s step) {
	t.Helper()
	switch s.kind {
	case "yaml":
		c.withinLAN(t, s)
		c.applyInTurn(t, s.text)
	case "sh":
		for command := range strings.Lines(s.text) {
			words := strings.Fields(command)
			if words[0] != "kubectl" {
				t.Fatalf("line %d: %q does not begin with kubectl", s.line, command)
			}
			if _, err := c.Kubectl(within(t, 30*time.Second), words[1:]...); err != nil {
				t.Fatalf("line %d: %v", s.line, err)
			}
		}
	case "expect":
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := poll(ctx, func() error { return c.promised(t, strings.Fields(s.text)) }); err != nil {
			t.Fatalf("line %d: %v", s.line, err)
		}
	default:
		t.Fatalf("line %d: nobody knows how to try a block of %q", s.line, s.kind)
	}
}

// applyInTurn applies the objects of a block. Pools come in force before Services are made, and one Service is decided on
// before the next one, for a reader does not type faster than that.
func (c *cluster) applyInTurn(t *testing.T, text string) {
	t.Helper()
	for _, o := range decode(t, text) {
		raw, err := o.MarshalJSON()
		must(t, err)
		c.apply(t, string(raw))
		full := fullName(o)
		switch o.GetKind() {
		case "IPAddressPool":
			c.judged(t, "IPAddressPool", full, "Ready", "True InForce")
		case "Service":
			eventually(t, patience, func() error {
				if conditionOf(c.read(t, full)) == nil {
					return fmt.Errorf("nothing is decided on Service %s", full)
				}
				return nil
			})
		}
	}
}

var addressLike = regexp.MustCompile(`10\.[0-9]+\.[0-9]+\.[0-9]+|fd77::[0-9a-f]*`)

// withinLAN sees to it that examples can be tried on the lab's own LAN.
func (c *cluster) withinLAN(t *testing.T, s step) {
	t.Helper()
	low4, high4 := netip.MustParseAddr("10.77.0.200"), netip.MustParseAddr("10.77.0.250")
	for _, text := range addressLike.FindAllString(s.text, -1) {
		ip, err := netip.ParseAddr(text)
		subnet := text == "10.77.0.0"
		if err != nil || !subnet && ip.Is4() && (ip.Less(low4) || high4.Less(ip)) {
			t.Errorf("line %d: the example uses %s", s.line, text)
		}
	}
}

// promised checks one expectation: svc/NAMESPACE/NAME, pool/NAME or reservation/NAMESPACE/NAME with addresses and a reason,
// who/ADDRESS with a previous holder, or can/GROUP with a verb, a resource and the answer.
func (c *cluster) promised(t *testing.T, words []string) error {
	kind, name, _ := strings.Cut(words[0], "/")
	var ips, rest []string
	for _, w := range words[1:] {
		if _, err := netip.ParseAddr(w); err == nil {
			ips = append(ips, w)
		} else {
			rest = append(rest, w)
		}
	}
	have, want := "", strings.Join(append(ips, rest...), " ")
	switch kind {
	case "svc":
		s := c.read(t, name)
		have = strings.Join(ingress(s), " ")
		if len(rest) > 0 && conditionOf(s) != nil {
			have = strings.TrimSpace(have + " " + conditionOf(s).Reason)
		}
	case "pool", "reservation":
		var o conditioned
		if err := c.get(t, map[string]string{"pool": "IPAddressPool", "reservation": "IPReservation"}[kind], name, &o); err != nil {
			return err
		}
		have = strings.Join(o.Status.Held, " ")
		for _, condition := range o.Status.Conditions {
			if condition.Type == "Ready" && len(rest) > 0 {
				have = strings.TrimSpace(have + " " + condition.Reason)
			}
		}
	case "can":
		out, _ := c.Kubectl(within(t, 20*time.Second), "auth", "can-i", rest[0], rest[1], "--as=somebody", "--as-group="+name)
		have, want = strings.TrimSpace(out), rest[2]
	case "who":
		return c.previously(t, name, want)
	default:
		t.Fatalf("nobody knows what %q expects", words)
	}
	if have != want {
		return &unexpected{words[0], have, want, nil}
	}
	return nil
}

// previously checks that the plugin names a previous holder of an address, whom nobody has followed.
func (c *cluster) previously(t *testing.T, ip, holder string) error {
	plugin, err := filepath.Abs(filepath.Join(repository, "bin", "kubectl-lanyard"))
	must(t, err)
	out, err := c.Host("cp").Exec(within(t, 20*time.Second), plugin, "--kubeconfig", c.Kubeconfig(), "who", ip)
	if err == nil && !strings.Contains(out, holder) {
		err = fmt.Errorf("kubectl lanyard who %s prints\n%s", ip, out)
	}
	return err
}

// TestDocsNameEveryReason compares the tables of the page with the constants of the code.
func TestDocsNameEveryReason(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(repository, "docs", "allocation.md"))
	must(t, err)
	rows := regexp.MustCompile("(?m)^\\| `([A-Z][A-Za-z]+)` \\|").FindAllStringSubmatch(string(raw), -1)
	listed := map[string]bool{}
	for _, row := range rows {
		listed[row[1]] = true
	}
	known := map[string]bool{}
	for _, file := range []string{"internal/ipam/reason.go", "internal/config/snapshot.go"} {
		for _, reason := range reasons(t, filepath.Join(repository, file)) {
			known[reason] = true
			if !listed[reason] {
				t.Errorf("docs/allocation.md has no row for the reason %s of %s", reason, file)
			}
		}
	}
	for reason := range listed {
		if !known[reason] {
			t.Errorf("docs/allocation.md has a row for %s, which is no reason", reason)
		}
	}
}

// reasons lists the values of the constants of type Reason in a file.
func reasons(t *testing.T, path string) (values []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	must(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		spec, is := n.(*ast.ValueSpec)
		if !is {
			return true
		}
		if of, is := spec.Type.(*ast.Ident); is && of.Name == "Reason" {
			for _, v := range spec.Values {
				text, err := strconv.Unquote(v.(*ast.BasicLit).Value)
				must(t, err)
				values = append(values, text)
			}
		}
		return true
	})
	if len(values) == 0 {
		t.Errorf("%s has no reasons", path)
	}
	return values
}

// TestDocsCoverMetalLB: the page for those who come from MetalLB has a row for each feature of its table.
func TestDocsCoverMetalLB(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(repository, "docs", "metallb.md"))
	must(t, err)
	for prefix, last := range map[string]int{"A1.": 12, "N": 17, "E": 34, "S": 6} {
		for i := 1; i <= last; i++ {
			if row := fmt.Sprintf("| %s%d |", prefix, i); !strings.Contains(string(raw), row) {
				t.Errorf("docs/metallb.md has no row %q", row)
			}
		}
	}
}
