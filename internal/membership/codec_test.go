package membership

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// none skips no items.
func none(record) bool { return false }

// fullRecord has everything that a record may have.
func fullRecord() record {
	at := time.UnixMilli(1_700_000_000_123).UTC()
	four, six := netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("2001:db8::1")
	return record{
		name: "node-a.example", inc: 1 << 62, head: version{300, 1<<63 | 5}, hasBase: true, base: 299,
		items: []item{
			{seq: 300, once: &once{published: true, leaving: true, keys: keyState{
				primary: fingerprint{1}, installed: []fingerprint{{1}, {2, 3}},
			}}},
			{seq: 1, key: itemKey{iface: "eth0"}, iface: &placement.Interface{
				Name: "eth0", Index: 7, MAC: placement.MAC{2, 0, 0x5e, 0x10, 0, 1}, Up: true, Carrier: true, Ether: true, Master: true,
				Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/16"), netip.MustParsePrefix("fd00::1/64")},
			}},
			{seq: 2, key: itemKey{iface: "eth1"}, gone: true},
			{seq: 3, key: itemKey{addr: four}, claim: &placement.Claim{
				IP: four, Since: at, Weak: true, Phase: placement.Free, Rival: placement.MAC{6, 5, 4, 3, 2, 1}, Successor: "node-b", After: "node-c",
			}},
			{seq: 4, key: itemKey{addr: four.Next()}, claim: &placement.Claim{
				IP: four.Next(), Since: at.Add(-time.Millisecond), Phase: placement.Probing, Successor: "node-b",
			}},
			{seq: 300, key: itemKey{addr: six}, claim: &placement.Claim{IP: six, Since: at, Phase: placement.Announcing}},
			{seq: 5, key: itemKey{addr: six.Next()}, gone: true},
			{seq: 6, key: itemKey{addr: six.Next().Next()}, claim: &placement.Claim{IP: six.Next().Next()}},
		},
	}
}

func TestMessagesComeAcross(t *testing.T) {
	other := record{name: "b", inc: 1, head: version{1, 2}}
	for _, m := range []message{
		{kind: deltaMsg, records: []record{fullRecord()}},
		{kind: stateMsg, from: "node-a", records: []record{fullRecord(), other, fullRecord()}},
		{kind: askMsg, from: "node-b", records: []record{other}},
		{kind: askAllMsg, from: "node-c"},
	} {
		b := appendMessage(nil, m.kind, m.from)
		for _, r := range m.records {
			b = appendRecord(b, r)
		}
		got, err := decode(b, none)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%v became\n%v, %v", m, got, err)
		}
		for n := range b {
			if short, err := decode(b[:n], none); err == nil && len(short.records) == len(m.records) && len(m.records) > 0 {
				t.Errorf("cut off after %d of %d bytes, it was read as %v", n, len(b), short)
			}
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	valid := appendRecord(appendMessage(nil, deltaMsg, ""), fullRecord())
	for _, tt := range []struct {
		reason string
		b      []byte
		want   string
	}{
		{"empty", nil, "cut off"},
		{"of a later version", append([]byte{2}, valid[1:]...), "another version"},
		{"of no kind", append([]byte{1, 9}, valid[2:]...), "unknown kind 9"},
		{"a length beyond the end", []byte{1, byte(deltaMsg), 200, 1, 'x'}, "cut off"},
		{"items beyond int", append(appendRecordHead([]byte{1, byte(deltaMsg)}, record{name: "a"}, 1, 0)[:23], binary.AppendUvarint(nil, 1<<63)...), "cut off"},
		{"a name that is no name", append([]byte{1, byte(deltaMsg)}, 0xff, 0xff, 0x03), "65535 bytes"},
		{"a length beyond int", append([]byte{1, byte(deltaMsg)}, bytes.Repeat([]byte{0xff}, 9)...), "cut off"},
	} {
		if _, err := decode(tt.b, none); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q", tt.reason, err, tt.want)
		}
	}
	if _, err := decode([]byte{2, 1}, none); !errors.Is(err, errVersion) {
		t.Error("another version is not told from a fault")
	}
}

// Another version of this project may talk to us; so the bytes of this one stay.
func TestFormatStays(t *testing.T) {
	r := record{name: "a", inc: 1, head: version{2, 3}, items: []item{{
		seq: 1, key: itemKey{addr: netip.MustParseAddr("198.18.0.1")},
		claim: &placement.Claim{IP: netip.MustParseAddr("198.18.0.1"), Since: time.UnixMilli(5), Phase: placement.Announcing, Successor: "b"},
	}}}
	want := []byte{
		1, 1, // version, delta
		1, 'a', 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 1, 12, // name, life, head, no base, one item of 12 bytes
		0x40, 1, 198, 18, 0, 1, 2, 10, 1, 1, 'b', 0, // claim with other nodes, one before the head, address, phase, time, names
	}
	if got := appendRecord(appendMessage(nil, deltaMsg, ""), r); !bytes.Equal(got, want) {
		t.Errorf("% x\nwant\n% x", got, want)
	}
}

func FuzzDecode(f *testing.F) {
	for _, kind := range []messageKind{deltaMsg, stateMsg, askMsg, askAllMsg} {
		f.Add(appendRecord(appendMessage(nil, kind, "from"), fullRecord()))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b, none)
		if err != nil {
			return
		}
		again := appendMessage(nil, m.kind, m.from)
		items := 0
		for _, r := range m.records {
			again = appendRecord(again, r)
			items += 1 + len(r.items)
		}
		if items > len(b) {
			t.Errorf("%d values out of %d bytes", items, len(b))
		}
		if twice, err := decode(again, none); err != nil || !reflect.DeepEqual(twice, m) {
			t.Errorf("%v was written so that it reads as %v, %v", m, twice, err)
		}
		s := newStore("from", packetRoom(""), log.NewNopLogger(), make(chan struct{}, 1))
		s.open(1)
		s.merge(m)
		s.reports()
		s.answer(m)
	})
}
