package bench

import (
	"slices"
	"strings"
	"testing"
)

func TestMark(t *testing.T) {
	for i, want := range map[int]string{0: "a", 25: "z", 26: "aa", 51: "az", 52: "ba"} {
		if have := mark(i); have != want {
			t.Errorf("limit %d is marked %s, want %s", i, have, want)
		}
	}
}

// TestAdd: figures whose values are parts of one slice do not write over each other.
func TestAdd(t *testing.T) {
	var r Results
	for run := range 3 {
		v := []float64{float64(run), 10 + float64(run), 20 + float64(run)}
		r.add([]Figure{{Name: "a", Ours: v[0:1], Limit: v[2:3]}, {Name: "b", Ours: v[1:2], Limit: v[2:3]}})
	}
	for i, want := range [][]float64{{0, 1, 2}, {10, 11, 12}} {
		if f := r.Figures[i]; !slices.Equal(f.Ours, want) || !slices.Equal(f.Limit, []float64{20, 21, 22}) {
			t.Errorf("%s: %v against %v, want %v against 20, 21 and 22", f.Name, f.Ours, f.Limit, want)
		}
	}
}

// TestTable: what counts stands beside its limit and goal, and implementations beneath each other.
func TestTable(t *testing.T) {
	ours := Results{Implementation: "a"}
	for _, v := range []float64{3, 2, 4} { // one call for each run
		ours.add([]Figure{{Name: "all assigned", Unit: "s", Ours: []float64{v}, Limit: []float64{2}, Of: "bare patches", Goal: Goal{Ratio: 1.4}}})
	}
	ours.add([]Figure{{Name: "unanswered", Unit: "%", Ours: []float64{5}, Limit: []float64{0}, Of: "the kernel"}})
	ours.add([]Figure{{Name: "lost", Unit: "requests", Ours: []float64{0, 0}, Goal: Goal{None: true}}, {Name: "memory", Unit: "MB"}})
	theirs := Results{Implementation: "b", Figures: []Figure{{Name: "all assigned", Unit: "s", Ours: []float64{50}, Goal: Goal{Ratio: 1.4}}}}
	for _, tc := range []struct {
		all   []Results
		lines []string
	}{
		{[]Results{ours}, []string{"all assigned 3 3.00 s 2.00 to 4.00 2.00 s a 1.50 ≤ 1.4 × no", "limit a: bare patches", "unanswered 1 5.00 % 0 % b lost", "lost 2 0 requests 0 to 0 none yes", "memory 0 -"}},
		{[]Results{ours, theirs}, []string{"all assigned a 3 3.00 s", "b 1 50.0 s ≤ 1.4 × no", "lost a 2"}},
	} {
		var out strings.Builder
		Table(&out, tc.all)
		have := strings.Join(strings.Fields(out.String()), " ")
		for _, line := range tc.lines {
			if !strings.Contains(have, line) {
				t.Errorf("no line %q in\n%s", line, out.String())
			}
		}
	}
}

func TestPercentile(t *testing.T) {
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(100-i))
	}
	for _, tc := range []struct {
		values []float64
		p      int
		want   float64
	}{
		{hundred, 50, 50}, {hundred, 99, 99}, {hundred, 100, 100}, {nil, 50, 0},
		{[]float64{7}, 50, 7}, {[]float64{7}, 99, 7}, {[]float64{2, 1}, 50, 1}, {[]float64{2, 1}, 51, 2},
	} {
		if have := Percentile(tc.values, tc.p); have != tc.want {
			t.Errorf("percentile %d of %d values is %v, want %v", tc.p, len(tc.values), have, tc.want)
		}
	}
}

func TestMet(t *testing.T) {
	for want, figures := range map[string][]Figure{
		"yes": {
			{Ours: []float64{1, 1.3, 9}, Limit: []float64{1}, Goal: Goal{Ratio: 1.3}}, {Ours: []float64{60}, Goal: Goal{Value: 60}},
			{Ours: []float64{0, 0}, Goal: Goal{None: true}}, {Ours: []float64{1, 2, 9}, Percentile: 50, Goal: Goal{Value: 2}},
		},
		"no": {
			{Ours: []float64{1.4}, Limit: []float64{1}, Goal: Goal{Ratio: 1.3}}, {Ours: []float64{1}, Goal: Goal{Ratio: 1.3}},
			{Ours: []float64{61}, Goal: Goal{Value: 60}}, {Ours: []float64{0, 1, 0}, Goal: Goal{None: true}},
			{Ours: []float64{1, 2, 9}, Percentile: 99, Goal: Goal{Value: 2}},
			{Ours: []float64{50}, Limit: []float64{0}, Goal: Goal{Ratio: 1.3}}, {Ours: []float64{50}, Limit: []float64{-1}, Goal: Goal{Ratio: 1.3}},
		},
		"": {{Ours: []float64{1}}, {Goal: Goal{Value: 60}}},
	} {
		for _, f := range figures {
			if f.Met() != want {
				t.Errorf("%+v: met %q, want %q", f, f.Met(), want)
			}
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.01234: "0.0123", 1.5: "1.50", 12.345: "12.3", 123.45: "123", 12345: "12345", -2: "-2.00"} {
		if have := number(v); have != want {
			t.Errorf("%v is shown as %s, want %s", v, have, want)
		}
	}
	if have := thousands(1234567); have != "1,234,567" || thousands(999) != "999" {
		t.Errorf("1234567 is shown as %s", have)
	}
}
