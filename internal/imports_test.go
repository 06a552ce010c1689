// Package internal_test pins the borders between the packages.
package internal_test

import (
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/lanyard-lb/lanyard/"

// may says what each package may import beyond the standard library: own packages by their path in this
// module, others by a prefix of theirs. Imports run from loops and effects towards the pure packages.
var may = map[string][]string{
	"api/v1beta1":                    {"k8s.io/apimachinery"},
	"config/crd":                     {},
	"internal/iprange":               {},
	"internal/sortedlist":            {},
	"internal/ipam":                  {"internal/iprange"},
	"internal/placement":             {"internal/iprange", "internal/sortedlist", "github.com/cespare/xxhash"},
	"internal/record":                {"api/v1beta1", "k8s.io/apimachinery"},
	"internal/config":                {"internal/iprange", "internal/ipam", "internal/placement", "api/v1beta1", "k8s.io/apimachinery", "k8s.io/api/core"},
	"internal/announce":              {"internal/placement"},
	"internal/announce/announcetest": {"internal/announce", "internal/placement"},
	"internal/announce/layer2": {"internal/announce", "internal/placement", "github.com/cilium/ebpf", "github.com/mdlayher/", "golang.org/x/net", "golang.org/x/sync",
		"golang.org/x/sys", "github.com/go-kit/log"},
	"internal/link":       {"internal/placement", "github.com/vishvananda/netlink", "golang.org/x/sync", "golang.org/x/sys", "github.com/go-kit/log"},
	"internal/membership": {"internal/placement", "github.com/hashicorp/memberlist", "golang.org/x/sync", "github.com/go-kit/log"},
	"internal/kube": {"internal/config", "internal/record", "api/v1beta1", "k8s.io/", "sigs.k8s.io/controller-runtime", "golang.org/x/sync", "golang.org/x/time/rate",
		"github.com/go-kit/log", "github.com/go-logr/logr", "github.com/prometheus/client_golang"},
	"internal/kube/kubetest": {"api/v1beta1", "k8s.io/api/", "k8s.io/apimachinery", "sigs.k8s.io/randfill"},
	"internal/daemon":        {"github.com/go-kit/log", "github.com/spf13/pflag"},
	"internal/cli": {"internal/record", "internal/daemon", "api/v1beta1", "config/crd", "k8s.io/api/", "k8s.io/apimachinery",
		"sigs.k8s.io/controller-runtime/pkg/client", "github.com/spf13/pflag", "sigs.k8s.io/yaml"},
	"internal/controller": {"internal/config", "internal/ipam", "internal/kube", "internal/record", "api/v1beta1", "k8s.io/api/", "k8s.io/apimachinery",
		"sigs.k8s.io/controller-runtime/pkg/client", "github.com/go-kit/log", "github.com/prometheus/client_golang", "golang.org/x/sync"},
	"internal/speaker": {"internal/announce", "internal/iprange", "internal/config", "internal/kube", "internal/membership", "internal/placement", "internal/sortedlist",
		"api/v1beta1", "k8s.io/api/", "k8s.io/apimachinery", "sigs.k8s.io/controller-runtime/pkg/client", "github.com/go-kit/log", "github.com/prometheus/client_golang",
		"golang.org/x/sync", "golang.org/x/time/rate"},
	"internal/netnstest": {"github.com/vishvananda/", "golang.org/x/sys"},
}

// mains may import everything, and nobody imports them.
var mains = []string{"controller", "kubectl-lanyard", "speaker"}

func TestImports(t *testing.T) {
	seen := 0
	for name, imports := range list(t) {
		if slices.Contains(mains, name) || name == "internal" {
			continue
		}
		seen++
		allowed, known := may[name]
		if !known {
			t.Errorf("%s is not in the table: say what it may import", name)
			continue
		}
		for _, i := range imports {
			own, isOwn := strings.CutPrefix(i, module)
			standard := !strings.Contains(strings.Split(i, "/")[0], ".")
			fits := slices.ContainsFunc(allowed, func(a string) bool {
				return isOwn && own == a || !isOwn && strings.HasPrefix(i, a)
			})
			if !standard && !fits {
				t.Errorf("%s must not import %s", name, i)
			}
		}
	}
	if seen != len(may) {
		t.Errorf("the table has %d packages, the module %d: remove the rows of those that are gone", len(may), seen)
	}
}

// list returns the packages of this module with what they import, tests left out.
func list(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	cmd.Dir = ".."
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	packages := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		packages[strings.TrimPrefix(path.Clean(words[0]), module)] = words[1:]
	}
	return packages
}
