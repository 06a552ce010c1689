package soak

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Facts is what the API server says at some moment, as far as it matters. Values are shared and not to be changed.
type Facts struct {
	Services       map[string]*Service     // by namespace/name
	Pools          map[string]*Pool        // by name
	Advertisements map[string]*Advert      // by name
	Reservations   map[string]*Reservation // by namespace/name
	Nodes          map[string]*Node
	Endpoints      map[string][]Endpoint // by namespace/name of the Service
	Reports        map[string]*L2Status  // ServiceL2Statuses by namespace/name
}

// Condition is one that the product wrote; the zero Condition is absent.
type Condition struct{ Status, Reason, Message string }

// Service is what a user wrote, and what the product made of it.
type Service struct {
	Name, Namespace, UID string
	Version              string // resourceVersion
	LoadBalancer         bool
	Class                string
	Families             []int // 4 and 6, in order
	RequireBoth          bool
	Local                bool
	Ports                []string // as in 80/TCP
	Selector             string
	Labels               map[string]string
	Annotations          map[string]string
	IPs                  []netip.Addr // in the status
	Assigned, Announced  Condition
}

// Full is the name with the namespace.
func (s *Service) Full() string { return s.Namespace + "/" + s.Name }

// Ours tells whether the product is to serve it.
func (s *Service) Ours() bool { return s.LoadBalancer && s.Class == "" }

func (s *Service) list(annotation string) (items []string) {
	for item := range strings.SplitSeq(s.Annotations[annotation], ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// Requested are the addresses asked for by name, Pools the pools.
func (s *Service) Requested() (ips []netip.Addr) {
	for _, text := range s.list(annotationAddresses) {
		if ip, err := netip.ParseAddr(text); err == nil {
			ips = append(ips, ip)
		}
	}
	return ips
}

// Pools are the pools asked for by name.
func (s *Service) Pools() []string { return s.list(annotationPool) }

// Key is the sharing key.
func (s *Service) Key() string { return s.Annotations[annotationSharing] }

// Reservation is the full name of the reservation that it takes addresses from, or "".
func (s *Service) Reservation() string {
	if name := s.Annotations[annotationReservation]; name != "" {
		return s.Namespace + "/" + name
	}
	return ""
}

// Wish is all that decides what the Service should have, as one text: while it stays the same, so do the addresses.
func (s *Service) Wish() string {
	var b strings.Builder
	for _, word := range []string{boolText(s.Ours()), familiesText(s.Families), boolText(s.RequireBoth)} {
		b.WriteString(word + "|")
	}
	for _, key := range slices.Sorted(maps.Keys(s.Annotations)) {
		if strings.HasPrefix(key, annotationPrefix) {
			b.WriteString(key + "=" + s.Annotations[key] + "|")
		}
	}
	if s.Key() != "" {
		b.WriteString(strings.Join(s.Ports, ",") + "|" + boolText(s.Local) + "|" + s.Selector)
	}
	return b.String()
}

func boolText(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func familiesText(f []int) string {
	text := ""
	for _, n := range f {
		text += string(rune('0' + n))
	}
	return text
}

// MayShare tells whether two Services may have one address: the rules of docs/allocation.md, "Sharing an address".
func MayShare(a, b *Service) bool {
	if a.Key() == "" || a.Key() != b.Key() || a.Namespace != b.Namespace {
		return false // nobody here names namespaces to share with
	}
	if slices.ContainsFunc(a.Ports, func(p string) bool { return slices.Contains(b.Ports, p) }) {
		return false
	}
	return !a.Local || !b.Local || a.Selector == b.Selector
}

// Span is a range of addresses, both ends included.
type Span struct{ From, To netip.Addr }

// Has tells whether an address is in the range.
func (s Span) Has(ip netip.Addr) bool {
	return ip.Is4() == s.From.Is4() && ip.Compare(s.From) >= 0 && ip.Compare(s.To) <= 0
}

// Pool is an IPAddressPool.
type Pool struct {
	Name        string
	Spans       []Span
	AutoAssign  bool
	Paused      bool
	Reassign    bool // onShrink
	Retains     bool
	Closing     bool // being deleted
	Ready       Condition
	Current     bool // Ready is about the present spec
	Counts      map[int]Counts
	Quarantined []Quarantined
}

// Counts of one family, as the pool's status says.
type Counts struct{ Total, Assigned, Available, Quarantined int }

// Quarantined is an address that speakers say a stranger uses.
type Quarantined struct{ Address, MAC, Node string }

// Has tells whether the pool lists an address.
func (p *Pool) Has(ip netip.Addr) bool {
	return slices.ContainsFunc(p.Spans, func(s Span) bool { return s.Has(ip) })
}

// Advert is an L2Advertisement.
type Advert struct {
	Name      string
	Pools     []string            // empty: all
	Selectors []map[string]string // of nodes; empty: all
	Services  []map[string]string // selectors of Services; empty: all
	Withdraw  bool
	Ready     Condition
	Current   bool // Ready is about the present spec
}

func matchesAny(selectors []map[string]string, labels map[string]string) bool {
	if len(selectors) == 0 {
		return true
	}
	return slices.ContainsFunc(selectors, func(want map[string]string) bool {
		for k, v := range want {
			if labels[k] != v {
				return false
			}
		}
		return true
	})
}

// Reservation is an IPReservation.
type Reservation struct {
	Name, Namespace string
	Addresses       []netip.Addr
	Held            []netip.Addr
	Ready           Condition
}

// Node is a Node.
type Node struct {
	Name     string
	Labels   map[string]string
	Excluded bool // by label, taint or condition
}

// Endpoint is where a Service is served.
type Endpoint struct {
	Node   string
	Serves bool
}

// L2Status is a ServiceL2Status.
type L2Status struct {
	Owners        []string // UIDs
	Announcements []Announcement
}

// Announcement of one address in an L2Status.
type Announcement struct {
	IP                netip.Addr
	Node, Phase, Why  string
	Interface, MAC    string
	Protocol, RivalOf string
}

// Holders are the Services whose statuses name each address.
func (f *Facts) Holders() map[netip.Addr][]*Service {
	held := map[netip.Addr][]*Service{}
	for _, name := range slices.Sorted(maps.Keys(f.Services)) {
		for _, ip := range f.Services[name].IPs {
			held[ip] = append(held[ip], f.Services[name])
		}
	}
	return held
}

// PoolOf is the pool that lists an address, or nil.
func (f *Facts) PoolOf(ip netip.Addr) *Pool {
	for _, p := range f.Pools {
		if p.Has(ip) {
			return p
		}
	}
	return nil
}

func (f *Facts) served(s *Service) (nodes map[string]bool) {
	nodes = map[string]bool{}
	for _, e := range f.Endpoints[s.Full()] {
		if e.Serves {
			nodes[e.Node] = true
		}
	}
	return nodes
}

// MayAnnounce are the nodes that may announce an address which these Services hold, whether or not their speakers are
// well, by the rules of docs/layer2.md, "Which nodes"; with none, why.
func (f *Facts) MayAnnounce(ip netip.Addr, holders []*Service) (nodes map[string]bool, why string) {
	nodes = map[string]bool{}
	var ads []*Advert
	pool := f.PoolOf(ip)
	for _, ad := range f.Advertisements {
		selected := slices.ContainsFunc(holders, func(s *Service) bool { return matchesAny(ad.Services, s.Labels) })
		covers := ad.Name != bad && (pool == nil || len(ad.Pools) == 0 || slices.Contains(ad.Pools, pool.Name))
		if selected && covers {
			ads = append(ads, ad)
		}
	}
	if len(ads) == 0 {
		return nodes, "NoAdvertisement"
	}
	served := false
	for _, s := range holders {
		served = served || len(f.served(s)) > 0
	}
	if !served && slices.ContainsFunc(ads, func(ad *Advert) bool { return ad.Withdraw }) {
		return nodes, "NoEndpoint"
	}
	for name, n := range f.Nodes {
		if !n.Excluded && slices.ContainsFunc(ads, func(ad *Advert) bool { return matchesAny(ad.Selectors, n.Labels) }) {
			nodes[name] = true
		}
	}
	for _, s := range holders {
		if on := f.served(s); s.Local && len(on) > 0 {
			maps.DeleteFunc(nodes, func(n string, _ bool) bool { return !on[n] })
		}
	}
	if len(nodes) == 0 {
		return nodes, "NoEligibleNode"
	}
	return nodes, ""
}

const (
	annotationPrefix      = "lanyard.dev/"
	annotationAddresses   = "lanyard.dev/addresses"
	annotationPool        = "lanyard.dev/pool"
	annotationSharing     = "lanyard.dev/sharing-key"
	annotationReservation = "lanyard.dev/reservation"
	annotationReassign    = "lanyard.dev/reassign"
)

// serviceOf reads a Service.
func serviceOf(s *corev1.Service) *Service {
	out := &Service{Name: s.Name, Namespace: s.Namespace, UID: string(s.UID), Version: s.ResourceVersion,
		LoadBalancer: s.Spec.Type == corev1.ServiceTypeLoadBalancer, Labels: s.Labels, Annotations: s.Annotations,
		RequireBoth: s.Spec.IPFamilyPolicy != nil && *s.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack,
		Local:       s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal, Selector: s.Spec.Selector["app"]}
	if s.Spec.LoadBalancerClass != nil {
		out.Class = *s.Spec.LoadBalancerClass
	}
	for _, f := range s.Spec.IPFamilies {
		out.Families = append(out.Families, map[corev1.IPFamily]int{corev1.IPv4Protocol: 4, corev1.IPv6Protocol: 6}[f])
	}
	for _, p := range s.Spec.Ports {
		out.Ports = append(out.Ports, portText(p))
	}
	for _, i := range s.Status.LoadBalancer.Ingress {
		if ip, err := netip.ParseAddr(i.IP); err == nil {
			out.IPs = append(out.IPs, ip)
		}
	}
	for _, c := range s.Status.Conditions {
		have := Condition{string(c.Status), c.Reason, c.Message}
		switch c.Type {
		case "lanyard.dev/IPAssigned":
			out.Assigned = have
		case "lanyard.dev/Announced":
			out.Announced = have
		}
	}
	return out
}
