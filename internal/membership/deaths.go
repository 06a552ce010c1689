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
// be stale: a node that was cut off held the others for dead and said so, and a kernel keeps packets for a neighbour whose
// MAC address it does not know for up to three seconds, until the LAN is back.
//
// Who does not answer at a glance is gone, so that deaths that are true are hardly believed later. Those in doubt have the
// time of a probe.
type deaths struct {
	// ping returns an error if a member does not answer, soon; nil: nobody is asked. leaves tells of a member that said
	// itself that it goes.
	ping   func(name string, addr net.Addr) error
	leaves func(name string) bool
	// remind begins to have a member that answers, and that gossip has not told of its death, refute it.
	remind func(addr netip.AddrPort)
	glance time.Duration
	// A member that was heard of within lately has not died of a suspicion, which takes longer: that is doubtful. So is what
	// is said within memory of another's death, who may be back.
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
	r.deaths.glance = c.ProbeTimeout / 4
	r.deaths.lately = time.Duration(c.SuspicionMult) * c.ProbeInterval
	r.deaths.memory = 2 * c.GossipToTheDeadTime
	r.deaths.patience = 10 * c.ProbeInterval
}

// note remembers that a member has died. One that has left is none to have stale word of others.
func (d *deaths) note(name string) {
	if d.leaves(name) {
		return
	}
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

// asks begins to ask a member that is said to have died, or goes on to. The roster's order is held.
func (r *roster) asks(name string) bool {
	d := &r.deaths
	if d.ping == nil || d.leaves(name) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.live[name]
	if m == nil || m.refuted != nil {
		return m != nil
	}
	q := question{roster: r, name: name, addr: m.addr, refuted: make(chan struct{}), doubtful: time.Since(m.heard) <= d.lately || d.others(name)}
	m.refuted = q.refuted
	go func() { // it ends when a ping does: memberlist has nothing to end it sooner
		if q.ask() {
			return
		}
		r.order.Lock()
		defer r.order.Unlock()
		r.mu.Lock()
		still := r.live[name] == m && m.refuted == q.refuted
		r.mu.Unlock()
		if still {
			r.drop(name)
		}
	}()
	return true
}

// question is what is asked of a member that is said to have died.
type question struct {
	*roster
	name     string
	addr     netip.AddrPort
	refuted  chan struct{} // closed when it is alive
	doubtful bool
}

// ask asks until the death is refuted, or until the member does not answer, leaves, or has not refuted it for long.
func (q question) ask() bool {
	over := time.After(q.deaths.patience)
	if q.doubtful {
		_ = level.Debug(q.logger).Log("msg", "it is doubtful that a member died", "member", q.name)
	}
	for pause := q.deaths.patience / 100; q.answers() && !q.deaths.leaves(q.name); pause *= 2 {
		q.doubtful = true
		select {
		case <-q.refuted:
			return true
		case <-over:
			return false
		case <-time.After(pause):
		}
		if pause > q.deaths.patience/20 {
			q.deaths.remind(q.addr)
		}
	}
	return false
}

// answers tells whether the member answers a ping, or where its death is doubtful, one of two.
func (q question) answers() bool {
	answer := make(chan error, 2)
	ping := func() { answer <- q.deaths.ping(q.name, net.UDPAddrFromAddrPort(q.addr)) }
	go ping()
	glance := time.After(q.deaths.glance)
	for {
		select {
		case err := <-answer:
			return err == nil
		case <-glance:
			if !q.doubtful {
				return false
			}
			go ping()
		}
	}
}

// believe ends what doubt there is about a member's death: it is alive, or nobody cares.
func (m *member) believe() {
	if m.refuted != nil {
		close(m.refuted)
		m.refuted = nil
	}
}
