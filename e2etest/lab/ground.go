package lab

import (
	"context"
	"fmt"
	"os"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// A lab stands on one of two grounds. Tests call the same methods of a Lab on both; what differs is behind this interface.
//
//   - Own: the lab makes everything itself, in network namespaces: own.go and the files that it calls.
//   - Kind: the lab attaches to a cluster that kind made, with kubelets and containers, and installs the product from its
//     chart: the files kind*.go.
type ground interface {
	// up makes or finds the hosts and the cluster; down removes what up and the tests made.
	up(ctx context.Context) error
	down() error
	// record notes what has been made, for those who clean up after a crash.
	record() error

	// bridge is the name of a segment's switch in the host switchHost, port that of the port of a host's NIC.
	bridge(segment int) string
	port(host string, nic int) string
	// kubelet names the process that keeps a node.
	kubelet() string

	// pod is the object to create for a pod; setPodReady changes what its node will report of it.
	pod(p Pod) *corev1.Pod
	setPodReady(ctx context.Context, namespace, name string, ready bool) error

	// The product: see InstallProduct, StartController, StartSpeaker.
	install(ctx context.Context) error
	startController(ctx context.Context, host, name string, args []string) (*Process, error)
	startSpeaker(ctx context.Context, node string, args []string) (*Process, error)
	// served is how to reach a port of the product on a host: from which host, at which address.
	served(ctx context.Context, host string, port int) (from *Host, address string, err error)
}

// Ground is where labs stand.
type Ground string

// The grounds.
const (
	OnOwn  Ground = "own"
	OnKind Ground = "kind"
)

// groundVariable is the environment variable that chooses the ground; empty means OnOwn.
const groundVariable = "LANYARD_GROUND"

func chosenGround() (Ground, error) {
	switch g := Ground(os.Getenv(groundVariable)); g {
	case "", OnOwn:
		return OnOwn, nil
	case OnKind:
		return OnKind, nil
	default:
		return "", fmt.Errorf("%s is %q; want %s or %s", groundVariable, g, OnOwn, OnKind)
	}
}

func newGround(l *Lab) (ground, error) {
	chosen, err := chosenGround()
	if err != nil {
		return nil, err
	}
	if chosen == OnKind {
		return newKind(l)
	}
	return newOwn(l)
}

// Feature is something that a test needs and that one of the grounds does not have.
type Feature string

// The features that tests ask for by Need. What Options ask for is judged too, in unfit.
const (
	// PlacedControllers: controllers run on the hosts that the test names, several at once.
	PlacedControllers Feature = "controllers on hosts of the test's choice"
	// NodeFiles: a speaker reads files that the test writes for it alone.
	NodeFiles Feature = "files of the test's own that a speaker reads"
)

// lacks are the features that a ground does not have, and why.
var lacks = map[Ground]map[Feature]string{
	OnKind: {
		PlacedControllers: "the Deployment's pods run where the scheduler puts them",
		NodeFiles:         "a pod reads what is mounted into it, and every speaker's key is the same Secret's",
	},
}

// Need skips the test, saying why, if the ground does not have a feature. Ask before New: it takes a while.
func Need(t testing.TB, f Feature) {
	t.Helper()
	chosen, err := chosenGround()
	if err != nil {
		t.Fatal(err)
	}
	if why, lacking := lacks[chosen][f]; lacking {
		t.Skipf("not on %s: it needs %s; %s", chosen, f, why)
	}
}

// kindNodes is the number of workers of the kind cluster.
const kindNodes = 3

// unfit says what in the options a ground cannot do, or "".
func (o Options) unfit(g Ground) string {
	if g == OnOwn {
		return ""
	}
	switch {
	case o.NoCluster:
		return "it needs hosts without a cluster"
	case o.Nodes > kindNodes:
		return fmt.Sprintf("it needs %d nodes, and there are %d", o.Nodes, kindNodes)
	case o.Segments > 1 || len(o.Attach) > 0:
		return "it needs several segments, and nodes have one NIC"
	case o.MLDSnooping:
		return "it needs a switch with MLD snooping"
	case o.Proxy != "":
		return "it needs a mode of kube-proxy of its own choice"
	case o.ProductDir != "":
		return "it needs other binaries of the product than the images hold"
	case o.Persistent:
		return "a kind cluster stays anyway"
	}
	return ""
}
