package monitoring

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// interval is the time between two scrapes, and evaluations, in a unit test; held is how many of them each recorded state
	// is held for: longer than any alert waits.
	interval = 30 * time.Second
	held     = 260
)

// scrape is what one process served as its metrics: values by series, and which metrics are counters.
type scrape struct {
	values   map[string]float64
	counters map[string]bool
}

// parse reads the text format. Of all metrics it keeps those that alerts may go by: ours, and the requests to the API
// server; buckets of histograms are not among them.
func parse(text string) (scrape, error) {
	s := scrape{values: map[string]float64{}, counters: map[string]bool{}}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if words := strings.Fields(line); strings.HasPrefix(line, "# TYPE ") && len(words) == 4 {
			for _, name := range []string{words[2], words[2] + "_count", words[2] + "_sum"} {
				s.counters[name] = words[3] == "counter" || words[3] == "histogram"
			}
			continue
		}
		name := nameOf(line)
		kept := strings.HasPrefix(name, "lanyard_") || name == "rest_client_requests_total"
		if !kept || strings.HasSuffix(name, "_bucket") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return s, fmt.Errorf("read the metric %s: %w", line, err)
		}
		s.values[line[:at]] = value
	}
	return s, nil
}

func nameOf(series string) string { return series[:strings.IndexAny(series+" ", "{ ")] }

// recording is two scrapes of each process while a state lasts.
type recording struct {
	before, after map[string]scrape // by what is scraped, as in "n1"
}

// series writes what promtool takes for one input series per line: gauges as they were at last, counters as they were at
// first and growing on as they grew.
func (r recording) series() string {
	var b strings.Builder
	for _, target := range slices.Sorted(maps.Keys(r.after)) {
		first, last := r.before[target], r.after[target]
		for _, series := range slices.Sorted(maps.Keys(last.values)) {
			from, by := last.values[series], 0.0
			if last.counters[nameOf(series)] {
				from = first.values[series]
				by = last.values[series] - from
			}
			fmt.Fprintf(&b, "      - {series: '%s', values: '%s+%sx%d'}\n", labelled(series, target), number(from), number(by), held)
		}
	}
	return b.String()
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// labelled adds the labels that Prometheus gives to what it scrapes by the chart's PodMonitor.
func labelled(series, target string) string {
	head, labels, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
	pod := "lanyard-speaker-" + target
	if target == "cp" {
		pod = "lanyard-controller-" + target
	}
	own := fmt.Sprintf(`namespace="lanyard-system",job="lanyard-system/lanyard",pod="%s",node="%s",instance="%s:7472"`, pod, target, target)
	return head + "{" + strings.TrimPrefix(labels+","+own, ",") + "}"
}

// unitTest is the recording as a unit test for promtool: when the state has lasted for long, these alerts fire, each so many
// times, and no others.
func (r recording) unitTest(title, rules string, firing map[string]int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n# Recorded in the lab: go test ./monitoring -record, in e2etest. Not to be edited.\n", title)
	fmt.Fprintf(&b, "rule_files: [%s]\nevaluation_interval: %s\ntests:\n  - interval: %s\n    input_series:\n%s", rules, interval, interval, r.series())
	fmt.Fprintf(&b, "    promql_expr_test:\n      - expr: count by (alertname) (ALERTS{alertstate=\"firing\"})\n        eval_time: 2h\n        exp_samples:")
	if len(firing) == 0 {
		b.WriteString(" []\n")
		return b.String()
	}
	b.WriteString("\n")
	for _, name := range slices.Sorted(maps.Keys(firing)) {
		fmt.Fprintf(&b, "          - {labels: '{alertname=\"%s\"}', value: %d}\n", name, firing[name])
	}
	return b.String()
}
