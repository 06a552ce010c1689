package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// apiCost measures what daemons ask of the API server and what it tells them. Its clusters have as many Services as the first
// of the numbers says.
func apiCost(ctx context.Context, b *Bench) (_ []Figure, err error) {
	s, err := b.site(ctx, lab.Options{Nodes: speakers, Clients: 1})
	if err != nil {
		return nil, err
	}
	c := &traffics{Site: s, b: b, meters: map[string]*meter{}, plain: map[string]*meter{}}
	defer func() { err = errors.Join(err, c.down()) }()
	for _, step := range []func(context.Context) error{c.start, c.create, c.edits, c.roll, c.nodes, c.restart, c.deletes} {
		if err := step(ctx); err != nil {
			return c.figures, s.explain(s.explain(err, controlPlane, "controller"), s.Node(1), "speaker")
		}
	}
	return c.figures, nil
}

type traffics struct {
	*Site
	b       *Bench
	watcher *watcher
	meters  map[string]*meter // of controller and speakers, by host
	plain   map[string]*meter // of what they are measured against, by daemon
	figures []Figure
}

func (c *traffics) down() error {
	for m := range c.now() {
		m.close()
	}
	return c.Down()
}

// start starts everything, each daemon behind a meter of its own.
func (c *traffics) start(ctx context.Context) (err error) {
	if err := c.Pools(ctx, []string{ranges}); err != nil {
		return err
	}
	if c.watcher, err = c.watchServices(ctx); err != nil {
		return err
	}
	c.via = func(host string) (*meter, error) {
		m, err := c.newMeter()
		c.meters[host] = m
		return m, err
	}
	if _, err := c.StartController(ctx); err != nil {
		return err
	}
	for _, node := range c.Nodes() {
		if _, err := c.StartSpeaker(ctx, node); err != nil {
			return err
		}
	}
	for _, d := range daemons {
		if c.plain[d], err = c.newMeter(); err != nil {
			return err
		}
		path, err := c.plainKubeconfig(ctx, d)
		if err != nil {
			return err
		}
		if _, err := c.startPlainWatch("plain-"+d, path, writesNothing, plain[d]...); err != nil {
			return err
		}
	}
	if err := c.WaitReady(ctx, controlPlane, c.Implementation.Controller, time.Minute); err != nil {
		return err
	}
	for _, node := range c.Nodes() {
		if err := c.WaitReady(ctx, node, c.Implementation.Speaker, time.Minute); err != nil {
			return err
		}
	}
	return c.pause(ctx)
}

// plainKubeconfig has the rights of a daemon, by a token: certificates end at the meter.
func (c *traffics) plainKubeconfig(ctx context.Context, daemon string) (string, error) {
	account := map[string]string{"controller": c.Implementation.Controller.Account, "speaker": c.Implementation.Speaker.Account}[daemon]
	from, err := c.ServiceAccountKubeconfig(ctx, c.Implementation.Namespace, account)
	if err != nil {
		return "", err
	}
	path := filepath.Join(c.StateDir(), "bench", "plain-"+daemon+".kubeconfig")
	return path, c.plain[daemon].kubeconfig(from, path)
}

// pause waits until nothing more comes through any meter: what was begun has been answered, and watches have told.
func (c *traffics) pause(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		before := c.now()
		if err := pass(ctx, window); err != nil {
			return fmt.Errorf("requests do not come to an end: %w", err)
		}
		quiet := true
		for m, t := range c.now() {
			quiet = quiet && t.since(before[m]).quiet()
		}
		if quiet {
			return nil
		}
	}
}

// now is the traffic of all meters.
func (c *traffics) now() map[*meter]traffic {
	all := map[*meter]traffic{}
	for _, m := range c.meters {
		all[m] = m.now()
	}
	for _, m := range c.plain {
		all[m] = m.now()
	}
	return all
}

// spent is the traffic of some time: of the controller, of all speakers together, and of what they are measured against.
type spent struct{ controller, speakers, plainController, plainSpeaker traffic }

// during returns the traffic while f runs, until nothing comes through any more.
func (c *traffics) during(ctx context.Context, f func() error) (s spent, _ error) {
	before := c.now()
	if err := f(); err != nil {
		return s, err
	}
	if err := c.pause(ctx); err != nil {
		return s, err
	}
	s.speakers = traffic{}
	for host, m := range c.meters {
		d := m.now().since(before[m])
		if host == controlPlane {
			s.controller = d
			continue
		}
		for what, n := range d {
			have := s.speakers[what]
			s.speakers[what] = count{have.requests + n.requests, have.sent + n.sent, have.received + n.received}
		}
	}
	for d, t := range map[string]*traffic{"controller": &s.plainController, "speaker": &s.plainSpeaker} {
		*t = c.plain[d].now().since(before[c.plain[d]])
	}
	return s, nil
}

var asking = []string{"get", "list", "post", "put", "patch", "delete"}

// add adds the figures of n events of a kind. What is asked is counted for all speakers together, what is watched for each.
func (c *traffics) add(what string, n int, s spent) {
	for name, t := range map[string]traffic{"controller": s.controller, "speakers": s.speakers} {
		for _, what := range slices.Sorted(maps.Keys(t)) {
			c.b.say("%s: %s: %d requests, %d bytes sent, %d received", name, what, t[what].requests, t[what].sent, t[what].received)
		}
	}
	const of = "watches of the same kinds, in protobuf and compressed"
	each := func(name, unit string, number int64, limit ...int64) {
		f := Figure{Name: name + " per " + what, Unit: unit, Ours: []float64{float64(number) / float64(n)}}
		for _, l := range limit {
			f.Limit, f.Of = append(f.Limit, float64(l)/float64(n)), of
		}
		c.figures = append(c.figures, f)
	}
	asked, told := s.controller.sum(asking...), s.speakers.sum(asking...)
	each("controller: requests", "", asked.requests)
	each("all speakers: requests", "", told.requests)
	if asked.requests+told.requests >= int64(n) {
		each("controller: sent and answered", "B", asked.sent+asked.received)
		each("all speakers: sent and answered", "B", told.sent+told.received)
	}
	each("controller: watched", "B", s.controller.sum("watch").received, s.plainController.sum("watch").received)
	each("each speaker: watched", "B", s.speakers.sum("watch").received/speakers, s.plainSpeaker.sum("watch").received)
}

func (c *traffics) create(ctx context.Context) error {
	n := c.b.Services[0]
	c.b.say("creating %d Services", n)
	s, err := c.during(ctx, func() error {
		if err := c.createServices(ctx, 0, n, perService, c.Node(1)); err != nil {
			return err
		}
		return c.watcher.wait(ctx, n)
	})
	if err != nil {
		return err
	}
	c.add("Service created", n, s)
	return nil
}

func (c *traffics) edits(ctx context.Context) error {
	n := c.b.Services[0]
	c.b.say("editing %d times", edits)
	s, err := c.during(ctx, func() error {
		return paced(ctx, edits, perSecond, func(ctx context.Context, i int) error { return c.edit(ctx, serviceName(i%n), i) })
	})
	if err != nil {
		return err
	}
	c.add("Service edited", edits, s)
	return nil
}

func (c *traffics) roll(ctx context.Context) error {
	large, err := c.grow(ctx, serviceName(0), c.Node(1))
	if err != nil {
		return err
	}
	if err := c.pause(ctx); err != nil {
		return err
	}
	c.b.say("replacing %d pods of a Service", edits)
	s, err := c.during(ctx, func() error { return paced(ctx, edits, perSecond, large.replace) })
	if err != nil {
		return err
	}
	c.add(fmt.Sprintf("pod replaced in a slice of %d", perSlice), edits, s)
	return nil
}

func (c *traffics) nodes(ctx context.Context) error {
	if err := c.createNodes(ctx, edits); err != nil {
		return err
	}
	if err := c.pause(ctx); err != nil {
		return err
	}
	c.b.say("%d Nodes report their status", edits)
	s, err := c.during(ctx, func() error { return paced(ctx, edits, perSecond, c.report) })
	if err != nil {
		return err
	}
	c.add("Node status reported", edits, s)
	return nil
}

// restart measures what a speaker reads when it starts.
func (c *traffics) restart(ctx context.Context) error {
	node := c.Node(1)
	before := c.meters[node].now()
	c.b.say("starting the speaker of %s again", node)
	if err := c.Process(node, "speaker").Restart(); err != nil {
		return err
	}
	if err := c.WaitReady(ctx, node, c.Implementation.Speaker, time.Minute); err != nil {
		return err
	}
	if err := c.pause(ctx); err != nil {
		return err
	}
	t := c.meters[node].now().since(before)
	var sum count
	for _, what := range slices.Sorted(maps.Keys(t)) {
		c.b.say("%s: %d requests, %d bytes sent, %d received", what, t[what].requests, t[what].sent, t[what].received)
		sum = count{requests: sum.requests + t[what].requests, received: sum.received + t[what].received}
	}
	when := fmt.Sprintf("a speaker starts, %s Services: ", thousands(c.b.Services[0]))
	c.figures = append(c.figures, Figure{Name: when + "requests", Ours: []float64{float64(sum.requests)}},
		Figure{Name: when + "read", Unit: "kB", Ours: []float64{float64(sum.received) / 1000}})
	return nil
}

// deletes deletes all Services, as when their namespaces go.
func (c *traffics) deletes(ctx context.Context) error {
	n := c.b.Services[0]
	c.b.say("deleting %d Services", n)
	s, err := c.during(ctx, func() error {
		err := parallel(ctx, 0, n, func(ctx context.Context, i int) error {
			return c.Client.CoreV1().Services(namespace).Delete(ctx, serviceName(i), metav1.DeleteOptions{})
		})
		if err != nil {
			return err
		}
		return c.watcher.wait(ctx, 0)
	})
	if err != nil {
		return err
	}
	c.add("Service deleted", n, s)
	return nil
}
