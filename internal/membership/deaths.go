package membership

import (
	"net"
	"net/netip"
	"time"

	"github.com/go-kit/log/level"
	"github.com/hashicorp/memberlist"
)

// deaths is what makes us ask a member that is said to have died. Memberlist takes such a word at once, and takes it back
// when the member refutes it, some milliseconds later; meanwhile others would have taken its addresses. And the word may
// be old: a node that was cut off held the others for dead and said so, and a kernel keeps packets for a neighbour whose
// MAC address it does not know for up to three seconds, until the LAN is back.
//
// Only deaths that look like that are doubted, so that those that are true are believed as soon as ever: nobody is
// said to have died while he is still heard of, and one death tells nothing of another.
type deaths struct {
	// ping returns an error if a member does not answer; nil: nobody is asked. leaves tells of a member that said itself
	// that it goes.
	ping   func(name string, addr net.Addr) error
	leaves func(name string) bool
	// A member that was heard of within lately has not died of a suspicion, which takes longer. What those say who were held for
	// dead within memory may be old.
	lately, memory time.Duration
	// A member that answers is believed to be alive for so long.
	patience time.Duration

	died map[string]time.Time // guarded by the roster's order
}

// askBy has members asked by a list whose configuration that is.
func (r *roster) askBy(list *memberlist.Memberlist, c *memberlist.Config) {
	r.order.Lock()
	defer r.order.Unlock()
	r.deaths.ping = func(name string, addr net.Addr) error {
		_, err := list.Ping(name, addr)
		return err
	}
	r.deaths.lately = time.Duration(c.SuspicionMult) * c.ProbeInterval
	r.deaths.memory = 2 * c.GossipToTheDeadTime
	r.deaths.patience = 10 * c.ProbeInterval
}

// note remembers that a member has died or left.
func (d *deaths) note(name string) {
	now := time.Now()
	for other, at := range d.died {
		if now.Sub(at) > d.memory {
			delete(d.died, other)
		}
	}
	if d.died == nil {
		d.died = make(map[string]time.Time)
	}
	d.died[name] = now
}

// others tells whether another member has died lately, who may have come back.
func (d *deaths) others(name string) bool {
	for other, at := range d.died {
		if other != name && time.Since(at) <= d.memory {
			return true
		}
	}
	return false
}

// hear notes that a packet came from an address.
func (r *roster) hear(from net.Addr) {
	udp, ok := from.(*net.UDPAddr)
	if !ok {
		return
	}
	at := udp.AddrPort()
	at = netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.at[at]; m != nil {
		m.heard = time.Now()
	}
}

// doubts begins to ask a member if its death is in doubt. The roster's order is held.
func (r *roster) doubts(name string) bool {
	d := &r.deaths
	if d.ping == nil || d.leaves(name) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.live[name]
	if m == nil || m.refuted != nil || time.Since(m.heard) > d.lately && !d.others(name) {
		return m != nil && m.refuted != nil
	}
	refuted := make(chan struct{})
	m.refuted = refuted
	go func() { // it ends when a ping does: memberlist has nothing to end it sooner
		if r.ask(name, m.addr, refuted) {
			return
		}
		r.order.Lock()
		defer r.order.Unlock()
		r.mu.Lock()
		still := m.refuted == refuted
		r.mu.Unlock()
		if still {
			r.drop(name)
		}
	}()
	return true
}

// ask asks a member until its death is refuted, or until it does not answer, leaves, or has not refuted it for long.
func (r *roster) ask(name string, at netip.AddrPort, refuted <-chan struct{}) bool {
	d, over := &r.deaths, time.After(r.deaths.patience)
	_ = level.Debug(r.logger).Log("msg", "asking a member that is said to have died", "member", name)
	for pause := d.patience / 100; d.ping(name, net.UDPAddrFromAddrPort(at)) == nil && !d.leaves(name); pause *= 2 {
		select {
		case <-refuted:
			return true
		case <-over:
			return false
		case <-time.After(pause):
		}
	}
	return false
}

// believe ends what doubt there is about a member's death: it is alive, or nobody cares.
func (m *member) believe() {
	if m.refuted != nil {
		close(m.refuted)
		m.refuted = nil
	}
}
