package config

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
)

func TestSelectingServices(t *testing.T) {
	web := map[string]string{"app": "web"}
	by := func(label string) v1beta1.L2AdvertisementSpec {
		return v1beta1.L2AdvertisementSpec{ServiceSelectors: []metav1.LabelSelector{
			{MatchLabels: map[string]string{"app": "other"}}, {MatchLabels: map[string]string{"app": label}}}}
	}
	for _, tc := range []struct {
		name string
		ads  []v1beta1.L2Advertisement
		want string
	}{
		{name: "no advertisement at all"},
		{name: "none selects", ads: []v1beta1.L2Advertisement{ad("all", v1beta1.L2AdvertisementSpec{})}},
		{name: "one of its selectors is enough", ads: []v1beta1.L2Advertisement{ad("web", by("web")), ad("db", by("db"))}, want: "web"},
		{name: "the one without selectors is for all", ads: []v1beta1.L2Advertisement{ad("db", by("db")), ad("all", v1beta1.L2AdvertisementSpec{})}, want: "all"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, faults := Parse(Objects{L2Advertisements: tc.ads})
			names := s.Selecting(web)
			if got := sorted(names); got != tc.want || len(faults) > 0 || (names == nil) != (tc.want == "") {
				t.Errorf("selected by %q (%v), want %q; faults %v", got, names, tc.want, faults)
			}
		})
	}
	s, _ := Parse(Objects{L2Advertisements: []v1beta1.L2Advertisement{ad("db", by("db"))}})
	if names := s.Selecting(web); names == nil || len(names) > 0 {
		t.Errorf("a Service that nothing selects is selected by %v, want an empty set", names)
	}
}

func TestPreferences(t *testing.T) {
	spec := v1beta1.L2AdvertisementSpec{
		NodeSelectors: []metav1.LabelSelector{{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: "name", Operator: metav1.LabelSelectorOpIn, Values: []string{"n1", "n2"}}}}},
		PreferredNodeSelectors: []v1beta1.PreferredNodeSelector{
			{Weight: 7, Preference: named("n1")[0]}, {Weight: 1}, {Weight: 100, Preference: named("n3")[0]}},
		IgnoreSubnets: true,
		NoEndpoints:   v1beta1.NoEndpointsWithdraw,
	}
	objects := Objects{Nodes: []corev1.Node{node("n1"), node("n2"), node("n3")}, L2Advertisements: []v1beta1.L2Advertisement{ad("ad", spec), ad("plain", v1beta1.L2AdvertisementSpec{})}}
	s, faults := Parse(objects)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	var got []string
	for _, p := range s.Advertisements[0].Preferred {
		got = append(got, fmt.Sprint(p.Weight, ": ", sorted(p.Nodes)))
	}
	if want := []string{"7: n1", "1: n1 n2", "100: "}; !slices.Equal(got, want) {
		t.Errorf("preferences %q, want %q: only among the nodes of the advertisement", got, want)
	}
	if a, plain := s.Advertisements[0], s.Advertisements[1]; !a.IgnoreSubnets || !a.Withdraw || plain.IgnoreSubnets || plain.Withdraw {
		t.Errorf("subnets ignored and withdrawn: %+v, and by default %+v", a, plain)
	}
}

// TestEveryFaultOfAnAdvertisement: all are told at once, each with its field, and none is left to be a warning.
func TestEveryFaultOfAnAdvertisement(t *testing.T) {
	broken := metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Inn"}}}
	spec := v1beta1.L2AdvertisementSpec{
		ServiceSelectors: []metav1.LabelSelector{{}, broken},
		PreferredNodeSelectors: []v1beta1.PreferredNodeSelector{
			{Weight: 1}, {Weight: 0}, {Weight: 101, Preference: broken}},
		NoEndpoints: "Reject",
	}
	s, faults := Parse(Objects{L2Advertisements: []v1beta1.L2Advertisement{ad("ad", spec)}})
	var got []string
	for _, f := range faults {
		got = append(got, fmt.Sprint(f.Field, " ", f.Reason))
		if f.Warning || f.Name != "ad" || f.Kind != KindL2Advertisement {
			t.Errorf("fault %+v", f)
		}
	}
	want := []string{"spec.serviceSelectors[1] InvalidSelector", "spec.preferredNodeSelectors[1].weight InvalidValue",
		"spec.preferredNodeSelectors[2].weight InvalidValue", "spec.preferredNodeSelectors[2].preference InvalidSelector", "spec.noEndpoints InvalidValue"}
	if !slices.Equal(got, want) || len(s.Advertisements) > 0 {
		t.Errorf("faults %q, want %q; in force %v", got, want, s.Advertisements)
	}
}

// TestLastGoodServiceSelectors: a faulty edit leaves what selected Services before in force.
func TestLastGoodServiceSelectors(t *testing.T) {
	spec := v1beta1.L2AdvertisementSpec{ServiceSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"app": "web"}}}}
	last, _ := Parse(Objects{L2Advertisements: []v1beta1.L2Advertisement{ad("ad", spec)}})
	s, faults := ParseAfter(last, Objects{L2Advertisements: []v1beta1.L2Advertisement{ad("ad", v1beta1.L2AdvertisementSpec{NoEndpoints: "Reject"})}})
	if len(faults) == 0 || sorted(s.Selecting(map[string]string{"app": "web"})) != "ad" || len(s.Selecting(nil)) > 0 {
		t.Errorf("after a faulty edit it selects %v of web and %v of others; faults %v",
			s.Selecting(map[string]string{"app": "web"}), s.Selecting(nil), faults)
	}
}
