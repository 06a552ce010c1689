package config

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	corev1 "k8s.io/api/core/v1"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/ipam"
	"github.com/lanyard-lb/lanyard/internal/iprange"
)

// poolSpec is a pool that is good in itself; whether it goes with the others is still to be seen.
type poolSpec struct {
	pool    ipam.Pool // without Ranges
	written []iprange.Range
	parts   []part // what is written without what is excluded
	excepts bool   // something is excluded
	subnets []netip.Prefix
}

// part is a piece of one item of spec.addresses.
type part struct {
	iprange.Range
	pool  string
	item  iprange.Range
	field string
}

func (p *parser) pool(object *v1beta1.IPAddressPool, spec *v1beta1.IPAddressPoolSpec, namespaces []corev1.Namespace) (poolSpec, bool) {
	known, name := len(p.faults), object.Name
	s := poolSpec{pool: ipam.Pool{
		Name: name, AvoidBuggy: spec.AvoidBuggyIPs, AutoAssign: spec.AutoAssign == nil || *spec.AutoAssign,
		Priority: priority(spec.ServiceAllocation), Audience: p.audience(name, spec.ServiceAllocation, namespaces),
		Paused: spec.Paused, Closing: object.DeletionTimestamp != nil,
		Rest: spec.Strategy == v1beta1.LeastRecentlyUsed, Reassign: spec.OnShrink == v1beta1.ShrinkReassign,
	}}
	if l := spec.Limits; l != nil && l.AddressesPerNamespace != nil {
		s.pool.PerNamespace = int(*l.AddressesPerNamespace)
	}
	if spec.Retain != nil {
		s.pool.Retain = spec.Retain.Duration
	}
	if s.pool.PerNamespace < 0 || s.pool.Retain < 0 {
		p.fault(KindIPAddressPool, name, "spec", InvalidValue, "limits and retain must not be negative")
	}
	if len(spec.Addresses) == 0 {
		p.fault(KindIPAddressPool, name, "spec.addresses", InvalidAddress, "a pool needs at least one address")
	}
	s.written = p.ranges(name, "spec.addresses", spec.Addresses)
	excluded := p.ranges(name, "spec.excludedAddresses", spec.ExcludedAddresses)
	s.excepts = len(excluded) > 0
	s.subnets = p.subnets(name, spec.Subnets)
	if len(p.faults) > known {
		return s, false
	}
	p.parts(&s, excluded)
	return s, len(p.faults) == known
}

// ranges reads a list of addresses. In spec.addresses, those that can never work are faults.
func (p *parser) ranges(name, list string, texts []v1beta1.AddressRange) []iprange.Range {
	var ranges []iprange.Range
	for i, text := range texts {
		field := fmt.Sprintf("%s[%d]", list, i)
		r, err := iprange.Parse(string(text))
		if err != nil {
			p.fault(KindIPAddressPool, name, field, InvalidAddress, "%v", err)
			continue
		}
		if what := r.Reserved(); what != "" && list == "spec.addresses" {
			p.fault(KindIPAddressPool, name, field, InvalidAddress, "%s contains %s, which no Service can have", r, what)
		}
		ranges = append(ranges, r)
	}
	return ranges
}

func (p *parser) subnets(name string, texts []string) []netip.Prefix {
	var subnets []netip.Prefix
	for i, text := range texts {
		subnet, err := netip.ParsePrefix(text)
		if err != nil || subnet.Addr().Is4In6() {
			p.fault(KindIPAddressPool, name, fmt.Sprintf("spec.subnets[%d]", i), InvalidAddress, "%q is not a CIDR", text)
			continue
		}
		subnets = append(subnets, subnet.Masked())
	}
	return subnets
}

// parts takes what is excluded out of what is written; an address must not be listed twice.
func (p *parser) parts(s *poolSpec, excluded []iprange.Range) {
	var own index
	for i, item := range s.written {
		var parts []part
		for _, r := range iprange.Subtract([]iprange.Range{item}, excluded) {
			parts = append(parts, part{Range: r, pool: s.pool.Name, item: item, field: fmt.Sprintf("spec.addresses[%d]", i)})
		}
		p.faults = append(p.faults, faults(own.clashes(parts))...)
		own.add(parts)
		s.parts = append(s.parts, parts...)
	}
}

// priority puts pools without one, or of priority 0, last.
func priority(sa *v1beta1.ServiceAllocation) int {
	if sa == nil || sa.Priority == nil || *sa.Priority == 0 {
		return math.MaxInt
	}
	return int(*sa.Priority)
}

// audience resolves selectors of namespaces, so that ipam sees only names. Selectors that match nothing let
// nobody in.
func (p *parser) audience(name string, sa *v1beta1.ServiceAllocation, namespaces []corev1.Namespace) ipam.Audience {
	if sa == nil {
		return ipam.Audience{}
	}
	var a ipam.Audience
	byLabel := p.selectors(KindIPAddressPool, name, "spec.serviceAllocation.namespaceSelectors", sa.NamespaceSelectors)
	if len(sa.Namespaces)+len(sa.NamespaceSelectors) > 0 {
		a.Namespaces = map[string]bool{}
		for _, n := range sa.Namespaces {
			a.Namespaces[n] = true
		}
		for i := range namespaces {
			if matchesAny(byLabel, namespaces[i].Labels) {
				a.Namespaces[namespaces[i].Name] = true
			}
		}
	}
	for _, s := range p.selectors(KindIPAddressPool, name, "spec.serviceAllocation.serviceSelectors", sa.ServiceSelectors) {
		a.Services = append(a.Services, selector{s})
	}
	return a
}

// selector is an ipam.Selector.
type selector struct{ labels.Selector }

// Matches reports whether the selector matches labels; the empty one matches all.
func (s selector) Matches(set map[string]string) bool { return s.Selector.Matches(labels.Set(set)) }

// isReady reports whether an object says of itself that it is in force as it is written now.
func isReady(generation int64, conditions []metav1.Condition) bool {
	return slices.ContainsFunc(conditions, func(c metav1.Condition) bool {
		return c.Type == v1beta1.ConditionReady && c.Status == metav1.ConditionTrue && c.ObservedGeneration == generation
	})
}
