package speaker

import (
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lanyard-lb/lanyard/internal/membership"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// Metrics of one speaker. The announcer may count its frames in them.
type Metrics struct {
	members   *prometheus.GaugeVec
	owned     *prometheus.GaugeVec
	frames    *prometheus.CounterVec
	conflicts *prometheus.CounterVec
	cutOff    atomic.Bool // peers may look like strangers
	reports   *prometheus.CounterVec
	refused   *prometheus.GaugeVec
	changes   *prometheus.CounterVec
	failover  prometheus.Histogram
	waiting   takeovers
	health    prometheus.Gauge
	bytes     *prometheus.CounterVec
	packets   *prometheus.CounterVec
	counted   membership.Health // what bytes and packets have of it
	problems  *prometheus.GaugeVec
	silent    *prometheus.GaugeVec
	stood     prometheus.Counter
	passing   prometheus.Histogram

	// Of the last pass.
	claims      []*placement.Claim
	unannounced map[string]int // addresses by reason
}

// NewMetrics returns metrics that stand in the registry.
func NewMetrics(registry prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		members: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "lanyard_speaker_members",
			Help: "Speakers by state: alive as gossip has it, and known to the API server as running.",
		}, []string{"state"}),
		owned: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "lanyard_speaker_owned_addresses",
			Help: "Addresses that this node announces.",
		}, []string{"family"}),
		frames: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lanyard_layer2_frames_total",
			Help: "ARP and NDP frames by interface and what became of them: answered (a request), announced (sent unasked), " +
				"probed (sent to find out whether an address is in use), defended (sent because a stranger claims one), failed.",
		}, []string{"interface", "family", "outcome"}),
		conflicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lanyard_layer2_conflicts_total",
			Help: "Frames by which others claim an address that this node announces or probes, by whom: a peer (another node " +
				"of the cluster), a stranger, or unknown, while this node sees at most half of the speakers that should run.",
		}, []string{"family", "by"}),
		refused: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "lanyard_speaker_taken_addresses",
			Help: "Addresses that this node should announce and does not, because a stranger on the LAN uses them.",
		}, []string{"family"}),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lanyard_speaker_address_changes_total",
			Help: "Addresses that this node has taken or lost, by cause: New, Failover, Handover, Conflict, Ineligible, Withdrawn.",
		}, []string{"change", "cause"}),
		failover: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "lanyard_speaker_failover_seconds",
			Help:    "Time from when a member was found dead until this node has sent the first announcement of an address that it had.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}),
		health: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "lanyard_gossip_health_score",
			Help: "0 when gossip is answered in time; the higher, the later others are declared dead by this node.",
		}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lanyard_gossip_bytes_total",
			Help: "Gossip sent and received, in UDP packets and TCP connections, without their headers.",
		}, []string{"direction"}),
		packets: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lanyard_gossip_packets_total",
			Help: "UDP packets of gossip sent and received.",
		}, []string{"direction"}),
		problems: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "lanyard_gossip_problems",
			Help: "1 for each speaker that should run but that gossip has not reached for ten seconds, with the reason.",
		}, []string{"peer", "reason"}),
		silent: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "lanyard_speaker_unannounced_addresses",
			Help: "Addresses of Services, in the whole cluster, that nobody announces as this node sees it, by reason.",
		}, []string{"reason"}),
		stood: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lanyard_speaker_standstills_total",
			Help: "How often this process stood still for so long that others may have taken its addresses over.",
		}),
		passing: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "lanyard_speaker_pass_seconds",
			Help:    "How long it took to decide who announces what, and to have that done.",
			Buckets: []float64{.0001, .0005, .001, .005, .01, .025, .05, .1, .25, .5, 1},
		}),
		waiting:     takeovers{since: map[netip.Addr]time.Time{}},
		unannounced: map[string]int{},
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lanyard_speaker_reports_total",
			Help: "Reports on Services by result: written, conflict (the Service had changed, tried again), failed (tried again).",
		}, []string{"result"}),
	}
	for _, c := range []prometheus.Collector{m.members, m.owned, m.frames, m.conflicts, m.reports, m.refused, m.changes, m.failover,
		m.health, m.bytes, m.packets, m.problems, m.silent, m.stood, m.passing} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func family(ip netip.Addr) string {
	if ip.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// Answered counts an answer to a request.
func (m *Metrics) Answered(ifi string, ip netip.Addr) {
	m.frames.WithLabelValues(ifi, family(ip), "answered").Inc()
}

// AnsweredInKernel counts answers that the kernel gave for this node.
func (m *Metrics) AnsweredInKernel(ifi string, is6 bool, n uint64) {
	family := "IPv4"
	if is6 {
		family = "IPv6"
	}
	m.frames.WithLabelValues(ifi, family, "answered").Add(float64(n))
}

// Announced counts an unsolicited announcement.
func (m *Metrics) Announced(ifi string, ip netip.Addr) {
	if since, waited := m.waiting.forget(ip); waited {
		m.failover.Observe(time.Since(since).Seconds())
	}
	m.frames.WithLabelValues(ifi, family(ip), "announced").Inc()
}

// Probed counts a frame that asks whether an address is in use.
func (m *Metrics) Probed(ifi string, ip netip.Addr) {
	m.frames.WithLabelValues(ifi, family(ip), "probed").Inc()
}

// Defended counts an announcement against a stranger's claim.
func (m *Metrics) Defended(ifi string, ip netip.Addr) {
	m.frames.WithLabelValues(ifi, family(ip), "defended").Inc()
}

// Conflicted counts a frame by which somebody else claims an address.
func (m *Metrics) Conflicted(_ string, ip netip.Addr, peer bool) {
	by := "stranger"
	switch {
	case peer:
		by = "peer"
	case m.cutOff.Load():
		by = "unknown"
	}
	m.conflicts.WithLabelValues(family(ip), by).Inc()
}

// Failed counts a frame that could not be sent.
func (m *Metrics) Failed(ifi string, ip netip.Addr) {
	m.frames.WithLabelValues(ifi, family(ip), "failed").Inc()
}

// reported counts a report on a Service.
func (m *Metrics) reported(result string) { m.reports.WithLabelValues(result).Inc() }

// passed takes in the outcome of a pass, and which verdicts are others now.
func (m *Metrics) passed(f placement.Facts, d placement.Decision, changes []change) {
	m.cutOff.Store(f.CutOff())
	m.members.WithLabelValues("alive").Set(float64(len(f.Members)))
	m.members.WithLabelValues("known").Set(float64(f.Known))
	if !sameSlice(d.Claims, m.claims) || len(d.Claims) == 0 {
		m.claimed(d.Claims)
	}
	for _, c := range changes {
		m.count(c.was, -1)
		m.count(c.now, 1)
	}
	for _, c := range d.Lost {
		m.changes.WithLabelValues("lost", string(c.Cause)).Inc()
		m.waiting.forget(c.IP)
	}
}

// claimed takes in what this node claims.
func (m *Metrics) claimed(claims []*placement.Claim) {
	m.claims = claims
	var owned, taken [2]int // by whether they are IPv6
	for _, c := range claims {
		six := 1
		if c.IP.Is4() {
			six = 0
		}
		switch {
		case c.Phase == placement.Taken && (c.Rival != placement.MAC{}):
			taken[six]++
		case c.Phase == placement.Taken: // maybe by a node of ours
		case c.Successor == "" || c.Phase != placement.Pending:
			owned[six]++
		}
	}
	for six, name := range []string{"IPv4", "IPv6"} {
		m.owned.WithLabelValues(name).Set(float64(owned[six]))
		m.refused.WithLabelValues(name).Set(float64(taken[six]))
	}
}

// count adds a verdict, if there is one, to those on addresses that nobody announces, or with -1 takes it off.
func (m *Metrics) count(v *placement.Verdict, by int) {
	if v == nil {
		return
	}
	a := addressOf(v, nil)
	if a.announced() {
		return
	}
	reason := string(a.why())
	if m.unannounced[reason] += by; m.unannounced[reason] == 0 {
		m.silent.DeleteLabelValues(reason)
		return
	}
	m.silent.WithLabelValues(reason).Set(float64(m.unannounced[reason]))
}

// taken takes in which addresses are claimed now. Of those that a dead member had, it is to be measured how long
// it takes until they are announced.
func (m *Metrics) taken(list []placement.Change, lost []string, since time.Time) {
	for _, c := range list {
		m.changes.WithLabelValues("taken", string(c.Cause)).Inc()
		if c.Cause == placement.Failover && len(lost) > 0 {
			m.waiting.add(c.IP, since)
		}
	}
}

// gossip takes in how the gossip fares. One goroutine at a time calls it.
func (m *Metrics) gossip(h membership.Health) {
	m.health.Set(float64(h.Score))
	m.packets.WithLabelValues("sent").Add(float64(h.PacketsSent - m.counted.PacketsSent))
	m.packets.WithLabelValues("received").Add(float64(h.PacketsReceived - m.counted.PacketsReceived))
	m.bytes.WithLabelValues("sent").Add(float64(h.BytesSent - m.counted.BytesSent))
	m.bytes.WithLabelValues("received").Add(float64(h.BytesReceived - m.counted.BytesReceived))
	m.counted = h
}

// troubled takes in which peers gossip does not reach, and why.
func (m *Metrics) troubled(why map[string]string) {
	m.problems.Reset()
	for peer, reason := range why {
		m.problems.WithLabelValues(peer, word(reason)).Set(1)
	}
}

// word makes a label of a reason for people: "wrong-key" of "wrong key? the peer has none".
func word(reason string) string {
	if i := strings.IndexAny(reason, "?:;,"); i >= 0 {
		reason = reason[:i]
	}
	return strings.ReplaceAll(strings.TrimSpace(reason), " ", "-")
}

// takeovers are the addresses of dead members that are not announced yet, and when the members were found dead.
type takeovers struct {
	mu    sync.Mutex
	since map[netip.Addr]time.Time
}

func (t *takeovers) add(ip netip.Addr, since time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.since[ip] = since
}

func (t *takeovers) forget(ip netip.Addr) (since time.Time, waited bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	since, waited = t.since[ip]
	delete(t.since, ip)
	return since, waited
}
