package layer2

import (
	"golang.org/x/net/bpf"
)

// whole is how many bytes of a frame to keep: all of them.
const whole = 1 << 18

// test is one condition of a filter: the field of size bytes at offset equals value.
type test struct{ offset, size, value uint32 }

// arpTests let ARP requests for IPv4 through. Watching for conflicts would need the replies as well.
var arpTests = []test{
	{offset: etherLen, size: 4, value: arpFormat},
	{offset: etherLen + 4, size: 4, value: arpSizes<<16 | arpRequest},
}

// ndpTests let neighbour solicitations through that come directly after the IPv6 header.
var ndpTests = []test{
	{offset: etherLen + 6, size: 2, value: icmpv6<<8 | hopLimit},
	{offset: icmpStart, size: 2, value: solicit << 8},
}

// filter assembles the program that the kernel runs before it wakes us. Besides the tests, it lets only
// frames through that arrived on the interface itself and are meant for this host: the socket would also
// see those of VLANs and macvlans on top of the interface, those for others in promiscuous mode, and our own.
func filter(index int, tests []test) ([]bpf.RawInstruction, error) {
	const multicast = 2 // PACKET_HOST is 0, PACKET_BROADCAST 1; PACKET_OTHERHOST and PACKET_OUTGOING follow
	drop := func(left int) uint8 { return uint8(2*left + 1) }
	left := len(tests)
	program := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: multicast, SkipTrue: drop(left + 1)},
		bpf.LoadExtension{Num: bpf.ExtInterfaceIndex},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(index), SkipTrue: drop(left)},
	}
	for _, t := range tests {
		left--
		program = append(program,
			bpf.LoadAbsolute{Off: t.offset, Size: int(t.size)},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: t.value, SkipTrue: drop(left)})
	}
	return bpf.Assemble(append(program, bpf.RetConstant{Val: whole}, bpf.RetConstant{Val: 0}))
}
