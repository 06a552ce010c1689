package bench

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// Implementation says how an implementation of load-balancer addresses is installed, started and told of addresses, as an
// adapter file has it. Texts may have template actions in braces: see Values.
type Implementation struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"` // where its accounts are
	// Manifests are files and folders to give to kubectl apply, in this order; Objects is YAML to apply after them.
	Manifests  []string `json:"manifests"`
	Objects    string   `json:"objects"`
	Controller Daemon   `json:"controller"`
	Speaker    Daemon   `json:"speaker"`
	// Pools is YAML to apply so that addresses of Ranges are assigned, and announced from Nodes.
	Pools string `json:"pools"`

	folder string // of the adapter file
}

// Daemon is a program to start.
type Daemon struct {
	Binary    string            `json:"binary"`
	Args      []string          `json:"args"`
	Env       map[string]string `json:"env"`
	Account   string            `json:"account"`   // the service account whose rights it has
	Privilege lab.Privilege     `json:"privilege"` // see lab.Privilege
	// InKernel is the privilege with which a speaker has the kernel answer requests; empty: it does not do that.
	InKernel lab.Privilege     `json:"inKernel"`
	Files    map[string]string `json:"files"` // to write into Dir, by name
	Ready    string            `json:"ready"` // URL that its host gets with status 200 once it is ready; empty: none
	Pprof    string            `json:"pprof"` // URL of its profiles on its host, as net/http/pprof serves them; empty: none
	Pod      *Pod              `json:"pod"`   // to record for it; nil: none
	// Members is the series of a speaker's metrics, at port 7472 of its host, that tells how many speakers it sees; empty: none
	// does.
	Members string `json:"members"`
	// Gone matches the lines of a speaker's log that say that another one is gone: a regular expression with the groups time
	// (RFC 3339) and member (the node); empty: nothing says so.
	Gone string `json:"gone"`
}

// Pod is what the cluster is told of a daemon: a pod with its host's address.
type Pod struct {
	Labels map[string]string      `json:"labels"`
	Ports  []corev1.ContainerPort `json:"ports"`
}

// Values are what templates of an adapter file can name.
type Values struct {
	Root      string // the repository's folder
	Bin       string // the folder of Lanyard's binaries
	Folder    string // that of the adapter file
	Namespace string
	Secret    string // 32 random bytes in base64, the same for all daemons of a lab

	// For daemons:
	Kubeconfig string // acts as the daemon's account
	Node       string // the host it runs on: that of the controller is no Node of the cluster
	NodeIP     string // IPv4 address of the host
	Pod        string // name of the daemon's pod
	Dir        string // a folder for this daemon alone, which stays when it is started again

	// For pools:
	Ranges []string // CIDRs
	Nodes  []string // names; empty: all
}

//go:embed lanyard.yaml
var own []byte

// Own is the name of Lanyard itself.
const Own = "lanyard"

// Load reads an adapter file; Own is that of Lanyard itself, which needs no file.
func Load(path string) (*Implementation, error) {
	raw, folder := own, ""
	if path != Own {
		var err error
		if raw, err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("read the adapter file: %w", err)
		}
		if folder, err = filepath.Abs(filepath.Dir(path)); err != nil {
			return nil, fmt.Errorf("find the folder of %s: %w", path, err)
		}
	}
	i, err := parse(raw)
	if err != nil {
		return nil, fmt.Errorf("adapter file %s: %w", path, err)
	}
	i.folder = folder
	return i, nil
}

// parse reads and checks what is in an adapter file: fields must be known, templates must work.
func parse(raw []byte) (*Implementation, error) {
	var i Implementation
	if err := yaml.UnmarshalStrict(raw, &i); err != nil {
		return nil, err
	}
	var faults []error
	need := func(field, value string) {
		if value == "" {
			faults = append(faults, fmt.Errorf("%s is missing", field))
		}
	}
	need("name", i.Name)
	need("namespace", i.Namespace)
	need("pools", i.Pools)
	for name, d := range map[string]Daemon{"controller": i.Controller, "speaker": i.Speaker} {
		need(name+".binary", d.Binary)
		need(name+".account", d.Account)
		known := []lab.Privilege{lab.AsRoot, lab.AsNobody, lab.AsNobodyNetRaw, lab.AsNobodyInKernel, lab.AsRootNetRaw}
		for field, privilege := range map[string]lab.Privilege{"privilege": d.Privilege, "inKernel": d.InKernel} {
			if !slices.Contains(known, privilege) {
				faults = append(faults, fmt.Errorf("%s.%s is %q; want one of %q", name, field, privilege, known))
			}
		}
	}
	if gone := i.Speaker.Gone; gone != "" {
		if e, err := regexp.Compile(gone); err != nil || e.SubexpIndex("time") < 0 || e.SubexpIndex("member") < 0 {
			faults = append(faults, fmt.Errorf("speaker.gone is %q; want a regular expression with the groups time and member (%w)", gone, err))
		}
	}
	for _, text := range i.texts() {
		if _, err := fill(text, Values{}); err != nil {
			faults = append(faults, err)
		}
	}
	return &i, errors.Join(faults...)
}

// texts are all that may have template actions.
func (i *Implementation) texts() []string {
	all := append(slices.Clone(i.Manifests), i.Objects, i.Pools)
	for _, d := range []Daemon{i.Controller, i.Speaker} {
		all = append(all, d.Binary, d.Ready, d.Pprof)
		all = append(all, d.Args...)
		for _, v := range d.Env {
			all = append(all, v)
		}
		for _, v := range d.Files {
			all = append(all, v)
		}
	}
	return all
}

// fill carries out the template actions of a text.
func fill(text string, v Values) (string, error) {
	t, err := template.New("").Option("missingkey=error").Parse(text)
	if err != nil {
		return "", fmt.Errorf("template %q: %w", text, err)
	}
	var out strings.Builder
	if err := t.Execute(&out, v); err != nil {
		return "", fmt.Errorf("template %q: %w", text, err)
	}
	return out.String(), nil
}
