package config

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// advertisements returns those in force, sorted by name.
func (p *parser) advertisements(o Objects, last map[string]good[v1beta1.L2AdvertisementSpec]) []placement.Advertisement {
	var list []placement.Advertisement
	for i := range o.L2Advertisements {
		object := o.L2Advertisements[i]
		ref := ref{KindL2Advertisement, object.Name, object.UID}
		ad, ok := orLast(p, ref, &object.Spec, last, p.good.advertisements, func(p *parser, spec *v1beta1.L2AdvertisementSpec) (placement.Advertisement, bool) {
			object.Spec = *spec
			return p.advertisement(&object, o)
		})
		if ok {
			list = append(list, ad)
		}
	}
	slices.SortFunc(list, func(a, b placement.Advertisement) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

func (p *parser) advertisement(object *v1beta1.L2Advertisement, o Objects) (placement.Advertisement, bool) {
	known := len(p.faults)
	ad := placement.Advertisement{Name: object.Name, Interfaces: slices.Clone(object.Spec.Interfaces)}
	pools := p.selectors(KindL2Advertisement, object.Name, "spec.ipAddressPoolSelectors", object.Spec.IPAddressPoolSelectors)
	nodes := p.selectors(KindL2Advertisement, object.Name, "spec.nodeSelectors", object.Spec.NodeSelectors)
	for i, pattern := range ad.Interfaces {
		if _, err := path.Match(pattern, ""); err != nil || strings.ContainsAny(pattern, "/ ") {
			p.fault(KindL2Advertisement, object.Name, fmt.Sprintf("spec.interfaces[%d]", i), InvalidPattern,
				"%q is neither an interface name nor a pattern with * and ?", pattern)
		}
	}
	if len(p.faults) > known {
		return ad, false
	}
	ad.Pools = p.selectPools(object, pools, o.Pools)
	ad.Nodes = p.selectNodes(object, nodes, o.Nodes)
	return ad, true
}

func (p *parser) selectors(kind, name, field string, list []metav1.LabelSelector) []labels.Selector {
	var selectors []labels.Selector
	for i := range list {
		s, err := metav1.LabelSelectorAsSelector(&list[i])
		if err != nil {
			p.fault(kind, name, fmt.Sprintf("%s[%d]", field, i), InvalidSelector, "%v", err)
			continue
		}
		selectors = append(selectors, s)
	}
	return selectors
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
