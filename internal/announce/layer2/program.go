package layer2

import (
	"encoding/binary"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// A program runs in the kernel for each packet that arrives on an interface, before our socket sees it and the kernel's own ARP
// and NDP do. It turns a plain
// request for an address that is answered into its reply and sends that back; everything else goes on as if there were no
// program. It answers exactly as the functions on frames would, and leaves what is rare to them: a frame is handled once.
//
// It copies the frame to its stack, where all fields are aligned to two bytes, and some to eight:
const (
	stackARP = -46
	stackNDP = -94
)

// next is where a program goes that leaves the packet alone.
const next = "next"

// Fields of struct __sk_buff, the kernel's view of a packet.
const (
	skbLen     = 0
	skbType    = 4 // as in a filter
	skbProto   = 16
	skbVLAN    = 20 // whether there was a tag: then it is not for this interface
	skbIfindex = 40
)

const passOn = -1 // TCX_NEXT

// tables are what a program and its owner share.
type tables struct {
	held   *ebpf.Map // one byte for each address that is held: whether it is answered for
	shared *ebpf.Map // one shared
}

// Offsets into the shared memory: until when to answer, in nanoseconds of CLOCK_MONOTONIC, and how many requests were answered.
const (
	sharedUntil    = 0
	sharedAnswered = 8
	sharedSize     = 16
)

func answerARP(m tables, self placement.MAC) asm.Instructions {
	f := stackFrame{at: stackARP, size: etherLen + arpLen}
	const source = stackARP - 6 // the sender's address, aligned to be a key
	return slices.Concat(
		arrived(typeARP),
		// Up to the least length of a frame, the rest is padding.
		asm.Instructions{asm.LoadMem(asm.R0, asm.R6, skbLen, asm.Word), asm.JGT.Imm(asm.R0, 60, next)},
		f.load(),
		f.is(etherLen, 0, 1, 8, 0, 6, 4, 0, arpRequest),
		f.forUs(self),
		f.station(6, self),
		f.station(arpSenderMAC, self),
		asm.Instructions{
			asm.LoadMem(asm.R1, asm.R10, f.at+arpSenderIP, asm.Half),
			asm.StoreMem(asm.R10, source, asm.R1, asm.Half),
			asm.LoadMem(asm.R1, asm.R10, f.at+arpSenderIP+2, asm.Half),
			asm.StoreMem(asm.R10, source+2, asm.R1, asm.Half),
			asm.LoadMem(asm.R8, asm.R10, source, asm.Word),
		},
		m.answers(f.at+arpTargetIP),
		// Who has an address of ours itself, be it the target or another, is watched.
		asm.Instructions{asm.JEq.Imm(asm.R8, 0, "probe")},
		m.find(source),
		asm.Instructions{asm.JNE.Imm(asm.R0, 0, next)},
		mark("probe", m.mayAnswer()),
		f.move(0, arpSenderMAC, 6),
		f.put(6, self[:]...),
		f.put(etherLen+6, 0, arpReply),
		f.move(arpSenderMAC+10, arpSenderMAC, 6),
		f.put(arpSenderMAC, self[:]...),
		f.move(arpSenderIP, arpTargetIP, 4),
		asm.Instructions{asm.StoreMem(asm.R10, f.at+arpTargetIP, asm.R8, asm.Word)},
		f.sendBack(),
	)
}

// answerNDP answers solicitations that have a source, and one option, which is its link-layer address: all that kernels send
// but for duplicate address detection.
func answerNDP(m tables, self placement.MAC) asm.Instructions {
	f := stackFrame{at: stackNDP, size: ndpOptions + optionLen}
	const option = ndpOptions
	return slices.Concat(
		arrived(typeIPv6),
		asm.Instructions{asm.LoadMem(asm.R0, asm.R6, skbLen, asm.Word), asm.JNE.Imm(asm.R0, int32(f.size), next)},
		f.load(),
		asm.Instructions{
			asm.LoadMem(asm.R0, asm.R10, f.at+etherLen, asm.Byte),
			asm.RSh.Imm(asm.R0, 4),
			asm.JNE.Imm(asm.R0, 6, next),
		},
		f.is(etherLen+4, 0, ndpLen+optionLen, icmpv6, hopLimit),
		f.is(icmpStart, solicit, 0),
		f.is(option, optionSource, 1),
		f.forUs(self),
		f.station(6, self),
		f.station(option+2, self),
		asm.Instructions{
			asm.LoadMem(asm.R0, asm.R10, f.at+ipv6Source, asm.Byte),
			asm.JEq.Imm(asm.R0, 0xff, next),
			asm.LoadMem(asm.R0, asm.R10, f.at+ipv6Source, asm.DWord),
			asm.LoadMem(asm.R1, asm.R10, f.at+ipv6Source+8, asm.DWord),
			asm.Or.Reg(asm.R0, asm.R1),
			asm.JEq.Imm(asm.R0, 0, next),
		},
		f.sum(),
		asm.Instructions{asm.JNE.Imm(asm.R0, 0xffff, next)},
		m.answers(f.at+ndpTarget),
		m.mayAnswer(),
		f.move(0, option+2, 6),
		f.put(6, self[:]...),
		f.put(etherLen, 6<<4, 0, 0, 0, 0, ndpLen+optionLen, icmpv6, hopLimit),
		f.move(ipv6Dest, ipv6Source, 16),
		f.move(ipv6Source, ndpTarget, 16),
		f.put(icmpStart, advertise, 0, 0, 0, flagSolicited|flagOverride, 0, 0, 0),
		f.put(option, optionTarget, 1),
		f.put(option+2, self[:]...),
		f.sum(),
		asm.Instructions{
			asm.Xor.Imm(asm.R0, 0xffff),
			asm.StoreMem(asm.R10, f.at+icmpStart+2, asm.R0, asm.Half),
		},
		f.sendBack(),
	)
}

// arrived begins a program: what is not of that type, or not for this host and interface, goes on. R6 is the packet from now on.
func arrived(etherType uint16) asm.Instructions {
	const multicast = 2
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R0, asm.R6, skbProto, asm.Word),
		asm.JNE.Imm(asm.R0, half(byte(etherType>>8), byte(etherType)), next),
		asm.LoadMem(asm.R0, asm.R6, skbVLAN, asm.Word),
		asm.JNE.Imm(asm.R0, 0, next),
		asm.LoadMem(asm.R0, asm.R6, skbType, asm.Word),
		asm.JGT.Imm(asm.R0, multicast, next),
	}
}

// find has R0 point to what is held under a key on the stack, or be 0.
func (m tables) find(key int16) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapPtr(asm.R1, m.held.FD()),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, int32(key)),
		asm.FnMapLookupElem.Call(),
	}
}

// answers goes on only if the address on the stack is one to answer for.
func (m tables) answers(key int16) asm.Instructions {
	return append(m.find(key),
		asm.JEq.Imm(asm.R0, 0, next),
		asm.LoadMem(asm.R0, asm.R0, 0, asm.Byte),
		asm.JEq.Imm(asm.R0, 0, next),
	)
}

// mayAnswer goes on only while the owner of the program is awake. R7 is the shared memory from now on.
func (m tables) mayAnswer() asm.Instructions {
	return asm.Instructions{
		asm.LoadMapValue(asm.R7, m.shared.FD(), 0),
		asm.FnKtimeGetNs.Call(),
		asm.LoadMem(asm.R1, asm.R7, sharedUntil, asm.DWord),
		asm.JGE.Reg(asm.R0, asm.R1, next),
	}
}

// stackFrame is a frame on the stack. Its methods take offsets into the frame.
type stackFrame struct {
	at   int16 // of its first byte, from the end of the stack
	size int16
}

func (f stackFrame) load() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Reg(asm.R3, asm.R10),
		asm.Add.Imm(asm.R3, int32(f.at)),
		asm.Mov.Imm(asm.R4, int32(f.size)),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, next),
	}
}

// is goes on only if the frame has those bytes at offset: an even number of them.
func (f stackFrame) is(offset int16, bytes ...byte) (list asm.Instructions) {
	for i := 0; i < len(bytes); i += 2 {
		list = append(list,
			asm.LoadMem(asm.R0, asm.R10, f.at+offset+int16(i), asm.Half),
			asm.JNE.Imm(asm.R0, half(bytes[i], bytes[i+1]), next))
	}
	return list
}

// station goes on only if the MAC address at offset can be that of one station other than ourselves.
func (f stackFrame) station(offset int16, self placement.MAC) asm.Instructions {
	return slices.Concat(
		asm.Instructions{
			asm.LoadMem(asm.R0, asm.R10, f.at+offset, asm.Byte),
			asm.JSet.Imm(asm.R0, 1, next),
		},
		f.numbers(offset, self),
		asm.Instructions{
			asm.JEq.Imm(asm.R0, 0, next),
			asm.JEq.Reg(asm.R0, asm.R1, next),
		},
	)
}

// forUs goes on only if the frame is for a group, or for the MAC address that is to be told: the interface may have another
// since, for which the kernel has let the frame in.
func (f stackFrame) forUs(self placement.MAC) asm.Instructions {
	return slices.Concat(
		asm.Instructions{
			asm.LoadMem(asm.R0, asm.R10, f.at, asm.Byte),
			asm.JSet.Imm(asm.R0, 1, "group"),
		},
		f.numbers(0, self),
		asm.Instructions{asm.JNE.Reg(asm.R0, asm.R1, next)},
		mark("group", asm.Instructions{asm.Mov.Imm(asm.R0, 0)}),
	)
}

// numbers has R0 be the MAC address at offset, and R1 self, in a form in which they can be compared.
func (f stackFrame) numbers(offset int16, self placement.MAC) asm.Instructions {
	list := asm.Instructions{asm.Mov.Imm(asm.R0, 0)}
	var own int64
	for i := int16(0); i < 6; i += 2 {
		list = append(list,
			asm.LSh.Imm(asm.R0, 16),
			asm.LoadMem(asm.R1, asm.R10, f.at+offset+i, asm.Half),
			asm.Or.Reg(asm.R0, asm.R1))
		own = own<<16 | int64(half(self[i], self[i+1]))
	}
	return append(list, asm.LoadImm(asm.R1, own, asm.DWord))
}

// put writes bytes: an even number of them.
func (f stackFrame) put(offset int16, bytes ...byte) (list asm.Instructions) {
	for i := 0; i < len(bytes); i += 2 {
		list = append(list, asm.StoreImm(asm.R10, f.at+offset+int16(i), int64(half(bytes[i], bytes[i+1])), asm.Half))
	}
	return list
}

// move copies an even number of bytes.
func (f stackFrame) move(to, from, size int16) (list asm.Instructions) {
	for i := int16(0); i < size; i += 2 {
		list = append(list,
			asm.LoadMem(asm.R0, asm.R10, f.at+from+i, asm.Half),
			asm.StoreMem(asm.R10, f.at+to+i, asm.R0, asm.Half))
	}
	return list
}

// sum has R0 be the sum of the ICMPv6 packet, with its pseudo-header (RFC 8200 section 8.1), in 16 bits: all ones if it is intact.
func (f stackFrame) sum() asm.Instructions {
	const body = ndpLen + optionLen
	fold := asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R0),
		asm.RSh.Imm(asm.R1, 16),
		asm.And.Imm(asm.R0, 0xffff),
		asm.Add.Reg(asm.R0, asm.R1),
	}
	return slices.Concat(asm.Instructions{
		asm.Mov.Imm(asm.R1, 0),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Reg(asm.R3, asm.R10),
		asm.Add.Imm(asm.R3, int32(f.at+ipv6Source)),
		asm.Mov.Imm(asm.R4, 2*16+body),
		asm.Mov.Imm(asm.R5, half(0, body)+half(0, icmpv6)),
		asm.FnCsumDiff.Call(),
		asm.Mov.Reg32(asm.R0, asm.R0), // 32 bits, or a negative error that is no sum
	}, fold, fold)
}

// sendBack ends a program: the frame leaves as the packet arrived.
func (f stackFrame) sendBack() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Reg(asm.R3, asm.R10),
		asm.Add.Imm(asm.R3, int32(f.at)),
		asm.Mov.Imm(asm.R4, int32(f.size)),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnSkbStoreBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, next),
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(asm.R7, asm.R1, asm.DWord, sharedAnswered),
		asm.LoadMem(asm.R1, asm.R6, skbIfindex, asm.Word),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return(),
		asm.Mov.Imm(asm.R0, passOn).WithSymbol(next),
		asm.Return(),
	}
}

// mark makes instructions the aim of jumps.
func mark(name string, list asm.Instructions) asm.Instructions {
	list[0] = list[0].WithSymbol(name)
	return list
}

// half is what the machine makes of two bytes in memory.
func half(a, b byte) int32 { return int32(binary.NativeEndian.Uint16([]byte{a, b})) }
