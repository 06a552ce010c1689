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
	"github.com/lanyard-lb/lanyard/internal/ipam"
	"github.com/lanyard-lb/lanyard/internal/iprange"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// Parse checks the objects and returns the Snapshot of those that are good, and every fault of the others.
// Faults are sorted by kind and name.
func Parse(o Objects) (Snapshot, []Fault) {
	p := parser{}
	s := Snapshot{Pools: p.pools(o.Pools)}
	for i := range o.L2Advertisements {
		if ad, ok := p.advertisement(&o.L2Advertisements[i], o); ok {
			s.Advertisements = append(s.Advertisements, ad)
		}
	}
	slices.SortFunc(s.Advertisements, func(a, b placement.Advertisement) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(p.faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return s, p.faults
}

type parser struct {
	faults []Fault
}

func (p *parser) fault(kind, name, field string, reason Reason, format string, args ...any) {
	p.faults = append(p.faults, Fault{Kind: kind, Name: name, Field: field, Reason: reason, Message: fmt.Sprintf(format, args...)})
}

func (p *parser) warn(kind, name, field string, reason Reason, format string, args ...any) {
	p.fault(kind, name, field, reason, format, args...)
	p.faults[len(p.faults)-1].Warning = true
}

// pools lets the older pool win where two overlap; ties by name.
func (p *parser) pools(objects []v1beta1.IPAddressPool) []ipam.Pool {
	byAge := slices.Clone(objects)
	slices.SortFunc(byAge, func(a, b v1beta1.IPAddressPool) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	var accepted []ipam.Pool
	for i := range byAge {
		if pool, ok := p.pool(&byAge[i], accepted); ok {
			accepted = append(accepted, pool)
		}
	}
	slices.SortFunc(accepted, func(a, b ipam.Pool) int { return cmp.Compare(a.Name, b.Name) })
	return accepted
}

func (p *parser) pool(object *v1beta1.IPAddressPool, accepted []ipam.Pool) (ipam.Pool, bool) {
	known := len(p.faults)
	pool := ipam.Pool{Name: object.Name, AutoAssign: object.Spec.AutoAssign == nil || *object.Spec.AutoAssign}
	if len(object.Spec.Addresses) == 0 {
		p.fault(KindIPAddressPool, object.Name, "spec.addresses", InvalidAddress, "a pool needs at least one address")
	}
	for i, text := range object.Spec.Addresses {
		field := fmt.Sprintf("spec.addresses[%d]", i)
		r, err := iprange.Parse(string(text))
		if err != nil {
			p.fault(KindIPAddressPool, object.Name, field, InvalidAddress, "%v", err)
			continue
		}
		p.overlaps(object.Name, field, r, append(accepted[:len(accepted):len(accepted)], pool))
		pool.Ranges = append(pool.Ranges, r)
	}
	return pool, len(p.faults) == known
}

func (p *parser) overlaps(name, field string, r iprange.Range, pools []ipam.Pool) {
	for _, other := range pools {
		for _, taken := range other.Ranges {
			if !r.Overlaps(taken) {
				continue
			}
			owner := "pool " + other.Name
			if other.Name == name {
				owner = "the same pool"
			}
			p.fault(KindIPAddressPool, name, field, Overlap, "%s overlaps %s of %s", r, taken, owner)
		}
	}
}

func (p *parser) advertisement(object *v1beta1.L2Advertisement, o Objects) (placement.Advertisement, bool) {
	known := len(p.faults)
	ad := placement.Advertisement{Name: object.Name, Interfaces: slices.Clone(object.Spec.Interfaces)}
	pools := p.selectors(object.Name, "spec.ipAddressPoolSelectors", object.Spec.IPAddressPoolSelectors)
	nodes := p.selectors(object.Name, "spec.nodeSelectors", object.Spec.NodeSelectors)
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

func (p *parser) selectors(name, field string, list []metav1.LabelSelector) []labels.Selector {
	var selectors []labels.Selector
	for i := range list {
		s, err := metav1.LabelSelectorAsSelector(&list[i])
		if err != nil {
			p.fault(KindL2Advertisement, name, fmt.Sprintf("%s[%d]", field, i), InvalidSelector, "%v", err)
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
