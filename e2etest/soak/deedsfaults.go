package soak

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// victim is a node that no other fault has, and n1 only where its speaker lives on: that is how one speaker at least
// grows old.
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
	end := deed(undoName, node, func(_ context.Context, st *Stage) error {
		err := undo(st, node)
		st.troubles.End(node, k, time.Now())
		return err
	})
	p.after(lasts, end)
	end.note = func() { delete(p.w.trouble, node) }
	return deed(name, fmt.Sprintf("%s for %v", node, lasts), func(_ context.Context, st *Stage) error {
		st.troubles.Begin(node, k, time.Now())
		return do(st, node)
	})
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
	back := deed("start controller", controllerHosts[i], func(_ context.Context, st *Stage) error {
		return st.startController(i)
	})
	p.after(lasts, back)
	back.note = func() { delete(p.w.down, i) }
	name := map[bool]string{true: "kill controller", false: "stop controller"}[kill]
	return deed(name, fmt.Sprintf("%s for %v", controllerHosts[i], lasts), func(_ context.Context, st *Stage) error {
		return st.loseController(i, kill)
	})
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
	return deed("kill API server", fmt.Sprintf("for %v", lasts), func(_ context.Context, st *Stage) error {
		return st.stopAPI()
	})
}

// squat has the stranger take an address, held or free, with or without a word.
func (p *Plan) squat() *Deed {
	ip := p.anyAddress(pick(p, []int{4, 6}))
	if p.w.squatted[ip] || len(p.w.squatted) >= 3 {
		return nil
	}
	p.w.squatted[ip] = true
	loud, lasts := p.chance(60), p.between(2*time.Second, 20*time.Second)
	leave := deed("stranger leaves", ip.String(), func(_ context.Context, st *Stage) error {
		return st.unsquat(ip)
	})
	p.after(lasts, leave)
	leave.note = func() { delete(p.w.squatted, ip) }
	return deed("stranger comes", fmt.Sprintf("%s for %v loud=%t", ip, lasts, loud), func(_ context.Context, st *Stage) error {
		return st.squat(ip, loud)
	})
}
