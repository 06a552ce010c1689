package monitoring

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
	"github.com/lanyard-lb/lanyard/e2etest/labtest"
)

var record = flag.Bool("record", false, "write the recordings in testdata anew")

// between is the time from one scrape of a state to the next.
const between = 10 * time.Second

const (
	root     = "../.." // of the repository
	rules    = "../../../charts/lanyard/files/alerts.yaml"
	stranger = "c2"
)

// stage is a lab with the product installed, all of whose daemons are scraped.
type stage struct{ *labtest.Cluster }

// TestAlerts brings about what the alerts are for, and looks which of them would fire if it lasted: those, and no others.
func TestAlerts(t *testing.T) {
	if _, err := os.Stat(filepath.Join(root, "bin/tools/promtool")); err != nil {
		t.Fatalf("%v: make bin/tools/promtool", err)
	}
	lab.Need(t, lab.NodeFiles)
	s := &stage{Cluster: labtest.Install(t, lab.Options{Nodes: 3, Clients: 2})}
	key := secret()
	for _, node := range s.Nodes() {
		s.giveKey(t, node, key)
		s.startSpeaker(t, node)
	}
	s.AllTogether(t)
	s.Pool(t, "lan", "[10.77.0.200-10.77.0.215, fd77::200-fd77::20f]")
	s.Advertise(t, "lan", "ipAddressPools: [lan]")
	s.RunWeb(t, "n1", "web")
	s.Create(t, labtest.ServiceYAML("one", labtest.DualStack))
	s.Owners(t, s.Assigned(t, "one", 2)...)

	t.Run("all is well", func(t *testing.T) { s.expect(t, "healthy", nil, func() {}) })
	t.Run("wishes that cannot be met", s.unmet)
	t.Run("a stranger", s.stranger)
	t.Run("gossip is blocked", s.blocked)
	t.Run("another key", func(t *testing.T) { s.otherKey(t, key) })
	t.Run("standing still", s.standing)
	t.Run("the API server is away", s.away)
	t.Run("no rights", s.forbidden)
	t.Run("no CRDs", s.noCRDs)
}

// secret is a key as the controller makes them.
func secret() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails
	return base64.StdEncoding.EncodeToString(raw)
}

func (s *stage) keyFile(node string) string { return filepath.Join(s.StateDir(), "key-"+node) }

func (s *stage) giveKey(t *testing.T, node, key string) {
	t.Helper()
	labtest.Must(t, os.WriteFile(s.keyFile(node), []byte(key+"\n"), 0o644))
}

func (s *stage) startSpeaker(t *testing.T, node string) {
	t.Helper()
	_, err := s.StartSpeaker(labtest.Within(t, 20*time.Second), node, "--gossip-key-file="+s.keyFile(node), "--conflict-recheck=1s")
	labtest.Must(t, err)
}

func (s *stage) startController(t *testing.T) {
	t.Helper()
	_, err := s.StartController(labtest.Within(t, 20*time.Second), "cp", "controller")
	labtest.Must(t, err)
}

// expect scrapes all daemons twice, with some doing in between that is part of the state, and has promtool tell which alerts
// fire when that goes on for two hours.
func (s *stage) expect(t *testing.T, name string, firing map[string]int, meanwhile func()) {
	t.Helper()
	r := recording{before: s.scrape(t)}
	begun := time.Now()
	meanwhile()
	for time.Since(begun) < between {
		labtest.Throughout(t, between-time.Since(begun), func() error { return nil })
	}
	r.after = s.scrape(t)
	dir := t.TempDir()
	where, err := filepath.Abs(filepath.Join("testdata", rules))
	labtest.Must(t, err)
	file := filepath.Join(dir, name+".yaml")
	labtest.Must(t, os.WriteFile(file, []byte(r.unitTest(t.Name(), where, firing)), 0o644))
	if out, err := promtool(t, "test", "rules", file); err != nil {
		t.Errorf("%v: %s", err, out)
		return
	}
	if *record {
		labtest.Must(t, os.WriteFile(filepath.Join("testdata", "recorded-"+name+".yaml"), []byte(r.unitTest(t.Name(), rules, firing)), 0o644))
	}
}

func (s *stage) scrape(t *testing.T) map[string]scrape {
	t.Helper()
	all := map[string]scrape{}
	for _, host := range append(s.Nodes(), "cp") {
		text, err := s.Metrics(labtest.Within(t, 5*time.Second), host)
		labtest.Must(t, err)
		all[host], err = parse(text)
		labtest.Must(t, err)
	}
	return all
}

// counted waits until the series of a metric on a host that have the labels come to at least so many.
func (s *stage) counted(t *testing.T, host string, least float64, name string, labels ...string) {
	t.Helper()
	labtest.Eventually(t, 40*time.Second, func() error {
		n, err := s.MetricSum(t.Context(), host, name, labels...)
		if err == nil && n < least {
			err = fmt.Errorf("%s %v on %s is %v, want %v", name, labels, host, n, least)
		}
		return err
	})
}

// unmet: a full pool with one Service too many, Services that ask for what there is not, a pool that nobody advertises, and one
// that is faulty.
func (s *stage) unmet(t *testing.T) {
	s.Pool(t, "full", "[10.77.0.230-10.77.0.239]")
	for i := range 11 {
		s.Create(t, inPool(fmt.Sprintf("full-%d", i), "full"))
	}
	s.Create(t, inPool("nowhere", "missing"))
	s.Create(t, asking("odd", "none"))
	s.Create(t, labtest.PoolYAML("overlapping", "[10.77.0.230]", true))
	s.counted(t, "cp", 1, "lanyard_services", `reason="PoolExhausted"`)
	s.counted(t, "cp", 1, "lanyard_services", `reason="NoPool"`)
	s.counted(t, "cp", 1, "lanyard_services", `reason="InvalidRequest"`)
	s.counted(t, "cp", 1, "lanyard_config_faulty_objects")
	for _, node := range s.Nodes() {
		s.counted(t, node, 10, "lanyard_speaker_unannounced_addresses", `reason="NoAdvertisement"`)
	}
	s.expect(t, "unmet", map[string]int{
		"LanyardServicesWait":         2, // PoolExhausted and NoPool
		"LanyardRequestsUnmet":        1,
		"LanyardPoolExhausted":        1,
		"LanyardConfigRefused":        1,
		"LanyardAddressNotAdvertised": 1,
	}, func() {})
}

func inPool(service, pool string) string {
	return strings.Replace(labtest.ServiceYAML(service), "name: "+service, fmt.Sprintf("name: %s, annotations: {lanyard.dev/pool: %s}", service, pool), 1)
}

// stranger: somebody uses an address that a Service asks for by name, one that it is given by chance, and one that is announced.
func (s *stage) stranger(t *testing.T) {
	s.Pool(t, "wanted", "[10.77.0.240-10.77.0.243]")
	s.Advertise(t, "wanted", "ipAddressPools: [wanted]")
	var squatted []netip.Addr
	squat := func(text string) netip.Addr {
		ip := netip.MustParseAddr(text)
		labtest.Must(t, s.Squat(stranger, ip))
		squatted = append(squatted, ip)
		return ip
	}
	t.Cleanup(func() { _ = s.Unsquat(stranger, squatted...) })
	squat("10.77.0.240")
	squat("10.77.0.241")
	s.Create(t, asking("taken", "10.77.0.240"))
	s.Create(t, asking("contested", "10.77.0.243"))
	s.Create(t, inPool("chance", "wanted"))
	s.counted(t, "cp", 1, "lanyard_pool_addresses", `state="quarantined"`, `pool="wanted"`)
	labtest.Eventually(t, 20*time.Second, func() error {
		for _, node := range s.Nodes() {
			if n, err := s.MetricSum(t.Context(), node, "lanyard_speaker_taken_addresses"); err == nil && n > 0 {
				return nil
			}
		}
		return errors.New("no speaker finds an address taken")
	})
	owner := s.Owner(t, netip.MustParseAddr("10.77.0.243"))
	contested := squat("10.77.0.243")
	labtest.Must(t, s.Proclaim(stranger, contested))
	s.counted(t, owner, 1, "lanyard_layer2_conflicts_total", `by="stranger"`)
	s.expect(t, "stranger", map[string]int{"LanyardAddressTaken": 2, "LanyardAddressContested": 1}, func() {
		labtest.Must(t, s.Proclaim(stranger, contested))
	})
}

func asking(service, ip string) string {
	return strings.Replace(labtest.ServiceYAML(service), "name: "+service, fmt.Sprintf("name: %s, annotations: {lanyard.dev/addresses: %q}", service, ip), 1)
}

// blocked: a firewall keeps the gossip of one node from the others.
func (s *stage) blocked(t *testing.T) {
	t.Cleanup(func() { _ = s.Heal() })
	for _, node := range s.Others("n3") {
		labtest.Must(t, s.PartGossip("n3", node))
	}
	s.counted(t, "n3", 2, "lanyard_gossip_problems")
	s.counted(t, "n1", 1, "lanyard_gossip_problems")
	s.counted(t, "n2", 1, "lanyard_gossip_problems")
	s.expect(t, "blocked", map[string]int{"LanyardGossipBlocked": 3, "LanyardGossipSplit": 1, "LanyardSpeakerOutnumbered": 1}, func() {})
	labtest.Must(t, s.Heal())
	s.AllTogether(t)
}

// otherKey: one speaker has another key than the others.
func (s *stage) otherKey(t *testing.T, key string) {
	labtest.Must(t, s.Speaker("n3").Kill())
	s.giveKey(t, "n3", secret())
	s.startSpeaker(t, "n3")
	s.counted(t, "n3", 2, "lanyard_gossip_problems", `reason="wrong-key"`)
	s.counted(t, "n1", 1, "lanyard_gossip_problems", `reason="wrong-key"`)
	s.counted(t, "n2", 1, "lanyard_gossip_problems", `reason="wrong-key"`)
	s.expect(t, "other-key", map[string]int{"LanyardWrongGossipKey": 3, "LanyardGossipSplit": 1, "LanyardSpeakerOutnumbered": 1}, func() {})
	labtest.Must(t, s.Speaker("n3").Kill())
	s.giveKey(t, "n3", key)
	s.startSpeaker(t, "n3")
	s.AllTogether(t)
}

// standing: a speaker has no processor, again and again.
func (s *stage) standing(t *testing.T) {
	s.expect(t, "standing-still", map[string]int{"LanyardSpeakerStoodStill": 1}, func() {
		for i := range 3 {
			labtest.Must(t, s.Speaker("n1").Freeze())
			begun := time.Now()
			labtest.Eventually(t, 2*time.Second, func() error {
				if time.Since(begun) < time.Second {
					return errors.New("it is to stand still for a second")
				}
				return nil
			})
			labtest.Must(t, s.Speaker("n1").Thaw())
			s.counted(t, "n1", float64(i+1), "lanyard_speaker_standstills_total")
		}
		s.AllTogether(t)
	})
}

// away: no API server. A controller that cannot renew its lease ends, and begins anew.
func (s *stage) away(t *testing.T) {
	labtest.Must(t, s.StopAPIServer())
	back := false
	t.Cleanup(func() {
		if !back {
			_ = s.StartAPIServer(context.Background())
		}
	})
	for _, node := range s.Nodes() {
		s.counted(t, node, 3, "rest_client_requests_total", `code="<error>"`)
	}
	labtest.Must(t, s.Process("cp", "controller").Kill())
	s.startController(t)
	s.counted(t, "cp", 3, "rest_client_requests_total", `code="<error>"`)
	s.expect(t, "away", map[string]int{"LanyardAPIServerUnreachable": 4, "LanyardNoLeader": 1}, func() {})
	labtest.Must(t, s.StartAPIServer(labtest.Within(t, time.Minute)))
	back = true
	s.leads(t)
}

func (s *stage) leads(t *testing.T) {
	t.Helper()
	s.counted(t, "cp", 1, "lanyard_controller_leading")
}

// forbidden: speakers that start without rights.
func (s *stage) forbidden(t *testing.T) {
	binding := s.binding(t, "lanyard-speaker")
	_, err := s.Kubectl(labtest.Within(t, 30*time.Second), "delete", "clusterrolebinding", "lanyard-speaker")
	labtest.Must(t, err)
	s.beginAnew(t)
	for _, node := range s.Nodes() {
		s.counted(t, node, 1, "rest_client_requests_total", `code="403"`)
	}
	s.expect(t, "forbidden", map[string]int{"LanyardForbidden": 3, "LanyardSpeakerNotServing": 3}, func() {})
	labtest.Must(t, s.Apply(labtest.Within(t, 30*time.Second), binding))
	s.AllTogether(t)
}

// beginAnew starts the speakers anew, with nothing kept.
func (s *stage) beginAnew(t *testing.T) {
	t.Helper()
	for _, node := range s.Nodes() {
		labtest.Must(t, s.Speaker(node).Kill())
		labtest.Must(t, os.RemoveAll(filepath.Join(s.StateDir(), "speaker", node)))
		s.startSpeaker(t, node)
	}
}

// binding is a ClusterRoleBinding as it is, to apply it again.
func (s *stage) binding(t *testing.T, name string) string {
	t.Helper()
	text, err := s.Kubectl(labtest.Within(t, 20*time.Second), "get", "clusterrolebinding", name, "-o",
		`go-template={"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"{{.metadata.name}}"},`+
			`"roleRef":{"apiGroup":"{{.roleRef.apiGroup}}","kind":"{{.roleRef.kind}}","name":"{{.roleRef.name}}"},`+
			`"subjects":[{{range .subjects}}{"kind":"{{.kind}}","name":"{{.name}}","namespace":"{{.namespace}}"}{{end}}]}`)
	labtest.Must(t, err)
	return text
}

// noCRDs: who starts before the CRDs are there waits for them.
func (s *stage) noCRDs(t *testing.T) {
	_, err := s.Kubectl(labtest.Within(t, 40*time.Second), "delete", "crd", "l2advertisements.lanyard.dev")
	labtest.Must(t, err)
	s.beginAnew(t)
	controller := s.Process("cp", "controller")
	labtest.Must(t, controller.Term())
	_, err = controller.Wait(labtest.Within(t, 20*time.Second))
	labtest.Must(t, err)
	s.startController(t)
	for _, host := range append(s.Nodes(), "cp") {
		s.counted(t, host, 1, "rest_client_requests_total", `code="200"`)
	}
	s.expect(t, "no-crds", map[string]int{"LanyardSpeakerNotServing": 3, "LanyardNoLeader": 1}, func() {})
}
