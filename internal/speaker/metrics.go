package speaker

import (
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of one speaker. The announcer may count its frames in them.
type Metrics struct {
	members   *prometheus.GaugeVec
	owned     *prometheus.GaugeVec
	frames    *prometheus.CounterVec
	conflicts *prometheus.CounterVec
}

// NewMetrics returns metrics that stand in the registry.
func NewMetrics(registry prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		members: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "lanyard_speaker_members",
			Help: "Speakers by state: alive as gossip has it, and known to the API server.",
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
			Help: "Frames by which others claim an address that this node announces or probes, by whom: a stranger, or a peer (another node of the cluster).",
		}, []string{"family", "by"}),
	}
	for _, c := range []prometheus.Collector{m.members, m.owned, m.frames, m.conflicts} {
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

// Announced counts an unsolicited announcement.
func (m *Metrics) Announced(ifi string, ip netip.Addr) {
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
	if peer {
		by = "peer"
	}
	m.conflicts.WithLabelValues(family(ip), by).Inc()
}

// Failed counts a frame that could not be sent.
func (m *Metrics) Failed(ifi string, ip netip.Addr) {
	m.frames.WithLabelValues(ifi, family(ip), "failed").Inc()
}

// passed takes in the outcome of a pass.
func (m *Metrics) passed(alive, known int, owned map[string]int) {
	m.members.WithLabelValues("alive").Set(float64(alive))
	m.members.WithLabelValues("known").Set(float64(known))
	for _, f := range []string{"IPv4", "IPv6"} {
		m.owned.WithLabelValues(f).Set(float64(owned[f]))
	}
}
