package membership

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestNewRefuses(t *testing.T) {
	for _, tt := range []struct {
		reason string
		cfg    Config
		want   string // in the error; none if empty
	}{
		{"defaults do", Config{Name: "a"}, ""},
		{"any host", Config{Name: "a", Bind: "0.0.0.0:7946"}, ""},
		{"no host", Config{Name: "a", Bind: ":0"}, ""},
		{"IPv6 host", Config{Name: "a", Bind: "[fd00::1]:7946"}, ""},
		{"members have names", Config{}, "name"},
		{"a port is needed", Config{Name: "a", Bind: "10.0.0.1"}, `"10.0.0.1"`},
		{"ports are numbers", Config{Name: "a", Bind: ":gossip"}, `"gossip"`},
		{"ports have 16 bits", Config{Name: "a", Bind: ":65536"}, `"65536"`},
		{"names are not looked up", Config{Name: "a", Bind: "node1:7946"}, `"node1"`},
		{"a zone means nothing elsewhere", Config{Name: "a", Bind: "[fe80::1%eth0]:7946"}, "zone"},
		{"multicast is nobody's address", Config{Name: "a", Bind: "224.0.0.1:7946"}, "unicast"},
		{"an empty key file is a mistake", Config{Name: "a", Key: []byte{}}, "blank"},
		{"so is one of white space", Config{Name: "a", Key: []byte(" \n\t")}, "blank"},
		{"labels have a length byte", Config{Name: "a", Label: strings.Repeat("x", 256)}, "255"},
		{"values of the profile may be replaced", Config{Name: "a", Tuning: Tuning{ProbeInterval: time.Second, ProbeTimeout: 300 * time.Millisecond, SuspicionMult: 4}}, ""},
		{"an answer must come before the next probe", Config{Name: "a", Tuning: Tuning{ProbeTimeout: time.Second}}, "probe timeout 1s: want less than the probe interval, which is 100ms"},
		{"also when only the interval is given", Config{Name: "a", Profile: LAN, Tuning: Tuning{ProbeInterval: 50 * time.Millisecond}}, "500ms: want less than the probe interval, which is 50ms"},
		{"time goes forward", Config{Name: "a", Tuning: Tuning{ProbeInterval: -time.Second}}, "gossip probe interval -1s"},
		{"and gossip takes time", Config{Name: "a", Tuning: Tuning{GossipInterval: time.Microsecond}}, "gossip interval 1µs"},
		{"exchanges too", Config{Name: "a", Tuning: Tuning{PushPullInterval: 1}}, "gossip push/pull interval 1ns"},
		{"suspects get time", Config{Name: "a", Tuning: Tuning{SuspicionMult: -1}}, "multiplier -1"},
		{"profiles are three", Config{Name: "a", Profile: 3}, "Profile(3)"},
	} {
		_, err := New(tt.cfg)
		if tt.want == "" && err != nil {
			t.Errorf("%s: %v", tt.reason, err)
		}
		if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: error %v, want one with %s", tt.reason, err, tt.want)
		}
	}
}

func TestParseProfile(t *testing.T) {
	for in, want := range map[string]Profile{"fast": Fast, "lan": LAN, "wan": WAN} {
		if got, err := ParseProfile(in); err != nil || got != want {
			t.Errorf("ParseProfile(%q) = %v, %v", in, got, err)
		}
		if want.String() != in {
			t.Errorf("%v prints %s", in, want)
		}
	}
	for _, in := range []string{"", "FAST", "local", "fast "} {
		_, err := ParseProfile(in)
		if err == nil || !strings.Contains(err.Error(), "fast, lan, wan") {
			t.Errorf("ParseProfile(%q): error %v, want the choices", in, err)
		}
	}
	if Profile(0) != Fast {
		t.Error("the default is not fast")
	}
}

// A nack that comes after the probe's end counts against the prober: see fastConfig.
func TestFastLeavesTimeForNacks(t *testing.T) {
	c := Fast.memberlistConfig()
	if 2*c.ProbeTimeout >= c.ProbeInterval {
		t.Errorf("probe timeout %v, twice that is not below the interval %v", c.ProbeTimeout, c.ProbeInterval)
	}
}

func TestAdvertise(t *testing.T) {
	at := func(iface string, up bool, addr string) hostAddr {
		return hostAddr{iface: iface, up: up, loopback: iface == "lo", addr: netip.MustParseAddr(addr)}
	}
	for _, tt := range []struct {
		reason string
		bind   string
		have   []hostAddr
		want   string // an error if empty
	}{
		{"a bound address is it", "10.1.1.1", []hostAddr{at("eth0", true, "10.0.0.1")}, "10.1.1.1"},
		{"even on the loopback", "127.0.0.2", nil, "127.0.0.2"},
		{"the first in order", "", []hostAddr{at("eth0", true, "10.0.0.1"), at("eth0", true, "10.0.0.2"), at("eth1", true, "10.1.0.1")}, "10.0.0.1"},
		{"public does too", "", []hostAddr{at("eth0", true, "203.0.113.1")}, "203.0.113.1"},
		{"not of the loopback", "", []hostAddr{at("lo", true, "127.0.0.1"), at("lo", true, "10.9.9.9"), at("eth0", true, "10.0.0.1")}, "10.0.0.1"},
		{"not of an interface that is down", "", []hostAddr{at("eth0", false, "10.0.0.1"), at("eth1", true, "10.1.0.1")}, "10.1.0.1"},
		{"not link-local", "", []hostAddr{at("eth0", true, "169.254.0.1"), at("eth0", true, "fe80::1"), at("eth1", true, "10.1.0.1")}, "10.1.0.1"},
		{"IPv4 first", "", []hostAddr{at("eth0", true, "fd00::1"), at("eth1", true, "10.1.0.1")}, "10.1.0.1"},
		{"else the first IPv6", "", []hostAddr{at("eth0", true, "fe80::1"), at("eth0", true, "fd00::1"), at("eth1", true, "fd00::2")}, "fd00::1"},
		{"mapped is IPv4", "", []hostAddr{at("eth0", true, "fd00::1"), at("eth1", true, "::ffff:10.1.0.1")}, "10.1.0.1"},
		{"none", "", []hostAddr{at("lo", true, "127.0.0.1"), at("eth0", true, "fe80::1")}, ""},
	} {
		var bind netip.Addr
		if tt.bind != "" {
			bind = netip.MustParseAddr(tt.bind)
		}
		got, err := advertise(bind, tt.have)
		if tt.want == "" {
			if !errors.Is(err, errNoAdvertise) {
				t.Errorf("%s: %v, %v, want errNoAdvertise", tt.reason, got, err)
			}
		} else if err != nil || got.String() != tt.want {
			t.Errorf("%s: %v, %v, want %s", tt.reason, got, err, tt.want)
		}
	}
}

func TestHostAddrs(t *testing.T) {
	have, err := hostAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range have {
		if h.addr.IsLoopback() && !h.loopback {
			t.Errorf("%+v: loopback address on another interface", h)
		}
	}
}

// Changing how the key is made would lock out members that run the previous version.
func TestKeyDerivation(t *testing.T) {
	keys, err := parseKeys([]byte("\tabc\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	// SHA-256 of "abc": FIPS 180-2, appendix B.1.
	want := []byte{
		0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
		0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad,
	}
	if len(keys) != 1 || !bytes.Equal(keys[0][:], want) {
		t.Errorf("keys %x, want %x", keys, want)
	}
	if ring, err := newKeyring(nil); ring != nil || err != nil {
		t.Errorf("no key: %v, %v", ring, err)
	}
}
