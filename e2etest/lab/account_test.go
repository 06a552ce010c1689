package lab

import (
	"errors"
	"testing"
	"time"
)

func TestAccount(t *testing.T) {
	zero := time.Unix(1000, 0)
	at := func(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }
	answer := func(sent, answered int, pod string) Sample {
		return Sample{Sent: at(sent), Answered: at(answered), Reply: Reply{Pod: pod, Node: "n1"}}
	}
	lost := Sample{Sent: at(20), Err: errors.New("timed out")}
	for _, c := range []struct {
		name                    string
		samples                 []Sample
		begin                   time.Time
		end                     int
		answered, lost, pending int
		from, to                int
	}{
		{name: "nothing", end: 100},
		{name: "never answered, never reset", samples: []Sample{lost}, end: 100, lost: 1},
		{name: "never answered since reset", samples: []Sample{lost}, begin: at(10), end: 100, lost: 1, from: 10, to: 100},
		{name: "gap between answers", samples: []Sample{answer(0, 1, "a"), lost, answer(60, 61, "b")}, end: 65, answered: 2, lost: 1, from: 1, to: 61},
		{name: "late answer closes the gap", samples: []Sample{answer(0, 1, "a"), answer(20, 70, "a"), answer(60, 61, "b")}, end: 75,
			answered: 3, from: 1, to: 61},
		{name: "gap to the end", samples: []Sample{answer(0, 1, "a"), {Sent: at(95)}}, end: 100, answered: 1, pending: 1, from: 1, to: 100},
		{name: "answers after the end", samples: []Sample{answer(0, 1, "a"), answer(9, 12, "a")}, end: 10, answered: 2, from: 1, to: 12},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := account(c.samples, c.begin, at(c.end))
			if r.Answered != c.answered || r.Lost != c.lost || r.Pending != c.pending || r.Sent != len(c.samples) {
				t.Errorf("account %v, want answered %d, lost %d, pending %d", r, c.answered, c.lost, c.pending)
			}
			want := time.Duration(c.to-c.from) * time.Millisecond
			if r.Gap.Duration() != want || (want > 0 && !r.Gap.From.Equal(at(c.from))) {
				t.Errorf("gap %v from %v, want %v from %v", r.Gap.Duration(), r.Gap.From, want, at(c.from))
			}
			if (r.Err != nil) != (c.lost > 0) {
				t.Errorf("first failure is %v", r.Err)
			}
		})
	}
}
