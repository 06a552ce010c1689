package layer2

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"syscall"
)

// groups holds the solicited-node multicast groups of the IPv6 addresses on one interface. Addresses may
// share a group; a socket may hold only so many (net.core.optmem_max), so there are as many sockets as it
// takes. It is not safe for concurrent use.
type groups struct {
	open    func() (Member, error)
	sockets []*memberships
	wanted  map[netip.Addr]int          // addresses per group
	joined  map[netip.Addr]*memberships // the socket that holds the group
	dirty   map[netip.Addr]struct{}     // groups whose state may not be as wanted
}

type memberships struct {
	Member
	count int
	full  bool
}

func newGroups(open func() (Member, error)) *groups {
	return &groups{
		open:   open,
		wanted: make(map[netip.Addr]int),
		joined: make(map[netip.Addr]*memberships),
		dirty:  make(map[netip.Addr]struct{}),
	}
}

// add and remove change what sync will bring about.
func (g *groups) add(ip netip.Addr) {
	group := solicitedGroup(ip)
	g.wanted[group]++
	g.dirty[group] = struct{}{}
}

func (g *groups) remove(ip netip.Addr) {
	group := solicitedGroup(ip)
	if g.wanted[group]--; g.wanted[group] > 0 {
		return
	}
	delete(g.wanted, group)
	g.dirty[group] = struct{}{}
	if g.joined[group] == nil {
		delete(g.dirty, group)
	}
}

// sync joins and leaves what add and remove asked for. Groups that could not be joined are tried again by
// the next sync; the error counts them and wraps the first.
func (g *groups) sync() error {
	var first error
	for _, group := range slices.SortedFunc(maps.Keys(g.dirty), netip.Addr.Compare) {
		err := g.settle(group)
		if err == nil {
			delete(g.dirty, group)
		}
		if first == nil {
			first = err
		}
	}
	g.closeEmpty()
	if first != nil {
		return fmt.Errorf("join %d solicited-node groups: %w", len(g.dirty), first)
	}
	return nil
}

func (g *groups) settle(group netip.Addr) error {
	socket, joined := g.joined[group]
	_, wanted := g.wanted[group]
	switch {
	case wanted && !joined:
		return g.join(group)
	case joined && !wanted:
		// What can fail here is that the membership is gone already, with the interface.
		_ = socket.Leave(group)
		socket.count--
		socket.full = false
		delete(g.joined, group)
	}
	return nil
}

// join uses the first socket with room, or a new one.
func (g *groups) join(group netip.Addr) error {
	for _, s := range g.sockets {
		if s.full {
			continue
		}
		err := s.join(group)
		if err == nil {
			g.joined[group] = s
			return nil
		}
		if s.full = full(err); !s.full {
			return fmt.Errorf("join %s: %w", group, err)
		}
	}
	m, err := g.open()
	if err != nil {
		return err
	}
	s := &memberships{Member: m}
	if err := s.join(group); err != nil {
		return errors.Join(fmt.Errorf("join %s: %w", group, err), m.Close())
	}
	g.sockets = append(g.sockets, s)
	g.joined[group] = s
	return nil
}

func (s *memberships) join(group netip.Addr) error {
	err := s.Join(group)
	if err == nil {
		s.count++
	}
	return err
}

func full(err error) bool {
	return errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.ENOBUFS)
}

func (g *groups) closeEmpty() {
	g.sockets = slices.DeleteFunc(g.sockets, func(s *memberships) bool {
		if s.count == 0 {
			_ = s.Close()
		}
		return s.count == 0
	})
}

// close leaves all groups.
func (g *groups) close() {
	for _, s := range g.sockets {
		_ = s.Close()
	}
	g.sockets = nil
	clear(g.joined)
}
