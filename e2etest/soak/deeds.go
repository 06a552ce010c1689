package soak

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// population makes or deletes a Service: there are about as many as wanted.
func (p *Plan) population() *Deed {
	more := 30
	if len(p.w.services) < p.Services {
		more = 70
	}
	if len(p.w.services) == 0 || p.chance(more) {
		return p.createService()
	}
	i := p.rand.IntN(len(p.w.services))
	s := p.w.services[i]
	p.w.services = slices.Delete(p.w.services, i, i+1)
	p.w.gone = append(p.w.gone, s.namespace+"/"+s.name)
	return deed("delete service", s.namespace+"/"+s.name, func(ctx context.Context, st *Stage) error {
		return st.deleteService(ctx, s.namespace, s.name)
	})
}

type edit func(*corev1.Service)

func annotate(key, value string) edit {
	return func(s *corev1.Service) {
		if s.Annotations == nil {
			s.Annotations = map[string]string{}
		}
		if s.Annotations[key] = value; value == "" {
			delete(s.Annotations, key)
		}
	}
}

func (p *Plan) createService() *Deed {
	s := &planned{namespace: "default", kind: "ours"}
	if p.chance(15) {
		s.namespace = otherNamespace
	}
	p.w.made++
	s.name = fmt.Sprintf("s%04d", p.w.made)
	if len(p.w.gone) > 0 && p.chance(25) { // one that was there before comes back
		i := p.rand.IntN(len(p.w.gone))
		s.namespace, s.name = split(p.w.gone[i])
		p.w.gone = slices.Delete(p.w.gone, i, i+1)
	}
	var edits []edit
	words := ""
	with := func(what string, e ...edit) {
		edits = append(edits, e...)
		words += " " + what
	}
	switch n := p.rand.IntN(20); {
	case n < 8:
		s.families = []int{4}
	case n < 11:
		s.families = []int{6}
	default:
		s.families = [][]int{{4, 6}, {6, 4}}[p.rand.IntN(2)]
	}
	require := p.chance(50)
	with("IPv"+familiesText(s.families), families(s.families, require))
	if len(s.families) == 2 && require {
		words += " both"
	}
	switch n := p.rand.IntN(100); {
	case n < 10:
		asked := p.someAddresses(s.families)
		with("addresses="+asked, annotate(annotationAddresses, asked))
	case n < 20:
		pools := p.somePools()
		with("pool="+pools, annotate(annotationPool, pools))
	case n < 33:
		what, key, spill := p.someSharing()
		with(what, key, spill)
	case n < 39 && s.namespace == "default":
		name := fmt.Sprintf("r%d", p.rand.IntN(len(p.w.reserved)))
		with("reservation="+name, annotate(annotationReservation, name))
	}
	ports := p.somePorts()
	with("ports="+portsText(ports), setPorts(ports))
	if s.local = p.chance(30); s.local {
		with("local", policyOf(true))
	}
	app := p.someApp()
	with("app="+app, selectApp(app))
	if p.chance(30) {
		with("gold", label("tier", "gold"))
	}
	p.w.services = append(p.w.services, s)
	return deed("create service", s.namespace+"/"+s.name+words, func(ctx context.Context, st *Stage) error {
		return st.createService(ctx, s.namespace, s.name, edits)
	})
}

// someSharing is a sharing key, with or without leave to take a second address.
func (p *Plan) someSharing() (what string, key, spill edit) {
	what = fmt.Sprintf("k%d", p.rand.IntN(4))
	key, spill = annotate(annotationSharing, what), annotate(annotationSpill, "")
	if p.chance(25) {
		what, spill = what+" spill", annotate(annotationSpill, "true")
	}
	return "key=" + what, key, spill
}

func (p *Plan) someAddresses(of []int) string {
	var list []string
	for _, f := range some(p, of, 2) {
		list = append(list, p.anyAddress(f).String())
	}
	return text(list)
}

func (p *Plan) somePools() string {
	var all []string
	for b := range blocks {
		all = append(all, poolName(b))
	}
	return text(some(p, all, 2))
}

func (p *Plan) somePorts() []string {
	return some(p, []string{"80/TCP", "443/TCP", "8080/TCP", "53/TCP", "53/UDP", "7/UDP"}, 2)
}

func (p *Plan) someApp() string {
	switch n := p.rand.IntN(10); {
	case n < 7:
		return "web"
	case n < 9:
		return "api"
	}
	return "nobody"
}

func families(list []int, require bool) edit {
	return func(s *corev1.Service) {
		policy := corev1.IPFamilyPolicySingleStack
		switch {
		case len(list) == 2 && require:
			policy = corev1.IPFamilyPolicyRequireDualStack
		case len(list) == 2:
			policy = corev1.IPFamilyPolicyPreferDualStack
		}
		s.Spec.IPFamilyPolicy, s.Spec.IPFamilies = &policy, nil
		for _, f := range list {
			s.Spec.IPFamilies = append(s.Spec.IPFamilies, map[int]corev1.IPFamily{4: corev1.IPv4Protocol, 6: corev1.IPv6Protocol}[f])
		}
		if len(s.Spec.ClusterIPs) > len(list) {
			s.Spec.ClusterIPs = s.Spec.ClusterIPs[:len(list)]
		}
	}
}

func setPorts(list []string) edit {
	return func(s *corev1.Service) {
		s.Spec.Ports = nil
		for i, text := range list {
			number, protocol := splitPort(text)
			target := int32(lab.HTTPPort)
			if protocol == corev1.ProtocolUDP {
				target = lab.EchoPort
			}
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "p" + strconv.Itoa(i), Port: number, Protocol: protocol,
				TargetPort: intstr.FromInt32(target)})
		}
	}
}

func policyOf(local bool) edit {
	return func(s *corev1.Service) {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
		if local {
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		}
	}
}

func selectApp(app string) edit {
	return func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": app} }
}

func label(key, value string) edit {
	return func(s *corev1.Service) {
		if s.Labels == nil {
			s.Labels = map[string]string{}
		}
		if s.Labels[key] = value; value == "" {
			delete(s.Labels, key)
		}
	}
}

func toClusterIP(s *corev1.Service) {
	s.Spec.Type, s.Spec.LoadBalancerClass, s.Spec.ExternalTrafficPolicy = corev1.ServiceTypeClusterIP, nil, ""
	s.Spec.AllocateLoadBalancerNodePorts, s.Spec.HealthCheckNodePort = nil, 0
	for i := range s.Spec.Ports {
		s.Spec.Ports[i].NodePort = 0
	}
}

func toLoadBalancer(class string) edit {
	return func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		if s.Spec.LoadBalancerClass = nil; class != "" {
			s.Spec.LoadBalancerClass = &class
		}
	}
}

// editing makes a deed of edits of one Service.
func editing(name string, s *planned, what string, edits ...edit) *Deed {
	return deed("edit "+name, s.namespace+"/"+s.name+" "+what, func(ctx context.Context, st *Stage) error {
		return st.editService(ctx, s.namespace, s.name, edits)
	})
}

// anyService is one of a kind, or nil.
func (p *Plan) anyService(fits func(*planned) bool) *planned {
	var list []*planned
	for _, s := range p.w.services {
		if fits(s) {
			list = append(list, s)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return pick(p, list)
}

func isOurs(s *planned) bool { return s.kind == "ours" }

func (p *Plan) editType() *Deed {
	if s := p.anyService(func(s *planned) bool { return !isOurs(s) }); s != nil && p.chance(60) {
		back := []edit{toLoadBalancer("")}
		if s.kind == "foreign" { // a class cannot be changed but with the type
			s.kind, s.local = "cluster", false
			return editing("type", s, "ClusterIP", toClusterIP)
		}
		s.kind = "ours"
		return editing("type", s, "LoadBalancer", back...)
	}
	s := p.anyService(isOurs)
	if s == nil {
		return nil
	}
	s.kind, s.local = "cluster", false
	d := editing("type", s, "ClusterIP", toClusterIP)
	switch n := p.rand.IntN(10); {
	case n < 2: // to another class, and so through another type
		s.kind = "foreign"
		d.On = s.namespace + "/" + s.name + " class " + otherClass
		d.Do = func(ctx context.Context, st *Stage) error {
			return errors.Join(st.editService(ctx, s.namespace, s.name, []edit{toClusterIP}),
				st.editService(ctx, s.namespace, s.name, []edit{toLoadBalancer(otherClass)}))
		}
	case n < 5: // and back at once
		s.kind = "ours"
		d.On = s.namespace + "/" + s.name + " ClusterIP, LoadBalancer"
		d.Do = func(ctx context.Context, st *Stage) error {
			return errors.Join(st.editService(ctx, s.namespace, s.name, []edit{toClusterIP}),
				st.editService(ctx, s.namespace, s.name, []edit{toLoadBalancer("")}))
		}
	}
	return d
}

func (p *Plan) editAnnotation(name, key string, some func(s *planned) string) *Deed {
	s := p.anyService(isOurs)
	if s == nil {
		return nil
	}
	value := ""
	if p.chance(60) {
		value = some(s)
	}
	return editing(name, s, value, annotate(key, value))
}

func (p *Plan) editAddresses() *Deed {
	return p.editAnnotation("addresses", annotationAddresses, func(s *planned) string { return p.someAddresses(s.families) })
}

func (p *Plan) editPools() *Deed {
	return p.editAnnotation("pools", annotationPool, func(*planned) string { return p.somePools() })
}

func (p *Plan) editReassign() *Deed {
	return p.editAnnotation("reassign", annotationReassign, func(*planned) string { return "true" })
}

func (p *Plan) editReservation() *Deed {
	return p.editAnnotation("reservation", annotationReservation, func(*planned) string {
		return fmt.Sprintf("r%d", p.rand.IntN(len(p.w.reserved)))
	})
}

func (p *Plan) editSharing() *Deed {
	s := p.anyService(isOurs)
	if s == nil {
		return nil
	}
	if p.chance(40) {
		return editing("sharing", s, "none", annotate(annotationSharing, ""), annotate(annotationSpill, ""))
	}
	what, key, spill := p.someSharing()
	return editing("sharing", s, what, key, spill)
}

func (p *Plan) editPolicy() *Deed {
	s := p.anyService(isOurs)
	if s == nil {
		return nil
	}
	s.local = !s.local
	return editing("traffic policy", s, map[bool]string{true: "Local", false: "Cluster"}[s.local], policyOf(s.local))
}

func (p *Plan) editPorts() *Deed {
	s := p.anyService(isOurs)
	if s == nil {
		return nil
	}
	ports := p.somePorts()
	return editing("ports", s, portsText(ports), setPorts(ports))
}

func (p *Plan) editFamilies() *Deed {
	s := p.anyService(isOurs)
	if s == nil {
		return nil
	}
	require := p.chance(50)
	switch {
	case len(s.families) == 1:
		s.families = []int{s.families[0], 10 - s.families[0]}
	case p.chance(60):
		s.families = s.families[:1]
	}
	return editing("families", s, fmt.Sprintf("IPv%s required=%t", familiesText(s.families), require), families(s.families, require))
}

func (p *Plan) editSelector() *Deed {
	s := p.anyService(isOurs)
	if s == nil {
		return nil
	}
	app := p.someApp()
	return editing("selector", s, app, selectApp(app))
}

func (p *Plan) editLabels() *Deed {
	s := p.anyService(isOurs)
	if s == nil {
		return nil
	}
	value := pick(p, []string{"", "gold"})
	return editing("labels", s, "tier="+value, label("tier", value))
}
