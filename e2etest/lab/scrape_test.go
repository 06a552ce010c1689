package lab

import "testing"

func TestSumSeries(t *testing.T) {
	const text = "# HELP owned what is owned\nowned{family=\"IPv4\",node=\"n1\"} 3\nowned{family=\"IPv6\",node=\"n1\"} 4\nowned_more{family=\"IPv4\"} 90\nplain 7\n"
	for _, tc := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"owned", nil, 7}, {"owned", []string{`family="IPv4"`}, 3}, {"owned", []string{`node="n1"`, `family="IPv6"`}, 4},
		{"owned", []string{`family="IPv"`}, 0}, {"plain", nil, 7}, {"absent", nil, 0},
	} {
		if have, err := sumSeries(text, tc.name, tc.labels...); err != nil || have != tc.want {
			t.Errorf("%s %v: %v, %v; want %v", tc.name, tc.labels, have, err, tc.want)
		}
	}
	if _, err := sumSeries("owned x", "owned"); err == nil {
		t.Error("a value that is no number is taken for one")
	}
}
