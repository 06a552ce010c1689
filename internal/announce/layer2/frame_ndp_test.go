package layer2

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/mdlayher/ethernet"
	xndp "github.com/mdlayher/ndp"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

var (
	vip6  = netip.MustParseAddr("fd77::a:b00c")
	host6 = netip.MustParseAddr("fd77::1")
	zero6 = netip.IPv6Unspecified()
)

func TestNDPFramesByteByByte(t *testing.T) {
	wantFrame(t, "solicited", ndpAnswer(nil, ndpFrame(t, them, placement.MAC{}, host6, vip6), us), `
		025e00000002 025e00000001 86dd
		6 00 00000 0020 3a ff
		fd77000000000000 00000000000ab00c
		fd77000000000000 0000000000000001
		88 00 baae 60000000
		fd77000000000000 00000000000ab00c
		02 01 025e00000001`)
	wantFrame(t, "to duplicate address detection", ndpAnswer(nil, ndpFrame(t, them, placement.MAC{}, zero6, vip6), us), `
		333300000001 025e00000001 86dd
		6 00 00000 0020 3a ff
		fd77000000000000 00000000000ab00c
		ff02000000000000 0000000000000001
		88 00 f923 20000000
		fd77000000000000 00000000000ab00c
		02 01 025e00000001`)
	wantFrame(t, "unsolicited", ndpUnsolicited(nil, us, vip6), `
		333300000001 025e00000001 86dd
		6 00 00000 0020 3a ff
		fd77000000000000 00000000000ab00c
		ff02000000000000 0000000000000001
		88 00 f923 20000000
		fd77000000000000 00000000000ab00c
		02 01 025e00000001`)
}

func TestNDPMessagesAsTheLibraryWritesThem(t *testing.T) {
	for _, c := range []struct {
		name      string
		frame     []byte
		to        netip.Addr
		solicited bool
	}{
		{name: "solicited", frame: ndpAnswer(nil, ndpFrame(t, them, us, host6, vip6), us), to: host6, solicited: true},
		{name: "unsolicited", frame: ndpUnsolicited(nil, us, vip6), to: allNodesIP},
	} {
		want, err := xndp.MarshalMessageChecksum(&xndp.NeighborAdvertisement{
			Solicited: c.solicited, Override: true, TargetAddress: vip6,
			Options: []xndp.Option{&xndp.LinkLayerAddress{Direction: xndp.Target, Addr: us[:]}},
		}, vip6, c.to)
		check(t, err)
		if got := c.frame[icmpStart:]; !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %x\nwant %x", c.name, got, want)
		}
	}
}

// solicitation is a frame whose ICMPv6 checksum is right whatever its content.
func solicitation(source, dest netip.Addr, hops byte, body ...byte) []byte {
	frame := appendEther(nil, broadcast, them, typeIPv6)
	copy(frame, []byte{0x33, 0x33, 0xff, 0x0a, 0xb0, 0x0c})
	frame = append(frame, ipv6Packet(source, dest, hops, body)...)
	if len(body) >= 4 {
		sum := checksum(frame[ipv6Source:icmpStart], frame[icmpStart:])
		frame[icmpStart+2], frame[icmpStart+3] = byte(sum>>8), byte(sum)
	}
	return frame
}

func TestNDPAnswersOnlyWhatRFC4861LetsIt(t *testing.T) {
	dest := solicitedGroup(vip6)
	ns := func(target netip.Addr, options ...byte) []byte {
		return slices.Concat([]byte{solicit, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice(), options)
	}
	slla := append([]byte{1, 1}, third[:]...)
	nonce := []byte{14, 1, 1, 2, 3, 4, 5, 6}
	good := solicitation(host6, dest, 255, ns(vip6, slla...)...)
	multicast := netip.MustParseAddr("ff02::123")
	for _, c := range []struct {
		name  string
		frame []byte
		to    placement.MAC // of the answer; zero for none
	}{
		{"with source option", good, third},
		{"padded", append(bytes.Clone(good), 0, 0, 0), third},
		{"without source option", solicitation(host6, dest, 255, ns(vip6)...), them},
		{"unknown option first", solicitation(host6, dest, 255, ns(vip6, append(nonce, slla...)...)...), third},
		{"source option of a group", solicitation(host6, dest, 255, ns(vip6, 1, 1, 0x33, 0, 0, 0, 0, 1)...), them},
		{"unicast", patched(solicitation(host6, vip6, 255, ns(vip6, slla...)...), 0, us[:]...), third},
		{"unicast to another", patched(solicitation(host6, vip6, 255, ns(vip6, slla...)...), 0, third[:]...), placement.MAC{}},
		{"duplicate address detection", solicitation(zero6, dest, 255, ns(vip6)...), allNodes},
		{"the same with a nonce (RFC 7527)", solicitation(zero6, dest, 255, ns(vip6, nonce...)...), allNodes},
		{"the same with a source option", solicitation(zero6, dest, 255, ns(vip6, slla...)...), placement.MAC{}},
		{"the same to another group", solicitation(zero6, allNodesIP, 255, ns(vip6)...), placement.MAC{}},
		{"the same by unicast", solicitation(zero6, vip6, 255, ns(vip6)...), placement.MAC{}},
		{"from a group", solicitation(multicast, dest, 255, ns(vip6)...), placement.MAC{}},
		{"for a group", solicitation(host6, dest, 255, ns(multicast)...), placement.MAC{}},
		{"hop limit 254", solicitation(host6, dest, 254, ns(vip6)...), placement.MAC{}},
		{"wrong checksum", patched(good, icmpStart+2, good[icmpStart+2]+1), placement.MAC{}},
		{"option of length 0", solicitation(host6, dest, 255, ns(vip6, 1, 0, 0, 0, 0, 0, 0, 0)...), placement.MAC{}},
		{"option beyond the end", solicitation(host6, dest, 255, ns(vip6, 1, 2, 0, 0, 0, 0, 0, 0)...), placement.MAC{}},
		{"option cut short", solicitation(host6, dest, 255, ns(vip6, 1, 1, 0)...), placement.MAC{}},
		{"code 1", solicitation(host6, dest, 255, patched(ns(vip6), 1, 1)...), placement.MAC{}},
		{"advertisement", solicitation(host6, dest, 255, patched(ns(vip6), 0, advertise)...), placement.MAC{}},
		{"body cut short", solicitation(host6, dest, 255, ns(vip6)[:23]...), placement.MAC{}},
		{"length beyond the frame", patched(good, etherLen+4, 0, 33), placement.MAC{}},
		{"frame cut short", good[:len(good)-1], placement.MAC{}},
		{"not IPv6 inside", patched(good, etherLen, 0x40), placement.MAC{}},
		{"extension header", patched(good, etherLen+6, 0), placement.MAC{}},
		{"other type of frame", patched(good, 12, 0x08, 0x00), placement.MAC{}},
		{"our own", patched(good, 6, us[:]...), placement.MAC{}},
		{"empty", nil, placement.MAC{}},
	} {
		var to placement.MAC
		if got := ndpAnswer(nil, c.frame, us); got != nil {
			to = placement.MAC(got)
		}
		if to != c.to {
			t.Errorf("%s: answered to %s, want %s", c.name, to, c.to)
		}
	}
}

func TestSolicitedGroup(t *testing.T) {
	if got, want := solicitedGroup(vip6), netip.MustParseAddr("ff02::1:ff0a:b00c"); got != want {
		t.Errorf("group of %s is %s, want %s", vip6, got, want)
	}
}

func FuzzNDPAnswer(f *testing.F) {
	f.Add(ndpFrame(f, them, placement.MAC{}, host6, vip6))
	f.Add(ndpFrame(f, them, us, host6, vip6))
	f.Add(ndpFrame(f, them, placement.MAC{}, zero6, vip6))
	f.Add(ndpUnsolicited(nil, them, vip6))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > icmpStart { // give the fuzzer a way past the checksum
			raw = bytes.Clone(raw)
			end := min(icmpStart+int(raw[etherLen+4])<<8+int(raw[etherLen+5]), len(raw))
			if end > icmpStart+4 {
				raw[icmpStart+2], raw[icmpStart+3] = 0, 0
				sum := checksum(raw[ipv6Source:icmpStart], raw[icmpStart:end])
				raw[icmpStart+2], raw[icmpStart+3] = byte(sum>>8), byte(sum)
			}
		}
		out := ndpAnswer(nil, raw, us)
		if out == nil {
			return
		}
		ip, ok := ndpTargetOf(raw)
		if !ok || raw[icmpStart] != solicit || ip.IsMulticast() {
			t.Fatalf("answered %x", raw)
		}
		var e ethernet.Frame
		check(t, e.UnmarshalBinary(out))
		m, err := xndp.ParseMessage(e.Payload[ipv6Len:])
		check(t, err)
		na := m.(*xndp.NeighborAdvertisement)
		dad := netip.AddrFrom16([16]byte(raw[ipv6Source:])).IsUnspecified()
		if na.TargetAddress != ip || na.Solicited == dad || !na.Override || na.Router || len(na.Options) != 1 ||
			placement.MAC(e.Source) != us || (placement.MAC(e.Destination) == allNodes) != dad {
			t.Fatalf("%x answered by %x", raw, out)
		}
	})
}
