package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Deed is one step of the life in the lab.
type Deed struct {
	At   time.Duration // by the plan's clock
	Name string        // the kind, as in "edit addresses"
	On   string        // what it is done to, and how
	// NeedsAPI says that it is a request to the API server.
	NeedsAPI bool
	Do       func(ctx context.Context, s *Stage) error

	note func() // has the plan know that it is being done
}

// deed is one that needs nothing and of which the plan need not know when it is done; draw knows what its choice needs.
func deed(name, on string, do func(ctx context.Context, st *Stage) error) *Deed {
	return &Deed{Name: name, On: on, Do: do}
}

func (d *Deed) begin() *Deed {
	if d.note != nil {
		d.note()
	}
	return d
}

// Plan makes up a life by a seed: the same seed makes the same deeds in the same order, for what is done depends on
// what was done before, and never on what came of it. The clock is the plan's own; how long deeds take does not matter
// to it.
type Plan struct {
	Options
	rand   *rand.Rand
	nodes  []string
	now    time.Duration
	next   time.Duration
	later  []*Deed // sorted by time
	w      world
	cast   []choice
	weight int
}

// world is what the plan believes there is: what it has ordered.
type world struct {
	services                  []*planned
	gone                      []string // names of Services that were deleted, to come back
	made                      int
	pools                     [blocks]*plannedPool // nil: deleted
	wide                      bool                 // the advertisement of all pools exists
	narrow                    bool
	badPool, badAdvertisement bool
	reserved                  [3]bool
	pods                      []*plannedPod
	podsMade                  int
	excluded                  map[string]string // node to how
	cordoned                  map[string]bool
	zones                     map[string]string
	trouble                   map[string]Kind // node
	noAPI                     bool
	down                      map[int]bool // controllers
	squatted                  map[netip.Addr]bool
}

type planned struct {
	name, namespace string
	kind            string // ours, cluster or foreign
	families        []int
	local           bool
}

type plannedPool struct{ size4, size6 int }

type plannedPod struct {
	name, node string
	ready      bool
}

// A choice is a kind of deed; make returns nil where there is nothing to do it to.
type choice struct {
	weight   int
	needsAPI bool
	make     func(p *Plan) *Deed
}

// NewPlan begins a plan.
func NewPlan(o Options, nodes []string) *Plan {
	p := &Plan{Options: o, rand: rand.New(rand.NewPCG(o.Seed, 0x50a6)), nodes: nodes}
	p.w = world{excluded: map[string]string{}, cordoned: map[string]bool{}, zones: map[string]string{}, trouble: map[string]Kind{},
		down: map[int]bool{}, squatted: map[netip.Addr]bool{}}
	p.cast = cast()
	for _, c := range p.cast {
		p.weight += c.weight
	}
	p.begin()
	return p
}

// Next is the next deed.
func (p *Plan) Next() *Deed {
	for {
		if len(p.later) > 0 && p.later[0].At <= p.next {
			d := p.later[0]
			p.later = p.later[1:]
			p.now = max(p.now, d.At)
			if d.NeedsAPI && p.w.noAPI {
				p.after(time.Second, d)
				continue
			}
			return d.begin()
		}
		p.now = p.next
		p.next += p.between(p.Pace/2, p.Pace*3/2)
		if d := p.draw(); d != nil {
			d.At = p.now
			return d.begin()
		}
	}
}

// Mend takes what is still to be undone out of the plan, in order, so that everything can come to rest.
func (p *Plan) Mend() []*Deed {
	due := p.later
	p.later = nil
	// The API server comes back first.
	slices.SortStableFunc(due, func(a, b *Deed) int {
		switch {
		case a.NeedsAPI == b.NeedsAPI:
			return 0
		case b.NeedsAPI:
			return -1
		}
		return 1
	})
	for _, d := range due {
		d.begin()
	}
	return due
}

func (p *Plan) draw() *Deed {
	n := p.rand.IntN(p.weight)
	for _, c := range p.cast {
		if n -= c.weight; n < 0 {
			if c.needsAPI && p.w.noAPI {
				return nil
			}
			d := c.make(p)
			if d != nil {
				d.NeedsAPI = c.needsAPI
			}
			return d
		}
	}
	return nil
}

// after has a deed done later.
func (p *Plan) after(d time.Duration, deed *Deed) {
	deed.At = p.now + d
	at, _ := slices.BinarySearchFunc(p.later, deed, func(a, b *Deed) int {
		if a.At <= b.At {
			return -1
		}
		return 1
	})
	p.later = slices.Insert(p.later, at, deed)
}

// between is a time between two, to the millisecond.
func (p *Plan) between(a, b time.Duration) time.Duration {
	return (a + time.Duration(p.rand.Int64N(int64(b-a)+1))).Truncate(time.Millisecond)
}

// chance is true so many times of a hundred.
func (p *Plan) chance(percent int) bool { return p.rand.IntN(100) < percent }

func pick[T any](p *Plan, from []T) T { return from[p.rand.IntN(len(from))] }

// some picks different ones, at least one.
func some[T any](p *Plan, from []T, most int) []T {
	all := slices.Clone(from)
	p.rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:1+p.rand.IntN(min(most, len(all)))]
}

// The addresses: each pool has a block of its own of each family, and lists more or less of it.
const (
	blocks    = 4
	blockSize = 30
	first4    = 130 // 10.77.0.130 and so on
)

func addr4(block, i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 77, 0, byte(first4 + block*blockSize + i)})
}

func addr6(block, i int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd77::%x:%x", block+1, i))
}

// Universe are all addresses that pools may ever list.
func Universe() (all []netip.Addr) {
	for b := range blocks {
		for i := range blockSize {
			all = append(all, addr4(b, i), addr6(b, i))
		}
	}
	return all
}

func poolName(block int) string { return fmt.Sprintf("block-%d", block) }

// anyAddress is an address of a family; low ones, which are given first, more often.
func (p *Plan) anyAddress(family int) netip.Addr {
	i := p.rand.IntN(blockSize)
	if p.chance(50) {
		i = p.rand.IntN(8)
	}
	if family == 4 {
		return addr4(p.rand.IntN(blocks), i)
	}
	return addr6(p.rand.IntN(blocks), i)
}

// begin orders what there is at the beginning: pools, advertisements, zones, pods, and most of the Services.
func (p *Plan) begin() {
	for i, node := range p.nodes {
		p.after(0, p.setZone(node, []string{"a", "b"}[i%2]))
	}
	for b := range blocks {
		p.after(0, p.createPool(b))
	}
	p.after(0, p.createWide())
	for range 6 {
		p.after(0, p.createPod())
	}
	for range p.Services * 2 / 3 {
		p.after(0, p.createService())
	}
	for _, d := range p.later {
		d.NeedsAPI = true
	}
	p.next = p.Pace
}

// cast is who plays: what there is to do, and how often. Edits and Services most, faults every few seconds, the API
// server now and then.
func cast() []choice {
	const api = true
	return []choice{
		{90, api, (*Plan).population},
		{16, api, (*Plan).editType},
		{14, api, (*Plan).editAddresses},
		{10, api, (*Plan).editPools},
		{12, api, (*Plan).editSharing},
		{10, api, (*Plan).editPolicy},
		{8, api, (*Plan).editPorts},
		{8, api, (*Plan).editFamilies},
		{4, api, (*Plan).editReassign},
		{6, api, (*Plan).editReservation},
		{6, api, (*Plan).editSelector},
		{6, api, (*Plan).editLabels},
		{16, api, (*Plan).resizePool},
		{8, api, (*Plan).setPool},
		{6, api, (*Plan).deletePool},
		{14, api, (*Plan).editWide},
		{3, api, (*Plan).deleteWide},
		{8, api, (*Plan).editNarrow},
		{3, api, (*Plan).badPool},
		{3, api, (*Plan).badAdvertisement},
		{8, api, (*Plan).reservation},
		{10, api, (*Plan).excludeNode},
		{6, api, (*Plan).cordon},
		{4, api, (*Plan).rezone},
		{20, api, (*Plan).pods},
		{9, false, (*Plan).killSpeaker},
		{7, false, (*Plan).stopSpeaker},
		{6, false, (*Plan).freezeSpeaker},
		{9, false, (*Plan).unplug},
		{5, false, (*Plan).mute},
		{6, false, (*Plan).part},
		{8, false, (*Plan).loseController},
		{5, false, (*Plan).loseAPI},
		{9, false, (*Plan).squat},
	}
}

func text(items []string) string { return strings.Join(items, ",") }
