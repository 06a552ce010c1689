package layer2

import "net/netip"

// Metrics counts frames, by interface name and by the address they are about. Its methods are called from
// several goroutines and for every frame, so they must be quick.
type Metrics interface {
	Answered(ifi string, ip netip.Addr) // a request was answered
	// AnsweredInKernel counts requests of a family that were answered in the kernel, up to a second later.
	AnsweredInKernel(ifi string, is6 bool, n uint64)
	Announced(ifi string, ip netip.Addr) // a frame was sent unasked
	Probed(ifi string, ip netip.Addr)    // a frame was sent to find out whether the address is in use
	Defended(ifi string, ip netip.Addr)  // a frame was sent because a stranger claims the address
	Failed(ifi string, ip netip.Addr)    // a frame could not be sent
	// Conflicted counts a frame by which somebody else claims an address that is announced or probed:
	// a peer or a stranger.
	Conflicted(ifi string, ip netip.Addr, peer bool)
}

type noMetrics struct{}

func (noMetrics) Answered(string, netip.Addr)           {}
func (noMetrics) AnsweredInKernel(string, bool, uint64) {}
func (noMetrics) Announced(string, netip.Addr)          {}
func (noMetrics) Probed(string, netip.Addr)             {}
func (noMetrics) Defended(string, netip.Addr)           {}
func (noMetrics) Failed(string, netip.Addr)             {}
func (noMetrics) Conflicted(string, netip.Addr, bool)   {}
