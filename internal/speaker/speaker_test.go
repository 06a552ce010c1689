package speaker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/announce"
	"github.com/lanyard-lb/lanyard/internal/config"
	"github.com/lanyard-lb/lanyard/internal/kube"
	"github.com/lanyard-lb/lanyard/internal/membership"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// lan is what the speakers of a test see of each other: who is alive, what each tells of itself, and who
// announces what.
type lan struct {
	mu       sync.Mutex
	holds    map[string]map[netip.Addr]bool // node to what it announces
	speakers []*fakeSpeaker
	reports  map[string]placement.Report
	broken   error    // what every announcer returns
	gaps     []string // addresses that were announced by somebody, and then by nobody
}

func newLAN() *lan {
	return &lan{holds: map[string]map[netip.Addr]bool{}, reports: map[string]placement.Report{}}
}

func (l *lan) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []string
	for node, ips := range l.holds {
		for ip := range ips {
			lines = append(lines, ip.String()+" "+node)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, ", ")
}

// owners lists who announces an address.
func (l *lan) owners(ip string) (nodes []string) {
	for entry := range strings.SplitSeq(l.String(), ", ") {
		if at, node, _ := strings.Cut(entry, " "); at == ip {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// alive sets who is a member; every speaker hears of it at once.
func (l *lan) alive(names ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.speakers {
		if !s.left {
			s.members = names
		}
	}
	l.news()
}

// news has every speaker look again. The mutex is held.
func (l *lan) news() {
	for _, s := range l.speakers {
		touch(s.changed)
	}
}

// held reports whether somebody announces an address. The mutex is held.
func (l *lan) held(ip netip.Addr) bool {
	for _, ips := range l.holds {
		if ips[ip] {
			return true
		}
	}
	return false
}

// fakeSpeaker is the announcer and the membership of one node.
type fakeSpeaker struct {
	lan     *lan
	node    string
	members []string
	changed chan struct{} // membership
	wire    chan struct{} // announcer
	heard   map[netip.Addr]placement.Standing
	resyncs int
	asked   placement.Report // what we had told when we asked the others last
	left    bool
	unheard string // whose report has not come here
}

type fakeAnnouncer struct{ *fakeSpeaker }

type fakeMembership struct{ *fakeSpeaker }

func (a fakeAnnouncer) Set(w announce.Want) error {
	l := a.lan
	l.mu.Lock()
	defer l.mu.Unlock()
	before, now := l.holds[a.node], map[netip.Addr]bool{}
	for _, an := range w.Announcements {
		if len(an.Interfaces) > 0 {
			now[an.IP] = true
		}
	}
	l.holds[a.node] = now
	for ip := range before {
		if !now[ip] && !l.held(ip) {
			l.gaps = append(l.gaps, ip.String())
		}
	}
	for ip := range now {
		if !before[ip] {
			a.tell(ip)
		}
	}
	return l.broken
}

// tell has the others hear that this node announces an address.
func (a fakeAnnouncer) tell(ip netip.Addr) {
	for _, o := range a.lan.speakers {
		if o != a.fakeSpeaker {
			o.heard[ip] = placement.Standing{IP: ip, Peer: macOf(a.node), PeerAt: time.Now()}
			touch(o.wire)
		}
	}
}

func (a fakeAnnouncer) Standings() (list []*announce.Standing) {
	a.lan.mu.Lock()
	defer a.lan.mu.Unlock()
	for ip := range a.lan.holds[a.node] {
		s := a.heard[ip]
		s.IP, s.Phase = ip, placement.Announcing
		list = append(list, &s)
	}
	return list
}

func (a fakeAnnouncer) Changed() <-chan struct{} { return a.wire }

func (a fakeAnnouncer) Run(ctx context.Context) error {
	<-ctx.Done()
	a.lan.mu.Lock()
	defer a.lan.mu.Unlock()
	delete(a.lan.holds, a.node)
	return nil
}

func (m fakeMembership) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (m fakeMembership) SetPeers([]membership.Peer)    {}
func (m fakeMembership) Changed() <-chan struct{}      { return m.changed }

func (m fakeMembership) Members() []string {
	m.lan.mu.Lock()
	defer m.lan.mu.Unlock()
	return m.members
}

func (m fakeMembership) Reports() map[string]placement.Report {
	m.lan.mu.Lock()
	defer m.lan.mu.Unlock()
	told := map[string]placement.Report{}
	for _, n := range m.members {
		if r, known := m.lan.reports[n]; known && n != m.unheard {
			told[n] = r
		}
	}
	return told
}

func (m fakeMembership) Publish(r placement.Report) {
	m.lan.mu.Lock()
	defer m.lan.mu.Unlock()
	if !reflect.DeepEqual(m.lan.reports[m.node], r) {
		m.lan.reports[m.node] = r
		m.lan.news()
	}
}

func (m fakeMembership) Problems() map[string]string { return nil }
func (m fakeMembership) Health() membership.Health   { return membership.Health{} }

func (m fakeMembership) Resync(context.Context) error {
	m.lan.mu.Lock()
	defer m.lan.mu.Unlock()
	m.resyncs++
	m.asked = m.lan.reports[m.node]
	if len(m.members) < 2 && len(m.lan.reports) > 1 {
		return errors.New("nobody answers")
	}
	return nil
}

// Leave has the others count us out, and us count nobody, as gossip does.
func (m fakeMembership) Leave(context.Context) error {
	m.lan.mu.Lock()
	rest := slices.DeleteFunc(slices.Clone(m.members), func(n string) bool { return n == m.node })
	m.left, m.members = true, nil
	m.lan.mu.Unlock()
	m.lan.alive(rest...)
	return nil
}

func macOf(node string) placement.MAC { return placement.MAC{2, 0, 0, 0, 0, node[1]} }

type oneLink string

func (node oneLink) Run(ctx context.Context, changed func([]placement.Interface)) error {
	changed(linkOf(string(node), true))
	<-ctx.Done()
	return nil
}

// linkOf is the interfaces of a node: one that may be plugged in, and a bridge for pods.
func linkOf(node string, plugged bool) []placement.Interface {
	gossips := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, 0, node[1] - '1'}), 24)
	return []placement.Interface{
		{Name: "cni0", Index: 3, MAC: placement.MAC{2, 1}, Up: true, Carrier: true, Ether: true, Subnets: []netip.Prefix{netip.MustParsePrefix("10.42.0.1/24")}},
		{Name: "eth0", Index: 2, MAC: macOf(node), Up: true, Carrier: plugged, Ether: true,
			Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.250/24"), gossips}},
	}
}

// start runs the speaker of a node; stop ends it in good order and waits.
func (l *lan) start(t *testing.T, node string, change ...func(*Config)) (s *Speaker, stop func()) {
	f := &fakeSpeaker{lan: l, node: node, members: []string{node}, changed: make(chan struct{}, 1), wire: make(chan struct{}, 1),
		heard: map[netip.Addr]placement.Standing{}}
	l.mu.Lock()
	l.speakers = append(l.speakers, f)
	l.mu.Unlock()
	metrics, err := NewMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	config := Config{Node: node, Metrics: metrics, Announcer: fakeAnnouncer{f}, Membership: fakeMembership{f}, Links: oneLink(node),
		Pulse: NewPulse(nil), NodeEvent: func(_, _, _, _, _ string) {}, Logger: log.NewNopLogger()}
	for _, c := range change {
		c(&config)
	}
	s = New(config)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return s, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// everything is the state of a cluster.
type everything struct {
	config.Objects
	Services                 []corev1.Service
	EndpointSlices, Speakers []discoveryv1.EndpointSlice
}

// observed is how a speaker is told of everything.
func (e everything) observed() kube.Observed {
	seen := kube.Observed{Objects: &e.Objects, Services: map[string]*corev1.Service{},
		EndpointSlices: map[string]*discoveryv1.EndpointSlice{}, Speakers: []*discoveryv1.EndpointSlice{}}
	for i := range e.Services {
		seen.Services[e.Services[i].Namespace+"/"+e.Services[i].Name] = &e.Services[i]
	}
	for i := range e.EndpointSlices {
		name := cmp.Or(e.EndpointSlices[i].Name, fmt.Sprint("unnamed", i))
		seen.EndpointSlices[e.EndpointSlices[i].Namespace+"/"+name] = &e.EndpointSlices[i]
	}
	for i := range e.Speakers {
		seen.Speakers = append(seen.Speakers, &e.Speakers[i])
	}
	return seen
}

// facts are what follows from it.
func (e everything) facts() knowledge {
	k, _ := newWorld("").take(e.observed(), false)
	return k
}

// cluster with the given nodes, a pool, an advertisement and n Services that have addresses.
func cluster(n int, nodes ...string) everything {
	var seen everything
	seen.Pools = []v1beta1.IPAddressPool{{ObjectMeta: metav1.ObjectMeta{Name: "lan"},
		Spec: v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{"10.0.0.0/24"}}}}
	seen.L2Advertisements = []v1beta1.L2Advertisement{{ObjectMeta: metav1.ObjectMeta{Name: "lan"}}}
	port := int32(7946)
	speakers := discoveryv1.EndpointSlice{Ports: []discoveryv1.EndpointPort{{Port: &port}}}
	for i, name := range nodes {
		seen.Nodes = append(seen.Nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
		speakers.Endpoints = append(speakers.Endpoints, discoveryv1.Endpoint{NodeName: &name, Addresses: []string{fmt.Sprintf("10.1.0.%d", i)}})
	}
	seen.Speakers = []discoveryv1.EndpointSlice{speakers}
	for i := range n {
		seen.Services = append(seen.Services, assigned(fmt.Sprint("svc", i), fmt.Sprintf("10.0.0.%d", i)))
	}
	return seen
}

func assigned(name, ip string) corev1.Service {
	s := corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	s.Spec.Type = corev1.ServiceTypeLoadBalancer
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: ip}}
	s.Status.Conditions = []metav1.Condition{{Type: v1beta1.ConditionIPAssigned, Status: metav1.ConditionTrue}}
	return s
}

func TestOneOwnerThroughJoinDeathAndLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		seen := cluster(20, "n1", "n2", "n3")
		stops := map[string]func(){}
		for _, n := range []string{"n1", "n2", "n3"} {
			s, stop := l.start(t, n)
			stops[n] = stop
			s.Observe(seen.observed())
		}
		synctest.Wait()
		if got := l.String(); got != "" {
			t.Fatalf("speakers that do not know each other yet announce %s", got)
		}
		l.alive("n1", "n2", "n3")
		synctest.Wait()
		oneOwnerEach(t, l, 20, "n1", "n2", "n3")
		before := l.String()

		l.alive("n1", "n3")
		synctest.Wait()
		for i := range 20 {
			ip := fmt.Sprintf("10.0.0.%d", i)
			if !slices.ContainsFunc(l.owners(ip), func(n string) bool { return n != "n2" }) {
				t.Errorf("%s is announced by %v, although the others hold n2 for dead", ip, l.owners(ip))
			}
			if strings.Contains(before, ip+" n1") && !slices.Contains(l.owners(ip), "n1") {
				t.Errorf("%s has left n1 for nothing", ip)
			}
		}
		stops["n2"]()
		synctest.Wait()
		oneOwnerEach(t, l, 20, "n1", "n3")

		// In good order: nobody is without an answer at any time.
		l.gaps = nil
		stops["n3"]()
		synctest.Wait()
		oneOwnerEach(t, l, 20, "n1")
		if len(l.gaps) > 0 {
			t.Errorf("while n3 left, nobody announced %v", l.gaps)
		}
		stops["n1"]()
		if got := l.String(); got != "" {
			t.Errorf("after the end: %s", got)
		}
	})
}

func oneOwnerEach(t *testing.T, l *lan, n int, among ...string) {
	t.Helper()
	for i := range n {
		owners := l.owners(fmt.Sprintf("10.0.0.%d", i))
		if len(owners) != 1 || !slices.Contains(among, owners[0]) {
			t.Errorf("10.0.0.%d is announced by %v, want one of %v", i, owners, among)
		}
	}
}

// TestStandsStill: a process that stood still answers nothing until it has asked the others what it missed.
func TestStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		s, stop := l.start(t, "n1")
		s.Observe(cluster(1, "n1").observed())
		synctest.Wait()
		if s.Pulse.last.Store(int64(time.Since(s.Pulse.start) - stall)); s.Pulse.Awake() {
			t.Error("awake after it stood still")
		}
		time.Sleep(beat)
		synctest.Wait()
		if !s.Pulse.Awake() || l.speakers[0].resyncs != 1 {
			t.Errorf("awake: %v, asked the others %d times, want once", s.Pulse.Awake(), l.speakers[0].resyncs)
		}
		if told := l.speakers[0].asked; len(told.Claims) != 1 || !told.Claims[0].Weak {
			t.Errorf("it asked the others after it told them %+v, want a weak claim", told)
		}
		stop()
	})
}

func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lent atomic.Pointer[time.Time]
		p := NewPulse(func(until time.Time) { lent.Store(&until) })
		silent := func() bool { return !time.Now().Before(*lent.Load()) }
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = p.Run(ctx) }()
		if time.Sleep(10 * stall); !p.Awake() || p.Stood() {
			t.Fatal("not awake although it has run all the time")
		}
		if left := time.Until(*lent.Load()); left < stall-beat || left > stall {
			t.Errorf("others may answer for %s more, want until it would have stood still", left)
		}
		p.last.Store(int64(time.Since(p.start) - stall))
		if !p.Stood() || p.Awake() {
			t.Fatal("who asks before it is noticed is told nothing")
		}
		p.last.Store(int64(time.Since(p.start) - stall))
		time.Sleep(beat)
		synctest.Wait()
		if p.Awake() || len(p.Standing()) == 0 || !p.Stood() {
			t.Fatal("awake although it stood still and has not caught up")
		}
		if time.Sleep(stall); !silent() {
			t.Error("others may answer although it has not caught up")
		}
		p.GoOn()
		if time.Sleep(2 * beat); !p.Awake() || silent() {
			t.Error("not awake, or others may not answer, although it has caught up")
		}
		p.last.Store(int64(time.Since(p.start) - stall))
		time.Sleep(beat)
		synctest.Wait()
		if p.GoOn(); p.Awake() {
			t.Error("awake although it stood still again while it caught up")
		}
	})
}

func TestStartsWithoutThoseThatNeverCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		s, stop := l.start(t, "n1")
		s.Observe(cluster(1, "n1", "dead").observed())
		synctest.Wait()
		if s.Ready() == nil || l.String() != "" {
			t.Fatalf("ready without the other speaker, announcing %q", l)
		}
		time.Sleep(settling)
		synctest.Wait()
		if err := s.Ready(); err != nil || l.String() != "10.0.0.0 n1" {
			t.Errorf("after %s: announces %q, ready: %v", settling, l, err)
		}
		stop()
	})
}

// sees sets who is a member for one node.
func (l *lan) sees(node string, names ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.speakers {
		if s.node == node {
			s.members = names
		}
	}
	l.news()
}

// hides has a report of one node not reach another, or reach it.
func (l *lan) hides(from, of string, hidden bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.speakers {
		if s.node == from {
			if s.unheard = ""; hidden {
				s.unheard = of
			}
		}
	}
	l.news()
}

func TestTriesAgainWhatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		l.broken = errors.New("eth0: no socket")
		s, stop := l.start(t, "n1")
		s.Observe(cluster(1, "n1").observed())
		synctest.Wait()
		if err := s.Ready(); err == nil || !strings.Contains(err.Error(), "no socket") {
			t.Fatalf("ready says %v", err)
		}
		l.mu.Lock()
		l.broken = nil
		l.mu.Unlock()
		time.Sleep(retrying)
		synctest.Wait()
		if err := s.Ready(); err != nil {
			t.Errorf("not tried again: %v", err)
		}
		stop()
	})
}

func TestFacts(t *testing.T) {
	seen := cluster(1, "n1", "n2", "n3", "n4", "n5", "n6")
	node := func(i int) *corev1.Node { return &seen.Nodes[i] }
	node(1).Labels = map[string]string{corev1.LabelNodeExcludeBalancers: "false"}
	node(2).Labels = map[string]string{corev1.LabelNodeExcludeBalancers: ""}
	node(3).Spec.Taints = []corev1.Taint{{Key: "ToBeDeletedByClusterAutoscaler"}}
	node(4).Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionTrue}}
	node(5).Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse}}
	foreign, other, local := assigned("foreign", "10.0.0.5"), assigned("other", "10.0.0.6"), assigned("local", "10.0.0.7")
	foreign.Status.Conditions = nil
	class := "example.com/other"
	other.Spec.LoadBalancerClass = &class
	local.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	seen.Services = append(seen.Services, foreign, other, local)
	yes, no := true, false
	seen.EndpointSlices = []discoveryv1.EndpointSlice{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Labels: map[string]string{discoveryv1.LabelServiceName: "local"}},
		Endpoints: []discoveryv1.Endpoint{
			{NodeName: &node(0).Name, Conditions: discoveryv1.EndpointConditions{Ready: &yes}},
			{NodeName: &node(1).Name, Conditions: discoveryv1.EndpointConditions{Ready: &no, Serving: &yes}},
			{NodeName: &node(1).Name, Conditions: discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes}},
			{NodeName: &node(2).Name, Conditions: discoveryv1.EndpointConditions{Ready: &no, Serving: &no}},
			{NodeName: &node(3).Name, Conditions: discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes}},
			{NodeName: &node(3).Name, Conditions: discoveryv1.EndpointConditions{Ready: &no, Serving: &no}},
		},
	}}

	f := seen.facts()
	var names, excluded []string
	for s := range f.Services.All() {
		names = append(names, s.Name)
	}
	if want := []string{"default/local", "default/svc0"}; !slices.Equal(names, want) {
		t.Errorf("services %v, want %v", names, want)
	}
	for i := range seen.Nodes {
		excluded = append(excluded, f.Cluster.Nodes[seen.Nodes[i].Name].Excluded)
	}
	if want := []string{"", "", "Excluded", "ToBeDeleted", "NetworkUnavailable", ""}; !slices.Equal(excluded, want) {
		t.Errorf("exclusions %q, want %q", excluded, want)
	}
	on, fading := service(f, 0).EndpointNodes, service(f, 0).FadingNodes
	if len(on) != 3 || !on["n1"] || !on["n2"] || !on["n4"] || len(fading) != 1 || !fading["n4"] {
		t.Errorf("serving endpoints on %v, of which terminate all on %v; want n1, n2 and n4, and n4", on, fading)
	}
}

func TestPeersOneAddressPerNode(t *testing.T) {
	n1, n2, port := "n1", "n2", int32(7946)
	slice := func(node *string, ip string) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{Ports: []discoveryv1.EndpointPort{{Port: &port}},
			Endpoints: []discoveryv1.Endpoint{{NodeName: node, Addresses: []string{ip}}}}
	}
	speakers := []*discoveryv1.EndpointSlice{slice(&n1, "fd00::1"), slice(&n1, "10.0.0.1"), slice(&n2, "fd00::2"), slice(nil, "10.0.0.9"), {}}
	for preferIPv6, want := range map[bool]string{false: "10.0.0.1", true: "fd00::1"} {
		got := map[string]netip.AddrPort{}
		for _, p := range peers(speakers, preferIPv6) {
			got[p.Name] = p.Addr
		}
		if len(got) != 2 || got["n1"].Addr() != netip.MustParseAddr(want) || got["n2"].Addr() != netip.MustParseAddr("fd00::2") {
			t.Errorf("preferring IPv6 %v: peers %v, want n1 at %s and n2 at fd00::2", preferIPv6, got, want)
		}
	}
}

// TestGoesByTheStateFile: a speaker that starts while the API server is away resumes what it knew, and what
// the API server says later replaces it.
func TestGoesByTheStateFile(t *testing.T) {
	dir := t.TempDir()
	inABubble := func(test func(t *testing.T, l *lan, s *Speaker)) {
		synctest.Test(t, func(t *testing.T) {
			l := newLAN()
			s, stop := l.start(t, "n1", func(c *Config) { c.StateDir = dir })
			test(t, l, s)
			stop()
		})
	}
	inABubble(func(t *testing.T, l *lan, s *Speaker) {
		time.Sleep(2 * hoping)
		synctest.Wait()
		if l.String() != "" || s.Ready() == nil {
			t.Fatalf("with nothing to go by, announces %q", l)
		}
		s.Observe(cluster(2, "n1").observed())
		synctest.Wait()
		s.Observe(cluster(3, "n1").observed())
		time.Sleep(2 * keeping)
	})
	inABubble(func(t *testing.T, l *lan, s *Speaker) {
		synctest.Wait()
		if l.String() != "" {
			t.Errorf("announces %q without having waited for the API server", l)
		}
		time.Sleep(hoping)
		synctest.Wait()
		if want := "10.0.0.0 n1, 10.0.0.1 n1, 10.0.0.2 n1"; l.String() != want {
			t.Errorf("announces %q, want %q as before", l, want)
		}
		s.Observe(cluster(1, "n1").observed())
		synctest.Wait()
		if want := "10.0.0.0 n1"; l.String() != want {
			t.Errorf("announces %q, want %q as the API server says", l, want)
		}
	})
	if err := os.WriteFile(filepath.Join(dir, stateFile), []byte(`{"Version":1,"Facts":{"Serv`), 0o600); err != nil {
		t.Fatal(err)
	}
	inABubble(func(t *testing.T, l *lan, s *Speaker) {
		time.Sleep(2 * hoping)
		s.Observe(cluster(1, "n1").observed())
		synctest.Wait()
		if want := "10.0.0.0 n1"; l.String() != want {
			t.Errorf("with a broken state file: announces %q, want %q", l, want)
		}
	})
}

// TestPeersAreNoStrangers: a node that was a member is known on the wire for a while after it was lost.
func TestPeersAreNoStrangers(t *testing.T) {
	var n neighbours
	nic := func(mac placement.MAC) placement.Report {
		return placement.Report{Interfaces: []placement.Interface{{MAC: mac}}}
	}
	f := placement.Facts{Self: "n1", Now: time.Now(), Reports: map[string]placement.Report{"n1": nic(macOf("n1")), "n2": nic(macOf("n2"))}}
	wanted := []membership.Peer{{Name: "n1"}, {Name: "n2"}}
	both := n.peers(&f)
	if len(both) != 1 || !both[macOf("n2")] {
		t.Errorf("peers %v, want n2 alone", both)
	}
	f.Reports = map[string]placement.Report{"n1": f.Reports["n1"]}
	if f.Now = f.Now.Add(remembering); !n.peers(&f)[macOf("n2")] {
		t.Error("n2 is a stranger as soon as it is lost")
	}
	if n.unheard(&f, wanted) || !n.unheard(&f, append(wanted, membership.Peer{Name: "n4"})) {
		t.Error("want n4 unheard, and not n2, which has told of itself")
	}
	if !sameMap(n.peers(&f), both) {
		t.Error("another map of the same peers")
	}
	if f.Now = f.Now.Add(time.Second); len(n.peers(&f)) > 0 {
		t.Error("n2 is remembered for ever")
	}
	if !n.unheard(&f, wanted) {
		t.Error("n2 is forgotten, and not missed")
	}
	f.Reports = map[string]placement.Report{"n1": f.Reports["n1"], "n3": nic(macOf("n3"))}
	if got := n.peers(&f); len(got) != 1 || !got[macOf("n3")] {
		t.Errorf("peers %v, want n3 alone", got)
	}
}

// TestNewsOfServices: what changes nothing for announcing is for the reporter alone, and brings no pass; what changes
// while most speakers are elsewhere is kept for it until they are back.
func TestNewsOfServices(t *testing.T) {
	inABubble(t, func(t *testing.T, b *board) {
		l := newLAN()
		s, stop := l.start(t, "n1", func(c *Config) {
			c.Reporter = NewReporter(ReporterConfig{Writer: by{b, "n1"}, Metrics: c.Metrics, Logger: log.NewNopLogger(),
				Event: func(client.Object, string, string, string, string) {}})
		})
		defer stop()
		observe := func(seen kube.Observed) {
			b.mu.Lock()
			seen.Services = map[string]*corev1.Service{"default/web": b.services["default/web"].DeepCopy()}
			b.mu.Unlock()
			s.Observe(seen)
			rest(time.Second)
		}
		passes := func() uint64 {
			registry := prometheus.NewRegistry()
			registry.MustRegister(s.Metrics.passing)
			families, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			return families[0].GetMetric()[0].GetHistogram().GetSampleCount()
		}
		edit := func() { b.edit("web", func(s *corev1.Service) { s.Generation++ }) }
		const written, standing = "n1 default/web True NoEndpoint", "default/web n1 Announcing"

		observe(cluster(0, "n1").observed())
		b.expect(written, standing)
		before := passes()
		edit()
		observe(kube.Observed{})
		if b.expect(written, standing); passes() != before {
			t.Errorf("%d passes because of an edit", passes()-before)
		}
		rest(time.Minute)
		observe(kube.Observed{Speakers: cluster(0, "n1", "n2", "n3").observed().Speakers})
		edit()
		observe(kube.Observed{})
		rest(time.Minute)
		b.expect("", standing)
		l.alive("n1", "n2", "n3")
		rest(time.Second)
		b.expect(written, standing)
	}, "web")
}

// TestUnheardNodeIsNoStranger: a speaker that has started while a node was away, and so does not know its MAC address, does not
// take it for a stranger when it comes back, but takes for one who never joins.
func TestUnheardNodeIsNoStranger(t *testing.T) {
	for _, tc := range []struct {
		name  string
		joins string
		limit time.Duration // by which the stranger is told of; 0: never
	}{{"the node itself", "n3", 0}, {"somebody else", "", 10 * time.Second}, {"somebody else, and the node comes", "n3", 3 * time.Second}} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLAN()
				api := &poolStatuses{pools: map[string][]v1beta1.QuarantinedAddress{}}
				n1, stop1 := l.start(t, "n1", func(c *Config) {
					c.Quarantine = NewQuarantine(QuarantineConfig{Node: "n1", Write: api.write, Logger: log.NewNopLogger()})
				})
				defer stop1()
				n2, stop2 := l.start(t, "n2")
				defer stop2()
				l.alive("n1", "n2")
				n1.Observe(cluster(1, "n1", "n2", "n3").observed())
				n2.Observe(cluster(0, "n1", "n2", "n3").observed())
				time.Sleep(2 * settling)
				mac := macOf("n3")
				if tc.limit > 0 {
					mac = placement.MAC{2, 9}
				}
				l.claimed("n1", netip.MustParseAddr("10.0.0.0"), mac)
				rest(2 * time.Second)
				if api.written() > 0 {
					t.Fatalf("says at once %s", api)
				}
				if tc.joins != "" {
					n3, stop3 := l.start(t, tc.joins)
					defer stop3()
					n3.Observe(cluster(0, "n1", "n2", "n3").observed())
					l.alive("n1", "n2", tc.joins)
				}
				rest(cmp.Or(tc.limit, 20*time.Second) - 2*time.Second)
				if told := api.written() > 0; told != (tc.limit > 0) {
					t.Errorf("says %q, want a stranger: %v", api, tc.limit > 0)
				}
			})
		})
	}
}

// claimed has a node hear that somebody who is no peer claims an address.
func (l *lan) claimed(node string, ip netip.Addr, by placement.MAC) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.speakers {
		if s.node == node {
			s.heard[ip] = placement.Standing{IP: ip, Rival: by, RivalOn: "eth0", RivalAt: time.Now()}
			touch(s.wire)
		}
	}
}
