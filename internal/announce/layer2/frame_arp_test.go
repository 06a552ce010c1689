package layer2

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	xarp "github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

var (
	us    = placement.MAC{0x02, 0x5e, 0, 0, 0, 0x01}
	them  = placement.MAC{0x02, 0x5e, 0, 0, 0, 0x02}
	third = placement.MAC{0x02, 0x5e, 0, 0, 0, 0x03}
	vip4  = netip.MustParseAddr("10.77.0.100")
	host4 = netip.MustParseAddr("10.77.0.1")
)

// wantFrame compares a frame with hexadecimal text whose blanks and newlines do not count.
func wantFrame(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(want), ""))
	check(t, err)
	if !bytes.Equal(got, b) {
		t.Errorf("%s:\n got %x\nwant %x", what, got, b)
	}
}

// patched returns a copy of a frame with bytes written at an offset.
func patched(frame []byte, at int, b ...byte) []byte {
	c := bytes.Clone(frame)
	copy(c[at:], b)
	return c
}

func TestARPFramesByteByByte(t *testing.T) {
	wantFrame(t, "reply", arpAnswer(nil, arpFrame(t, them, placement.MAC{}, host4, vip4), us), `
		025e00000002 025e00000001 0806
		0001 0800 06 04 0002
		025e00000001 0a4d0064
		025e00000002 0a4d0001`)
	probe := arpFrame(t, them, placement.MAC{}, netip.IPv4Unspecified(), vip4)
	wantFrame(t, "reply to a probe", arpAnswer(nil, probe, us), `
		025e00000002 025e00000001 0806
		0001 0800 06 04 0002
		025e00000001 0a4d0064
		025e00000002 00000000`)
	wantFrame(t, "announcement", arpAnnouncement(nil, us, vip4), `
		ffffffffffff 025e00000001 0806
		0001 0800 06 04 0001
		025e00000001 0a4d0064
		000000000000 0a4d0064`)
	wantFrame(t, "gratuitous reply", arpGratuitousReply(nil, us, vip4), `
		ffffffffffff 025e00000001 0806
		0001 0800 06 04 0002
		025e00000001 0a4d0064
		025e00000001 0a4d0064`)
	wantFrame(t, "probe", arpProbe(nil, us, vip4), `
		ffffffffffff 025e00000001 0806
		0001 0800 06 04 0001
		025e00000001 00000000
		000000000000 0a4d0064`)
}

func TestARPClaimsByAnyOperation(t *testing.T) {
	announced := arpFrame(t, them, placement.MAC{}, vip4, vip4)
	reply := patched(arpFrame(t, them, us, vip4, host4), 20, 0, 2)
	probe := arpFrame(t, them, placement.MAC{}, netip.IPv4Unspecified(), vip4)
	for _, c := range []struct {
		name      string
		frame     []byte
		mac       placement.MAC // of the claimant; zero for none
		tentative bool
	}{
		{"announcement", announced, them, false},
		{"request for another address", arpFrame(t, them, placement.MAC{}, vip4, host4), them, false},
		{"reply to us", reply, them, false},
		{"gratuitous reply", arpGratuitousReply(nil, them, vip4), them, false},
		{"padded", append(bytes.Clone(reply), make([]byte, 18)...), them, false},
		{"reply sent on by another", patched(reply, 6, third[:]...), them, false},
		{"of a cluster that shares a group", patched(reply, arpSenderMAC, 3), placement.MAC{3, 0x5e, 0, 0, 0, 2}, false},
		{"probe", probe, them, true},
		{"reply to a probe of ours", patched(arpFrame(t, them, us, vip4, netip.IPv4Unspecified()), 20, 0, 2), them, false},
		{"reply without sender", patched(probe, 20, 0, 2), placement.MAC{}, true},
		{"reply without hardware address", patched(reply, arpSenderMAC, 0, 0, 0, 0, 0, 0), placement.MAC{}, false},
		{"reply to another", patched(reply, 0, third[:]...), placement.MAC{}, false},
		{"our own", patched(announced, 6, us[:]...), placement.MAC{}, false},
		{"reverse ARP", patched(announced, 20, 0, 3), placement.MAC{}, false},
		{"not IPv4", patched(announced, 16, 0x86, 0xdd), placement.MAC{}, false},
		{"long hardware address", patched(announced, 18, 8), placement.MAC{}, false},
		{"cut short", announced[:etherLen+arpLen-1], placement.MAC{}, false},
		{"empty", nil, placement.MAC{}, false},
	} {
		mac, ok := arpClaimant(c.frame, us)
		if ok != (c.mac != placement.MAC{}) || ok && mac != c.mac {
			t.Errorf("%s: claimed by %s (%v), want %s", c.name, mac, ok, c.mac)
		}
		ip, tentative := arpClaimed(c.frame)
		if tentative != c.tentative || ok && ip != vip4 {
			t.Errorf("%s: %s claimed, tentative: %v; want %s, %v", c.name, ip, tentative, vip4, c.tentative)
		}
	}
}

func FuzzARPClaim(f *testing.F) {
	f.Add(arpProbe(nil, them, vip4))
	f.Add(arpAnnouncement(nil, them, vip4))
	f.Add(arpGratuitousReply(nil, them, vip4))
	f.Fuzz(func(t *testing.T, raw []byte) {
		ip, tentative := arpClaimed(raw)
		mac, ok := arpClaimant(raw, us)
		if !ok {
			return
		}
		p := readARP(t, raw)
		claimed := p.SenderIP
		if tentative {
			claimed = p.TargetIP
		}
		if ip != claimed || tentative != p.SenderIP.IsUnspecified() || tentative && p.Operation != xarp.OperationRequest ||
			mac != placement.MAC(p.SenderHardwareAddr) {
			t.Fatalf("%x: %s claimed by %s, tentative: %v", raw, ip, mac, tentative)
		}
	})
}

func TestARPAnswersOnlyWhatAsks(t *testing.T) {
	ask := arpFrame(t, them, placement.MAC{}, host4, vip4)
	padded := append(bytes.Clone(ask), make([]byte, 18)...)
	for _, c := range []struct {
		name   string
		frame  []byte
		answer bool
	}{
		{"broadcast", ask, true},
		{"padded to the least size of Ethernet", padded, true},
		{"unicast to us", arpFrame(t, them, us, host4, vip4), true},
		{"unicast to another", arpFrame(t, them, third, host4, vip4), false},
		{"probe", arpFrame(t, them, placement.MAC{}, netip.IPv4Unspecified(), vip4), true},
		{"announced by another", arpFrame(t, them, placement.MAC{}, vip4, vip4), false},
		{"our own", arpFrame(t, us, placement.MAC{}, host4, vip4), false},
		{"our own, sent on by another", patched(ask, arpSenderMAC, us[:]...), false},
		{"relayed: answered to the asker", patched(ask, 6, third[:]...), true},
		{"from a group", patched(ask, 6, 0x03), false},
		{"asker is a group", patched(ask, arpSenderMAC, 0x03), false},
		{"asker without address", patched(ask, arpSenderMAC, 0, 0, 0, 0, 0, 0), false},
		{"reply", patched(ask, 20, 0, 2), false},
		{"reverse ARP", patched(ask, 20, 0, 3), false},
		{"not ARP", patched(ask, 12, 0x08, 0x00), false},
		{"not Ethernet", patched(ask, 14, 0, 6), false},
		{"not IPv4", patched(ask, 16, 0x86, 0xdd), false},
		{"long hardware address", patched(ask, 18, 8), false},
		{"long protocol address", patched(ask, 19, 16), false},
		{"cut short", ask[:etherLen+arpLen-1], false},
		{"empty", nil, false},
	} {
		got := arpAnswer(nil, c.frame, us)
		if (got != nil) != c.answer {
			t.Errorf("%s: answer %x, want one: %v", c.name, got, c.answer)
		}
		if got != nil && placement.MAC(got) != them {
			t.Errorf("%s: answered to %s, want %s", c.name, placement.MAC(got), them)
		}
	}
}

func FuzzARPAnswer(f *testing.F) {
	f.Add(arpFrame(f, them, placement.MAC{}, host4, vip4))
	f.Add(arpFrame(f, them, us, netip.IPv4Unspecified(), vip4))
	f.Add(arpAnnouncement(nil, them, vip4))
	f.Add(arpGratuitousReply(nil, them, vip4))
	f.Fuzz(func(t *testing.T, raw []byte) {
		out := arpAnswer(nil, raw, us)
		if out == nil {
			return
		}
		ip, ok := arpTarget(raw)
		ask, reply := readARP(t, raw), readARP(t, out)
		if !ok || ask.Operation != xarp.OperationRequest || ask.TargetIP != ip {
			t.Fatalf("answered %x", raw)
		}
		if reply.Operation != xarp.OperationReply || reply.SenderIP != ip || placement.MAC(reply.SenderHardwareAddr) != us ||
			reply.TargetIP != ask.SenderIP || placement.MAC(reply.TargetHardwareAddr) != placement.MAC(ask.SenderHardwareAddr) ||
			placement.MAC(out) != placement.MAC(ask.SenderHardwareAddr) {
			t.Fatalf("%x answered by %x", raw, out)
		}
	})
}

func readARP(t *testing.T, raw []byte) (p xarp.Packet) {
	t.Helper()
	var e ethernet.Frame
	check(t, e.UnmarshalBinary(raw))
	check(t, p.UnmarshalBinary(e.Payload))
	return p
}
