// Package monitoring tests the alert rules of the chart: on what real daemons in the lab serve as their metrics while all is
// well and while something is wrong, and on made-up series for what the lab cannot bring about. promtool evaluates them.
//
// testdata/recorded-*.yaml are what the lab's daemons served in one run, as unit tests for promtool; -record writes them anew.
// `make verify-monitoring` evaluates them, and testdata/made-up.yaml, without a lab.
package monitoring
