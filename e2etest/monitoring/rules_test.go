package monitoring

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/e2etest/labtest"
)

const chartFiles = root + "/charts/lanyard/files/"

// promtool runs promtool, which `make bin/tools/promtool` builds, and returns what it says.
func promtool(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(labtest.Within(t, time.Minute), filepath.Join(root, "bin/tools/promtool"), args...).CombinedOutput()
	return string(out), err
}

// TestRules: the alert rules are valid, and do on recorded and on made-up series what is expected of them.
func TestRules(t *testing.T) {
	if out, err := promtool(t, "check", "rules", "--lint-fatal", chartFiles+"alerts.yaml"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	files, err := filepath.Glob("testdata/*.yaml")
	labtest.Must(t, err)
	if len(files) < 9 {
		t.Errorf("there are only the tests %v", files)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			if out, err := promtool(t, "test", "rules", file); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// TestEveryAlertFires: for each alert there is a test in which it fires.
func TestEveryAlertFires(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	labtest.Must(t, err)
	expected := ""
	for _, file := range files {
		text, err := os.ReadFile(file)
		labtest.Must(t, err)
		expected += string(text)
	}
	text, err := os.ReadFile(chartFiles + "alerts.yaml")
	labtest.Must(t, err)
	for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(string(text), -1) {
		if !strings.Contains(expected, `alertname="`+m[1]+`"`) && !strings.Contains(expected, "alertname: "+m[1]+"\n") {
			t.Errorf("in no test fires %s", m[1])
		}
	}
}

// TestDashboard: the queries of the dashboard are valid PromQL, panels do not lie upon each other, and each says what it shows.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile(chartFiles + "dashboard.json")
	labtest.Must(t, err)
	var d struct {
		SchemaVersion int
		Panels        []struct {
			Type, Title, Description string
			GridPos                  struct{ X, Y, W, H int }
			Targets                  []struct{ Expr string }
			Datasource               struct{ UID string }
		}
	}
	labtest.Must(t, json.Unmarshal(text, &d))
	var b strings.Builder
	b.WriteString("groups:\n- name: dashboard\n  rules:\n")
	fill := strings.NewReplacer("$__rate_interval", "5m", "$job", ".+")
	covered := map[[2]int]string{}
	queries := 0
	for _, p := range d.Panels {
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := covered[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("panel %q lies upon %q, or beyond the edge", p.Title, other)
				}
				covered[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("panel %q has no description, no query, or a data source of its own", p.Title)
		}
		for _, q := range p.Targets {
			queries++
			fmt.Fprintf(&b, "  - record: dashboard:query:%d\n    expr: %q\n", queries, fill.Replace(q.Expr))
		}
	}
	if queries < 40 || d.SchemaVersion < 41 {
		t.Errorf("%d queries, schema version %d", queries, d.SchemaVersion)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yaml")
	labtest.Must(t, os.WriteFile(file, []byte(b.String()), 0o644))
	if out, err := promtool(t, "check", "rules", file); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
