package bench

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

// Fault is a way to take the owner of an address away, and to bring it back.
type Fault struct {
	Name, Title string
	fault, mend func(s *Stage, node string) error
}

// Faults are those that can be tried.
var Faults = []Fault{
	{"unplug", "node drops off the LAN", (*Stage).unplug, (*Stage).plug},
	{"kill", "speaker killed (kill -9)", (*Stage).kill, (*Stage).restart},
	{"term", "speaker stopped (SIGTERM)", (*Stage).term, (*Stage).restart},
}

func (s *Stage) unplug(node string) error  { return s.Unplug(node) }
func (s *Stage) plug(node string) error    { return s.Plug(node) }
func (s *Stage) kill(node string) error    { return s.Process(node, "speaker").Signal(unix.SIGKILL) }
func (s *Stage) term(node string) error    { return s.Process(node, "speaker").Term() }
func (s *Stage) restart(node string) error { return s.Process(node, "speaker").Restart() }

// Outcome is what one trial showed of one address.
type Outcome struct {
	Kind    string        `json:"kind"`
	Address netip.Addr    `json:"address"`
	From    string        `json:"from"`
	To      string        `json:"to"`
	Floor   time.Duration `json:"floorNs"`   // the longest time without an answer in a second before the fault
	Gap     time.Duration `json:"gapNs"`     // the same from the fault on
	First   time.Duration `json:"firstNs"`   // from the fault to the first announcement of the new owner
	Members time.Duration `json:"membersNs"` // from the fault to the new owner's notice that the old one is gone
	Noticed bool          `json:"noticed"`   // false: it was told before, or not at all, or does not say
	Sent    int           `json:"sent"`      // requests since the fault
	Lost    int           `json:"lost"`      // of these
	At      time.Time     `json:"at"`        // of the fault
}

func (o Outcome) String() string {
	return fmt.Sprintf("%-12s %s to %s: gap %.0f ms, first announcement %.0f ms, members %.0f ms, lost %d of %d; floor %.0f ms", o.Address, o.From, o.To,
		millis(o.Gap), millis(o.First), millis(o.Members), o.Lost, o.Sent, millis(o.Floor))
}

func millis(d time.Duration) float64 { return d.Seconds() * 1000 }

// quiet is how long a trial looks on before the fault and after the new owner's first answer.
const quiet = time.Second

// Trial takes the owner of the first address away while a client asks for both every 5 ms, brings it back, and tells of
// each address that it had.
func (s *Stage) Trial(ctx context.Context, k Fault) ([]Outcome, error) {
	victim, err := s.owner(ctx, s.ips[0])
	if err != nil {
		return nil, err
	}
	capture, err := s.CaptureSegment(0)
	if err != nil {
		return nil, err
	}
	defer capture.Stop()
	var moves []*move
	for _, ip := range s.ips {
		owner, err := s.owner(ctx, ip)
		if err != nil {
			return nil, err
		}
		if owner != victim {
			continue
		}
		m, err := s.follow(ctx, ip, victim, capture)
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
	if err := k.fault(s, victim); err != nil {
		return nil, err
	}
	results, err := finish(ctx, k, moves)
	return results, errors.Join(err, s.heal(ctx, k, victim))
}

func finish(ctx context.Context, k Fault, moves []*move) (results []Outcome, err error) {
	for _, m := range moves {
		r, err := m.result(ctx, k)
		if err != nil {
			return nil, fmt.Errorf("%s of %s: %w", m.ip, m.from, err)
		}
		results = append(results, r)
	}
	return results, nil
}

func (s *Stage) heal(ctx context.Context, k Fault, node string) error {
	if err := k.mend(s, node); err != nil {
		return err
	}
	if err := s.WaitNodeReady(ctx, node, true); err != nil {
		return err
	}
	return s.together(ctx)
}

// move is how an address changes its owner, as a client and the switch see it.
type move struct {
	stage   *Stage
	ip      netip.Addr
	from    string
	flow    *lab.Flow
	capture *lab.Capture
	logs    map[string]int64 // length of each speaker's log before
	floor   time.Duration
	begun   time.Time
}

// follow begins to ask for an address and returns once answers come.
func (s *Stage) follow(ctx context.Context, ip netip.Addr, owner string, capture *lab.Capture) (*move, error) {
	m := &move{stage: s, ip: ip, from: owner, capture: capture, logs: map[string]int64{}}
	for _, node := range s.Nodes() {
		if info, err := os.Stat(s.Process(node, "speaker").Log); err == nil {
			m.logs[node] = info.Size()
		}
	}
	var err error
	if m.flow, err = s.UDPFlow(client, netip.AddrPortFrom(ip, lab.EchoPort), lab.FlowOptions{FreshPort: true}); err != nil {
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
func (m *move) result(ctx context.Context, k Fault) (Outcome, error) {
	r := Outcome{Kind: k.Name, Address: m.ip, From: m.from, Floor: m.floor, At: m.begun}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	first, err := m.capture.Wait(limited, func(f lab.Frame) bool {
		return f.Time.After(m.begun) && f.Claims(m.ip) && m.stage.HostByMAC(f.Claimant()) != m.from
	})
	if err != nil {
		return r, err
	}
	r.To, r.First = m.stage.HostByMAC(first.Claimant()), first.Time.Sub(m.begun)
	if err := errors.Join(m.answers(ctx), pass(ctx, quiet)); err != nil {
		return r, err
	}
	report := m.flow.Stop()
	r.Gap, r.Sent, r.Lost = report.Gap.Duration(), report.Sent, report.Lost
	r.Members, r.Noticed, err = m.noticed(r.To)
	return r, err
}

// noticed reads from the log of a speaker when it first noticed that the old owner is gone.
func (m *move) noticed(node string) (time.Duration, bool, error) {
	gone := m.stage.Implementation.Speaker.Gone
	if gone == "" {
		return 0, false, nil
	}
	line, err := regexp.Compile("(?m)" + gone)
	if err != nil {
		return 0, false, err
	}
	raw, err := os.ReadFile(m.stage.Process(node, "speaker").Log)
	if err != nil {
		return 0, false, err
	}
	for _, found := range line.FindAllSubmatch(raw[m.logs[node]:], -1) {
		at, err := time.Parse(time.RFC3339Nano, string(found[line.SubexpIndex("time")]))
		if err != nil {
			return 0, false, err
		}
		if string(found[line.SubexpIndex("member")]) == m.from && at.After(m.begun) {
			return at.Sub(m.begun), true, nil
		}
	}
	return 0, false, nil
}
