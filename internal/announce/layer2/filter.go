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

// branch is a jump to one of the two ends of a filter.
type branch struct {
	bpf.JumpIf
	pass bool
}

// filter assembles the program that the kernel runs before it wakes us. Besides the tests, it lets only frames through that
// may be about an address in near, and that arrived on the interface itself and are meant for this host: the socket would also
// see those of VLANs and macvlans on top of the interface, those for others in promiscuous mode, and our own.
func filter(index int, p *protocol, near []Span) ([]bpf.RawInstruction, error) {
	const multicast = 2 // PACKET_HOST is 0, PACKET_BROADCAST 1; PACKET_OTHERHOST and PACKET_OUTGOING follow
	dropIf := func(cond bpf.JumpTest, value uint32) bpf.Instruction {
		return branch{JumpIf: bpf.JumpIf{Cond: cond, Val: value}}
	}
	program := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		dropIf(bpf.JumpGreaterThan, multicast),
		bpf.LoadExtension{Num: bpf.ExtInterfaceIndex},
		dropIf(bpf.JumpNotEqual, uint32(index)),
	}
	for _, t := range p.filter {
		program = append(program, bpf.LoadAbsolute{Off: t.offset, Size: int(t.size)})
		if t.low == t.high {
			program = append(program, dropIf(bpf.JumpNotEqual, t.low))
			continue
		}
		program = append(program, dropIf(bpf.JumpLessThan, t.low), dropIf(bpf.JumpGreaterThan, t.high))
	}
	for _, offset := range p.tails {
		program = append(program, bpf.LoadAbsolute{Off: offset, Size: 4})
		for _, s := range near {
			program = append(program,
				bpf.JumpIf{Cond: bpf.JumpLessThan, Val: s.Low, SkipTrue: 1},
				branch{JumpIf: bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: s.High}, pass: true})
		}
	}
	program = append(program, bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: whole})
	drop, pass := len(program)-2, len(program)-1
	for at, instruction := range program {
		b, is := instruction.(branch)
		if !is {
			continue
		}
		to := drop
		if b.pass {
			to = pass
		}
		b.SkipTrue = uint8(to - at - 1)
		program[at] = b.JumpIf
	}
	return bpf.Assemble(program)
}
