package layer2

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/mdlayher/ethernet"
	xndp "github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"

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
	wantFrame(t, "probe", ndpProbe(nil, us, vip6), `
		3333ff0ab00c 025e00000001 86dd
		6 00 00000 0018 3a ff
		0000000000000000 0000000000000000
		ff02000000000000 00000001ff0ab00c
		87 00 1d03 00000000
		fd77000000000000 00000000000ab00c`)
}

// Every packet that we send, as an independent decoder reads it.
func TestNDPPacketsAsOthersReadThem(t *testing.T) {
	lladdr := &xndp.LinkLayerAddress{Direction: xndp.Target, Addr: us[:]}
	for _, c := range []struct {
		name     string
		frame    []byte
		to       placement.MAC
		from, at netip.Addr
		message  xndp.Message
	}{
		{"answer", ndpAnswer(nil, ndpFrame(t, them, us, host6, vip6), us), them, vip6, host6,
			&xndp.NeighborAdvertisement{Solicited: true, Override: true, TargetAddress: vip6, Options: []xndp.Option{lladdr}}},
		{"announcement and defence", ndpUnsolicited(nil, us, vip6), allNodes, vip6, allNodesIP,
			&xndp.NeighborAdvertisement{Override: true, TargetAddress: vip6, Options: []xndp.Option{lladdr}}},
		{"probe", ndpProbe(nil, us, vip6), groupMAC(solicitedGroup(vip6)), zero6, solicitedGroup(vip6),
			&xndp.NeighborSolicitation{TargetAddress: vip6}},
	} {
		var e ethernet.Frame
		check(t, e.UnmarshalBinary(c.frame))
		if placement.MAC(e.Destination) != c.to || placement.MAC(e.Source) != us || e.EtherType != ethernet.EtherTypeIPv6 {
			t.Errorf("%s: Ethernet header %+v", c.name, e)
		}
		h, err := ipv6.ParseHeader(e.Payload)
		check(t, err)
		source, _ := netip.AddrFromSlice(h.Src)
		dest, _ := netip.AddrFromSlice(h.Dst)
		if h.Version != 6 || h.TrafficClass != 0 || h.FlowLabel != 0 || h.NextHeader != 58 || h.HopLimit != 255 ||
			source != c.from || dest != c.at || h.PayloadLen != len(e.Payload)-ipv6.HeaderLen {
			t.Errorf("%s: IPv6 header %v", c.name, h)
		}
		want, err := xndp.MarshalMessageChecksum(c.message, source, dest)
		check(t, err)
		if got := e.Payload[ipv6.HeaderLen:]; !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %x\nwant %x", c.name, got, want)
		}
	}
}

func TestNDPClaims(t *testing.T) {
	dest := solicitedGroup(vip6)
	na := func(source, dest netip.Addr, hops byte, flags byte, options ...byte) []byte {
		return solicitation(source, dest, hops, slices.Concat([]byte{advertise, 0, 0, 0, flags, 0, 0, 0}, vip6.AsSlice(), options)...)
	}
	tlla := append([]byte{2, 1}, third[:]...)
	good := na(vip6, allNodesIP, 255, 0x20, tlla...)
	dad := ndpFrame(t, them, placement.MAC{}, zero6, vip6)
	none := placement.MAC{}
	for _, c := range []struct {
		name      string
		frame     []byte
		mac       placement.MAC // of the claimant; zero for none
		tentative bool
	}{
		{"announcement", good, third, false},
		{"without override, as a proxy's", na(vip6, allNodesIP, 255, 0, tlla...), third, false},
		{"from another address of its", na(host6, allNodesIP, 255, 0x20, tlla...), third, false},
		{"answer to us", patched(na(vip6, host6, 255, 0x60, tlla...), 0, us[:]...), third, false},
		{"answer to another", patched(na(vip6, host6, 255, 0x60, tlla...), 0, third[:]...), none, false},
		{"without option", na(vip6, allNodesIP, 255, 0x20), them, false},
		{"padded", append(bytes.Clone(good), 0, 0, 0), third, false},
		{"solicited, to a group", na(vip6, allNodesIP, 255, 0x60, tlla...), none, false},
		{"hop limit 254", na(vip6, allNodesIP, 254, 0x20, tlla...), none, false},
		{"wrong checksum", patched(good, icmpStart+2, good[icmpStart+2]+1), none, false},
		{"option of length 0", na(vip6, allNodesIP, 255, 0x20, 2, 0, 0, 0, 0, 0, 0, 0), none, false},
		{"frame cut short", good[:len(good)-1], none, false},
		{"from a group", na(allNodesIP, allNodesIP, 255, 0x20, tlla...), none, false},
		{"our own", patched(good, 6, us[:]...), none, false},
		{"duplicate address detection", dad, them, true},
		{"the same with a nonce (RFC 7527)", solicitation(zero6, dest, 255, slices.Concat([]byte{solicit, 0, 0, 0, 0, 0, 0, 0}, vip6.AsSlice(), []byte{14, 1, 1, 2, 3, 4, 5, 6})...), them, true},
		{"the same, brought back by a loop", patched(dad, 6, us[:]...), none, true},
		{"the same by unicast", solicitation(zero6, vip6, 255, slices.Concat([]byte{solicit, 0, 0, 0, 0, 0, 0, 0}, vip6.AsSlice())...), none, true},
		{"question", ndpFrame(t, them, none, host6, vip6), none, false},
		{"empty", nil, none, false},
	} {
		mac, ok := ndpClaimant(c.frame, us)
		if ok != (c.mac != none) || ok && mac != c.mac {
			t.Errorf("%s: claimed by %s (%v), want %s", c.name, mac, ok, c.mac)
		}
		ip, tentative := ndpClaimed(c.frame)
		if tentative != c.tentative || ok && ip != vip6 {
			t.Errorf("%s: %s claimed, tentative: %v; want %s, %v", c.name, ip, tentative, vip6, c.tentative)
		}
	}
	if ip, _ := ndpClaimed(ndpFrame(t, them, none, host6, vip6)); ip.IsValid() {
		t.Errorf("a question claims %s", ip)
	}
}

func FuzzNDPClaim(f *testing.F) {
	f.Add(ndpProbe(nil, them, vip6))
	f.Add(ndpUnsolicited(nil, them, vip6))
	f.Add(ndpFrame(f, them, us, host6, vip6))
	f.Fuzz(func(t *testing.T, raw []byte) {
		raw = summed(raw)
		ip, tentative := ndpClaimed(raw)
		mac, ok := ndpClaimant(raw, us)
		if !ok {
			return
		}
		if !ip.IsValid() || ip.IsMulticast() || mac == us && placement.MAC(raw[6:]) == us || !unicast(mac) {
			t.Fatalf("%x: %s claimed by %s", raw, ip, mac)
		}
		size := int(raw[etherLen+4])<<8 + int(raw[etherLen+5])
		m, err := xndp.ParseMessage(raw[icmpStart : icmpStart+size])
		switch m := m.(type) {
		case *xndp.NeighborAdvertisement:
			if tentative || m.TargetAddress != ip {
				t.Fatalf("%x: %s claimed, tentative: %v", raw, ip, tentative)
			}
		case *xndp.NeighborSolicitation:
			if !tentative || m.TargetAddress != ip {
				t.Fatalf("%x: %s claimed, tentative: %v", raw, ip, tentative)
			}
		default:
			if err == nil { // the library refuses options that we skip
				t.Fatalf("%x is a claim", raw)
			}
		}
	})
}

// summed gives a frame the right checksum, if it has room for one: a fuzzer does not find it.
func summed(raw []byte) []byte {
	if len(raw) <= icmpStart {
		return raw
	}
	raw = bytes.Clone(raw)
	end := min(icmpStart+int(raw[etherLen+4])<<8+int(raw[etherLen+5]), len(raw))
	if end > icmpStart+4 {
		raw[icmpStart+2], raw[icmpStart+3] = 0, 0
		sum := checksum(raw[ipv6Source:icmpStart], raw[icmpStart:end])
		raw[icmpStart+2], raw[icmpStart+3] = byte(sum>>8), byte(sum)
	}
	return raw
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
		raw = summed(raw)
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
