package lab

import (
	"net"
	"net/netip"
	"testing"
)

var (
	macA, macB = net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	a4, b4     = netip.MustParseAddr("10.77.0.11"), netip.MustParseAddr("10.77.0.200")
	a6, b6     = netip.MustParseAddr("fd77::11"), netip.MustParseAddr("fd77::200")
)

func TestDecodeRequests(t *testing.T) {
	f := decodeFrame(arpRequest(macA, a4, b4))
	if f.Kind != ARPRequest || f.Sender != a4 || f.Target != b4 || f.SenderMAC.String() != macA.String() {
		t.Errorf("ARP request decoded as %v", f)
	}
	if !f.Claims(a4) || f.Claims(b4) {
		t.Errorf("an ARP request claims its sender's address and no other: %v", f)
	}
	f = decodeFrame(solicitation(macA, a6, b6))
	if f.Kind != NeighborSolicitation || f.Sender != a6 || f.Target != b6 || f.SenderMAC.String() != macA.String() ||
		f.IPDst != netip.MustParseAddr("ff02::1:ff00:200") || f.Dst.String() != "33:33:ff:00:02:00" || f.HopLimit != 255 {
		t.Errorf("NS decoded as %v", f)
	}
	if f.Claims(a6) || f.Claims(b6) {
		t.Errorf("an NS claims nothing: %v", f)
	}
}

// TestDecodeAdvertisement turns the solicitation into the answer that RFC 4861 section 4.4 draws.
func TestDecodeAdvertisement(t *testing.T) {
	raw := solicitation(macA, a6, b6)
	icmp := raw[ethernetHeader+40:]
	icmp[0], icmp[4], icmp[24] = 136, 0x60, 2
	f := decodeFrame(raw)
	if f.Kind != NeighborAdvertisement || !f.Override || !f.Solicited || !f.Claims(b6) || f.Claimant().String() != macA.String() {
		t.Errorf("NA decoded as %v", f)
	}
	icmp[4] = 0x40
	copy(raw[6:12], macB)
	raw = raw[:len(raw)-8]
	f = decodeFrame(raw)
	if f.Override || f.TargetMAC != nil || f.Claimant().String() != macB.String() {
		t.Errorf("NA without option decoded as %v", f)
	}
}

func FuzzDecodeFrame(f *testing.F) {
	f.Add(arpRequest(macA, a4, b4))
	f.Add(solicitation(macA, a6, b6))
	f.Fuzz(func(t *testing.T, raw []byte) {
		frame := decodeFrame(raw)
		if frame.String() == "" {
			t.Error("a frame without a line")
		}
		if frame.Kind == ARPReply && !frame.Sender.Is4() {
			t.Errorf("ARP from %v", frame.Sender)
		}
	})
}
