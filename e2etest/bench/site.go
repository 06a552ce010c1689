package bench

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
	"github.com/lanyard-lb/lanyard/e2etest/labtest"
)

// controlPlane is the host that controllers run on.
const controlPlane = "cp"

// Site is a lab with an implementation installed, none of its daemons running yet.
type Site struct {
	*lab.Lab
	Implementation *Implementation
	// Client speaks protobuf and has no rate limit.
	Client *kubernetes.Clientset

	values Values
	// via, if set, makes a meter for the daemon of a host.
	via func(host string) (*meter, error)
}

// NewSite builds a lab and installs the implementation. Down removes it.
func NewSite(ctx context.Context, i *Implementation, opts lab.Options) (*Site, error) {
	l, err := lab.Up(ctx, opts)
	if err != nil {
		return nil, err
	}
	s := &Site{Lab: l, Implementation: i}
	if err := s.install(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("install %s: %w", i.Name, err), l.Down())
	}
	return s, nil
}

func (s *Site) install(ctx context.Context) error {
	root, err := lab.RepoRoot()
	if err != nil {
		return err
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	s.values = Values{Root: root, Bin: cmp.Or(os.Getenv("LANYARD_BIN"), filepath.Join(root, "bin")), Folder: s.Implementation.folder,
		Namespace: s.Implementation.Namespace, Secret: base64.StdEncoding.EncodeToString(secret)}
	if s.Client, err = newClient(s.RESTConfig()); err != nil {
		return err
	}
	for _, m := range s.Implementation.Manifests {
		path, err := fill(m, s.values)
		if err != nil {
			return err
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(s.Implementation.folder, path)
		}
		if _, err := s.Kubectl(ctx, "apply", "--server-side", "-f", path); err != nil {
			return err
		}
	}
	if _, err := s.Kubectl(ctx, "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"); err != nil {
		return err
	}
	if err := s.served(ctx); err != nil {
		return err
	}
	if s.Implementation.Objects != "" {
		return s.apply(ctx, s.Implementation.Objects, s.values)
	}
	return nil
}

// served waits until the API server serves all kinds of CRDs. It makes ready what it needs for a kind when the first request
// for it comes, and has that one wait for a second or refuses it: in a cluster that runs that was long ago.
func (s *Site) served(ctx context.Context) error {
	crds, err := s.Kubectl(ctx, "get", "crd", "-o", `jsonpath={range .items[*]}{.spec.names.plural}.{.spec.group} {end}`)
	if err != nil {
		return err
	}
	for _, kind := range strings.Fields(crds) {
		if _, err := s.Kubectl(ctx, "get", kind, "-A"); err != nil {
			return err
		}
	}
	return nil
}

func newClient(c *rest.Config) (*kubernetes.Clientset, error) {
	c.ContentType = "application/vnd.kubernetes.protobuf"
	return kubernetes.NewForConfig(c)
}

func (s *Site) apply(ctx context.Context, text string, v Values) error {
	filled, err := fill(text, v)
	if err != nil {
		return err
	}
	return s.Apply(ctx, filled)
}

// Pools has the implementation assign addresses of the ranges (CIDRs) and announce them from the nodes; none means all.
func (s *Site) Pools(ctx context.Context, ranges []string, nodes ...string) error {
	v := s.values
	v.Ranges, v.Nodes = ranges, nodes
	return s.apply(ctx, s.Implementation.Pools, v)
}

// StartController starts the controller and returns at once.
func (s *Site) StartController(ctx context.Context) (*lab.Process, error) {
	p, err := s.prepare(ctx, controlPlane, "controller", s.Implementation.Controller)
	if err != nil {
		return nil, err
	}
	return s.Start(controlPlane, p)
}

// PrepareController makes ready what StartController needs, and returns what starts it: for those who measure from there.
func (s *Site) PrepareController(ctx context.Context) (start func() (*lab.Process, error), _ error) {
	p, err := s.prepare(ctx, controlPlane, "controller", s.Implementation.Controller)
	return func() (*lab.Process, error) { return s.Start(controlPlane, p) }, err
}

// StartSpeaker records the pod of a node's speaker, starts the speaker and returns at once. Later flags win.
func (s *Site) StartSpeaker(ctx context.Context, node string, flags ...string) (*lab.Process, error) {
	p, err := s.prepare(ctx, node, "speaker", s.Implementation.Speaker)
	if err != nil {
		return nil, err
	}
	p.Args = append(p.Args, flags...)
	return s.Start(node, p)
}

// prepare writes the files and the kubeconfig of a daemon and records its pod.
func (s *Site) prepare(ctx context.Context, host, name string, d Daemon) (o lab.ProcessOptions, _ error) {
	v := s.values
	v.Node, v.NodeIP, v.Pod = host, s.Host(host).Addr4().String(), name+"-"+host
	v.Dir = filepath.Join(s.StateDir(), "bench", host, name)
	var err error
	if v.Kubeconfig, err = s.ServiceAccountKubeconfig(ctx, s.Implementation.Namespace, d.Account); err != nil {
		return o, err
	}
	if err := s.write(v, d); err != nil {
		return o, fmt.Errorf("prepare the %s of %s: %w", name, host, err)
	}
	if err := s.reroute(host, &v); err != nil {
		return o, err
	}
	if d.Pod != nil {
		err := s.CreatePod(ctx, lab.Pod{Namespace: s.Implementation.Namespace, Name: v.Pod, Node: host, Labels: d.Pod.Labels,
			HostNetwork: true, Ports: d.Pod.Ports})
		if err != nil {
			return o, err
		}
	}
	return d.process(name, v)
}

// write makes the folder of a daemon, with its files.
func (s *Site) write(v Values, d Daemon) error {
	if err := os.MkdirAll(v.Dir, 0o755); err != nil {
		return err
	}
	owned := []string{v.Dir}
	for name, text := range d.Files {
		filled, err := fill(text, v)
		if err != nil {
			return err
		}
		path := filepath.Join(v.Dir, name)
		if err := os.WriteFile(path, []byte(filled), 0o400); err != nil {
			return err
		}
		owned = append(owned, path)
	}
	if !strings.HasPrefix(string(d.Privilege), string(lab.AsNobody)) {
		return nil
	}
	for _, path := range owned {
		if err := os.Chown(path, nobody, nobody); err != nil {
			return err
		}
	}
	return nil
}

const nobody = 65534

// process is what to start of a daemon.
func (d Daemon) process(name string, v Values) (o lab.ProcessOptions, err error) {
	o = lab.ProcessOptions{Name: name, Privilege: d.Privilege}
	if o.Path, err = fill(d.Binary, v); err != nil {
		return o, err
	}
	if !filepath.IsAbs(o.Path) {
		o.Path = filepath.Join(v.Folder, o.Path)
	}
	if _, err := os.Stat(o.Path); err != nil {
		return o, fmt.Errorf("the binary of the %s: %w", name, err)
	}
	for _, text := range d.Args {
		arg, err := fill(text, v)
		if err != nil {
			return o, err
		}
		o.Args = append(o.Args, arg)
	}
	for variable, text := range d.Env {
		value, err := fill(text, v)
		if err != nil {
			return o, err
		}
		o.Env = append(o.Env, variable+"="+value)
	}
	slices.Sort(o.Env)
	return o, nil
}

// WaitReady waits until a daemon calls itself ready.
func (s *Site) WaitReady(ctx context.Context, host string, d Daemon, limit time.Duration) error {
	if d.Ready == "" {
		return nil
	}
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DialContext: s.Host(host).DialContext, DisableKeepAlives: true}}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return labtest.Poll(ctx, func() error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.Ready, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s on %s: %s", d.Ready, host, response.Status)
		}
		return nil
	})
}

// reroute puts a meter between a daemon and the API server, if that is wanted.
func (s *Site) reroute(host string, v *Values) error {
	if s.via == nil {
		return nil
	}
	m, err := s.via(host)
	if err != nil {
		return err
	}
	path := filepath.Join(v.Dir, "metered.kubeconfig")
	if err := m.kubeconfig(v.Kubeconfig, path); err != nil {
		return err
	}
	v.Kubeconfig = path
	return nil
}

// kubeconfig writes a kubeconfig that goes through the meter, and is otherwise the same.
func (m *meter) kubeconfig(from, to string) error {
	config, err := clientcmd.LoadFromFile(from)
	if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	for _, c := range config.Clusters {
		c.Server, c.CertificateAuthorityData = m.url, m.ca
	}
	if err := clientcmd.WriteToFile(*config, to); err != nil {
		return fmt.Errorf("write the kubeconfig: %w", err)
	}
	return os.Chmod(to, 0o644)
}
