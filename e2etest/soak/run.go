package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/dynamic"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// Options of a soak.
type Options struct {
	Seed uint64
	// For is how long the life goes on; the lab's making and the last rest come on top.
	For time.Duration
	// Pace is the mean time between two deeds.
	Pace time.Duration
	// Services is about how many there are.
	Services int
	// RestEvery is the time between two rests, in which all must agree within Patience; pages may take longer.
	RestEvery, Patience time.Duration
	Rules               Rules
	// Folder takes the log of the soak and, where something was violated, those of all processes. Empty makes a
	// temporary one.
	Folder string
	// ProductDir is as of lab.Options.
	ProductDir string
	// Out is told what happens at large; nil: nobody.
	Out io.Writer
	// Meddle, if set, is run beside the life, as a way to break something on purpose.
	Meddle func(ctx context.Context, l *lab.Lab)
}

// Defaults are an hour's soak, but for the seed.
func Defaults() Options {
	return Options{For: time.Hour, Pace: time.Second, Services: 90, RestEvery: 2 * time.Minute, Patience: time.Minute, Rules: Usual}
}

const (
	// enough is how many violations end a soak early.
	enough = 20
	// perRule is how many of one rule are kept: the first.
	perRule = 10
)

// soak is one that runs.
type soak struct {
	Options
	*Stage
	plan     *Plan
	eye      *Eye
	judge    *Judge
	universe []netip.Addr
	begun    time.Time
	log      io.Writer

	mu         sync.Mutex
	violations []Violation
	broken     map[string]int // how often, by rule
	deeds      map[string]int
	skipped    map[string]int
	recent     []string // of the log
	samples    map[string][]Sample
	born       map[int]time.Time // by PID
	stalls     []stall
	stalled    time.Duration
	rests      []time.Duration
	looks      int
	fetched    int // pages, for the next to be others
}

type stall struct {
	at   time.Time
	long time.Duration
}

// Run soaks and reports. The error is about the soak itself, as where the lab cannot be built; what the product does
// wrong is in the report.
func Run(ctx context.Context, o Options) (r *Report, err error) {
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.Folder == "" {
		if o.Folder, err = os.MkdirTemp("", "lanyard-soak-"); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(o.Folder, 0o755); err != nil {
		return nil, err
	}
	file, err := os.Create(filepath.Join(o.Folder, "soak.log"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	stage, err := raise(ctx, o, o.Out)
	if err != nil {
		return nil, err
	}
	s := &soak{Options: o, Stage: stage, log: file, universe: Universe(), begun: time.Now(), broken: map[string]int{},
		deeds: map[string]int{}, skipped: map[string]int{}, samples: map[string][]Sample{}, born: map[int]time.Time{}}
	defer func() {
		if r != nil && len(r.Violations)+len(r.Growing()) > 0 || err != nil {
			to := filepath.Join(o.Folder, "processes")
			err = errors.Join(err, os.RemoveAll(to), os.CopyFS(to, os.DirFS(filepath.Join(stage.lab.StateDir(), "log"))))
		}
		err = errors.Join(err, stage.lab.Down())
	}()
	if err := s.live(ctx); err != nil {
		return nil, err
	}
	return s.report(), nil
}

// live is everything between the lab's making and its end.
func (s *soak) live(ctx context.Context) error {
	s.note("seed %d, for %v", s.Seed, s.For)
	mac, err := s.lab.Host(strangerHost).NIC("eth0").MAC()
	if err != nil {
		return err
	}
	s.plan = NewPlan(s.Options, s.lab.Nodes())
	s.history = NewHistory(s.troubles, mac.String(), s.violated)
	s.judge = NewJudge(s.lab.Nodes(), s.troubles, s.Rules)
	client, err := dynamic.NewForConfig(impatient(s.lab.RESTConfig()))
	if err != nil {
		return err
	}
	s.eye = NewEye(client)
	s.eye.Service, s.eye.Pool, s.eye.Note = s.history.Service, s.history.Pool, s.note
	beside, stop := context.WithCancel(ctx)
	var workers sync.WaitGroup
	defer s.eye.Close()
	defer workers.Wait()
	defer stop()
	if err := s.eye.Open(beside); err != nil {
		return err
	}
	for _, work := range []func(context.Context){s.look, s.measure, s.keep, s.stopwatch} {
		workers.Go(func() { work(beside) })
	}
	if s.Meddle != nil {
		workers.Go(func() { s.Meddle(beside, s.lab) })
	}
	return s.follow(ctx)
}

// follow does what the plan says, and rests every now and then.
func (s *soak) follow(ctx context.Context) error {
	end := time.Now().Add(s.For)
	offset := time.Now() // of the plan's clock
	rested := time.Now()
	told := time.Now()
	for n := 1; time.Now().Before(end) && ctx.Err() == nil && s.count() < enough; n++ {
		if time.Since(rested) >= s.RestEvery && time.Until(end) > s.RestEvery/3 {
			at := time.Now()
			s.repose(ctx)
			rested = time.Now()
			offset = offset.Add(rested.Sub(at))
		}
		if time.Since(told) > time.Minute {
			told = time.Now()
			fmt.Fprintf(s.Out, "%6.0fs  %d deeds, %d versions checked, %d looks at the LAN, %d violations\n", time.Since(s.begun).Seconds(), n,
				s.history.Checked(), s.looks, s.count())
		}
		d := s.plan.Next()
		if behind := time.Since(offset.Add(d.At)); behind > time.Second { // the machine is slower than the plan
			offset = offset.Add(behind)
		}
		for at := offset.Add(d.At); time.Now().Before(at) && time.Now().Before(end) && ctx.Err() == nil && s.count() < enough; {
			pause(ctx, min(time.Until(at), 100*time.Millisecond))
		}
		if err := s.do(ctx, n, d); err != nil {
			return err
		}
	}
	s.repose(ctx)
	return ctx.Err()
}

// do does one deed. Where the API server has just gone or come, it tries for a while.
func (s *soak) do(ctx context.Context, n int, d *Deed) error {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	s.note("#%d %s %s", n, d.Name, d.On)
	var err error
	for begun := time.Now(); ; pause(ctx, 200*time.Millisecond) {
		err = d.Do(ctx, s.Stage)
		if err == nil || errors.Is(err, errSkip) || !d.NeedsAPI || ctx.Err() != nil || time.Since(begun) > 15*time.Second {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.Is(err, errSkip):
		s.skipped[d.Name]++
		s.write("   #%d %v", n, err)
	case err != nil:
		return fmt.Errorf("deed %d, %s %s: %w", n, d.Name, d.On, err)
	default:
		s.deeds[d.Name]++
	}
	return nil
}

// repose mends everything and waits until all agrees, and goes on to.
func (s *soak) repose(ctx context.Context) {
	for i, d := range s.plan.Mend() {
		if err := s.do(ctx, -i-1, d); err != nil {
			s.violated(Violation{time.Now(), "mended", err.Error()})
		}
	}
	s.note("rest")
	begun := time.Now()
	var faults []string
	var owners map[netip.Addr]string
	agreed := 0
	for agreed < 3 && ctx.Err() == nil {
		rest, found, limit := s.rested(ctx)
		faults = found
		if now := rest.Owners(); len(faults) == 0 && agreed > 0 && !maps.Equal(now, owners) {
			faults = append(faults, fmt.Sprintf("owners have changed while nothing happened: from %v to %v", owners, now))
		} else {
			owners = now
		}
		if len(faults) == 0 {
			if agreed++; agreed == 1 {
				s.note("all agrees after %v", time.Since(begun).Round(time.Millisecond))
			}
		} else {
			if agreed > 0 {
				s.note("they disagree again: %v", faults)
			}
			agreed = 0
			owners = nil
		}
		if time.Since(begun) > limit+s.slack() && agreed == 0 {
			break
		}
		pause(ctx, 500*time.Millisecond)
	}
	if ctx.Err() != nil {
		return
	}
	if len(faults) > 0 {
		s.note("what disagrees:\n    %s", strings.Join(faults, "\n    "))
		if more := len(faults) - mostTold; more > 0 {
			faults = append(faults[:mostTold], fmt.Sprintf("and %d more", more))
		}
		text := fmt.Sprintf("after %v %s", time.Since(begun).Round(time.Second), strings.Join(faults, "\n    "))
		s.violated(Violation{time.Now(), "rest", text})
	} else {
		s.history.Settle(s.eye.Facts())
		s.mu.Lock()
		s.rests = append(s.rests, time.Since(begun))
		s.mu.Unlock()
	}
	s.note("rest is over")
}

// mostTold is how many of the things that disagree are told; the log has all.
const mostTold = 6

// proxyPatience is how long a kube-proxy may take to learn of endpoints: after outages of the API server its informers wait
// up to a minute before they watch again, once for Services and once for EndpointSlices.
const proxyPatience = 3 * time.Minute

// rested looks at everything once. What is wrong may last for the limit given.
func (s *soak) rested(ctx context.Context) (rest Rest, faults []string, limit time.Duration) {
	fail := func(err error) (Rest, []string, time.Duration) { return rest, append(faults, err.Error()), s.Patience }
	faults = append(s.together(ctx), s.onNICs(s.universe)...)
	held := s.eye.Facts().Holders()
	for _, asker := range askers {
		answers, err := s.Stage.roll(asker, s.universe, func(ip netip.Addr) bool { return len(held[ip]) > 0 })
		if err != nil {
			return fail(err)
		}
		rest.Answers = append(rest.Answers, answers)
	}
	var err error
	if rest.Records, err = s.holders(ctx); err != nil {
		return fail(err)
	}
	if rest.MACs, err = s.macs(); err != nil {
		return fail(err)
	}
	rest.Facts = s.eye.Facts()
	if faults = append(faults, rest.Disagreements()...); len(faults) > 0 {
		return rest, faults, s.Patience
	}
	return rest, s.pages(rest), max(s.Patience, proxyPatience)
}

// pages fetches pages from some of the addresses, others each time, of Services that have an endpoint.
func (s *soak) pages(rest Rest) (faults []string) {
	const some = 6
	var urls []string
	for _, name := range slices.Sorted(maps.Keys(rest.Facts.Services)) {
		service := rest.Facts.Services[name]
		for _, ip := range service.IPs {
			may, _ := rest.Facts.MayAnnounce(ip, rest.Facts.Holders()[ip])
			if slices.Contains(service.Ports, "80/TCP") && len(rest.Facts.served(service)) > 0 && len(may) > 0 {
				urls = append(urls, lab.URL(ip, lab.HTTPPort))
			}
		}
	}
	for i := range min(some, len(urls)) {
		url := urls[(s.fetched+i)%len(urls)]
		if _, err := s.lab.HTTPGet(askers[0], url, time.Second); err != nil {
			faults = append(faults, fmt.Sprintf("no page comes from %s: %v", url, err))
		}
	}
	s.fetched += some
	return faults
}

// look looks at the LAN and has the judge compare, about once a second.
func (s *soak) look(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		begun := time.Now()
		held := s.eye.Facts().Holders()
		answers, err := s.Stage.roll(askers[i%len(askers)], s.universe, func(ip netip.Addr) bool { return len(held[ip]) > 0 })
		if err != nil {
			s.note("the roll could not be called: %v", err)
		} else {
			s.see(Look{At: begun, Facts: s.eye.Facts(), Answers: answers, Slack: s.slack()})
		}
		pause(ctx, time.Second-time.Since(begun))
	}
}

func (s *soak) see(l Look) {
	for ip, hosts := range l.Answers {
		if was, is := s.judge.owners[ip]; len(hosts) != 1 && is || len(hosts) == 1 && was != hosts[0] {
			s.note("%s is answered by %v, before by %s", ip, hosts, was)
		}
		if len(hosts) == 0 {
			delete(s.judge.owners, ip)
		}
	}
	for _, v := range s.judge.Look(l) {
		s.violated(v)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
}

// measure samples what the processes use.
func (s *soak) measure(ctx context.Context) {
	every := max(s.For/400, 2*time.Second)
	for ; ctx.Err() == nil; pause(ctx, every) {
		for host, p := range s.programs() {
			if !p.Alive() {
				continue
			}
			pid := p.PID()
			values, err := useOf(pid)
			if err != nil {
				continue // it has ended just now
			}
			if text, err := s.lab.Metrics(ctx, host); err == nil {
				metricsOf(text, values)
			}
			s.mu.Lock()
			if s.born[pid].IsZero() {
				s.born[pid] = time.Now()
			}
			name := p.Name + " on " + host
			if leads, is := values["leading"]; is { // which is a program of another size
				name += map[bool]string{true: ", leading", false: ", waiting"}[leads == 1]
			}
			s.samples[name] = append(s.samples[name], Sample{At: time.Now(), Age: time.Since(s.born[pid]), Values: values})
			s.mu.Unlock()
		}
	}
}

// keep starts what ends by itself. A controller does where it has lost its lease, for want of the API server; nothing
// else is to.
func (s *soak) keep(ctx context.Context) {
	for ; ctx.Err() == nil; pause(ctx, 500*time.Millisecond) {
		ended, err := s.revive()
		for _, p := range ended {
			s.note("%s on %s had ended by itself and was started again", p.Name, p.Host.Hostname)
			s.troubles.Touch(time.Now())
			if p.Name != controller || !s.troubles.APIAway(time.Now().Add(-time.Minute-s.slack())) {
				text := fmt.Sprintf("%s on %s ended by itself; its log ends\n%s", p.Name, p.Host.Hostname, p.LogTail(8))
				s.violated(Violation{time.Now(), "ended", text})
			}
		}
		if err != nil {
			s.note("revive: %v", err)
		}
	}
}

const (
	tick     = 50 * time.Millisecond
	noStall  = 100 * time.Millisecond
	forgives = 30 * time.Second // how long a stall is taken into account
)

// stopwatch notes how long this process, and so probably others, does not come to run.
func (s *soak) stopwatch(ctx context.Context) {
	for last := time.Now(); ctx.Err() == nil; {
		pause(ctx, tick)
		now := time.Now()
		if lost := now.Sub(last) - tick; lost > noStall {
			s.mu.Lock()
			s.stalls = append(s.stalls, stall{now, lost})
			s.stalled += lost
			s.mu.Unlock()
		}
		last = now
	}
}

// slack is four times how long the machine stood still of late.
func (s *soak) slack() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stalls = slices.DeleteFunc(s.stalls, func(x stall) bool { return time.Since(x.at) > forgives })
	var sum time.Duration
	for _, x := range s.stalls {
		sum += x.long
	}
	return 4 * sum
}

func (s *soak) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.violations)
}

// before is how much of the log a violation is told with.
const before = 12

func (s *soak) violated(v Violation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken[v.Rule]++
	preceding := slices.Clone(s.recent[max(0, len(s.recent)-before):])
	s.write("VIOLATION %s", v)
	if s.broken[v.Rule] > perRule {
		return
	}
	s.violations = append(s.violations, v)
	fmt.Fprintf(s.Out, "VIOLATION after %.1fs  %s\n", time.Since(s.begun).Seconds(), v)
	if s.broken[v.Rule] > 1 {
		return
	}
	for _, line := range preceding {
		fmt.Fprintf(s.Out, "          %s\n", line)
	}
}

// note writes a line of the soak's log.
func (s *soak) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(format, args...)
}

func (s *soak) write(format string, args ...any) {
	line := fmt.Sprintf("%s %7.1fs %s", clock(time.Now()), time.Since(s.begun).Seconds(), fmt.Sprintf(format, args...))
	fmt.Fprintln(s.log, line)
	if s.recent = append(s.recent, line); len(s.recent) > 200 {
		s.recent = slices.Clone(s.recent[100:])
	}
}
