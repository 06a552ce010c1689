package kube

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"

	"github.com/lanyard-lb/lanyard/internal/record"
)

// town has Services with statuses and versions, beside the records of its server.
type town struct {
	*server
	t *testing.T

	luck   sync.Mutex // guards chance; no other lock is taken under it
	chance *rand.Rand

	mu      sync.Mutex // guards the rest; taken before the server's
	people  map[string]inhabitant
	counts  map[string]int
	version int
	offices map[string]tenure // by class, the one that has come into office last
}

// tenure is an office that has come in, as of a version.
type tenure struct {
	writer string
	epoch  int64
	from   int
}

// inhabitant is a Service as somebody has seen it; its status names at most one address.
type inhabitant struct {
	uid     string
	version int
	class   string
	status  netip.Addr
}

func newTown(t *testing.T, seed uint64) *town {
	w := &town{server: newServer(), t: t, chance: rand.New(rand.NewPCG(seed, 1)), people: map[string]inhabitant{}, counts: map[string]int{}, offices: map[string]tenure{}}
	w.between = w.pause
	w.fault = func() (error, bool) {
		if w.dice(50) != 0 {
			return nil, false
		}
		return errors.New("the connection broke"), w.dice(2) == 0
	}
	return w
}

func (w *town) dice(sides int) int {
	w.luck.Lock()
	defer w.luck.Unlock()
	return w.chance.IntN(sides)
}

func (w *town) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[what]++
}

// pause is how long a request travels: mostly short, at times as long as a process that is frozen.
func (w *town) pause() {
	d := time.Duration(w.dice(3)) * time.Millisecond
	if w.dice(15) == 0 {
		d = time.Duration(w.dice(200)) * time.Millisecond
	}
	time.Sleep(d)
}

// create makes a Service anew, with the next UID.
func (w *town) create(name string) {
	class := w.class()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.version++
	w.people[name] = inhabitant{uid: fmt.Sprint(name, "-", w.version), version: w.version, class: class}
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	w.services["default/"+name] = w.people[name].uid
}

func (w *town) class() string { return []string{"", "x"}[w.dice(2)] }

// retype changes the class of a Service by way of another type, with which the API server clears the status.
func (w *town) retype(name string) {
	class := w.class()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.version++
	w.people[name] = inhabitant{uid: w.people[name].uid, version: w.version, class: class}
	w.counts["retyped"]++
}

// inOffice notes that an office has come in.
func (w *town) inOffice(o *office) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if epoch := o.records.current().epoch; epoch > w.offices[o.records.class].epoch {
		w.offices[o.records.class] = tenure{writer: o.records.writer, epoch: epoch, from: w.version}
	}
}

// checkDeprived sees to it that nobody is deprived of an address by a controller after another one of its class
// has come into office. mu is held.
func (w *town) checkDeprived(o *office, name string, seen inhabitant, addr netip.Addr) {
	last := w.offices[seen.class]
	if seen.status.IsValid() && seen.status != addr && last.writer != o.records.writer && seen.version > last.from {
		w.t.Errorf("%s is deprived of %s by %s, and %s is in office since version %d; seen at %d",
			name, seen.status, o.records.writer, last.writer, last.from, seen.version)
	}
}

func (w *town) look(name string) inhabitant {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.people[name]
}

// write writes a status as it was seen, and sees to it that no other status names the address.
func (o *office) write(name string, seen inhabitant, addr netip.Addr) bool {
	w := o.town
	w.pause()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.people[name] != seen {
		w.counts["conflict"]++
		return false
	}
	w.checkDeprived(o, name, seen, addr)
	for other, o := range w.people {
		if other != name && addr.IsValid() && o.status == addr {
			w.t.Errorf("%s stands in the statuses of %s and %s", addr, name, other)
		}
	}
	w.version++
	w.people[name] = inhabitant{uid: seen.uid, version: w.version, class: seen.class, status: addr}
	w.counts["written"]++
	return true
}

// office is a controller that keeps the rules of Records. Several are active at once.
type office struct {
	*town
	records *Records
	reload  chan struct{}
}

func (o *office) commit(c record.Change) bool {
	return o.succeeds(o.records.Commit(context.Background(), c))
}

func (o *office) succeeds(err error) bool {
	var fenced *FencedError
	var held *record.HeldError
	switch {
	case errors.As(err, &fenced):
		o.count("fenced")
		o.start()
	case errors.As(err, &held):
		o.count("held")
	case err != nil:
		o.count("failed")
	}
	return err == nil
}

// start loads the records until that succeeds, as a process that is started again and again.
func (o *office) start() {
	o.reload <- struct{}{}
	defer func() { <-o.reload }()
	for o.records.Load(context.Background()) != nil {
		o.count("start failed")
	}
	o.inOffice(o)
}

// work gives, takes and moves addresses, of Services as they were seen some time ago.
func (o *office) work(names []string, steps int) {
	seen := map[string]inhabitant{}
	for range steps {
		name := names[o.dice(len(names))]
		if o.dice(3) > 0 || seen[name].uid == "" {
			seen[name] = o.look(name)
		}
		if o.dice(40) == 0 {
			o.create(name)
		}
		if o.dice(30) == 0 {
			o.retype(name)
		}
		if o.dice(20) == 0 {
			o.succeeds(o.records.Refresh(context.Background()))
		}
		if seen[name].class != o.records.class {
			o.giveUp(name, seen[name])
			continue
		}
		if o.dice(8) == 0 {
			o.sweep(name, seen[name])
			continue
		}
		o.move(name, seen[name])
	}
}

func (o *office) move(name string, seen inhabitant) {
	self := record.Holder{Kind: record.Service, Namespace: "default", Name: name, UID: seen.uid}
	var want netip.Addr
	if n := o.dice(12); n > 0 {
		want = netip.AddrFrom4([4]byte{10, 0, 0, byte(58 + n)}) // of two blocks
	}
	if want.IsValid() && !o.commit(record.Hold(want, self, "lan", time.Now())) {
		return
	}
	if seen.status.IsValid() && want != seen.status && !o.succeeds(o.records.Confirm(context.Background())) {
		return
	}
	if o.write(name, seen, want) && seen.status.IsValid() && seen.status != want {
		o.commit(record.Release(seen.status, self, time.Now()))
	}
}

// giveUp releases what is recorded of a Service that is of another class now.
func (o *office) giveUp(name string, seen inhabitant) {
	self := record.Holder{Kind: record.Service, Namespace: "default", Name: name, UID: seen.uid}
	var changes []record.Change
	for _, e := range o.records.HeldBy(self) {
		if e.HeldFor(self, o.records.class) && e.Addr != seen.status {
			changes = append(changes, record.Release(e.Addr, self, time.Now()))
		}
	}
	o.reload <- struct{}{} // what is under way here would end with the process
	err := error(nil)
	if len(changes) > 0 && o.matches(name, seen) {
		o.count("given up")
		err = o.records.Commit(context.Background(), changes...)
	}
	<-o.reload
	o.succeeds(err)
}

// matches is a write to a status that changes nothing: it fails if what was seen is out of date.
func (w *town) matches(name string, seen inhabitant) bool {
	w.pause()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.people[name] == seen
}

// sweep releases what is recorded of a Service and does not stand in its status, after writing the latter.
func (o *office) sweep(name string, seen inhabitant) {
	for _, e := range o.records.HeldBy(record.Holder{Kind: record.Service, Namespace: "default", Name: name}) {
		for _, h := range e.Holders {
			switch {
			case h.Name != name, h.UID == seen.uid && h.Class != o.records.class:
			case h.UID != seen.uid:
				o.commit(record.ReleaseGone(e.Addr, h.Holder, time.Now()))
			case seen.status != e.Addr && o.write(name, seen, seen.status):
				o.commit(record.Release(e.Addr, h.Holder, time.Now()))
				return // what was seen is out of date
			}
		}
	}
}

// TestNeverTwice lets controllers of two classes, several of each that all believe to be the leader and are frozen
// at any point, work on the same Services: no address ever stands in two statuses, and nobody is deprived of
// one by who is not in office any more.
func TestNeverTwice(t *testing.T) {
	total := map[string]int{}
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			w := newTown(t, seed)
			shifts := [][]string{{"a", "b", "c"}, {"d", "e", "f"}}
			for _, names := range shifts {
				for _, n := range names {
					w.create(n)
				}
			}
			var group sync.WaitGroup
			for i, class := range []string{"", "", "", "x", "x"} {
				o := &office{town: w, records: newRecords(w.server, class, fmt.Sprint("office", i), log.NewNopLogger()), reload: make(chan struct{}, 1)}
				group.Go(func() {
					o.start()
					for _, names := range shifts {
						group.Go(func() { o.work(names, 100) })
					}
				})
			}
			group.Wait()
			for what, n := range w.counts {
				total[what] += n
			}
		})
	}
	t.Log(total)
	for _, what := range []string{"written", "conflict", "held", "fenced", "failed", "retyped", "given up"} {
		if total[what] < 10 {
			t.Errorf("only %d times %s: this shows nothing", total[what], what)
		}
	}
}
