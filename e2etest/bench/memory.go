package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
	"github.com/lanyard-lb/lanyard/e2etest/labtest"
)

const (
	perService = 3   // endpoints of each Service
	sliceCount = 10  // EndpointSlices of one large Service
	perSlice   = 100 // endpoints of each of them
	speakers   = 3
	samples    = 10  // of memory, one per second
	edits      = 200 // Service events of each kind
	rolled     = 1000
	extraNodes = 500
	perSecond  = 50 // events
	eventGoal  = 1  // ms of CPU per event of a Service, which is all the work of it: TLS, decoding, writing
)

// costs measures memory and processor time of the controller and of the first of the speakers.
type costs struct {
	*Site
	b       *Bench
	watcher *watcher
	// processes are controller and speaker, and what they are measured against, in the same order.
	processes []*lab.Process
	rest      []float64 // processors that they used when they were last measured at rest
	figures   []Figure
}

var daemons = []string{"controller", "speaker"}

// plain are the resources that a daemon watches at the least.
var plain = map[string][]string{"controller": {"services", "nodes"}, "speaker": {"services", "endpointslices", "nodes"}}

func memoryAndProcessor(ctx context.Context, b *Bench) (_ []Figure, err error) {
	s, err := b.site(ctx, lab.Options{Nodes: speakers, Clients: 1})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Down()) }()
	c := &costs{Site: s, b: b}
	steps := []func(context.Context) error{c.start, c.idle}
	for i := range b.Services {
		steps = append(steps, func(ctx context.Context) error { return c.fill(ctx, i) })
	}
	steps = append(steps, c.editServices, c.createAndDelete, c.roll, c.addNodes)
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return c.figures, s.explain(s.explain(err, controlPlane, "controller"), s.Node(1), "speaker")
		}
	}
	return c.figures, nil
}

// writes are the least of what is written for a new Service: its status and an event by the controller, which also has to keep
// who holds the address, and as much as a third of what a speaker writes that announces it, by one of three.
var writes = map[string]writing{"controller": patchesTells, "speaker": patches}

// start starts everything and waits until it is ready.
func (c *costs) start(ctx context.Context) (err error) {
	if err := c.Pools(ctx, []string{ranges}); err != nil {
		return err
	}
	if c.watcher, err = c.watchServices(ctx); err != nil {
		return err
	}
	controller, err := c.StartController(ctx)
	if err != nil {
		return err
	}
	c.processes = []*lab.Process{controller}
	for i, node := range c.Nodes() {
		speaker, err := c.StartSpeaker(ctx, node)
		if err != nil {
			return err
		}
		if i == 0 {
			c.processes = append(c.processes, speaker)
		}
	}
	for _, d := range daemons {
		p, err := c.startPlainWatch("plain-"+d, c.Kubeconfig(), writesNothing, plain[d]...)
		if err != nil {
			return err
		}
		c.processes = append(c.processes, p)
	}
	if err := c.WaitReady(ctx, controlPlane, c.Implementation.Controller, time.Minute); err != nil {
		return err
	}
	for _, node := range c.Nodes() {
		if err := c.WaitReady(ctx, node, c.Implementation.Speaker, time.Minute); err != nil {
			return err
		}
	}
	return nil
}

const (
	of        = "client-go informers of the same kinds"
	ofWriters = "such informers that patch the status of each new Service, and for the controller create an event on it"
)

// resting adds figures of the memory and of what the daemons use while nothing happens.
func (c *costs) resting(ctx context.Context, when string, goal float64) error {
	resident, peak := make([][]float64, len(c.processes)), make([]float64, len(c.processes))
	before, err := usageOf(c.processes)
	if err != nil {
		return err
	}
	for range samples {
		if err := pass(ctx, time.Second); err != nil {
			return err
		}
		for i, p := range c.processes {
			m, err := memoryOf(p.PID())
			if err != nil {
				return fmt.Errorf("%s: %w", p.Name, err)
			}
			resident[i], peak[i] = append(resident[i], megabytes(m.resident)), megabytes(m.peak)
		}
	}
	after, err := usageOf(c.processes)
	if err != nil {
		return err
	}
	rest := rates(before, after)
	c.rest = rest
	for i, d := range daemons {
		plain := i + len(daemons)
		c.b.say("%s, %s: %.0f MB resident, %.0f MB at most; %.2f ms of CPU per second", d, when, Median(resident[i]), peak[i], rest[i]*1000)
		c.figures = append(c.figures,
			Figure{Name: d + ": resident memory, " + when, Unit: "MB", Ours: resident[i], Limit: resident[plain], Of: of, Goal: Goal{Value: goal}},
			Figure{Name: d + ": most memory until then, " + when, Unit: "MB", Ours: peak[i : i+1], Limit: peak[plain : plain+1], Of: of},
			Figure{Name: d + ": CPU per second at rest, " + when, Unit: "ms", Ours: []float64{rest[i] * 1000}, Limit: []float64{rest[plain] * 1000}, Of: of})
	}
	return c.fetchProfiles(ctx, when, "heap", "")()
}

func megabytes(bytes int64) float64 { return float64(bytes) / 1e6 }

// idle: nothing to do yet.
func (c *costs) idle(ctx context.Context) error {
	if _, err := c.settle(ctx, c.processes, restsWithin); err != nil {
		return err
	}
	return c.resting(ctx, "no Service", 0)
}

// fill makes Services until there are as many as the i-th number says, and waits until all are assigned and announced.
func (c *costs) fill(ctx context.Context, i int) error {
	n, from := c.b.Services[i], 0
	if i > 0 {
		from = c.b.Services[i-1]
	}
	when := thousands(n) + " Services with EndpointSlices"
	c.b.say("creating Services until there are %d", n)
	before, err := usageOf(c.processes)
	if err != nil {
		return err
	}
	if err := c.createServices(ctx, from, n, perService, c.Node(1)); err != nil {
		return err
	}
	if err := c.watcher.wait(ctx, n); err != nil {
		return err
	}
	c.b.say("all are assigned")
	for _, j := range []int{from, (from + n) / 2, n - 1} {
		if err := c.announced(ctx, serviceName(j)); err != nil {
			return err
		}
	}
	rest, err := c.settle(ctx, c.processes, reportedWithin(n-from))
	if err != nil {
		return err
	}
	after, err := usageOf(c.processes)
	if err != nil {
		return err
	}
	c.b.say("they rest: %s", rest)
	goal := 0.0
	if n == 2000 {
		goal = 60
	}
	fewer := c.rest
	if err := c.resting(ctx, when, goal); err != nil {
		return err
	}
	// Rest with more Services may cost more; meanwhile it cost something between.
	between := make([]float64, len(fewer))
	for i := range between {
		between[i] = (fewer[i] + c.rest[i]) / 2
	}
	what := fmt.Sprintf("Service, created until there are %s", thousands(n))
	each := c.perEvent(c.processes, what, n-from, before, after, between)
	c.addEach(what, each, each[len(daemons):], of, 0)
	return nil
}

// announced waits until the address of a Service is answered for on the LAN.
func (c *costs) announced(ctx context.Context, name string) error {
	service, err := c.Client.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if len(service.Status.LoadBalancer.Ingress) != 1 {
		return fmt.Errorf("the addresses of Service %s are %v, not one", name, service.Status.LoadBalancer.Ingress)
	}
	return c.answered(ctx, service.Status.LoadBalancer.Ingress[0].IP)
}

// answered waits until somebody answers for an address.
func (s *Site) answered(ctx context.Context, address string) error {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return labtest.Poll(ctx, func() error {
		yes, err := s.Answered(s.Clients()[0], ip, time.Second)
		if err == nil && !yes {
			err = fmt.Errorf("nobody on the LAN answers for %s", ip)
		}
		return err
	})
}

// events adds figures of the processor time of n events, over that of rest.
func (c *costs) events(ctx context.Context, what string, n, pace int, goal float64, f func(ctx context.Context, i int) error) error {
	each, err := c.measure(ctx, c.processes, what, n, pace, f)
	if err != nil {
		return err
	}
	c.addEach(what, each, each[len(daemons):], of, goal)
	return nil
}

// measure returns how many milliseconds of a processor each of some processes takes for one of n events, over rest.
func (c *costs) measure(ctx context.Context, processes []*lab.Process, what string, n, pace int, f func(ctx context.Context, i int) error) ([]float64, error) {
	rest, err := average(ctx, processes, 5*time.Second)
	if err != nil {
		return nil, err
	}
	before, err := usageOf(processes)
	if err != nil {
		return nil, err
	}
	c.b.say("%d times, %d per second: %s", n, pace, what)
	profiled := c.profile(ctx, what, n/pace+2)
	if err := paced(ctx, n, pace, f); err != nil {
		return nil, err
	}
	if err := profiled(); err != nil {
		return nil, err
	}
	if _, err := c.settle(ctx, processes, restsWithin); err != nil {
		return nil, err
	}
	after, err := usageOf(processes)
	if err != nil {
		return nil, err
	}
	return c.perEvent(processes, what, n, before, after, rest), nil
}

// perEvent is the processor time, in milliseconds, of one of n events between two times, over that of rest, of each process.
func (c *costs) perEvent(processes []*lab.Process, what string, n int, before, after usage, rest []float64) []float64 {
	span := after.at.Sub(before.at).Seconds()
	each := make([]float64, len(processes))
	for i, p := range processes {
		each[i] = ((after.used[i] - before.used[i]).Seconds() - rest[i]*span) / float64(n) * 1000
		c.b.say("%s: %.3f ms of CPU per %s", p.Name, each[i], what)
	}
	return each
}

// addEach adds figures of what each daemon takes for an event, and what its limit takes.
func (c *costs) addEach(what string, each, limits []float64, limit string, goal float64) {
	for i, d := range daemons {
		c.figures = append(c.figures, Figure{Name: d + ": CPU per " + what, Unit: "ms", Ours: []float64{each[i]},
			Limit: []float64{limits[i]}, Of: limit, Goal: Goal{Value: goal}})
	}
}

func (c *costs) among() string { return " among " + thousands(c.b.most()) }

func (c *costs) editServices(ctx context.Context) error {
	return c.events(ctx, "Service edited"+c.among(), edits, perSecond, eventGoal, func(ctx context.Context, i int) error {
		return c.edit(ctx, serviceName(i%c.b.most()), i)
	})
}

func (c *costs) createAndDelete(ctx context.Context) error {
	n := c.b.most()
	bare, err := c.createWritten(ctx, n+edits)
	if err != nil {
		return err
	}
	what := "Service created" + c.among()
	each, err := c.measure(ctx, c.processes, what, edits, perSecond, func(ctx context.Context, i int) error {
		return c.createServices(ctx, n+i, n+i+1, perService, c.Node(1))
	})
	if err != nil {
		return err
	}
	c.addEach(what, each, bare, ofWriters, eventGoal)
	if err := c.watcher.wait(ctx, n+edits); err != nil {
		return err
	}
	err = c.events(ctx, "Service deleted"+c.among(), edits, perSecond, eventGoal, func(ctx context.Context, i int) error {
		return c.Client.CoreV1().Services(namespace).Delete(ctx, serviceName(n+i), metav1.DeleteOptions{})
	})
	if err != nil {
		return err
	}
	if err := c.watcher.wait(ctx, n); err != nil {
		return err
	}
	return c.deleteEndpoints(ctx, n, n+edits)
}

// createWritten measures what writers take for Services of the class that they write, numbered from a number on, and leaves
// none of it behind.
func (c *costs) createWritten(ctx context.Context, from int) (_ []float64, err error) {
	var writers []*lab.Process
	defer func() {
		for _, p := range writers {
			err = errors.Join(err, p.Kill())
		}
	}()
	for _, d := range daemons {
		p, err := c.startPlainWatch("writing-"+d, c.Kubeconfig(), writes[d], plain[d]...)
		if err != nil {
			return nil, err
		}
		writers = append(writers, p)
	}
	all := slices.Concat(c.processes, writers)
	if _, err := c.settle(ctx, all, restsWithin); err != nil {
		return nil, err
	}
	class := writtenClass
	each, err := c.measure(ctx, all, "Service created for writers"+c.among(), edits, perSecond, func(ctx context.Context, i int) error {
		o := service(serviceName(from + i))
		o.Spec.LoadBalancerClass = &class
		return c.createService(ctx, o, from+i, perService, c.Node(1))
	})
	if err != nil {
		return nil, err
	}
	if err := c.deleteWritten(ctx, from); err != nil {
		return nil, err
	}
	_, err = c.settle(ctx, c.processes, restsWithin)
	return each[len(c.processes):], err
}

// deleteWritten deletes the Services of createWritten, once it has found all that was to be written of them.
func (c *costs) deleteWritten(ctx context.Context, from int) error {
	events, err := c.Client.EventsV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "reason=" + bareReason})
	if err != nil {
		return fmt.Errorf("list what writers wrote: %w", err)
	}
	if len(events.Items) != edits {
		return fmt.Errorf("writers recorded %d events, want %d", len(events.Items), edits)
	}
	err = parallel(ctx, from, from+edits, func(ctx context.Context, i int) error {
		s, err := c.Client.CoreV1().Services(namespace).Get(ctx, serviceName(i), metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(s.Status.Conditions) != len(writes) {
			return fmt.Errorf("writers patched the status of Service %s %d times, want %d", s.Name, len(s.Status.Conditions), len(writes))
		}
		return c.Client.CoreV1().Services(namespace).Delete(ctx, s.Name, metav1.DeleteOptions{})
	})
	if err != nil {
		return err
	}
	return c.deleteEndpoints(ctx, from, from+edits)
}

// deleteEndpoints deletes the EndpointSlices of Services that are gone.
func (c *costs) deleteEndpoints(ctx context.Context, from, to int) error {
	return parallel(ctx, from, to, func(ctx context.Context, i int) error {
		return c.Client.DiscoveryV1().EndpointSlices(namespace).Delete(ctx, serviceName(i), metav1.DeleteOptions{})
	})
}

// roll replaces one pod after the other of a Service with many.
func (c *costs) roll(ctx context.Context) error {
	large, err := c.grow(ctx, serviceName(0), c.Node(1))
	if err != nil {
		return err
	}
	if _, err := c.settle(ctx, c.processes, restsWithin); err != nil {
		return err
	}
	return c.events(ctx, fmt.Sprintf("pod replaced of a Service with %s", thousands(sliceCount*perSlice)), rolled, 2*perSecond, 0, large.replace)
}

// addNodes adds Nodes that nothing runs on, and has each report its status, as kubelets do every five minutes.
func (c *costs) addNodes(ctx context.Context) error {
	if err := c.createNodes(ctx, extraNodes); err != nil {
		return err
	}
	if _, err := c.settle(ctx, c.processes, restsWithin); err != nil {
		return err
	}
	if err := c.resting(ctx, fmt.Sprintf("%s Services and %d Nodes", thousands(c.b.most()), extraNodes), 0); err != nil {
		return err
	}
	what := fmt.Sprintf("Node status reported, %d Nodes, %s Services", extraNodes, thousands(c.b.most()))
	return c.events(ctx, what, edits, perSecond, 0, c.report)
}

func extraNode(i int) string { return fmt.Sprintf("extra%03d", i) }

func (s *Site) createNodes(ctx context.Context, n int) error {
	return parallel(ctx, 0, n, func(ctx context.Context, i int) error {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: extraNode(i), Labels: map[string]string{corev1.LabelHostname: extraNode(i)}}}
		if _, err := s.Client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create Node %s: %w", node.Name, err)
		}
		return s.report(ctx, i)
	})
}

// report writes what a kubelet says of a healthy node.
func (s *Site) report(ctx context.Context, i int) error {
	now := time.Now().UTC().Format(time.RFC3339)
	patch := fmt.Appendf(nil, `{"status":{"conditions":[{"type":"Ready","status":"True","reason":"KubeletReady","lastHeartbeatTime":%q}]}}`, now)
	_, err := s.Client.CoreV1().Nodes().Patch(ctx, extraNode(i), types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("report the status of Node %s: %w", extraNode(i), err)
	}
	return nil
}
