package soak

import (
	"context"
	"fmt"
	"slices"
	"time"
)

func (x plannedPool) addresses(block int) []any {
	return []any{fmt.Sprintf("%s-%s", addr4(block, 0), addr4(block, x.size4-1)),
		fmt.Sprintf("%s-%s", addr6(block, 0), addr6(block, x.size6-1))}
}

func (p *Plan) someSize() int { return 8 + p.rand.IntN(blockSize-8+1) }

func (p *Plan) createPool(block int) *Deed {
	pool := &plannedPool{p.someSize(), p.someSize()}
	spec := map[string]any{"addresses": pool.addresses(block)}
	d := deed("create pool", fmt.Sprintf("%s %v", poolName(block), spec["addresses"]), func(ctx context.Context, st *Stage) error {
		return st.create(ctx, poolsResource, "IPAddressPool", "", poolName(block), spec)
	})
	d.NeedsAPI, d.note = true, func() { p.w.pools[block] = pool }
	return d
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
	return deed(name, fmt.Sprintf("%s %v", of, spec), func(ctx context.Context, st *Stage) error {
		return st.patch(ctx, resource, "", of, map[string]any{"spec": spec})
	})
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
	return deed("delete pool", poolName(b), func(ctx context.Context, st *Stage) error {
		return st.delete(ctx, poolsResource, "", poolName(b))
	})
}

// badPool makes a pool that can hand out nothing, and badAdvertisement one that cannot be read, or takes it away:
// neither must harm others.
func (p *Plan) badPool() *Deed {
	return p.badObject("pool", &p.w.badPool, poolsResource, "IPAddressPool", map[string]any{"addresses": []any{"10.77.0.11-10.77.0.12"}})
}

func (p *Plan) badAdvertisement() *Deed {
	selector := map[string]any{"matchExpressions": []any{map[string]any{"key": "not a key", "operator": "In", "values": []any{"x"}}}}
	return p.badObject("advertisement", &p.w.badAdvertisement, advertsResource, "L2Advertisement",
		map[string]any{"nodeSelectors": []any{selector}})
}

func (p *Plan) badObject(what string, is *bool, of resource, kind string, spec map[string]any) *Deed {
	if *is = !*is; !*is {
		return deed("delete "+what, bad, func(ctx context.Context, st *Stage) error {
			return st.delete(ctx, of, "", bad)
		})
	}
	return deed("create bad "+what, bad, func(ctx context.Context, st *Stage) error {
		return st.create(ctx, of, kind, "", bad, spec)
	})
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
	d := deed("create advertisement", fmt.Sprintf("wide %v", spec), func(ctx context.Context, st *Stage) error {
		return st.create(ctx, advertsResource, "L2Advertisement", "", "wide", spec)
	})
	d.NeedsAPI, d.note = true, func() { p.w.wide = true }
	return d
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
	return deed("delete advertisement", "wide", func(ctx context.Context, st *Stage) error {
		return st.delete(ctx, advertsResource, "", "wide")
	})
}

func (p *Plan) editNarrow() *Deed {
	if p.w.narrow = !p.w.narrow; !p.w.narrow {
		return deed("delete advertisement", "narrow", func(ctx context.Context, st *Stage) error {
			return st.delete(ctx, advertsResource, "", "narrow")
		})
	}
	spec := map[string]any{"nodeSelectors": p.someSelectors(), "ipAddressPools": []any{poolName(p.rand.IntN(blocks))}}
	if p.chance(50) {
		spec["serviceSelectors"] = []any{map[string]any{"matchLabels": map[string]any{"tier": "gold"}}}
	}
	if p.chance(50) {
		spec["noEndpoints"] = "Withdraw"
	}
	return deed("create advertisement", fmt.Sprintf("narrow %v", spec), func(ctx context.Context, st *Stage) error {
		return st.create(ctx, advertsResource, "L2Advertisement", "", "narrow", spec)
	})
}

func (p *Plan) reservation() *Deed {
	i := p.rand.IntN(len(p.w.reserved))
	name := fmt.Sprintf("r%d", i)
	if p.w.reserved[i] = !p.w.reserved[i]; !p.w.reserved[i] {
		return deed("delete reservation", name, func(ctx context.Context, st *Stage) error {
			st.history.Reservation("default/" + name)
			return st.delete(ctx, reservationsResource, "default", name)
		})
	}
	spec := map[string]any{}
	if p.chance(60) {
		spec["addresses"] = []any{p.anyAddress(4).String(), p.anyAddress(6).String()}
	}
	if len(spec) == 0 || p.chance(30) {
		spec["pool"], spec["ipv4"], spec["ipv6"] = poolName(p.rand.IntN(blocks)), int64(1+p.rand.IntN(2)), int64(1)
	}
	return deed("create reservation", fmt.Sprintf("%s %v", name, spec), func(ctx context.Context, st *Stage) error {
		st.history.Reservation("default/" + name)
		return st.create(ctx, reservationsResource, "IPReservation", "default", name, spec)
	})
}

// Nodes and pods.

func (p *Plan) setZone(node, zone string) *Deed {
	p.w.zones[node] = zone
	return deed("label node", node+" "+zoneLabel+"="+zone, func(ctx context.Context, st *Stage) error {
		return st.labelNode(ctx, node, zoneLabel, zone)
	})
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
		return deed("let in node", node+" "+how, func(ctx context.Context, st *Stage) error {
			return st.exclude(ctx, node, how, false)
		})
	}
	if len(p.w.excluded) == 2 {
		return nil
	}
	how = pick(p, []string{"label", "taint"})
	p.w.excluded[node] = how
	return deed("exclude node", node+" "+how, func(ctx context.Context, st *Stage) error {
		return st.exclude(ctx, node, how, true)
	})
}

func (p *Plan) cordon() *Deed {
	node := pick(p, p.nodes)
	p.w.cordoned[node] = !p.w.cordoned[node]
	on := p.w.cordoned[node]
	return deed(map[bool]string{true: "cordon", false: "uncordon"}[on], node, func(ctx context.Context, st *Stage) error {
		return st.cordon(ctx, node, on)
	})
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
	what := fmt.Sprintf("%s app=%s on %s ready=%t", pod.name, app, pod.node, pod.ready)
	return deed("create pod", what, func(ctx context.Context, st *Stage) error {
		return st.createPod(ctx, pod.name, pod.node, app, pod.ready)
	})
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
		return deed("delete pod", pod.name, func(ctx context.Context, st *Stage) error {
			return st.deletePod(ctx, pod.name)
		})
	}
	pod := pick(p, p.w.pods)
	pod.ready = !pod.ready
	ready := pod.ready
	return deed("set pod", fmt.Sprintf("%s ready=%t", pod.name, ready), func(ctx context.Context, st *Stage) error {
		return st.readyPod(ctx, pod.name, ready)
	})
}
