package layer2

import (
	"golang.org/x/net/bpf"
)

// whole is how many bytes of a frame to keep: all of them.
const whole = 1 << 18

// test is one condition of a filter: the field of size bytes at offset is between low and high.
type test struct{ offset, size, low, high uint32 }

// arpTests let ARP requests and replies for IPv4 through: either may claim an address.
var arpTests = []test{
	{offset: etherLen, size: 4, low: arpFormat, high: arpFormat},
	{offset: etherLen + 4, size: 4, low: arpSizes<<16 | arpRequest, high: arpSizes<<16 | arpReply},
}

// ndpTests let neighbour solicitations and advertisements through that come directly after the IPv6 header.
var ndpTests = []test{
	{offset: etherLen + 6, size: 2, low: icmpv6<<8 | hopLimit, high: icmpv6<<8 | hopLimit},
	{offset: icmpStart, size: 1, low: solicit, high: advertise},
	{offset: icmpStart + 1, size: 1, low: 0, high: 0},
}

// filter assembles the program that the kernel runs before it wakes us. Besides the tests, it lets only
// frames through that arrived on the interface itself and are meant for this host: the socket would also
// see those of VLANs and macvlans on top of the interface, those for others in promiscuous mode, and our own.
func filter(index int, tests []test) ([]bpf.RawInstruction, error) {
	const multicast = 2 // PACKET_HOST is 0, PACKET_BROADCAST 1; PACKET_OTHERHOST and PACKET_OUTGOING follow
	program := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: multicast},
		bpf.LoadExtension{Num: bpf.ExtInterfaceIndex},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(index)},
	}
	for _, t := range tests {
		program = append(program, bpf.LoadAbsolute{Off: t.offset, Size: int(t.size)})
		if t.low == t.high {
			program = append(program, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: t.low})
			continue
		}
		program = append(program,
			bpf.JumpIf{Cond: bpf.JumpLessThan, Val: t.low},
			bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: t.high})
	}
	program = append(program, bpf.RetConstant{Val: whole}, bpf.RetConstant{Val: 0})
	drop := len(program) - 1
	for at, instruction := range program {
		if jump, ok := instruction.(bpf.JumpIf); ok {
			jump.SkipTrue = uint8(drop - at - 1)
			program[at] = jump
		}
	}
	return bpf.Assemble(program)
}
