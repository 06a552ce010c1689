package lab

import (
	"strings"
	"testing"
)

func TestPreflightNamesAllThatIsMissing(t *testing.T) {
	if err := NeedRoot(); err != nil {
		t.Skip(err)
	}
	t.Setenv("PATH", t.TempDir())
	err := preflight(Options{Proxy: IPTables, binDir: t.TempDir()})
	if err == nil {
		t.Fatal("nothing is missing from an empty PATH")
	}
	for _, want := range []string{"install iproute2", "install nftables", "install conntrack", "install iptables", "lab is not built", "controlplane is not built"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
}
