package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// Gossip measures what the speakers' gossip costs with 3, 100 and 500 nodes that announce 5,000 addresses together, in
// each failover profile, and how soon all know what happens. The speakers' membership layer runs as it is, all nodes in
// one process, on a network in memory and a clock of its own: bytes and times are what a LAN without delay and losses and
// nodes with a processor to spare would show, however slow this machine is. It runs the fast profile, which is the default,
// so often and the others once, and needs no root, but memory: about 5 GB. With an error come the figures of the clusters that
// were measured before.
func Gossip(ctx context.Context, runs int) ([]Figure, error) {
	clusters, err := gossipClusters(ctx, "-scale-profiles=fast", "-scale-runs="+strconv.Itoa(runs))
	if err == nil {
		var slow []gossipCluster
		slow, err = gossipClusters(ctx, "-scale-profiles=lan,wan")
		clusters = append(clusters, slow...)
	}
	if err != nil {
		err = fmt.Errorf("measure gossip: %w", err)
	}
	return gossipFigures(clusters), err
}

// gossipClusters runs internal/membership's TestScale, with more flags. With an error come the clusters that it finished.
func gossipClusters(ctx context.Context, flags ...string) (clusters []gossipCluster, err error) {
	root, err := lab.RepoRoot()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench-gossip-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// Built first, so that it is the test itself that ends with ctx.
	test, file := filepath.Join(dir, "membership.test"), filepath.Join(dir, "scale.json")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", test, "./internal/membership")
	run := exec.CommandContext(ctx, test, append([]string{"-test.run=^TestScale$", "-test.timeout=0", "-scale=" + file}, flags...)...)
	build.Dir, run.Dir = root, dir
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	out, failed := run.CombinedOutput()
	if failed != nil {
		failed = fmt.Errorf("%w\n%s", errors.Join(failed, ctx.Err()), out)
	}
	raw, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) && failed != nil {
		return nil, failed
	}
	if err == nil {
		err = json.Unmarshal(raw, &clusters)
	}
	return clusters, errors.Join(failed, err)
}

// gossipCluster is what one cluster has shown, as internal/membership's TestScale writes it.
type gossipCluster struct {
	Profile string
	Members int
	Claims  int
	Rest    gossipPeriod
	Churn   gossipPeriod // ten addresses a second change hands, and every ten seconds a node is restarted
	Crashes []struct {
		First, All float64 // seconds until the first and the last of the others know
	}
	Heap float64 // bytes that a node's layer holds
	Move struct {
		All  float64 // seconds until everybody knows everything
		News float64 // bytes that say it once
		gossipPeriod
	}
}

// gossipPeriod is a time in which it was counted what all members together sent.
type gossipPeriod struct {
	Seconds, CPU float64
	Sent         gossipVolume
}

// gossipVolume is in bytes: probes and their answers, changes, exchanges of everything, and what was asked for.
type gossipVolume struct{ Probes, News, Exchanges, Letters float64 }

func (v gossipVolume) sum() float64 { return v.Probes + v.News + v.Exchanges + v.Letters }

// rate is kB per second that each of n members sent.
func (p gossipPeriod) rate(bytes float64, n int) float64 {
	return bytes / 1000 / p.Seconds / float64(n)
}

// gossipFigures makes lines of clusters: one line of those of a kind.
func gossipFigures(clusters []gossipCluster) []Figure {
	t := lines{of: map[string]int{}}
	for _, c := range clusters {
		n, where := c.Members, fmt.Sprintf("%s, %d nodes", c.Profile, c.Members)
		rest, probes := c.Rest.rate(c.Rest.Sent.sum(), n), c.Rest.rate(c.Rest.Sent.Probes, n)
		t.add("gossip sent by a node at rest: "+where, "kB/s", "probes and their answers", rest, probes)
		t.add("gossip sent by a node in churn: "+where, "kB/s", "at rest", c.Churn.rate(c.Churn.Sent.sum(), n), rest)
		for _, k := range c.Crashes {
			t.add("a node crashes, until all others know: "+where, "s", "until the first one knows", k.All, k.First)
		}
		what := fmt.Sprintf("%d addresses move at once", c.Claims)
		t.add(what+", until all know: "+where, "s", "", c.Move.All)
		others := c.Move.News * float64(n-1) / float64(n)
		t.add(what+", sent by a node: "+where, "kB", "what changed on the others, once", c.Move.Sent.sum()/1000/float64(n), others/1000)
		t.add("processor time of gossip at rest: "+where, "ms/s", "", 1000*c.Rest.CPU/c.Rest.Seconds/float64(n))
		t.add("memory that gossip holds: "+where, "MB", "", c.Heap/1e6)
	}
	return t.figures
}

// lines gathers values by line, in the order in which lines come up first.
type lines struct {
	figures []Figure
	of      map[string]int
}

func (t *lines) add(name, unit, of string, ours float64, limit ...float64) {
	i, known := t.of[name]
	if !known {
		i = len(t.figures)
		t.of[name] = i
		t.figures = append(t.figures, Figure{Name: name, Unit: unit, Of: of})
	}
	t.figures[i].Ours = append(t.figures[i].Ours, ours)
	t.figures[i].Limit = append(t.figures[i].Limit, limit...)
}
