package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

const (
	ranges6 = "fd78::/112" // as many addresses as ranges have, and more
	// Each address is asked for so often in a run, one request at a time: spaced, as hosts ask, which finds programs asleep and
	// processors with other things in their caches; and in a row.
	spacedAsks, rowAsks = 500, 5000
	spacing             = 2 * time.Millisecond
	// A flood is so many requests per millisecond, of which nobody need answer one, from another client: as long as questions
	// are asked meanwhile, or for so long where it is the processor time that counts.
	floodPerMilli = 20
	floodFor      = 10 * time.Second
	floodAsks     = 1000
	mostOthers    = 1000 // addresses that nobody has
	among         = "among 20,000 far others a second"
)

// replies measures how long a client waits for the answer to one ARP request or neighbour solicitation. Who asks is a thread
// with a raw socket on a host across the switch, which waits in the kernel; a time is from before its request to after it has
// the answer, and has its own two system calls in it, its waking, and the way through two cables and the switch twice. All
// that is in the time of the node's kernel too, which answers for the node's own address on the same NIC and is asked in
// turns, but for the waking: what the kernel answers is there before the asking thread has gone to sleep. Addresses of the
// implementation are asked for from all over those that there are.
//
// The bare loop is a thread on the node that reads a request and writes a reply: without a runtime, nothing to look up and
// nothing to count. Of requests that come one by one, no program that is woken for each is quicker. In a row it is only a
// comparison: who looks for the next request before going to sleep may be quicker.
type replies struct {
	*Site
	b          *Bench
	watcher    *watcher
	speaker    *lab.Process
	controller *lab.Process
	loop       netip.Addr         // what the bare loop answers for
	held       [2][]netip.Addr    // of the Services, IPv4 first
	first      map[string]float64 // p50 of spaced requests with one address, by what it is of
	how        string             // the implementation answers: "" or inKernel
	restless   bool               // the speaker has not come to rest, and is measured all the same
	faults     []error
	figures    []Figure
}

func replyLatency(ctx context.Context, b *Bench) (_ []Figure, err error) {
	s, err := b.site(ctx, lab.Options{Nodes: 1, Clients: 2})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Down()) }()
	r := &replies{Site: s, b: b, loop: netip.MustParseAddr("10.78.255.1"), first: map[string]float64{}}
	steps := []func(context.Context) error{
		r.start,
		func(ctx context.Context) error { return r.hold(ctx, 0, 1) },
		r.latencies,
		func(ctx context.Context) error { return r.switchTo(ctx, inKernel, 1) },
		r.latenciesInKernel,
		func(ctx context.Context) error { return r.hold(ctx, 1, b.most()) },
		r.latenciesInKernel,
		func(ctx context.Context) error { return r.switchTo(ctx, "", b.most()) },
		r.latencies,
		r.floods,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			err = errors.Join(append(r.faults, err)...)
			return r.figures, s.explain(s.explain(err, controlPlane, "controller"), s.Node(1), "speaker")
		}
	}
	return r.figures, errors.Join(r.faults...)
}

// note adds a figure. One that was measured without rest says so, and counts for no goal.
func (r *replies) note(f Figure) {
	if r.restless {
		f.Name, f.Goal = f.Name+" (NOT AT REST)", Goal{}
	}
	r.figures = append(r.figures, f)
}

func (r *replies) start(ctx context.Context) (err error) {
	if err := r.Pools(ctx, []string{ranges, ranges6}); err != nil {
		return err
	}
	if r.watcher, err = r.watchServices(ctx); err != nil {
		return err
	}
	if r.controller, err = r.StartController(ctx); err != nil {
		return err
	}
	if r.speaker, err = r.StartSpeaker(ctx, r.Node(1)); err != nil {
		return err
	}
	if _, err := r.startBareReplies(r.Node(1), "bare-replies", r.loop); err != nil {
		return err
	}
	if err := r.WaitReady(ctx, controlPlane, r.Implementation.Controller, time.Minute); err != nil {
		return err
	}
	if err := r.WaitReady(ctx, r.Node(1), r.Implementation.Speaker, time.Minute); err != nil {
		return err
	}
	return r.answered(ctx, r.loop.String())
}

// hold has the node hold addresses of each family until there are n. The controller is away while Services
// are created: to give an address to one at a time takes the API server longer than to give them to all. Each has a ready
// endpoint on the node, for implementations that announce no other.
func (r *replies) hold(ctx context.Context, from, n int) error {
	if err := r.controller.Term(); err != nil {
		return err
	}
	if _, err := r.controller.Wait(ctx); err != nil {
		return err
	}
	r.b.say("creating Services with an address of each family until there are %d", n)
	err := parallel(ctx, from, n, func(ctx context.Context, i int) error {
		s, dual := service(serviceName(i)), corev1.IPFamilyPolicyRequireDualStack
		s.Spec.IPFamilyPolicy = &dual
		return r.createService(ctx, s, i, 1, r.Node(1))
	})
	if err != nil {
		return err
	}
	if err := r.controller.Restart(); err != nil {
		return err
	}
	r.b.say("they wait, the controller starts")
	if err := r.watcher.wait(ctx, n); err != nil {
		return err
	}
	if err := r.list(ctx, n); err != nil {
		return err
	}
	if err := r.answerFor(ctx); err != nil {
		return err
	}
	return r.rest(ctx, n-from)
}

// inKernel is how a speaker answers that has the kernel do so.
const inKernel = " in the kernel"

// switchTo has the speaker answer otherwise for the addresses of n Services, if it can. It starts again for it, and reports all
// that it announces anew: that takes long for many.
func (r *replies) switchTo(ctx context.Context, how string, n int) error {
	daemon := r.Implementation.Speaker
	if daemon.InKernel == "" || how == r.how {
		return nil
	}
	if err := r.speaker.Term(); err != nil {
		return err
	}
	if _, err := r.speaker.Wait(ctx); err != nil {
		return err
	}
	r.how, r.speaker.Privilege = how, daemon.Privilege
	if how == inKernel {
		r.speaker.Privilege = daemon.InKernel
	}
	if err := r.speaker.Restart(); err != nil {
		return err
	}
	r.b.say("the speaker starts again, and answers%s", how)
	if err := r.WaitReady(ctx, r.Node(1), daemon, time.Minute); err != nil {
		return err
	}
	if err := r.answerFor(ctx); err != nil {
		return err
	}
	return r.rest(ctx, n)
}

// answerFor waits until some of the held addresses are answered for.
func (r *replies) answerFor(ctx context.Context) error {
	for _, ips := range r.held {
		for _, ip := range []netip.Addr{ips[0], ips[len(ips)/2], ips[len(ips)-1]} {
			if err := r.answered(ctx, ip.String()); err != nil {
				return err
			}
		}
	}
	return nil
}

// latenciesInKernel asks for the addresses that are held, if the kernel answers for the speaker: with Linux before 6.6 it does not.
func (r *replies) latenciesInKernel(ctx context.Context) error {
	if r.how != inKernel {
		return nil
	}
	programs, err := r.speaker.TCXPrograms()
	if err != nil {
		return err
	}
	if programs < len(protocols) {
		r.b.say("the kernel does not answer for the speaker, which has %d programs on interfaces: no figures of that", programs)
		return nil
	}
	return r.latencies(ctx)
}

// latencies asks for the addresses that are held.
func (r *replies) latencies(ctx context.Context) error {
	for _, ips := range r.held {
		if err := r.latency(ctx, ips); err != nil {
			return err
		}
	}
	return nil
}

// rest waits until the speaker has nothing to do any more for n Services that came or went. Without rest it is measured all the
// same, and the figures say so.
func (r *replies) rest(ctx context.Context, n int) error {
	l, err := r.settle(ctx, []*lab.Process{r.speaker}, reportedWithin(n))
	var restless *restlessError
	r.restless = errors.As(err, &restless)
	switch {
	case r.restless:
		r.faults = append(r.faults, err)
		r.b.say("%v", err)
		return nil
	case err == nil:
		r.b.say("it rests: %s", l)
	}
	return err
}

// list finds out which addresses n Services have: held has them in the order of the Services' names.
func (r *replies) list(ctx context.Context, n int) error {
	list, err := r.Client.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list Services: %w", err)
	}
	r.held = [2][]netip.Addr{}
	for _, s := range list.Items {
		for _, ingress := range s.Status.LoadBalancer.Ingress {
			ip, err := netip.ParseAddr(ingress.IP)
			if err != nil {
				return fmt.Errorf("the status of Service %s: %w", s.Name, err)
			}
			r.held[family(ip)] = append(r.held[family(ip)], ip)
		}
	}
	for f, ips := range r.held {
		if len(ips) != n {
			return fmt.Errorf("%d Services have %d addresses that %s resolves", n, len(ips), protocols[f])
		}
	}
	return nil
}

// protocols are what resolves the addresses of a family.
var protocols = [...]string{"ARP", "NDP"}

func family(ip netip.Addr) int {
	if ip.Is4() {
		return 0
	}
	return 1
}

const (
	ofKernel = "the kernel's own reply, for the node's address"
	ofLoop   = "the reply of a bare loop that reads and writes: a comparison, no lower bound for requests in a row"
	ofReader = "a bare loop without a filter, in a process of its own, that reads every frame"
)

// latency adds figures of what it takes to get answers for ips, of one family.
func (r *replies) latency(ctx context.Context, ips []netip.Addr) error {
	f := family(ips[0])
	for _, pace := range []struct {
		name  string
		n     int
		pause time.Duration
		goal  float64
	}{{"every 2 ms", spacedAsks, spacing, 1.3}, {"in a row", rowAsks, 0, 0}} {
		got, err := r.compare(ctx, pace.n, pace.pause, ips, ips[0].Is4())
		if err != nil {
			return err
		}
		reply := protocols[f] + " reply" + r.how
		if err := r.add(fmt.Sprintf("%s, %s held, a request %s", reply, thousands(len(ips)), pace.name), got, pace.goal); err != nil {
			return err
		}
		if pace.pause == 0 {
			continue
		}
		p50 := Percentile(got[1].micros, 50)
		if len(ips) == 1 {
			r.first[reply] = p50
			continue
		}
		r.note(Figure{Name: fmt.Sprintf("%s, %s held, beside 1 held, p50", reply, thousands(len(ips))), Unit: "µs",
			Ours: []float64{p50}, Limit: []float64{r.first[reply]}, Of: "the same with 1 held", Goal: Goal{Ratio: 1.2}})
	}
	return nil
}

// compare asks for the node's own address, those that are held, and that of the bare loop if it is to.
func (r *replies) compare(ctx context.Context, n int, pause time.Duration, ips []netip.Addr, loop bool) ([]asked, error) {
	w, err := openWireOf(r.Host(client), ips[0], answersTo(ips[0]))
	if err != nil {
		return nil, err
	}
	defer w.close()
	targets := [][]netip.Addr{{r.Host(r.Node(1)).Addr(ips[0])}, ips}
	if loop {
		targets = append(targets, []netip.Addr{r.loop})
	}
	lists := make([][]question, len(targets))
	for i, list := range targets {
		if lists[i], err = r.questions(client, list...); err != nil {
			return nil, err
		}
	}
	return w.compare(ctx, n, pause, lists...)
}

// add adds figures of what came of asking the kernel, the implementation and the bare loop. It fails if most was not answered.
func (r *replies) add(name string, got []asked, goal float64) error {
	r.note(Figure{Name: name + ", unanswered", Unit: "%", Ours: []float64{got[1].lost()}, Limit: []float64{got[0].lost()}, Of: ofKernel})
	for i, who := range []string{ofKernel, "the implementation's reply", ofLoop}[:len(got)] {
		if got[i].lost() > 50 {
			return fmt.Errorf("%s: %.0f %% were not answered (%s)", name, got[i].lost(), who)
		}
	}
	kernel, own := got[0].micros, got[1].micros
	figure := func(what string, p int, limit []float64, of string, goal float64) {
		r.note(Figure{Name: what, Unit: "µs", Ours: []float64{Percentile(own, p)},
			Limit: []float64{Percentile(limit, p)}, Of: of, Goal: Goal{Ratio: goal}})
		r.b.say("%s: %.1f µs, %.1f µs for %s", what, Percentile(own, p), Percentile(limit, p), of)
	}
	figure(name+", p50", 50, kernel, ofKernel, goal)
	figure(name+", p99", 99, kernel, ofKernel, 0)
	if len(got) > 2 {
		figure(name+", p50 beside a bare loop", 50, got[2].micros, ofLoop, 0)
	}
	return nil
}

// floods measures those who ask for addresses of the node meanwhile, and what requests for addresses that nobody has cost the
// speaker: for addresses far from all that it holds, and for near ones, which nobody has among those that it holds.
func (r *replies) floods(ctx context.Context) error {
	if err := r.Process(r.Node(1), "bare-replies").Kill(); err != nil {
		return err
	}
	far := [2][]netip.Addr{}
	for f, first := range []string{"10.79.0.0", "fd79::1:0"} {
		for i := range mostOthers {
			b := netip.MustParseAddr(first).As16()
			binary.BigEndian.PutUint16(b[14:], uint16(i))
			far[f] = append(far[f], netip.AddrFrom16(b).Unmap())
		}
	}
	for f, protocol := range protocols {
		var got []asked
		sent, err := r.flood(ctx, far[f], func() (err error) {
			got, err = r.compare(ctx, floodAsks, spacing, r.held[f], false)
			return err
		})
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%s reply, %s held, %s", protocol, thousands(len(r.held[f])), among)
		if err := r.add(name, got, 0); err != nil {
			return err
		}
		r.note(Figure{Name: name + ": those others", Unit: "/s", Ours: []float64{sent.rate()}})
	}
	// Only now: it would be in the way.
	reader, err := r.startBareReplies(r.Node(1), "bare-reader", netip.Addr{})
	if err != nil {
		return err
	}
	for f := range protocols {
		if err := r.floodCost(ctx, "far", far[f], reader); err != nil {
			return err
		}
	}
	near, err := r.gaps(ctx)
	if err != nil {
		return err
	}
	for f := range protocols {
		if len(near[f]) == 0 {
			r.b.say("so few Services have no addresses between them that could be freed: no flood of near requests")
			break
		}
		if err := r.floodCost(ctx, "near", near[f], reader); err != nil {
			return err
		}
	}
	return nil
}

// floodCost adds the figures of what requests for addresses cost the speaker, and who reads every frame; where says which they
// are. Below 0 is less than what rest varies by.
func (r *replies) floodCost(ctx context.Context, where string, ips []netip.Addr, reader *lab.Process) error {
	processes := []*lab.Process{r.speaker, reader}
	rest, err := average(ctx, processes, floodFor)
	if err != nil {
		return err
	}
	before, err := usageOf(processes)
	if err != nil {
		return err
	}
	sent, err := r.flood(ctx, ips, func() error { return pass(ctx, floodFor) })
	if err != nil {
		return err
	}
	if err := pass(ctx, answerWithin); err != nil { // the last frames are read
		return err
	}
	after, err := usageOf(processes)
	if err != nil {
		return err
	}
	var cost [2]float64
	for i := range cost {
		cost[i] = ((after.used[i] - before.used[i]).Seconds() - rest[i]*after.at.Sub(before.at).Seconds()) / float64(sent.frames) * 1e6
	}
	protocol := protocols[family(ips[0])]
	r.b.say("%s requests a second by %s for %d %s addresses: a million cost the speaker %.3f s of CPU, and who reads every frame %.3f s",
		thousands(int(sent.rate())), protocol, len(ips), where, cost[0], cost[1])
	name := fmt.Sprintf("speaker: CPU per million %s requests for %s addresses that nobody has", protocol, where)
	r.note(Figure{Name: name, Unit: "s", Ours: cost[:1], Limit: cost[1:], Of: ofReader})
	r.note(Figure{Name: name + ": requests", Unit: "/s", Ours: []float64{sent.rate()}})
	return nil
}

// gaps deletes one Service of ten, at most as many as a flood has addresses, and returns what they had once nobody answers for
// it, by family.
func (r *replies) gaps(ctx context.Context) (freed [2][]netip.Addr, _ error) {
	n := len(r.held[0])
	var gone []int
	for i := 1; i < n-1 && len(gone) < mostOthers; i += 10 {
		gone = append(gone, i)
	}
	if len(gone) == 0 {
		return freed, nil
	}
	r.b.say("deleting %d Services: their addresses are near ones that nobody has", len(gone))
	err := parallel(ctx, 0, len(gone), func(ctx context.Context, i int) error {
		return r.Client.CoreV1().Services(namespace).Delete(ctx, serviceName(gone[i]), metav1.DeleteOptions{})
	})
	if err != nil {
		return freed, fmt.Errorf("delete Services: %w", err)
	}
	if err := r.watcher.wait(ctx, n-len(gone)); err != nil {
		return freed, err
	}
	if err := r.rest(ctx, len(gone)); err != nil {
		return freed, err
	}
	for f := range freed {
		for _, i := range gone {
			freed[f] = append(freed[f], r.held[f][i])
		}
		for _, ip := range []netip.Addr{freed[f][0], freed[f][len(gone)-1]} {
			yes, err := r.Answered(client, ip, time.Second)
			if err == nil && yes {
				err = fmt.Errorf("somebody answers for %s, which no Service has any more", ip)
			}
			if err != nil {
				return freed, err
			}
		}
	}
	return freed, nil
}

// flooding is what was sent, in which time.
type flooding struct {
	frames int
	took   time.Duration
}

func (f flooding) rate() float64 { return float64(f.frames) / f.took.Seconds() }

// flood sends requests for addresses that nobody has from a client, until meanwhile returns.
func (r *replies) flood(ctx context.Context, nobody []netip.Addr, meanwhile func() error) (sent flooding, _ error) {
	const from = "c2"
	questions, err := r.questions(from, nobody...)
	if err != nil {
		return sent, err
	}
	w, err := openWireOf(r.Host(from), nobody[0], answersTo(nobody[0]))
	if err != nil {
		return sent, err
	}
	defer w.close()
	until, stop := context.WithCancel(ctx)
	defer stop()
	flooded := make(chan error, 1)
	begun := time.Now()
	go func() {
		n, err := w.flood(until, floodPerMilli, questions)
		sent = flooding{n, time.Since(begun)}
		flooded <- err
	}()
	err = meanwhile()
	stop()
	err = errors.Join(err, <-flooded, ctx.Err())
	return sent, err
}
