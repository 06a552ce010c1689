package layer2

import "net/netip"

// Metrics counts frames, by interface name and by the address they are about. Its methods are called from
// several goroutines and for every frame, so they must be quick.
type Metrics interface {
	Answered(ifi string, ip netip.Addr)  // a request was answered
	Announced(ifi string, ip netip.Addr) // a frame was sent unasked
	Failed(ifi string, ip netip.Addr)    // a frame could not be sent
}

type noMetrics struct{}

func (noMetrics) Answered(string, netip.Addr)  {}
func (noMetrics) Announced(string, netip.Addr) {}
func (noMetrics) Failed(string, netip.Addr)    {}
