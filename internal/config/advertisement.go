package config

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// advertisement is one in force, with what placement does not need to know of it.
type advertisement struct {
	placement.Advertisement
	services []labels.Selector // empty: all Services
}

// advertisements brings advertisements in force, sorted by name.
func (p *parser) advertisements(s *Snapshot, o Objects, last map[string]good[v1beta1.L2AdvertisementSpec]) {
	s.services = map[string][]labels.Selector{}
	for i := range o.L2Advertisements {
		object := o.L2Advertisements[i]
		ref := ref{KindL2Advertisement, object.Name, object.UID}
		ad, ok := orLast(p, ref, &object.Spec, last, p.good.advertisements, func(p *parser, spec *v1beta1.L2AdvertisementSpec) (advertisement, bool) {
			object.Spec = *spec
			return p.advertisement(&object, o)
		})
		if !ok {
			continue
		}
		s.Advertisements = append(s.Advertisements, ad.Advertisement)
		if len(ad.services) > 0 {
			s.services[ad.Name] = ad.services
		}
	}
	slices.SortFunc(s.Advertisements, func(a, b placement.Advertisement) int { return cmp.Compare(a.Name, b.Name) })
}

func (p *parser) advertisement(object *v1beta1.L2Advertisement, o Objects) (advertisement, bool) {
	known := len(p.faults)
	spec := &object.Spec
	ad := advertisement{Advertisement: placement.Advertisement{
		Name:          object.Name,
		Interfaces:    slices.Clone(spec.Interfaces),
		IgnoreSubnets: spec.IgnoreSubnets,
		Withdraw:      spec.NoEndpoints == v1beta1.NoEndpointsWithdraw,
	}}
	pools := p.selectors(KindL2Advertisement, object.Name, "spec.ipAddressPoolSelectors", spec.IPAddressPoolSelectors)
	nodes := p.selectors(KindL2Advertisement, object.Name, "spec.nodeSelectors", spec.NodeSelectors)
	ad.services = p.selectors(KindL2Advertisement, object.Name, "spec.serviceSelectors", spec.ServiceSelectors)
	preferences := p.preferences(object)
	p.checkPatterns(object)
	if !slices.Contains([]v1beta1.NoEndpointsPolicy{"", v1beta1.NoEndpointsAnnounce, v1beta1.NoEndpointsWithdraw}, spec.NoEndpoints) {
		p.fault(KindL2Advertisement, object.Name, "spec.noEndpoints", InvalidValue, "%q is neither %s nor %s",
			spec.NoEndpoints, v1beta1.NoEndpointsAnnounce, v1beta1.NoEndpointsWithdraw)
	}
	if len(p.faults) > known {
		return ad, false
	}
	ad.Pools = p.selectPools(object, pools, o.Pools)
	ad.Nodes = p.selectNodes(object, nodes, o.Nodes)
	for i, selector := range preferences {
		weight := int(spec.PreferredNodeSelectors[i].Weight)
		ad.Preferred = append(ad.Preferred, placement.Preference{Weight: weight, Nodes: preferred(selector, ad.Nodes, o.Nodes)})
	}
	return ad, true
}

func (p *parser) checkPatterns(object *v1beta1.L2Advertisement) {
	for i, pattern := range object.Spec.Interfaces {
		if _, err := path.Match(pattern, ""); err != nil || strings.ContainsAny(pattern, "/ ") {
			p.fault(KindL2Advertisement, object.Name, fmt.Sprintf("spec.interfaces[%d]", i), InvalidPattern,
				"%q is neither an interface name nor a pattern with * and ?", pattern)
		}
	}
}

// preferences returns the selectors of spec.preferredNodeSelectors, in order; without a fault, all of them.
func (p *parser) preferences(object *v1beta1.L2Advertisement) []labels.Selector {
	var list []labels.Selector
	for i := range object.Spec.PreferredNodeSelectors {
		entry := &object.Spec.PreferredNodeSelectors[i]
		field := fmt.Sprintf("spec.preferredNodeSelectors[%d]", i)
		if entry.Weight < 1 || entry.Weight > 100 {
			p.fault(KindL2Advertisement, object.Name, field+".weight", InvalidValue, "%d is not from 1 to 100", entry.Weight)
		}
		if s, ok := p.selector(KindL2Advertisement, object.Name, field+".preference", &entry.Preference); ok {
			list = append(list, s)
		}
	}
	return list
}

// preferred returns those of the allowed nodes that a selector matches.
func preferred(selector labels.Selector, allowed map[string]bool, nodes []corev1.Node) map[string]bool {
	selected := map[string]bool{}
	for i := range nodes {
		if allowed[nodes[i].Name] && selector.Matches(labels.Set(nodes[i].Labels)) {
			selected[nodes[i].Name] = true
		}
	}
	return selected
}

// Selecting returns the names of the advertisements in force that select a Service by its labels, or nil when
// none of them selects Services at all: then each is for every Service.
func (s Snapshot) Selecting(service map[string]string) map[string]bool {
	if len(s.services) == 0 {
		return nil
	}
	names := map[string]bool{}
	for i := range s.Advertisements {
		name := s.Advertisements[i].Name
		if selectors := s.services[name]; len(selectors) == 0 || matchesAny(selectors, service) {
			names[name] = true
		}
	}
	return names
}

// SelectsLike reports whether Selecting gives the same for every Service in both.
func (s Snapshot) SelectsLike(o Snapshot) bool {
	if len(s.services) == 0 || len(o.services) == 0 {
		return len(s.services) == len(o.services)
	}
	sameName := func(a, b placement.Advertisement) bool { return a.Name == b.Name }
	return slices.EqualFunc(s.Advertisements, o.Advertisements, sameName) &&
		maps.EqualFunc(s.services, o.services, func(a, b []labels.Selector) bool {
			return slices.EqualFunc(a, b, func(x, y labels.Selector) bool { return x.String() == y.String() })
		})
}

func (p *parser) selectors(kind, name, field string, list []metav1.LabelSelector) []labels.Selector {
	var selectors []labels.Selector
	for i := range list {
		if s, ok := p.selector(kind, name, fmt.Sprintf("%s[%d]", field, i), &list[i]); ok {
			selectors = append(selectors, s)
		}
	}
	return selectors
}

func (p *parser) selector(kind, name, field string, text *metav1.LabelSelector) (labels.Selector, bool) {
	s, err := metav1.LabelSelectorAsSelector(text)
	if err != nil {
		p.fault(kind, name, field, InvalidSelector, "%v", err)
	}
	return s, err == nil
}

func matchesAny(selectors []labels.Selector, set map[string]string) bool {
	return slices.ContainsFunc(selectors, func(s labels.Selector) bool { return s.Matches(labels.Set(set)) })
}

// selectPools is the union of names and selectors; neither given means every pool. A name that does not
// exist (yet) does no harm to the others.
func (p *parser) selectPools(object *v1beta1.L2Advertisement, selectors []labels.Selector, pools []v1beta1.IPAddressPool) map[string]bool {
	all := len(object.Spec.IPAddressPools) == 0 && len(selectors) == 0
	selected, exists := map[string]bool{}, map[string]bool{}
	for i := range pools {
		name := pools[i].Name
		exists[name] = true
		if all || slices.Contains(object.Spec.IPAddressPools, name) || matchesAny(selectors, pools[i].Labels) {
			selected[name] = true
		}
	}
	for i, name := range object.Spec.IPAddressPools {
		if !exists[name] {
			p.warn(KindL2Advertisement, object.Name, fmt.Sprintf("spec.ipAddressPools[%d]", i), UnknownPool,
				"there is no IPAddressPool %q", name)
		}
	}
	return selected
}

func (p *parser) selectNodes(object *v1beta1.L2Advertisement, selectors []labels.Selector, nodes []corev1.Node) map[string]bool {
	selected := map[string]bool{}
	for i := range nodes {
		if len(selectors) == 0 || matchesAny(selectors, nodes[i].Labels) {
			selected[nodes[i].Name] = true
		}
	}
	if len(selected) == 0 && len(nodes) > 0 {
		p.warn(KindL2Advertisement, object.Name, "spec.nodeSelectors", NoNode, "no node matches")
	}
	return selected
}
