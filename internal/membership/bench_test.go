package membership

import (
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// BenchmarkDetect measures, in real time and in one process, how long it takes until all other members
// have noticed that one dropped off the network; each has 100 claims, and some member changes one every
// 10 ms. Run it with -benchtime 12x: each round takes seconds.
func BenchmarkDetect(b *testing.B) {
	for _, n := range []int{3, 10, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := benchWorld(b, n)
			defer w.keepChanging()()
			var took []time.Duration
			for i := 0; b.Loop(); i++ {
				victim := i % n
				rest := slices.Delete(slices.Clone(w.nodes), victim, victim+1)
				pass(time.Duration(1000+i*37%100) * time.Millisecond) // out of step with the probes
				before := losses(rest)
				w.lan.move(1, w.nodes[victim].peer.Addr.Addr())
				took = append(took, w.await(time.Minute, rest...))
				if alarms := losses(rest) - before - len(rest); alarms > 0 {
					b.Logf("round %d: %d false alarms", i, alarms)
				}
				w.lan.heal()
				w.await(time.Minute, w.nodes...)
			}
			report(b, took)
		})
	}
}

// BenchmarkHeal measures how long it takes until all see all again after a partition of five seconds
// into three fifths and two.
func BenchmarkHeal(b *testing.B) {
	for _, n := range []int{5, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := benchWorld(b, n)
			left, right := w.nodes[:n*3/5], w.nodes[n*3/5:]
			var took []time.Duration
			for b.Loop() {
				for _, m := range right {
					w.lan.move(1, m.peer.Addr.Addr())
				}
				w.await(time.Minute, left...)
				w.await(time.Minute, right...)
				pass(5 * time.Second)
				before := losses(w.nodes)
				w.lan.heal()
				took = append(took, w.await(time.Minute, w.nodes...))
				pass(time.Second)
				w.await(time.Minute, w.nodes...)
				if alarms := losses(w.nodes) - before; alarms > 0 {
					b.Logf("%d false alarms in healing", alarms)
				}
			}
			report(b, took)
		})
	}
}

// BenchmarkStorm measures how long it takes until all know of all when every member publishes other claims
// at once, and how much processor time that takes, for each member: in a cluster, each has a node of its
// own for that. Where that time is small, false alarms tell of the load of so many in one process.
func BenchmarkStorm(b *testing.B) {
	w := benchWorld(b, 50)
	var took []time.Duration
	used, ms := time.Duration(0), int64(0)
	for b.Loop() {
		ms++
		begin, spent := time.Now(), processorTime()
		for _, n := range w.nodes {
			n.Publish(reportOf(100, ms))
		}
		for _, n := range w.nodes {
			awaitThat(b, n, time.Minute, "all claims", func() bool {
				all := n.Reports()
				return len(all) == len(w.nodes) && !slices.ContainsFunc(w.peers, func(p Peer) bool {
					c := all[p.Name].Claims
					return len(c) != 100 || c[0].Since.UnixMilli() != ms || c[99].Since.UnixMilli() != ms
				})
			})
		}
		took, used = append(took, time.Since(begin)), used+processorTime()-spent
		pass(2 * time.Second)
	}
	report(b, took)
	b.ReportMetric(float64(used.Microseconds())/1000/float64(len(took)*len(w.nodes)), "cpu-ms/member")
	b.ReportMetric(float64(losses(w.nodes))/float64(len(took)), "alarms")
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchWorld(b *testing.B, n int) *world {
	w := newWorld(b)
	w.key = []byte("a key, because clusters have one")
	w.start(n)
	b.Cleanup(w.close)
	return w
}

// keepChanging has the members' reports change all the time, until the function that it returns is called.
func (w *world) keepChanging() (stop func()) {
	reports := make([]placement.Report, len(w.nodes))
	for i, n := range w.nodes {
		reports[i] = reportOf(100, 0)
		n.Publish(reports[i])
	}
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for k := 0; ; k++ {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			r := &reports[k%len(reports)]
			r.Claims = slices.Clone(r.Claims)
			r.Claims[k%100] = claimOf(k%100, int64(k))
			w.nodes[k%len(reports)].Publish(*r)
		}
	})
	return func() {
		close(done)
		group.Wait()
	}
}

// losses counts the members that the nodes together have seen go.
func losses(nodes []*node) int {
	sum := 0
	for _, n := range nodes {
		sum += n.log.count("member is gone")
	}
	return sum
}

func pass(d time.Duration) { <-time.After(d) }

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(took[len(took)/2]), "median-ms")
	b.ReportMetric(ms(took[len(took)-1]), "max-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkJoin measures the same for members that start at once, each with claims.
func BenchmarkJoin(b *testing.B) {
	var took []time.Duration
	used, alarms, n := time.Duration(0), 0, 50
	for b.Loop() {
		w := newWorld(b)
		w.key = []byte("a key, because clusters have one")
		begin, spent := time.Now(), processorTime()
		for i := range n {
			w.peers = append(w.peers, testPeer(i))
		}
		for i, p := range w.peers {
			m := w.run(p, nil)
			w.nodes = append(w.nodes, m)
			m.Publish(reportOf(100, int64(i)))
			m.SetPeers(w.peers)
		}
		for _, m := range w.nodes {
			awaitThat(b, m, time.Minute, "all reports", func() bool { return len(m.Reports()) == n })
		}
		took, used = append(took, time.Since(begin)), used+processorTime()-spent
		pass(2 * time.Second)
		alarms += losses(w.nodes)
		w.close()
	}
	report(b, took)
	b.ReportMetric(float64(used.Microseconds())/1000/float64(len(took)*n), "cpu-ms/member")
	b.ReportMetric(float64(alarms)/float64(len(took)), "alarms")
}
