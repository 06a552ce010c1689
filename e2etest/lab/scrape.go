package lab

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Where the product serves on a host, unless a test says otherwise.
const (
	MetricsPort = 7472
	HealthPort  = 7473
)

// Metrics returns what the product serves as its metrics on a host, in the text format.
func (l *Lab) Metrics(ctx context.Context, host string) (string, error) {
	return l.fetchLocal(ctx, host, MetricsPort, "/metrics")
}

// Metric reads one series of the product's metrics on a host, as in `lanyard_speaker_members{state="alive"}`.
func (l *Lab) Metric(ctx context.Context, host, series string) (float64, error) {
	text, err := l.Metrics(ctx, host)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if value, is := strings.CutPrefix(line, series+" "); is {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("the metrics on %s have no %s", host, series)
}

// MetricSum adds up the series of a metric on a host that have all the labels given, each as in `by="stranger"`; none is 0.
func (l *Lab) MetricSum(ctx context.Context, host, name string, labels ...string) (float64, error) {
	text, err := l.Metrics(ctx, host)
	if err != nil {
		return 0, err
	}
	return sumSeries(text, name, labels...)
}

func sumSeries(text, name string, labels ...string) (sum float64, err error) {
	for line := range strings.Lines(text) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if head, in, _ := strings.Cut(series, "{"); head != name || !hasLabels(in, labels) {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("read the metric %s: %w", series, err)
		}
		sum += v
	}
	return sum, nil
}

func hasLabels(in string, labels []string) bool {
	have := strings.Split(strings.TrimSuffix(in, "}"), ",")
	return !slices.ContainsFunc(labels, func(l string) bool { return !slices.Contains(have, l) })
}

// Ready returns nil when the product's readiness probe on a host succeeds, and otherwise what it says.
func (l *Lab) Ready(ctx context.Context, host string) error {
	_, err := l.fetchLocal(ctx, host, HealthPort, "/readyz?verbose")
	return err
}

// fetchLocal gets a path from the product's server on a host.
func (l *Lab) fetchLocal(ctx context.Context, host string, port int, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	from, address, err := l.ground.served(ctx, host, port)
	if err != nil {
		return "", err
	}
	url := "http://" + address + path
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	transport := &http.Transport{DialContext: from.DialContext, DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return "", fmt.Errorf("get %s on %s: %w", url, host, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", fmt.Errorf("get %s on %s: %w", url, host, err)
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("get %s on %s: %s: %s", url, host, response.Status, body)
	}
	return string(body), nil
}

// served: on the host's loopback.
func (l *own) served(_ context.Context, host string, port int) (*Host, string, error) {
	return l.Host(host), fmt.Sprintf("127.0.0.1:%d", port), nil
}
