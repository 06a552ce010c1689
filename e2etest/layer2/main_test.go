package layer2

import (
	"fmt"
	"testing"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
	"github.com/lanyard-lb/lanyard/e2etest/labtest"
)

// What the suites have in common, by the names that this one calls it.
var (
	within            = labtest.Within
	afterwards        = labtest.Afterwards
	must              = labtest.Must
	eventually        = labtest.Eventually
	throughout        = labtest.Throughout
	advertisementYAML = labtest.AdvertisementYAML
	serviceYAML       = labtest.ServiceYAML
	ingress           = labtest.Ingress
)

const (
	dualStack = labtest.DualStack
	onlyIPv6  = labtest.OnlyIPv6
	patience  = labtest.Patience
)

// cluster is a lab with the product installed.
type cluster struct{ *labtest.Cluster }

// serve makes a lab with the product installed and a speaker on every node.
func serve(t *testing.T, opts lab.Options, flags ...string) *cluster {
	t.Helper()
	return &cluster{labtest.Serve(t, opts, flags...)}
}

// annotated is a name for serviceYAML, with an annotation; labelled is one with a label.
func annotated(name, key, value string) string {
	return fmt.Sprintf("%s, annotations: {%s: %q}", name, key, value)
}

func labelled(name, key, value string) string {
	return fmt.Sprintf("%s, labels: {%s: %q}", name, key, value)
}
