package v1beta1

import (
	"net/netip"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"
)

func TestRecordName(t *testing.T) {
	for _, tc := range []struct{ address, block, name string }{
		{"10.77.0.200", "10.77.0.192/26", "10-77-0-192"},
		{"10.77.0.191", "10.77.0.128/26", "10-77-0-128"},
		{"0.0.0.0", "0.0.0.0/26", "0-0-0-0"},
		{"255.255.255.255", "255.255.255.192/26", "255-255-255-192"},
		{"::ffff:10.77.0.200", "10.77.0.192/26", "10-77-0-192"},
		{"fd00::41", "fd00::40/122", "fd00-0000-0000-0000-0000-0000-0000-0040"},
		{"::", "::/122", "0000-0000-0000-0000-0000-0000-0000-0000"},
		{"fe80::1%eth0", "fe80::/122", "fe80-0000-0000-0000-0000-0000-0000-0000"},
	} {
		block := RecordBlock(netip.MustParseAddr(tc.address))
		if block.String() != tc.block {
			t.Errorf("block of %s: %s, want %s", tc.address, block, tc.block)
		}
		name := RecordName(block)
		if name != tc.name {
			t.Errorf("name of %s: %s, want %s", block, name, tc.name)
		}
		if faults := validation.IsDNS1123Label(name); len(faults) > 0 {
			t.Errorf("name of %s: %q is no label: %v", block, name, faults)
		}
	}
	if RecordBlock(netip.Addr{}).IsValid() {
		t.Error("the invalid address must have no block")
	}
}
