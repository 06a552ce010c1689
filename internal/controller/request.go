package controller

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/ipam"
	"github.com/lanyard-lb/lanyard/internal/kube"
)

// request reads what a Service asks for and what it has. What cannot be read is in Invalid, by annotation or
// field.
func request(s *corev1.Service) ipam.Request {
	r := ipam.Request{
		Service: ipam.Key{Namespace: s.Namespace, Name: s.Name},
		Labels:  s.Labels,
		Created: s.CreationTimestamp.Time,
		Status:  kube.IngressIPs(s),
		Ours:    kube.HasOurMark(s),
	}
	for _, f := range s.Spec.IPFamilies {
		family := ipam.IPv4
		if f == corev1.IPv6Protocol {
			family = ipam.IPv6
		}
		r.Families = append(r.Families, family)
	}
	r.AllOrNothing = s.Spec.IPFamilyPolicy != nil && *s.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack
	a := annotations{of: s.Annotations}
	r.Addresses = a.addresses(s.Spec.LoadBalancerIP, r.Families)
	r.Pools = a.list(v1beta1.AnnotationPool, v1beta1.AliasesPool[:]...)
	r.Reservation, _ = a.text(v1beta1.AnnotationReservation)
	r.Reassign = a.boolean(v1beta1.AnnotationReassign)
	r.Sharing = sharing(s, &a)
	r.Invalid = strings.Join(a.faults, "; ")
	return r
}

func sharing(s *corev1.Service, a *annotations) ipam.Sharing {
	key, _ := a.text(v1beta1.AnnotationSharingKey, v1beta1.AliasesSharingKey[:]...)
	sharing := ipam.Sharing{
		Key:        key,
		Namespaces: a.list(v1beta1.AnnotationSharingNamespaces),
		Spill:      a.boolean(v1beta1.AnnotationSharingSpill),
	}
	if key == "" {
		return sharing
	}
	for _, p := range s.Spec.Ports {
		sharing.Ports = append(sharing.Ports, ipam.Port{Protocol: string(p.Protocol), Number: uint16(p.Port)})
	}
	sharing.Local = s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	if sharing.Local {
		sharing.Backends = labels.Set(s.Spec.Selector).String()
	}
	return sharing
}

// annotations reads values and gathers what is wrong with them.
type annotations struct {
	of     map[string]string
	faults []string
}

// text returns the value of an annotation, or of the first of its aliases that is there, without the blanks
// around it, and the name that it was found under.
func (a *annotations) text(name string, aliases ...string) (value, under string) {
	for _, n := range append([]string{name}, aliases...) {
		if v, ok := a.of[n]; ok {
			return strings.TrimSpace(v), n
		}
	}
	return "", name
}

func (a *annotations) list(name string, aliases ...string) []string {
	text, _ := a.text(name, aliases...)
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

func (a *annotations) boolean(name string) bool {
	text, _ := a.text(name)
	if text == "" {
		return false
	}
	value, err := strconv.ParseBool(text)
	if err != nil {
		a.faults = append(a.faults, fmt.Sprintf("annotation %s: %q is neither true nor false", name, text))
	}
	return value
}

// addresses reads the addresses asked for, by annotation or by spec.loadBalancerIP; the annotation wins, and
// must not say something else.
func (a *annotations) addresses(field string, families []ipam.Family) []netip.Addr {
	_, under := a.text(v1beta1.AnnotationAddresses, v1beta1.AliasesAddresses[:]...)
	source, items := "annotation "+under, a.list(v1beta1.AnnotationAddresses, v1beta1.AliasesAddresses[:]...)
	switch {
	case field != "" && len(items) == 0:
		source, items = "spec.loadBalancerIP", []string{field}
	case field != "" && !slices.Contains(items, field):
		a.faults = append(a.faults, fmt.Sprintf("%s and spec.loadBalancerIP ask for different addresses", source))
	}
	var ips []netip.Addr
	for _, item := range items {
		ip, err := netip.ParseAddr(item)
		switch {
		case err != nil || ip.Zone() != "":
			a.faults = append(a.faults, fmt.Sprintf("%s: %q is not an IP address", source, item))
		case !slices.Contains(families, ipam.FamilyOf(ip.Unmap())):
			a.faults = append(a.faults, fmt.Sprintf("%s: %s is of a family that is not in spec.ipFamilies", source, item))
		case !slices.Contains(ips, ip.Unmap()):
			ips = append(ips, ip.Unmap())
		}
	}
	return ips
}

func key(n types.NamespacedName) ipam.Key { return ipam.Key{Namespace: n.Namespace, Name: n.Name} }

func names(keys []ipam.Key) []types.NamespacedName {
	list := make([]types.NamespacedName, len(keys))
	for i, k := range keys {
		list[i] = types.NamespacedName{Namespace: k.Namespace, Name: k.Name}
	}
	return list
}
