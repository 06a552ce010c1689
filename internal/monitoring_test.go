package internal_test

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/lanyard-lb/lanyard/internal/controller"
	"github.com/lanyard-lb/lanyard/internal/kube"
	"github.com/lanyard-lb/lanyard/internal/speaker"
)

const (
	alertsFile    = "../charts/lanyard/files/alerts.yaml"
	dashboardFile = "../charts/lanyard/files/dashboard.json"
	runbook       = "https://github.com/lanyard-lb/lanyard/blob/main/docs/troubleshooting.md#"
)

// foreign are the metrics of others that alerts and dashboard may go by, with their labels.
var foreign = map[string][]string{
	"rest_client_requests_total":    {"code", "host", "method"},
	"process_resident_memory_bytes": {},
	"process_cpu_seconds_total":     {},
	"ALERTS":                        {"alertname", "alertstate"},
}

// scraped are the labels that a scrape adds, and that of a histogram's buckets.
var scraped = []string{"job", "instance", "namespace", "pod", "node", "le"}

// noting is a Registerer that notes what is registered: the labels by name.
type noting struct {
	prometheus.Registerer
	labels map[string][]string
}

var descPattern = regexp.MustCompile(`fqName: "(\w+)".*variableLabels: \{([^}]*)\}`)

func (n noting) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc, 10)
	c.Describe(descs)
	close(descs)
	for d := range descs {
		found := descPattern.FindStringSubmatch(d.String())
		n.labels[found[1]] = strings.FieldsFunc(found[2], func(r rune) bool { return r == ',' })
		slices.Sort(n.labels[found[1]])
	}
	return n.Registerer.Register(c)
}

// registered returns the labels of all metrics that the daemons register, by name.
func registered(t *testing.T) map[string][]string {
	t.Helper()
	n := noting{prometheus.NewRegistry(), map[string][]string{}}
	for _, register := range []func(prometheus.Registerer) error{
		func(r prometheus.Registerer) error { _, err := controller.NewMetrics(r); return err },
		func(r prometheus.Registerer) error { _, err := speaker.NewMetrics(r); return err },
		func(r prometheus.Registerer) error { _, err := kube.NewQueueMetrics(r); return err },
	} {
		if err := register(n); err != nil {
			t.Fatal(err)
		}
	}
	return n.labels
}

// TestMetricsComplete: no metric is made elsewhere in the code.
func TestMetricsComplete(t *testing.T) {
	all := registered(t)
	for _, name := range inSource(t, regexp.MustCompile(`Name:\s*"(lanyard_\w+)"`)) {
		if _, known := all[name]; !known {
			t.Errorf("%s is made in the code, and none of the sets of metrics that this test knows has it", name)
		}
	}
}

// inSource returns what a pattern finds in the Go code of this module, tests left out.
func inSource(t *testing.T, pattern *regexp.Regexp) (found []string) {
	t.Helper()
	for _, dir := range []string{"../internal", "../controller", "../speaker"} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			for _, m := range pattern.FindAllStringSubmatch(read(t, path), -1) {
				found = append(found, m[1])
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestMetricsDocumented: docs/metrics.md lists every metric with its labels, and no other.
func TestMetricsDocumented(t *testing.T) {
	all := registered(t)
	rows := regexp.MustCompile("(?m)^\\| `(lanyard_\\w+)` \\| (gauge|counter|histogram) \\| ([^|]*)\\| ([^|]+)\\|$").FindAllStringSubmatch(read(t, "../docs/metrics.md"), -1)
	documented := map[string]bool{}
	for _, row := range rows {
		name, labels := row[1], strings.FieldsFunc(row[3], func(r rune) bool { return strings.ContainsRune("`, ", r) })
		slices.Sort(labels)
		have, known := all[name]
		if !known {
			t.Errorf("docs/metrics.md has %s, which nothing registers", name)
		} else if !slices.Equal(have, labels) {
			t.Errorf("docs/metrics.md says that %s has the labels %v; it has %v", name, labels, have)
		}
		documented[name] = true
	}
	for name := range all {
		if !documented[name] {
			t.Errorf("docs/metrics.md does not list %s", name)
		}
	}
}

// alert is one rule of the chart's.
type alert struct {
	Alert, Expr         string
	Labels, Annotations map[string]string
}

func alerts(t *testing.T) (all []alert) {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string
			Rules []alert
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, alertsFile)), &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("there are no alerts")
	}
	return all
}

// TestAlerts: each alert is named once, says how bad it is and what it means, and has an entry in the runbook, which has an entry for
// nothing else.
func TestAlerts(t *testing.T) {
	entries := headings(t, "Alerts")
	named := map[string]bool{}
	for _, a := range alerts(t) {
		if named[a.Alert] {
			t.Errorf("there are two alerts %s", a.Alert)
		}
		named[a.Alert] = true
		if !slices.Contains([]string{"critical", "warning", "info"}, a.Labels["severity"]) {
			t.Errorf("%s has the severity %q", a.Alert, a.Labels["severity"])
		}
		if a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
			t.Errorf("%s has no summary or no description", a.Alert)
		}
		if want := runbook + strings.ToLower(a.Alert); a.Annotations["runbook_url"] != want {
			t.Errorf("%s has the runbook_url %q, want %q", a.Alert, a.Annotations["runbook_url"], want)
		}
		if !slices.Contains(entries, a.Alert) {
			t.Errorf("docs/troubleshooting.md has no entry %q under Alerts", a.Alert)
		}
	}
	for _, e := range entries {
		if !named[e] {
			t.Errorf("docs/troubleshooting.md has an entry for the alert %s, which there is not", e)
		}
	}
}

// headings are the titles of third order below one of second order in docs/troubleshooting.md.
func headings(t *testing.T, chapter string) (titles []string) {
	t.Helper()
	_, text, found := strings.Cut(read(t, "../docs/troubleshooting.md"), "\n## "+chapter+"\n")
	if !found {
		t.Fatalf("docs/troubleshooting.md has no chapter %q", chapter)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	for _, m := range regexp.MustCompile(`(?m)^### (\w+)$`).FindAllStringSubmatch(text, -1) {
		if slices.Contains(titles, m[1]) {
			t.Errorf("docs/troubleshooting.md has two entries %s", m[1])
		}
		titles = append(titles, m[1])
	}
	return titles
}

// TestQueries: alerts and dashboard go by metrics and labels that there are.
func TestQueries(t *testing.T) {
	all := registered(t)
	maps.Copy(all, foreign)
	queries := map[string]string{}
	for _, a := range alerts(t) {
		queries["alert "+a.Alert] = a.Expr
	}
	var dashboard any
	if err := json.Unmarshal([]byte(read(t, dashboardFile)), &dashboard); err != nil {
		t.Fatal(err)
	}
	expressions(dashboard, "", queries)
	if len(queries) < 60 {
		t.Errorf("there are only %d queries: this test has missed some", len(queries))
	}
	for where, query := range queries {
		checkQuery(t, where, query, all)
	}
}

// expressions collects the queries of a dashboard, by the title of their panel.
func expressions(of any, title string, into map[string]string) {
	switch of := of.(type) {
	case map[string]any:
		if own, is := of["title"].(string); is {
			title = own
		}
		if expr, is := of["expr"].(string); is {
			into["panel "+title+": "+expr] = expr
		}
		for _, field := range of {
			expressions(field, title, into)
		}
	case []any:
		for _, element := range of {
			expressions(element, title, into)
		}
	}
}

var (
	quoted      = regexp.MustCompile(`"[^"]*"`)
	duration    = regexp.MustCompile(`\[[^\]]*\]`)
	selector    = regexp.MustCompile(`(\w+)\{([^}]*)\}`)
	matched     = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`)
	grouped     = regexp.MustCompile(`\b(by|without|on|ignoring)\s*\(([^)]*)\)`)
	word        = regexp.MustCompile(`[A-Za-z_]\w*`)
	suffixes    = regexp.MustCompile(`_(bucket|sum|count)$`)
	promqlWords = []string{"sum", "max", "min", "count", "avg_over_time", "rate", "increase", "absent", "histogram_quantile", "vector",
		"and", "or", "unless", "offset", "h", "m", "e6", "group_left"}
)

func checkQuery(t *testing.T, where, query string, all map[string][]string) {
	t.Helper()
	known := func(name string) ([]string, bool) {
		if labels, is := all[name]; is {
			return labels, true
		}
		labels, is := all[suffixes.ReplaceAllString(name, "")]
		return labels, is
	}
	bare := duration.ReplaceAllString(quoted.ReplaceAllString(query, ""), "")
	union := slices.Clone(scraped)
	for _, s := range selector.FindAllStringSubmatch(bare, -1) {
		labels, is := known(s[1])
		if !is {
			t.Errorf("%s: there is no metric %s", where, s[1])
			continue
		}
		for _, m := range matched.FindAllStringSubmatch(s[2], -1) {
			if !slices.Contains(labels, m[1]) && !slices.Contains(scraped, m[1]) {
				t.Errorf("%s: %s has no label %s", where, s[1], m[1])
			}
		}
	}
	rest := grouped.ReplaceAllString(selector.ReplaceAllString(bare, "$1"), "")
	for _, w := range word.FindAllString(rest, -1) {
		labels, is := known(w)
		if !is && !slices.Contains(promqlWords, w) {
			t.Errorf("%s: there is no metric %s", where, w)
		}
		union = append(union, labels...)
	}
	for _, g := range grouped.FindAllStringSubmatch(bare, -1) {
		for _, label := range word.FindAllString(g[2], -1) {
			if !slices.Contains(union, label) {
				t.Errorf("%s: no metric in it has a label %s", where, label)
			}
		}
	}
}
