package bench

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

const adapter = `
name: other
namespace: other-system
manifests: [crds.yaml]
controller: {binary: controller, account: controller, privilege: nobody, args: ["--kubeconfig={{.Kubeconfig}}"]}
speaker:
  binary: /opt/speaker
  account: speaker
  args: ["--node={{.Node}}", "--bind={{.NodeIP}}:7946"]
  env: {KEY: "{{.Dir}}/key", A: b}
  files: {key: "{{.Secret}}"}
pools: |
  addresses: [{{range .Ranges}}"{{.}}", {{end}}]
`

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other.yaml")
	if err := os.WriteFile(path, []byte(adapter), 0o644); err != nil {
		t.Fatal(err)
	}
	i, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if i.Name != "other" || i.folder != filepath.Dir(path) || i.Controller.Privilege != lab.AsNobody {
		t.Errorf("%+v", i)
	}
	pools, err := fill(i.Pools, Values{Ranges: []string{"10.0.0.0/8", "fd00::/64"}})
	if err != nil || pools != `addresses: ["10.0.0.0/8", "fd00::/64", ]`+"\n" {
		t.Errorf("%v, pools %s", err, pools)
	}
}

// TestProcess: templates are filled in, and a binary is looked for beside the adapter file.
func TestProcess(t *testing.T) {
	i, err := parse([]byte(adapter))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	v := Values{Folder: dir, Dir: "/d", Node: "n1", NodeIP: "10.77.0.11", Kubeconfig: "/k"}
	if _, err := i.Controller.process("controller", v); err == nil {
		t.Error("a binary that is not there is no error")
	}
	i.Speaker.Binary = "speaker"
	if err := os.WriteFile(filepath.Join(dir, "speaker"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	o, err := i.Speaker.process("speaker", v)
	have := strings.Join(append(o.Args, o.Env...), " ")
	if err != nil || o.Path != filepath.Join(dir, "speaker") || have != "--node=n1 --bind=10.77.0.11:7946 A=b KEY=/d/key" {
		t.Errorf("%v, path %s, %s", err, o.Path, have)
	}
}

// TestFaults: what is wrong in an adapter file is said at once, all of it.
func TestFaults(t *testing.T) {
	for text, want := range map[string][]string{
		"label: x": {"label"},
		"name: x":  {"namespace is missing", "pools is missing", "controller.binary is missing", "speaker.account is missing"},
		strings.Replace(adapter, "{{.NodeIP}}", "{{.IP}}", 1):              {"IP"},
		strings.Replace(adapter, "privilege: nobody", "privilege: all", 1): {`controller.privilege is "all"`},
	} {
		_, err := parse([]byte(text))
		if err == nil {
			t.Errorf("no error from %s", text)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%v; want %q", err, w)
			}
		}
	}
}

// TestOwn: our own adapter file is right, whatever values it is given.
func TestOwn(t *testing.T) {
	i, err := Load("lanyard")
	if err != nil {
		t.Fatal(err)
	}
	for _, nodes := range [][]string{nil, {"n1", "n2"}} {
		pools, err := fill(i.Pools, Values{Ranges: []string{"10.0.0.0/8"}, Nodes: nodes})
		if err != nil || strings.Contains(pools, "nodeSelectors") != (nodes != nil) {
			t.Errorf("%v, pools for %v:\n%s", err, nodes, pools)
		}
	}
}
