package soak

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

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
	return &Deed{Name: "delete service", On: s.namespace + "/" + s.name, Do: func(ctx context.Context, st *Stage) error {
		return st.deleteService(ctx, s.namespace, s.name)
	}}
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
	return &Deed{Name: "create service", On: s.namespace + "/" + s.name + words, Do: func(ctx context.Context, st *Stage) error {
		return st.createService(ctx, s.namespace, s.name, edits)
	}}
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
	return &Deed{Name: "edit " + name, On: s.namespace + "/" + s.name + " " + what, Do: func(ctx context.Context, st *Stage) error {
		return st.editService(ctx, s.namespace, s.name, edits)
	}}
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
	return p.editAnnotation("reservation", annotationReservation, func(*planned) string { return fmt.Sprintf("r%d", p.rand.IntN(len(p.w.reserved))) })
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

// Pools.

func (x plannedPool) addresses(block int) []any {
	return []any{fmt.Sprintf("%s-%s", addr4(block, 0), addr4(block, x.size4-1)), fmt.Sprintf("%s-%s", addr6(block, 0), addr6(block, x.size6-1))}
}

func (p *Plan) someSize() int { return 8 + p.rand.IntN(blockSize-8+1) }

func (p *Plan) createPool(block int) *Deed {
	pool := &plannedPool{p.someSize(), p.someSize()}
	spec := map[string]any{"addresses": pool.addresses(block)}
	return &Deed{Name: "create pool", On: fmt.Sprintf("%s %v", poolName(block), spec["addresses"]), NeedsAPI: true,
		note: func() { p.w.pools[block] = pool }, Do: func(ctx context.Context, st *Stage) error {
			return st.create(ctx, poolsResource, "IPAddressPool", "", poolName(block), spec)
		}}
}

func (p *Plan) anyPool() (int, bool) {
	var list []int
	for b, x := range p.w.pools {
		if x != nil {
			list = append(list, b)
		}
	}
	if len(list) == 0 {
		return 0, false
	}
	return pick(p, list), true
}

func (p *Plan) resizePool() *Deed {
	b, is := p.anyPool()
	if !is {
		return nil
	}
	pool := p.w.pools[b]
	pool.size4, pool.size6 = p.someSize(), p.someSize()
	return patching("resize pool", poolsResource, poolName(b), map[string]any{"addresses": pool.addresses(b)})
}

func patching(name string, resource resource, of string, spec map[string]any) *Deed {
	return &Deed{Name: name, On: fmt.Sprintf("%s %v", of, spec), Do: func(ctx context.Context, st *Stage) error {
		return st.patch(ctx, resource, "", of, map[string]any{"spec": spec})
	}}
}

func (p *Plan) setPool() *Deed {
	b, is := p.anyPool()
	if !is {
		return nil
	}
	return patching("edit pool", poolsResource, poolName(b), pick(p, []map[string]any{
		{"paused": true}, {"paused": false}, {"autoAssign": false}, {"autoAssign": true}, {"autoAssign": true, "paused": false},
		{"onShrink": "Reassign"}, {"onShrink": "Keep"}, {"retain": "20s"}, {"retain": "0s"},
		{"strategy": "LeastRecentlyUsed"}, {"strategy": "LowestFree"},
	}))
}

// deletePool deletes a pool; it is made again later, if it has gone by then.
func (p *Plan) deletePool() *Deed {
	b, is := p.anyPool()
	if !is {
		return nil
	}
	p.w.pools[b] = nil
	p.after(p.between(5*time.Second, 30*time.Second), p.createPool(b))
	return &Deed{Name: "delete pool", On: poolName(b), Do: func(ctx context.Context, st *Stage) error {
		return st.delete(ctx, poolsResource, "", poolName(b))
	}}
}

// badPool makes a pool that can hand out nothing, and badAdvertisement one that cannot be read, or takes it away: neither must harm others.
func (p *Plan) badPool() *Deed {
	return p.badObject("pool", &p.w.badPool, poolsResource, "IPAddressPool", map[string]any{"addresses": []any{"10.77.0.11-10.77.0.12"}})
}

func (p *Plan) badAdvertisement() *Deed {
	return p.badObject("advertisement", &p.w.badAdvertisement, advertsResource, "L2Advertisement", map[string]any{"nodeSelectors": []any{
		map[string]any{"matchExpressions": []any{map[string]any{"key": "not a key", "operator": "In", "values": []any{"x"}}}}}})
}

func (p *Plan) badObject(what string, is *bool, of resource, kind string, spec map[string]any) *Deed {
	if *is = !*is; !*is {
		return &Deed{Name: "delete " + what, On: bad, Do: func(ctx context.Context, st *Stage) error { return st.delete(ctx, of, "", bad) }}
	}
	return &Deed{Name: "create bad " + what, On: bad, Do: func(ctx context.Context, st *Stage) error { return st.create(ctx, of, kind, "", bad, spec) }}
}

// Advertisements.

func zoneSelectors(zones ...string) (list []any) {
	list = []any{}
	for _, z := range zones {
		list = append(list, map[string]any{"matchLabels": map[string]any{zoneLabel: z}})
	}
	return list
}

func (p *Plan) someSelectors() []any {
	return pick(p, [][]any{zoneSelectors(), zoneSelectors(), zoneSelectors("a"), zoneSelectors("b"), zoneSelectors("a", "b")})
}

func (p *Plan) createWide() *Deed {
	spec := map[string]any{"nodeSelectors": p.someSelectors()}
	return &Deed{Name: "create advertisement", On: fmt.Sprintf("wide %v", spec), NeedsAPI: true, note: func() { p.w.wide = true }, Do: func(ctx context.Context, st *Stage) error {
		return st.create(ctx, advertsResource, "L2Advertisement", "", "wide", spec)
	}}
}

func (p *Plan) editWide() *Deed {
	if !p.w.wide {
		return nil
	}
	spec := map[string]any{"nodeSelectors": p.someSelectors(), "ipAddressPools": []any{}}
	if p.chance(30) {
		var list []any
		for _, b := range some(p, []int{0, 1, 2, 3}, 4) {
			list = append(list, poolName(b))
		}
		spec["ipAddressPools"] = list
	}
	return patching("edit advertisement", advertsResource, "wide", spec)
}

func (p *Plan) deleteWide() *Deed {
	if !p.w.wide {
		return nil
	}
	p.w.wide = false
	p.after(p.between(3*time.Second, 12*time.Second), p.createWide())
	return &Deed{Name: "delete advertisement", On: "wide", Do: func(ctx context.Context, st *Stage) error {
		return st.delete(ctx, advertsResource, "", "wide")
	}}
}

func (p *Plan) editNarrow() *Deed {
	if p.w.narrow = !p.w.narrow; !p.w.narrow {
		return &Deed{Name: "delete advertisement", On: "narrow", Do: func(ctx context.Context, st *Stage) error {
			return st.delete(ctx, advertsResource, "", "narrow")
		}}
	}
	spec := map[string]any{"nodeSelectors": p.someSelectors(), "ipAddressPools": []any{poolName(p.rand.IntN(blocks))}}
	if p.chance(50) {
		spec["serviceSelectors"] = []any{map[string]any{"matchLabels": map[string]any{"tier": "gold"}}}
	}
	if p.chance(50) {
		spec["noEndpoints"] = "Withdraw"
	}
	return &Deed{Name: "create advertisement", On: fmt.Sprintf("narrow %v", spec), Do: func(ctx context.Context, st *Stage) error {
		return st.create(ctx, advertsResource, "L2Advertisement", "", "narrow", spec)
	}}
}

func (p *Plan) reservation() *Deed {
	i := p.rand.IntN(len(p.w.reserved))
	name := fmt.Sprintf("r%d", i)
	if p.w.reserved[i] = !p.w.reserved[i]; !p.w.reserved[i] {
		return &Deed{Name: "delete reservation", On: name, Do: func(ctx context.Context, st *Stage) error {
			st.history.Reservation("default/" + name)
			return st.delete(ctx, reservationsResource, "default", name)
		}}
	}
	spec := map[string]any{}
	if p.chance(60) {
		spec["addresses"] = []any{p.anyAddress(4).String(), p.anyAddress(6).String()}
	}
	if len(spec) == 0 || p.chance(30) {
		spec["pool"], spec["ipv4"], spec["ipv6"] = poolName(p.rand.IntN(blocks)), int64(1+p.rand.IntN(2)), int64(1)
	}
	return &Deed{Name: "create reservation", On: fmt.Sprintf("%s %v", name, spec), Do: func(ctx context.Context, st *Stage) error {
		st.history.Reservation("default/" + name)
		return st.create(ctx, reservationsResource, "IPReservation", "default", name, spec)
	}}
}

// Nodes and pods.

func (p *Plan) setZone(node, zone string) *Deed {
	p.w.zones[node] = zone
	return &Deed{Name: "label node", On: node + " " + zoneLabel + "=" + zone, Do: func(ctx context.Context, st *Stage) error {
		return st.labelNode(ctx, node, zoneLabel, zone)
	}}
}

func (p *Plan) rezone() *Deed {
	node := pick(p, p.nodes)
	return p.setZone(node, map[string]string{"a": "b", "b": "a"}[p.w.zones[node]])
}

// excludeNode excludes a node by label or taint, or lets it in again; at most two are out.
func (p *Plan) excludeNode() *Deed {
	node := pick(p, p.nodes)
	how, is := p.w.excluded[node]
	if is {
		delete(p.w.excluded, node)
		return &Deed{Name: "let in node", On: node + " " + how, Do: func(ctx context.Context, st *Stage) error {
			return st.exclude(ctx, node, how, false)
		}}
	}
	if len(p.w.excluded) == 2 {
		return nil
	}
	how = pick(p, []string{"label", "taint"})
	p.w.excluded[node] = how
	return &Deed{Name: "exclude node", On: node + " " + how, Do: func(ctx context.Context, st *Stage) error { return st.exclude(ctx, node, how, true) }}
}

func (p *Plan) cordon() *Deed {
	node := pick(p, p.nodes)
	p.w.cordoned[node] = !p.w.cordoned[node]
	on := p.w.cordoned[node]
	return &Deed{Name: map[bool]string{true: "cordon", false: "uncordon"}[on], On: node, Do: func(ctx context.Context, st *Stage) error {
		return st.cordon(ctx, node, on)
	}}
}

func (p *Plan) createPod() *Deed {
	p.w.podsMade++
	pod := &plannedPod{name: fmt.Sprintf("pod-%d", p.w.podsMade), node: pick(p, p.nodes), ready: p.chance(90)}
	app := pick(p, []string{"web", "web", "api"})
	namespace := "default"
	if p.chance(20) {
		namespace = otherNamespace
	}
	pod.name = namespace + "/" + pod.name
	p.w.pods = append(p.w.pods, pod)
	return &Deed{Name: "create pod", On: fmt.Sprintf("%s app=%s on %s ready=%t", pod.name, app, pod.node, pod.ready), Do: func(ctx context.Context, st *Stage) error {
		return st.createPod(ctx, pod.name, pod.node, app, pod.ready)
	}}
}

func (p *Plan) pods() *Deed {
	n := p.rand.IntN(10)
	switch {
	case len(p.w.pods) < 4 || n < 4 && len(p.w.pods) < 16:
		return p.createPod()
	case n < 7:
		i := p.rand.IntN(len(p.w.pods))
		pod := p.w.pods[i]
		p.w.pods = slices.Delete(p.w.pods, i, i+1)
		return &Deed{Name: "delete pod", On: pod.name, Do: func(ctx context.Context, st *Stage) error { return st.deletePod(ctx, pod.name) }}
	}
	pod := pick(p, p.w.pods)
	pod.ready = !pod.ready
	ready := pod.ready
	return &Deed{Name: "set pod", On: fmt.Sprintf("%s ready=%t", pod.name, ready), Do: func(ctx context.Context, st *Stage) error {
		return st.readyPod(ctx, pod.name, ready)
	}}
}

// Faults.

// victim is a node that no other fault has, and n1 only where its speaker lives on: that is how one speaker at least grows old.
func (p *Plan) victim(k Kind) string {
	if len(p.w.trouble) >= 2 {
		return ""
	}
	node := pick(p, p.nodes)
	if _, has := p.w.trouble[node]; has || k == Gone && node == p.nodes[0] {
		return ""
	}
	p.w.trouble[node] = k
	return node
}

// fault makes a deed that puts a node in trouble, and one later that ends it.
func (p *Plan) fault(k Kind, name, undoName string, shortest, longest time.Duration, do, undo func(st *Stage, node string) error) *Deed {
	node := p.victim(k)
	if node == "" {
		return nil
	}
	lasts := p.between(shortest, longest)
	end := &Deed{Name: undoName, On: node, Do: func(_ context.Context, st *Stage) error {
		err := undo(st, node)
		st.troubles.End(node, k, time.Now())
		return err
	}}
	p.after(lasts, end)
	end.note = func() { delete(p.w.trouble, node) }
	return &Deed{Name: name, On: fmt.Sprintf("%s for %v", node, lasts), Do: func(_ context.Context, st *Stage) error {
		st.troubles.Begin(node, k, time.Now())
		return do(st, node)
	}}
}

func (p *Plan) killSpeaker() *Deed {
	return p.fault(Gone, "kill speaker", "start speaker", 0, 10*time.Second,
		func(st *Stage, node string) error { return st.loseSpeaker(node, (*lab.Process).Kill) }, (*Stage).startSpeaker)
}

func (p *Plan) stopSpeaker() *Deed {
	return p.fault(Gone, "stop speaker", "start speaker", 500*time.Millisecond, 8*time.Second,
		func(st *Stage, node string) error { return st.loseSpeaker(node, (*lab.Process).Term) }, (*Stage).startSpeaker)
}

func (p *Plan) freezeSpeaker() *Deed {
	return p.fault(Frozen, "freeze speaker", "thaw speaker", 200*time.Millisecond, 6*time.Second,
		func(st *Stage, node string) error { return st.speaker(node).Freeze() },
		func(st *Stage, node string) error { return st.speaker(node).Thaw() })
}

func (p *Plan) unplug() *Deed {
	return p.fault(Unplugged, "unplug", "plug", 500*time.Millisecond, 12*time.Second,
		func(st *Stage, node string) error { return st.lab.Unplug(node) }, func(st *Stage, node string) error { return st.lab.Plug(node) })
}

func (p *Plan) mute() *Deed {
	return p.fault(Muted, "mute", "unmute", 500*time.Millisecond, 8*time.Second,
		func(st *Stage, node string) error { return st.lab.Mute(node) }, func(st *Stage, node string) error { return st.lab.Unmute(node) })
}

// part keeps a node's speaker from hearing some of the others.
func (p *Plan) part() *Deed {
	others := some(p, p.nodes, len(p.nodes))
	each := func(node string, f func(a, b string) error) (err error) {
		for _, other := range others {
			if other != node {
				err = errors.Join(err, f(node, other))
			}
		}
		return err
	}
	d := p.fault(Parted, "part gossip", "unpart gossip", time.Second, 10*time.Second,
		func(st *Stage, node string) error { return each(node, st.lab.PartGossip) },
		func(st *Stage, node string) error { return each(node, st.lab.UnpartGossip) })
	if d != nil {
		d.On += fmt.Sprintf(" from %v", others)
	}
	return d
}

// loseController kills a controller or stops it, whether or not it leads; it starts again later.
func (p *Plan) loseController() *Deed {
	i := p.rand.IntN(len(controllerHosts))
	if p.w.down[i] {
		return nil
	}
	p.w.down[i] = true
	kill, lasts := p.chance(50), p.between(0, 8*time.Second)
	back := &Deed{Name: "start controller", On: controllerHosts[i], Do: func(_ context.Context, st *Stage) error { return st.startController(i) }}
	p.after(lasts, back)
	back.note = func() { delete(p.w.down, i) }
	return &Deed{Name: map[bool]string{true: "kill controller", false: "stop controller"}[kill], On: fmt.Sprintf("%s for %v", controllerHosts[i], lasts),
		Do: func(_ context.Context, st *Stage) error { return st.loseController(i, kill) }}
}

// loseAPI kills the API server, mostly for less time than a controller's lease lasts.
func (p *Plan) loseAPI() *Deed {
	if p.w.noAPI {
		return nil
	}
	p.w.noAPI = true
	lasts := p.between(time.Second, 7*time.Second)
	if p.chance(25) {
		lasts = p.between(12*time.Second, 20*time.Second)
	}
	back := &Deed{Name: "start API server", Do: func(ctx context.Context, st *Stage) error { return st.startAPI(ctx) }}
	p.after(lasts, back)
	back.note = func() { p.w.noAPI = false }
	return &Deed{Name: "kill API server", On: fmt.Sprintf("for %v", lasts), Do: func(_ context.Context, st *Stage) error { return st.stopAPI() }}
}

// squat has the stranger take an address, held or free, with or without a word.
func (p *Plan) squat() *Deed {
	ip := p.anyAddress(pick(p, []int{4, 6}))
	if p.w.squatted[ip] || len(p.w.squatted) >= 3 {
		return nil
	}
	p.w.squatted[ip] = true
	loud, lasts := p.chance(60), p.between(2*time.Second, 20*time.Second)
	leave := &Deed{Name: "stranger leaves", On: ip.String(), Do: func(_ context.Context, st *Stage) error { return st.unsquat(ip) }}
	p.after(lasts, leave)
	leave.note = func() { delete(p.w.squatted, ip) }
	return &Deed{Name: "stranger comes", On: fmt.Sprintf("%s for %v loud=%t", ip, lasts, loud), Do: func(_ context.Context, st *Stage) error {
		return st.squat(ip, loud)
	}}
}
