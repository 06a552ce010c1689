package speaker

import (
	"net/netip"
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
)

// facts turns what was observed into the part of placement's facts that is the same on every node. The last
// snapshot stays in force for objects that have become faulty.
func facts(seen kube.Observed, class string, last config.Snapshot) (placement.Facts, config.Snapshot) {
	snapshot, _ := config.ParseAfter(last, seen.Objects)
	f := placement.Facts{Cluster: &placement.Cluster{
		Nodes:          map[string]placement.Node{},
		Pools:          snapshot.PlacementPools(),
		Advertisements: snapshot.Advertisements,
	}}
	for i := range seen.Pools {
		for _, q := range seen.Pools[i].Status.Quarantined {
			if ip, err := netip.ParseAddr(q.Address); err == nil {
				f.Quarantined = append(f.Quarantined, ip.Unmap())
			}
		}
	}
	for i := range seen.Nodes {
		n := &seen.Nodes[i]
		f.Nodes[n.Name] = placement.Node{Excluded: exclusion(n), NotReadySince: notReadySince(n), Cordoned: n.Spec.Unschedulable}
	}
	endpoints := endpointsByService(seen.EndpointSlices)
	for i := range seen.Services {
		s := &seen.Services[i]
		if !kube.IsOurs(s, class) || !kube.HasOurMark(s) {
			continue // a status that somebody else wrote is not ours to announce
		}
		service := &placement.Service{
			Name:           s.Namespace + "/" + s.Name,
			IPs:            kube.IngressIPs(s),
			Local:          s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
			Advertisements: snapshot.Selecting(s.Labels),
			MoveTo:         strings.TrimSpace(s.Annotations[v1beta1.AnnotationMoveTo]),
		}
		own := endpoints[service.Name]
		service.Served = slices.ContainsFunc(own, serves)
		if service.Local {
			service.EndpointNodes, service.FadingNodes, service.EndpointAnywhere = servingNodes(own)
		}
		f.Services = append(f.Services, service)
	}
	return f, snapshot
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

func endpointsByService(list []discoveryv1.EndpointSlice) map[string][]discoveryv1.Endpoint {
	byService := map[string][]discoveryv1.Endpoint{}
	for i := range list {
		name := list[i].Namespace + "/" + list[i].Labels[discoveryv1.LabelServiceName]
		byService[name] = append(byService[name], list[i].Endpoints...)
	}
	return byService
}

// servingNodes returns the nodes that have an endpoint which serves, be it while terminating, and those of them where all such
// endpoints terminate; anywhere says that one is bound to no node.
func servingNodes(endpoints []discoveryv1.Endpoint) (nodes, fading map[string]bool, anywhere bool) {
	nodes, fading = map[string]bool{}, map[string]bool{}
	lasting := map[string]bool{}
	for _, e := range endpoints {
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

func terminates(e discoveryv1.Endpoint) bool {
	return e.Conditions.Terminating != nil && *e.Conditions.Terminating
}

// serves reports whether an endpoint takes connections.
func serves(e discoveryv1.Endpoint) bool {
	ready := e.Conditions.Ready == nil || *e.Conditions.Ready
	return ready || e.Conditions.Serving != nil && *e.Conditions.Serving
}

// running are the nodes whose speaker should run and be reached.
func running(speakers []discoveryv1.EndpointSlice) map[string]bool {
	nodes := map[string]bool{}
	for _, slice := range speakers {
		for _, e := range slice.Endpoints {
			if e.NodeName != nil && !terminates(e) && serves(e) {
				nodes[*e.NodeName] = true
			}
		}
	}
	return nodes
}

// peers returns the speakers to gossip with, one address each: of the family that we gossip on, where a
// node has one.
func peers(speakers []discoveryv1.EndpointSlice, preferIPv6 bool) []membership.Peer {
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
	list := make([]membership.Peer, 0, len(byNode))
	for _, p := range byNode {
		list = append(list, p)
	}
	return list
}
