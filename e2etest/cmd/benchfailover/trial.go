package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// kind is a way to take the owner of an address away, and to bring it back.
type kind struct {
	name, title string
	goals       goals
	fault, mend func(b *bench, node string) error
}

var kinds = map[string]kind{
	"unplug": {"unplug", "node drops off the LAN",
		goals{gap: "0.5 s median, 0.9 s p99"}, (*bench).unplug, (*bench).plug},
	"kill": {"kill", "speaker killed (kill -9)",
		goals{first: "0.5 s median, 0.9 s p99"}, (*bench).kill, (*bench).restart},
	"term": {"term", "speaker stopped (SIGTERM)",
		goals{first: "0.1 s", lost: "none"}, (*bench).term, (*bench).restart},
}

func (b *bench) unplug(node string) error  { return b.Unplug(node) }
func (b *bench) plug(node string) error    { return b.Plug(node) }
func (b *bench) kill(node string) error    { return b.Process(node, "speaker").Signal(unix.SIGKILL) }
func (b *bench) term(node string) error    { return b.Process(node, "speaker").Term() }
func (b *bench) restart(node string) error { return b.Process(node, "speaker").Restart() }

// result is what one trial showed of one address.
type result struct {
	Kind    string        `json:"kind"`
	Address netip.Addr    `json:"address"`
	From    string        `json:"from"`
	To      string        `json:"to"`
	Floor   time.Duration `json:"floorNs"`   // the longest time without an answer in a second before the fault
	Gap     time.Duration `json:"gapNs"`     // the same from the fault on
	First   time.Duration `json:"firstNs"`   // from the fault to the first announcement of the new owner
	Members time.Duration `json:"membersNs"` // from the fault to the new owner's notice that the old one is gone
	Noticed bool          `json:"noticed"`   // false: it was told before, or not at all
	Sent    int           `json:"sent"`      // requests since the fault
	Lost    int           `json:"lost"`      // of these
	At      time.Time     `json:"at"`        // of the fault
}

func (r result) String() string {
	return fmt.Sprintf("%-12s %s to %s: gap %s, first announcement %s, members %s, lost %d of %d; floor %s", r.Address, r.From, r.To,
		millis(r.Gap), millis(r.First), millis(r.Members), r.Lost, r.Sent, millis(r.Floor))
}

// quiet is how long a trial looks on before the fault and after the new owner's first answer.
const quiet = time.Second

// trial takes the owner of the first address away while a client asks for both every 5 ms, brings it back, and tells of
// each address that it had.
func (b *bench) trial(ctx context.Context, k kind) ([]result, error) {
	victim, err := b.owner(ctx, b.ips[0])
	if err != nil {
		return nil, err
	}
	capture, err := b.CaptureSegment(0)
	if err != nil {
		return nil, err
	}
	defer capture.Stop()
	var moves []*move
	for _, ip := range b.ips {
		owner, err := b.owner(ctx, ip)
		if err != nil {
			return nil, err
		}
		if owner != victim {
			continue
		}
		m, err := b.follow(ctx, ip, victim, capture)
		if err != nil {
			return nil, err
		}
		defer m.flow.Stop()
		moves = append(moves, m)
	}
	for _, m := range moves {
		if m.floor, err = m.calm(ctx); err != nil {
			return nil, err
		}
	}
	begun := time.Now()
	for _, m := range moves {
		m.begun = begun
		m.flow.Reset()
	}
	if err := k.fault(b, victim); err != nil {
		return nil, err
	}
	results, err := finish(ctx, k, moves)
	return results, errors.Join(err, b.heal(ctx, k, victim))
}

func finish(ctx context.Context, k kind, moves []*move) (results []result, err error) {
	for _, m := range moves {
		r, err := m.result(ctx, k)
		if err != nil {
			return nil, fmt.Errorf("%s of %s: %w", m.ip, m.from, err)
		}
		results = append(results, r)
	}
	return results, nil
}

func (b *bench) heal(ctx context.Context, k kind, node string) error {
	if err := k.mend(b, node); err != nil {
		return err
	}
	if err := b.WaitNodeReady(ctx, node, true); err != nil {
		return err
	}
	return b.together(ctx)
}

// move is how an address changes its owner, as a client and the switch see it.
type move struct {
	b       *bench
	ip      netip.Addr
	from    string
	flow    *lab.Flow
	capture *lab.Capture
	logs    map[string]int64 // length of each speaker's log before
	floor   time.Duration
	begun   time.Time
}

// follow begins to ask for an address and returns once answers come.
func (b *bench) follow(ctx context.Context, ip netip.Addr, owner string, capture *lab.Capture) (*move, error) {
	m := &move{b: b, ip: ip, from: owner, capture: capture, logs: map[string]int64{}}
	for _, node := range b.Nodes() {
		if info, err := os.Stat(b.Process(node, "speaker").Log); err == nil {
			m.logs[node] = info.Size()
		}
	}
	var err error
	if m.flow, err = b.UDPFlow(client, netip.AddrPortFrom(ip, lab.EchoPort), lab.FlowOptions{FreshPort: true}); err != nil {
		return nil, err
	}
	if err := m.answers(ctx); err != nil {
		m.flow.Stop()
		return nil, err
	}
	return m, nil
}

func (m *move) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := m.flow.WaitAnswer(ctx); err != nil {
		return fmt.Errorf("no answer: %w; %v", err, m.flow.Report())
	}
	return nil
}

// calm looks on for a while and returns the longest time without an answer.
func (m *move) calm(ctx context.Context) (time.Duration, error) {
	m.flow.Reset()
	if err := pass(ctx, quiet); err != nil {
		return 0, err
	}
	return m.flow.Gap(), nil
}

// result waits for the new owner and for answers, looks on a little longer, and adds up.
func (m *move) result(ctx context.Context, k kind) (result, error) {
	r := result{Kind: k.name, Address: m.ip, From: m.from, Floor: m.floor, At: m.begun}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	first, err := m.capture.Wait(limited, func(f lab.Frame) bool {
		return f.Time.After(m.begun) && f.Claims(m.ip) && m.b.HostByMAC(f.Claimant()) != m.from
	})
	if err != nil {
		return r, err
	}
	r.To, r.First = m.b.HostByMAC(first.Claimant()), first.Time.Sub(m.begun)
	if err := errors.Join(m.answers(ctx), pass(ctx, quiet)); err != nil {
		return r, err
	}
	report := m.flow.Stop()
	r.Gap, r.Sent, r.Lost = report.Gap.Duration(), report.Sent, report.Lost
	r.Members, r.Noticed, err = m.noticed(r.To)
	return r, err
}

var goneLine = regexp.MustCompile(`(?m)^(?:.* )?ts=(\S+) .*msg="member is gone".* member=(\S+)`)

// noticed reads from the log of a speaker when it first noticed that the old owner is gone.
func (m *move) noticed(node string) (time.Duration, bool, error) {
	raw, err := os.ReadFile(m.b.Process(node, "speaker").Log)
	if err != nil {
		return 0, false, err
	}
	for _, line := range goneLine.FindAllSubmatch(raw[m.logs[node]:], -1) {
		at, err := time.Parse(time.RFC3339Nano, string(line[1]))
		if err != nil {
			return 0, false, err
		}
		if string(line[2]) == m.from && at.After(m.begun) {
			return at.Sub(m.begun), true, nil
		}
	}
	return 0, false, nil
}

// pass lets time pass: it is what is measured, not a wait for something.
func pass(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
