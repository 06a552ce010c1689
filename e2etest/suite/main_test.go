package suite

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
	decode            = labtest.Decode
	poolYAML          = labtest.PoolYAML
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

// install makes a lab, installs the product in it and starts a controller.
func install(t *testing.T, opts lab.Options) *cluster {
	t.Helper()
	return &cluster{labtest.Install(t, opts)}
}

// serve is install with a speaker on every node, all of them ready.
func serve(t *testing.T, opts lab.Options) *cluster {
	t.Helper()
	return &cluster{labtest.Serve(t, opts)}
}

// conditionOf is the condition that the controller writes on a Service, or nil.
func conditionOf(s *corev1.Service) *metav1.Condition {
	return labtest.ConditionOf(s, labtest.IPAssigned)
}
