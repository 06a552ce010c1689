package kube

import "testing"

func TestLeaseName(t *testing.T) {
	for class, want := range map[string]string{
		"":                "lanyard-controller",
		"example.com/lan": "lanyard-controller-af87cee2", // printf %s example.com/lan | sha256sum
	} {
		if got := LeaseName("lanyard-controller", class); got != want {
			t.Errorf("the lease of class %q is %s, want %s", class, got, want)
		}
	}
}
