package layer2

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/lanyard-lb/lanyard/internal/netnstest"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// answers has the kernel run a program on frames as if they had arrived at eth0, whose MAC address is us.
type answers struct {
	t       testing.TB
	node    *netnstest.NS
	index   int
	program *answering
	proto   *protocol
	held    map[netip.Addr]bool // by whether it is answered for
}

func newAnswers(t testing.TB, f Family, held map[netip.Addr]bool) *answers {
	t.Helper()
	node, peer := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, node, "eth0", peer, "far")
	node.SetMAC(t, "eth0", us.String())
	p := &answers{t: t, node: node, index: describe(t, node, "eth0").Index, proto: f.protocol(), held: held}
	k := newInKernel(t, node)
	node.Do(t, func() {
		var err error
		p.program, err = k.attach(describe(t, node, "eth0"), f)
		check(t, err)
	})
	t.Cleanup(p.program.close)
	for ip, answered := range held {
		check(t, p.program.hold(ip, answered))
	}
	p.program.begin()
	k.AnswerUntil(farOff())
	return p
}

// askedBy returns whether the program answers when who has the source address asks for the target.
func (p *answers) askedBy(source, target netip.Addr) bool {
	p.t.Helper()
	return p.run(arpFrame(p.t, them, placement.MAC{}, source, target)) != nil
}

// run returns what a frame is answered with, or nil if it goes on as it was.
func (p *answers) run(frame []byte) (answer []byte) {
	p.t.Helper()
	const redirected, lenOfContext = 7, 192
	skb := make([]byte, lenOfContext)
	binary.NativeEndian.PutUint32(skb[skbIfindex:], uint32(p.index))
	o := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+64), Context: skb}
	var verdict uint32
	p.node.Do(p.t, func() {
		var err error
		verdict, err = p.program.program.Run(&o)
		check(p.t, err)
	})
	pass := passOn
	switch {
	case verdict == redirected:
		return o.DataOut
	case verdict != uint32(pass):
		p.t.Fatalf("%x: verdict %d", frame, int32(verdict))
	case !bytes.Equal(o.DataOut, frame):
		p.t.Fatalf("%x went on as %x", frame, o.DataOut)
	}
	return nil
}

// wants is what the socket would answer, or nil where it has more to do than that.
func (p *answers) wants(frame []byte) []byte {
	ip, ok := p.proto.target(frame)
	if !ok || !p.held[ip] {
		return nil
	}
	claimed, tentative := p.proto.claimed(frame)
	if answered, held := p.held[claimed]; held && (!tentative || !answered) {
		return nil
	}
	return p.proto.answer(nil, frame, us)
}

// compare runs a frame, and reports whether it was answered. A plain one must be, if the socket would.
func (p *answers) compare(frame []byte, plain bool) (answered bool) {
	p.t.Helper()
	got, want := p.run(frame), p.wants(frame)
	switch {
	case got == nil && (want == nil || !plain):
	case got == nil:
		p.t.Errorf("%x is not answered", frame)
	case len(got) != len(frame) || want == nil || !bytes.Equal(got[:len(want)], want):
		p.t.Errorf("%x is answered by\n%x, want\n%x", frame, got, want)
	}
	return got != nil
}

var (
	other4, probed4 = netip.MustParseAddr("10.77.0.101"), netip.MustParseAddr("10.77.0.102")
	other6, probed6 = netip.MustParseAddr("fd77::a:b00d"), netip.MustParseAddr("fd77::a:b00e")
)

// Frames that differ from sound ones in one byte, or in some, are answered in the kernel exactly as by the socket.
func TestTheKernelAnswersAsTheSocketWould(t *testing.T) {
	for _, c := range []struct {
		family   Family
		held     map[netip.Addr]bool
		answered [][]byte
		others   [][]byte
		plain    func(frame []byte) bool
	}{
		{
			IPv4, map[netip.Addr]bool{vip4: true, other4: true, probed4: false},
			[][]byte{
				arpFrame(t, them, placement.MAC{}, host4, vip4),
				arpFrame(t, them, us, host4, other4),
				arpFrame(t, them, placement.MAC{}, netip.IPv4Unspecified(), vip4),
				arpFrame(t, them, placement.MAC{}, host4, vip4)[:etherLen+arpLen], // with no padding
			},
			[][]byte{
				arpFrame(t, them, placement.MAC{}, host4, probed4),
				arpFrame(t, them, placement.MAC{}, host4, host4),
				arpFrame(t, them, placement.MAC{}, other4, vip4),
				arpFrame(t, them, placement.MAC{}, probed4, vip4),
				arpFrame(t, them, placement.MAC{}, vip4, vip4),
				arpGratuitousReply(nil, them, vip4),
				arpFrame(t, them, placement.MAC{}, host4, vip4)[:etherLen+arpLen-1],
				append(arpFrame(t, them, placement.MAC{}, host4, vip4), make([]byte, 1)...),
				ndpFrame(t, them, placement.MAC{}, host6, vip6),
			},
			func(frame []byte) bool { return len(frame) <= 60 },
		},
		{
			IPv6, map[netip.Addr]bool{vip6: true, other6: true, probed6: false},
			[][]byte{
				solicitationOf(host6, vip6, sourceOption(them)...),
				solicitationOf(host6, other6, sourceOption(third)...),
				solicitationOf(other6, vip6, sourceOption(them)...), // solicitations claim nothing
				patched(solicitationOf(host6, vip6, sourceOption(them)...), 0, us[:]...),
			},
			[][]byte{
				solicitationOf(host6, probed6, sourceOption(them)...),
				solicitationOf(host6, host6, sourceOption(them)...),
				solicitationOf(host6, vip6),
				solicitationOf(host6, vip6, sourceOption(us)...),
				solicitationOf(host6, vip6, sourceOption(placement.MAC{})...),
				solicitationOf(zero6, vip6),
				solicitationOf(zero6, vip6, sourceOption(them)...),
				solicitationOf(zero6, vip6, 14, 1, 1, 2, 3, 4, 5, 6),
				append(solicitationOf(host6, vip6, sourceOption(them)...), 0),
				ndpUnsolicited(nil, them, vip6),
				arpFrame(t, them, placement.MAC{}, host4, vip4),
			},
			func(frame []byte) bool {
				return len(frame) == ndpOptions+optionLen && frame[ndpOptions] == optionSource && frame[ndpOptions+1] == 1 &&
					[16]byte(frame[ipv6Source:]) != zero6.As16() && unicast(placement.MAC(frame[ndpOptions+2:])) &&
					placement.MAC(frame[ndpOptions+2:]) != us
			},
		},
	} {
		t.Run(c.family.String(), func(t *testing.T) {
			p := newAnswers(t, c.family, c.held)
			rng := rand.New(rand.NewPCG(1, 2))
			for _, frame := range c.others {
				if p.compare(frame, c.plain(frame)) {
					t.Errorf("%x is answered", frame)
				}
			}
			n, answered := 0, 0
			try := func(frame []byte) {
				t.Helper()
				n++
				if p.compare(frame, c.plain(frame)) {
					answered++
				}
			}
			for _, sound := range c.answered {
				if !p.compare(sound, true) {
					t.Errorf("%x is not answered", sound)
				}
				for at := range sound {
					for range 24 {
						frame := patched(sound, at, byte(rng.Uint32()))
						try(frame)
						try(summed(bytes.Clone(frame)))
						for range rng.IntN(3) {
							frame[rng.IntN(len(frame))] ^= 1 << rng.IntN(8)
						}
						try(summed(frame))
					}
				}
				for at := range min(len(sound), 42) {
					for bit := range 8 {
						try(patched(sound, at, sound[at]^1<<bit))
					}
				}
			}
			t.Logf("%d of %d frames answered", answered, n)
			if answered < n/20 || answered > n*19/20 {
				t.Errorf("%d of %d frames were answered: that compares little", answered, n)
			}
		})
	}
}

// What a program costs each packet that is none of its business.
func BenchmarkPassingOn(b *testing.B) {
	tcp := append(patched(ndpFrame(b, them, us, host6, vip6), etherLen+6, 6), make([]byte, 1400)...)
	for _, c := range []struct {
		name   string
		family Family
		frame  []byte
	}{
		{"arp/request for another", IPv4, arpFrame(b, them, placement.MAC{}, host4, host4)},
		{"arp/tcp", IPv4, tcp},
		{"ndp/solicitation for another", IPv6, solicitationOf(host6, host6, sourceOption(them)...)},
		{"ndp/tcp", IPv6, tcp},
	} {
		b.Run(c.name, func(b *testing.B) {
			p := newAnswers(b, c.family, nil)
			_, took, err := p.program.program.Benchmark(c.frame, max(b.N, 1), b.ResetTimer)
			check(b, err)
			b.ReportMetric(float64(took.Nanoseconds()), "ns/packet")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func sourceOption(mac placement.MAC) []byte { return append([]byte{optionSource, 1}, mac[:]...) }

func solicitationOf(source, target netip.Addr, options ...byte) []byte {
	return solicitation(source, solicitedGroup(target), 255, slices.Concat([]byte{solicit, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice(), options)...)
}
