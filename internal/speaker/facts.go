package speaker

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/config"
	"github.com/lanyard-lb/lanyard/internal/kube"
	"github.com/lanyard-lb/lanyard/internal/membership"
	"github.com/lanyard-lb/lanyard/internal/placement"
	"github.com/lanyard-lb/lanyard/internal/sortedlist"
)

// world is what has been observed of the cluster, by object, and the facts that follow from it: the part of placement's
// facts that is the same on every node. A change costs what it changes.
type world struct {
	class    string
	snapshot config.Snapshot // the last good one stays in force for objects that have become faulty
	services map[string]*corev1.Service
	slices   map[string]*discoveryv1.EndpointSlice // by namespace/name, as the Services
	behind   map[string][]string                   // the slices of each Service
	facts    map[string]*placement.Service         // of the Services that are ours
	known    knowledge
}

func newWorld(class string) *world {
	return &world{class: class, services: map[string]*corev1.Service{}, slices: map[string]*discoveryv1.EndpointSlice{},
		behind: map[string][]string{}, facts: map[string]*placement.Service{}, known: knowledge{Cluster: &placement.Cluster{}}}
}

// take takes in what has changed, and returns what is known now; changed says that this is something else than before.
// What is the same is shared with what was known before.
func (w *world) take(seen kube.Observed, preferIPv6 bool) (known knowledge, changed bool) {
	stale := map[string]bool{}
	for name, s := range seen.Services {
		stale[name] = true
		if s == nil {
			delete(w.services, name)
		} else {
			w.services[name] = s
		}
	}
	for name, s := range seen.EndpointSlices {
		w.slice(name, s, stale)
	}
	if seen.Objects != nil {
		changed = w.configure(*seen.Objects, stale)
	}
	if seen.Speakers != nil {
		p, r := peers(seen.Speakers, preferIPv6), running(seen.Speakers)
		if !slices.Equal(p, w.known.Peers) || !maps.Equal(r, w.known.Running) {
			w.known.Peers, w.known.Running, changed = p, r, true
		}
	}
	if moved := w.renew(stale); len(moved) > 0 {
		w.known.Services, changed = w.patched(moved), true
	}
	return w.known, changed
}

// slice takes in an EndpointSlice; nil: it is gone. What Services it is of, and was of, is stale.
func (w *world) slice(name string, now *discoveryv1.EndpointSlice, stale map[string]bool) {
	if was := w.slices[name]; was != nil {
		of := serviceOf(was)
		stale[of] = true
		if rest := slices.DeleteFunc(w.behind[of], func(n string) bool { return n == name }); len(rest) > 0 {
			w.behind[of] = rest
		} else {
			delete(w.behind, of)
		}
	}
	if now == nil {
		delete(w.slices, name)
		return
	}
	of := serviceOf(now)
	stale[of] = true
	w.slices[name], w.behind[of] = now, append(w.behind[of], name)
}

func serviceOf(s *discoveryv1.EndpointSlice) string {
	return s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]
}

// configure takes in the configuration, and reports whether the Cluster is another one. If other Services are
// selected, all are stale.
func (w *world) configure(objects config.Objects, stale map[string]bool) (changed bool) {
	before := w.snapshot
	w.snapshot, _ = config.ParseAfter(before, objects)
	if !w.snapshot.SelectsLike(before) {
		for name := range w.services {
			stale[name] = true
		}
	}
	c := &placement.Cluster{Nodes: map[string]placement.Node{}, Pools: w.snapshot.PlacementPools(), Advertisements: w.snapshot.Advertisements}
	for i := range objects.Pools {
		for _, q := range objects.Pools[i].Status.Quarantined {
			if ip, err := netip.ParseAddr(q.Address); err == nil {
				c.Quarantined = append(c.Quarantined, ip.Unmap())
			}
		}
	}
	slices.SortFunc(c.Quarantined, netip.Addr.Compare)
	for i := range objects.Nodes {
		n := &objects.Nodes[i]
		c.Nodes[n.Name] = placement.Node{Excluded: exclusion(n), NotReadySince: notReadySince(n), Cordoned: n.Spec.Unschedulable}
	}
	if changed = !reflect.DeepEqual(c, w.known.Cluster); changed {
		w.known.Cluster = c
	}
	return changed
}

// renew makes the facts of some Services anew, and returns the names of those that are not what they were, sorted.
func (w *world) renew(names map[string]bool) (moved []string) {
	for name := range names {
		now, was := w.service(name), w.facts[name]
		switch {
		case now == nil && was == nil, now != nil && was != nil && reflect.DeepEqual(now, was):
			continue
		case now == nil:
			delete(w.facts, name)
		default:
			w.facts[name] = now
		}
		moved = append(moved, name)
	}
	slices.Sort(moved)
	return moved
}

// patched returns the list of all Services with some of them as they are now.
func (w *world) patched(names []string) sortedlist.List[*placement.Service] {
	edits := make([]sortedlist.Edit[string, *placement.Service], len(names))
	for i, name := range names {
		s := w.facts[name]
		edits[i] = sortedlist.Edit[string, *placement.Service]{Key: name, Now: s, Gone: s == nil}
	}
	return sortedlist.Edited(w.known.Services, edits, func(s *placement.Service, name string) int { return cmp.Compare(s.Name, name) })
}

// service is a Service as far as its place goes; nil when it is not ours to announce.
func (w *world) service(name string) *placement.Service {
	s := w.services[name]
	if s == nil || !kube.IsOurs(s, w.class) || !kube.HasOurMark(s) {
		return nil // a status that somebody else wrote is not ours to announce, too
	}
	service := &placement.Service{
		Name:           name,
		IPs:            kube.IngressIPs(s),
		Local:          s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		Advertisements: w.snapshot.Selecting(s.Labels),
		MoveTo:         strings.TrimSpace(s.Annotations[v1beta1.AnnotationMoveTo]),
	}
	of := func(yield func(*discoveryv1.Endpoint) bool) {
		for _, slice := range w.behind[name] {
			endpoints := w.slices[slice].Endpoints
			for i := range endpoints {
				if !yield(&endpoints[i]) {
					return
				}
			}
		}
	}
	for e := range of {
		if service.Served = serves(e); service.Served {
			break
		}
	}
	if service.Local {
		service.EndpointNodes, service.FadingNodes, service.EndpointAnywhere = servingNodes(of)
	}
	return service
}

// exclusion says why a node must not announce, or "".
func exclusion(n *corev1.Node) string {
	if n.DeletionTimestamp != nil {
		return "BeingDeleted"
	}
	if value, labelled := n.Labels[corev1.LabelNodeExcludeBalancers]; labelled {
		if excluded, err := strconv.ParseBool(value); err != nil || excluded {
			return "Excluded"
		}
	}
	for _, t := range n.Spec.Taints {
		if t.Key == "ToBeDeletedByClusterAutoscaler" {
			return "ToBeDeleted"
		}
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeNetworkUnavailable && c.Status == corev1.ConditionTrue {
			return "NetworkUnavailable"
		}
	}
	return ""
}

// notReadySince is when a node ceased to be Ready, or zero.
func notReadySince(n *corev1.Node) time.Time {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
			return c.LastTransitionTime.UTC()
		}
	}
	return time.Time{}
}

// servingNodes returns the nodes that have an endpoint which serves, be it while terminating, and those of them where all such
// endpoints terminate; anywhere says that one is bound to no node.
func servingNodes(endpoints iter.Seq[*discoveryv1.Endpoint]) (nodes, fading map[string]bool, anywhere bool) {
	nodes, fading = map[string]bool{}, map[string]bool{}
	lasting := map[string]bool{}
	for e := range endpoints {
		switch {
		case !serves(e):
		case e.NodeName == nil:
			anywhere = true
		default:
			nodes[*e.NodeName] = true
			lasting[*e.NodeName] = lasting[*e.NodeName] || !terminates(e)
		}
	}
	for node := range nodes {
		if !lasting[node] {
			fading[node] = true
		}
	}
	return nodes, fading, anywhere
}

func terminates(e *discoveryv1.Endpoint) bool {
	return e.Conditions.Terminating != nil && *e.Conditions.Terminating
}

// serves reports whether an endpoint takes connections.
func serves(e *discoveryv1.Endpoint) bool {
	ready := e.Conditions.Ready == nil || *e.Conditions.Ready
	return ready || e.Conditions.Serving != nil && *e.Conditions.Serving
}

// running are the nodes whose speaker should run and be reached.
func running(speakers []*discoveryv1.EndpointSlice) map[string]bool {
	nodes := map[string]bool{}
	for _, slice := range speakers {
		for i := range slice.Endpoints {
			if e := &slice.Endpoints[i]; e.NodeName != nil && !terminates(e) && serves(e) {
				nodes[*e.NodeName] = true
			}
		}
	}
	return nodes
}

// peers returns the speakers to gossip with, sorted by name, one address each: of the family that we gossip
// on, where a node has one.
func peers(speakers []*discoveryv1.EndpointSlice, preferIPv6 bool) []membership.Peer {
	byNode := map[string]membership.Peer{}
	for _, slice := range speakers {
		if len(slice.Ports) == 0 || slice.Ports[0].Port == nil {
			continue
		}
		port := uint16(*slice.Ports[0].Port)
		for _, e := range slice.Endpoints {
			if e.NodeName == nil || len(e.Addresses) == 0 {
				continue
			}
			ip, err := netip.ParseAddr(e.Addresses[0])
			if _, known := byNode[*e.NodeName]; err != nil || known && ip.Is6() != preferIPv6 {
				continue
			}
			byNode[*e.NodeName] = membership.Peer{Name: *e.NodeName, Addr: netip.AddrPortFrom(ip, port)}
		}
	}
	return slices.SortedFunc(maps.Values(byNode), func(a, b membership.Peer) int { return cmp.Compare(a.Name, b.Name) })
}
